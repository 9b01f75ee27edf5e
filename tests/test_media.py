"""Sources of pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from metaheads.media import ImageSource, VideoSource, VideoWriter, find_sources, read_image


def write_video(path: Path, count: int, rate: float = 12.0) -> None:
    """Frames whose brightness tells their number; MJPG in AVI, so that a part can be read."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (64, 48))
    for number in range(count):
        writer.write(np.full((48, 64, 3), 10 * number, np.uint8))
    writer.release()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.jpg"):
        cv2.imwrite(str(tmp_path / name), np.full((4, 6, 3), (10, 20, 30), np.uint8))
    write_video(tmp_path / "c.avi", 9)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_files_folders_and_patterns_in_order(folder):
    names = [Path(source.name).name for source in find_sources([str(folder), f"{folder}/*.jpg"])]
    assert names == ["a.jpg", "b.png", "c.avi", "a.jpg"]


def test_images_are_rgb(folder):
    (frame,) = ImageSource(folder / "b.png")
    assert frame.image[0, 0].tolist() == [30, 20, 10]
    assert np.array_equal(read_image(folder / "b.png"), frame.image)


def test_videos_keep_order_and_rate(folder):
    video = VideoSource(str(folder / "c.avi"))
    assert (video.rate, video.length) == (12.0, 9)
    frames = [*video]
    assert [frame.index for frame in frames] == [*range(9)]
    levels = [round(float(frame.image.mean()) / 10) for frame in frames]
    assert levels == [*range(9)] and len([*video]) == 9, "a second time as well"
    writer = VideoWriter(folder / "copy.mp4", video.rate)
    for frame in frames:
        writer.write(frame.image)
    writer.close()
    copy = VideoSource(str(folder / "copy.mp4"))
    assert (copy.rate, copy.length) == (12.0, 9)
    assert [round(float(frame.image.mean()) / 10) for frame in copy] == levels


def test_what_cannot_be_read_is_told(folder):
    content = (folder / "c.avi").read_bytes()
    (folder / "cut.avi").write_bytes(content[: len(content) * 9 // 10])
    *whole, last = VideoSource(str(folder / "cut.avi"))
    assert whole and all(frame.image is not None for frame in whole)
    assert last.image is None and last.index == len(whole)
    assert f"frame {len(whole)} of 9" in last.fault and "cut off" in last.fault
    (folder / "broken.png").write_bytes(b"no image")
    (frame,) = ImageSource(folder / "broken.png")
    assert frame.image is None and "broken.png is not an image" in frame.fault


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nowhere.png", FileNotFoundError, "no image, video or folder"),
        ("*.webp", FileNotFoundError, "no image, video or folder"),
        ("empty", FileNotFoundError, "no image or video in the folder"),
        ("notes.txt", ValueError, "neither image nor video"),
        ("broken.mp4", ValueError, "broken, or no video"),
    ],
)
def test_bad_inputs(folder, name, error, message):
    (folder / "empty").mkdir()
    (folder / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(error, match=message):
        find_sources([f"{folder}/{name}"])


def test_cameras_are_named_by_number():
    with pytest.raises(ValueError, match="the number of the camera"):
        find_sources(["camera:front"])
