"""Small real data for the tests in the hosts."""

from pathlib import Path

import pytest

from metaheads.datasets.shapes import make_shapes


@pytest.fixture(scope="session")
def shapes_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for $METAHEADS_DATA with a small embedded data set (crowds and empty images in it)."""
    root = tmp_path_factory.mktemp("data")
    make_shapes(root / "shapes", num_train=24, num_val=6, num_clips=0, seed=3)
    return root


@pytest.fixture(autouse=True)
def _data_root(shapes_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAHEADS_DATA", str(shapes_data))
