from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from metaheads.augment import check_scales, check_views, predict_at_scales, predict_views
from metaheads.structures import Detections, Geometry

IMAGE = np.zeros((60, 100, 3), np.uint8)
BOX = [10.0, 20.0, 50.0, 50.0]


def find_box(image: np.ndarray) -> Detections:
    """The box where it lies in an image of this size; the larger the image, the surer."""
    height, width = image.shape[:2]
    scale = torch.tensor([width / 100, height / 60])
    return Detections(
        torch.tensor([BOX]) * scale.repeat(2),
        torch.tensor([0.5 + width / 1000]),
        torch.tensor([2]),
        keypoints=torch.tensor([[[30.0, 30.0, 0.7]]]) * torch.cat((scale, torch.ones(1))),
    )


def test_what_is_found_at_all_scales_is_merged():
    seen = []

    def predict(image):
        seen.append(image.shape[:2])
        return find_box(image)

    found = predict_at_scales(predict, IMAGE, (0.5, 1, 1.5))
    assert seen == [(30, 50), (60, 100), (90, 150)]
    torch.testing.assert_close(found.boxes[0], torch.tensor(BOX))
    assert found.keypoints[0, 0].tolist() == pytest.approx([30, 30, 0.7])
    assert found.scores[0].item() == pytest.approx(0.65), "that of the largest"
    assert len(found) == 3 and (found.scores[1:] < 0.1).all(), "equal boxes lose their score"
    assert len(predict_at_scales(predict, IMAGE, (0.5, 1), max_detections=1)) == 1


@pytest.mark.parametrize("scales", [(), (0.0,), (1, -1), (1, float("nan")), (float("inf"),)])
def test_bad_scales(scales):
    with pytest.raises(ValueError, match="scales must be positive"):
        check_scales(scales)


def test_the_images_own_size_comes_first():
    assert check_scales((0.5, 1.5, 1.0)) == (1.0, 0.5, 1.5)
    assert check_scales((0.6, 1.2)) == (1.2, 0.6)


def test_masks_are_refused():
    def predict(image):
        found = find_box(image)
        found.masks = torch.zeros(1, *image.shape[:2], dtype=torch.bool)
        return found

    with pytest.raises(ValueError, match="masks cannot be merged"):
        predict_at_scales(predict, IMAGE, (1, 2))


class Decoding(nn.Module):
    """Finds one box per image, a quarter of the input's size from its left and upper border."""

    def decode(self, outputs, image_sizes):
        return [
            Detections(
                torch.tensor([[w / 4, h / 4, w / 2, h / 2]]),
                each.reshape(1),
                torch.zeros(1, dtype=torch.long),
            )
            for each, (h, w) in zip(outputs, image_sizes, strict=True)
        ]


class Merging(Decoding):
    def candidates(self, outputs, image_sizes, is_flipped=False):
        count = len(image_sizes)
        assert len(outputs) == count * (2 if is_flipped else 1)
        found = self.decode(outputs[:count], image_sizes)
        mirrored = outputs[count:] if is_flipped else outputs
        return [
            dataclasses.replace(each, scores=(each.scores + other) / 2)
            for each, other in zip(found, mirrored, strict=True)
        ]

    def merge_views(self, views):
        return Detections.cat(views)


class Hosted(nn.Module):
    """Its raw output is the upper left value of each image."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.core = core

    def raw_outputs(self, images):
        return images[:, 0, 0, 0]


def views_of(*sizes: tuple[int, int]):
    for height, width in sizes:
        images = torch.arange(width).div(width).expand(2, 3, height, width)
        yield images, [Geometry.from_resize((height, width), (40, 80))] * 2


@pytest.mark.parametrize("core", [Decoding(), Merging()])
def test_one_view(core):
    found = predict_views(Hosted(core), views_of((20, 20)))
    assert len(found) == 2
    for each in found:
        assert each.boxes.tolist() == [[20, 10, 40, 20]], "in the original image"
        assert each.scores.tolist() == [0.0]


def test_views_of_every_size_and_mirrors_are_merged():
    found = predict_views(Hosted(Merging()), views_of((20, 20), (40, 40)), flip=True)
    for each in found:
        assert each.boxes.tolist() == [[20, 10, 40, 20]] * 2
        assert each.scores.tolist() == pytest.approx([19 / 40, 39 / 80]), "half of the mirror's"


def test_architectures_that_cannot_merge_are_refused():
    assert check_views(Decoding(), flip=False, scales=(1.0,)) == (1.0,)
    assert check_views(Merging(), flip=True, scales=(1.0, 2.0)) == (1.0, 2.0)
    with pytest.raises(ValueError, match="Decoding cannot merge an image and its mirror: no flip"):
        check_views(Decoding(), flip=True, scales=(1.0,))
    with pytest.raises(ValueError, match="Decoding cannot merge sizes of an image: no scales"):
        check_views(Decoding(), flip=False, scales=(1.0, 2.0))
