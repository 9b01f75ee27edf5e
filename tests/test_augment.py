from __future__ import annotations

import numpy as np
import pytest
import torch

from metaheads.augment import predict_at_scales
from metaheads.structures import Detections

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


@pytest.mark.parametrize("scales", [(), (0.0,), (1, -1)])
def test_bad_scales(scales):
    with pytest.raises(ValueError, match="scales must be positive"):
        predict_at_scales(find_box, IMAGE, scales)


def test_masks_are_refused():
    def predict(image):
        found = find_box(image)
        found.masks = torch.zeros(1, *image.shape[:2], dtype=torch.bool)
        return found

    with pytest.raises(ValueError, match="masks cannot be merged"):
        predict_at_scales(predict, IMAGE, (1, 2))
