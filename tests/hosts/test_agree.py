"""One checkpoint gives the same numbers in both hosts."""

import pytest
import torch
from torch.testing import assert_close

pytest.importorskip("mmdet", reason="MMDetection is not installed")
pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from tests.hosts import pair  # noqa: E402

from metaheads import weights  # noqa: E402
from metaheads.datasets import transforms  # noqa: E402
from metaheads.structures import Targets  # noqa: E402

SMALL = "yolact/yolact_r18_128_shapes"


@pytest.fixture(scope="module")
def models(shapes_data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAHEADS_DATA", str(shapes_data))
        torch.manual_seed(0)
        mmdet, detectron2 = pair.mmdet_model(SMALL), pair.detectron2_model(SMALL)
    pair.same_weights(mmdet, detectron2)
    return mmdet.eval(), detectron2.eval()


def made_targets() -> list[Targets]:
    masks = torch.zeros(3, 160, 160, dtype=torch.bool)
    boxes = torch.tensor([[10.0, 20, 60, 70], [80, 30, 150, 140], [5, 90, 70, 155]])
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    crowd = torch.tensor([False, False, True])
    return [Targets((160, 160), boxes, torch.tensor([0, 6, 3]), crowd, masks) for _ in range(2)]


def test_same_tensors_give_same_outputs_and_losses(models):
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    losses = []
    with torch.no_grad():
        outputs = [model.raw_outputs(images) for model in models]
        for model, out in zip(models, outputs, strict=True):
            torch.manual_seed(2)
            losses.append(model.core.losses(out, made_targets()))
    for ours, theirs in zip(*outputs, strict=True):
        assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert losses[0].keys() == losses[1].keys()
    for name in losses[0]:
        assert_close(losses[0][name], losses[1][name], rtol=1e-5, atol=0)


def compare(models) -> int:
    """Detections of both hosts through their own loaders; the number of equal ones."""
    in_mmdet = pair.mmdet_detections(models[0], SMALL)
    in_detectron2 = pair.detectron2_detections(models[1], SMALL)
    assert in_mmdet.keys() == in_detectron2.keys()
    count = 0
    for image_id, ours in in_mmdet.items():
        theirs = in_detectron2[image_id]
        assert torch.equal(ours.labels, theirs.labels)
        assert_close(ours.scores, theirs.scores, rtol=1e-4, atol=1e-5)
        assert_close(ours.boxes, theirs.boxes, rtol=1e-4, atol=1e-2)
        different = (ours.masks != theirs.masks).sum().item()
        assert different <= 1e-4 * ours.masks.numel()
        count += len(ours)
    return count


def test_both_loaders_give_the_same_detections(models):
    assert compare(models) >= 300


def test_the_comparison_notices_a_broken_geometry(models, monkeypatch):
    """The resize of one host alone, by another kernel: the test above must go red."""
    import cv2

    def nearest(image, size):
        resized = cv2.resize(image, size[::-1], interpolation=cv2.INTER_NEAREST)
        return resized.astype("float32")

    monkeypatch.setattr(transforms, "resize_image", nearest)  # MMDetection's transform uses it
    with pytest.raises(AssertionError):
        compare(models)


def test_a_checkpoint_moves_there_and_back(models):
    mmdet, detectron2 = models
    back = weights.to_host(detectron2.state_dict(), mmdet.state_dict())
    for name, value in mmdet.state_dict().items():
        assert torch.equal(value, back[name]), name
