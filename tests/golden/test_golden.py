"""Every port against its original, number by number.

The cases were made by running the originals; they lie in the folder that the environment variable
METAHEADS_GOLDEN names, by default `../shared/golden` beside the checkout. They are not part of the
project.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from . import centernet_points, cornernet, panoptic_quality, retinaface, upsnet, yolact
from .cases import Case, UnknownCase, find_cases, folder

RUN = {
    "centernet_points": centernet_points.run,
    "centernet_triplets": cornernet.run,
    "cornernet": cornernet.run,
    "panoptic_quality": panoptic_quality.run,
    "retinaface": retinaface.run,
    "upsnet": upsnet.run,
    "yolact": yolact.run,
}
NOT_YET = (
    "yolact_edge",
    "vpsnet",
    "hourglass",
    "densepose",
    "landmarks",
)


def _name(path: Path) -> str:
    return str(path.relative_to(folder()).with_suffix(""))


@pytest.mark.parametrize("path", find_cases() or [None], ids=lambda p: _name(p) if p else "none")
def test_port_equals_original(path: Path | None) -> None:
    if path is None:
        pytest.skip(f"no golden cases in {folder()} (METAHEADS_GOLDEN names another folder)")
    case = Case(path)
    if case.system in NOT_YET:
        pytest.xfail(f"{case.system} is not built yet")
    if case.system not in RUN:
        raise UnknownCase(f"unknown system {case.system!r}")
    RUN[case.system](case)
