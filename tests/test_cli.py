"""What a user can mend ends in one line; what is a fault of ours in a traceback."""

import pytest
import torch

from metaheads import cli
from metaheads.structures import Geometry


def test_errors_for_users_are_one_line(tmp_path, capsys):
    config = str(tmp_path / "none.yaml")
    assert cli.main(["demo", "--config-file", config, "--checkpoint", "x", str(tmp_path)]) == 2
    printed = capsys.readouterr().err
    assert (
        printed.startswith("metaheads demo: no image or video in the folder")
        and printed.count("\n") == 1
    )


def test_assertions_are_faults_of_ours():
    from metaheads.errors import tells_user
    from metaheads.structures import Detections

    empty = torch.zeros(0, 4)
    try:
        Detections(empty, empty[:, 0], empty[:, 0], masks=empty[:, None]).finish(
            Geometry.from_resize((4, 4), (4, 4))
        )
    except AssertionError as error:
        assert not tells_user(error)
    else:
        pytest.fail("masks without frames are an error")


def test_other_errors_keep_their_traceback(monkeypatch, tmp_path):
    def broken(inputs):
        return int("not a number")

    monkeypatch.setattr("metaheads.commands.demo.find_sources", broken)
    with pytest.raises(ValueError, match="invalid literal"):
        cli.main(["demo", "--config-file", "x", "--checkpoint", "x", str(tmp_path)])
