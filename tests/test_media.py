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
    assert f"frames {len(whole)} to 8 of 9" in last.fault and "cut off" in last.fault
    (folder / "broken.mp4").write_bytes(b"no video")
    (frame,) = VideoSource(str(folder / "broken.mp4"))
    assert frame.image is None and "broken, or no video" in frame.fault
    (folder / "broken.png").write_bytes(b"no image")
    (frame,) = ImageSource(folder / "broken.png")
    assert frame.image is None and "broken.png is not an image" in frame.fault


def test_frames_behind_a_broken_one_are_read(folder):
    content = bytearray((folder / "c.avi").read_bytes())
    starts = [n for n in range(len(content)) if content[n : n + 3] == b"\xff\xd8\xff"]
    assert len(starts) == 9, "every frame is a JPEG"
    for start in starts[3:5]:
        content[start : start + 400] = bytes(400)
    (folder / "hole.avi").write_bytes(content)
    frames = list(VideoSource(str(folder / "hole.avi")))
    faults = [frame.fault for frame in frames if frame.image is None]
    assert frames[3].fault in faults and "frame 3 of 9" in frames[3].fault
    read = [frame for frame in frames if frame.image is not None]
    assert len(read) >= 5 and [frame.index for frame in read][:4] == [0, 1, 2, 4]
    assert read[-1].image.mean() == pytest.approx(80, abs=3), "the last frame of all"


def test_an_image_that_is_cut_off_is_refused(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.jpg"), pixels)
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(content[: len(content) // 2])
    assert read_image(tmp_path / "a.jpg").shape == (64, 64, 3)
    with pytest.raises(ValueError, match="half.jpg is not an image, or it is broken"):
        read_image(tmp_path / "half.jpg")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nowhere.png", FileNotFoundError, "no image, video or folder"),
        ("*.webp", FileNotFoundError, "no image, video or folder"),
        ("empty", FileNotFoundError, "no image or video in the folder"),
        ("notes.txt", ValueError, "neither image nor video"),
    ],
)
def test_bad_inputs(folder, name, error, message):
    (folder / "empty").mkdir()
    with pytest.raises(error, match=message):
        find_sources([f"{folder}/{name}"])


def test_cameras_are_named_by_number():
    with pytest.raises(ValueError, match="the number of the camera"):
        find_sources(["camera:front"])
