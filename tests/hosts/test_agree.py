"""One checkpoint gives the same numbers in both hosts."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

pytest.importorskip("mmdet", reason="MMDetection is not installed")
pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from tests.hosts import pair  # noqa: E402

from metaheads import load, weights  # noqa: E402
from metaheads.commands.train import RunOptions, train  # noqa: E402
from metaheads.datasets import transforms  # noqa: E402
from metaheads.export import flatten_outputs  # noqa: E402
from metaheads.structures import Targets  # noqa: E402

SMALL = "yolact/yolact_r18_128_shapes"
NAMES = (
    SMALL,
    "centernet_points/centernet_points_hourglass_small_160_shapes",
    "centernet_points/centernet_points_pose_hourglass_small_160_shapes",
    "cornernet/cornernet_small_160_shapes",
    "centernet_triplets/centernet_triplets_small_160_shapes",
    "retinaface/retinaface_mnet025_320_faces",
)


@pytest.fixture(scope="module", params=NAMES, ids=[name.split("/")[1] for name in NAMES])
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def models(shapes_data, name):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAHEADS_DATA", str(shapes_data))
        torch.manual_seed(0)
        mmdet, detectron2 = pair.mmdet_model(name), pair.detectron2_model(name)
    for core in (mmdet.core, detectron2.core):  # of a fresh model any corners are a pair
        core.max_tag_distance, core.max_outside, core.centre_parts = 100.0, 100.0, (1, 1)
    for branches in getattr(mmdet.core, "stacks", ()):
        for branch in branches.values():  # and all kinds prefer the same class
            branch.heat[2].load_state_dict(branches["tl"].heat[2].state_dict())
            torch.nn.init.uniform_(branch.heat[2].bias, -0.01, 0.01)
    pair.same_weights(mmdet, detectron2)
    return mmdet.eval(), detectron2.eval()


def made_targets(core) -> list[Targets]:
    masks = torch.zeros(3, 160, 160, dtype=torch.bool)
    boxes = torch.tensor([[10.0, 20, 60, 70], [80, 30, 150, 140], [5, 90, 70, 155]])
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    crowd = torch.tensor([False, False, True])
    labels = torch.tensor([0, 6, 3]).clamp(max=core.num_classes - 1)
    keypoints = vertices = None
    if count := getattr(core, "num_keypoints", 0):
        keypoints = boxes[:, None, :2] + torch.rand(3, count, 2) * 40
        keypoints = torch.cat((keypoints, torch.full_like(keypoints[..., :1], 2)), -1)
    if count := getattr(core, "num_vertices", 0):
        vertices = boxes[:, None, :1] + torch.rand(3, count, core.vertex_dimensions) * 40
        vertices[1] = torch.nan  # of one object there is no mesh
    return [Targets((160, 160), boxes, labels, crowd, masks, keypoints, vertices)] * 2


def test_same_tensors_give_same_outputs_and_losses(models):
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    losses = []
    with torch.no_grad():
        outputs = [model.raw_outputs(images) for model in models]
        for model, out in zip(models, outputs, strict=True):
            torch.manual_seed(2)
            losses.append(model.core.losses(out, made_targets(model.core)))
    for (_, ours), (_, theirs) in zip(*map(flatten_outputs, outputs), strict=True):
        assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert losses[0].keys() == losses[1].keys()
    for name in losses[0]:
        assert_close(losses[0][name], losses[1][name], rtol=1e-5, atol=0)


def compare(models, name: str) -> int:
    """Detections of both hosts through their own loaders; the number of equal ones."""
    in_mmdet = pair.mmdet_detections(models[0], name)
    in_detectron2 = pair.detectron2_detections(models[1], name)
    assert in_mmdet.keys() == in_detectron2.keys()
    count = 0
    for image_id, ours in in_mmdet.items():
        theirs = in_detectron2[image_id]
        assert torch.equal(ours.labels, theirs.labels)
        assert_close(ours.scores, theirs.scores, rtol=1e-4, atol=1e-5)
        assert_close(ours.boxes, theirs.boxes, rtol=1e-4, atol=1e-2)
        assert (ours.masks is None) == (theirs.masks is None)
        if ours.masks is not None:
            different = (ours.masks != theirs.masks).sum().item()
            assert different <= 1e-4 * ours.masks.numel()
        assert (ours.keypoints is None) == (theirs.keypoints is None)
        if ours.keypoints is not None:
            assert_close(ours.keypoints, theirs.keypoints, rtol=1e-4, atol=1e-2)
        assert (ours.vertices is None) == (theirs.vertices is None)
        if ours.vertices is not None:
            assert_close(ours.vertices, theirs.vertices, rtol=1e-4, atol=1e-2)
        count += len(ours)
    return count


def test_both_loaders_give_the_same_detections(models, name):
    assert compare(models, name) >= 100


def test_the_comparison_notices_a_broken_geometry(models, name, monkeypatch):
    """The resize of one host alone, by another kernel: the test above must go red."""
    import cv2

    def nearest(image, size):
        resized = cv2.resize(image, size[::-1], interpolation=cv2.INTER_NEAREST)
        return resized.astype("float32")

    monkeypatch.setattr(transforms, "resize_image", nearest)  # MMDetection's transform uses it
    with pytest.raises(AssertionError):
        compare(models, name)


@pytest.mark.parametrize("host", ["mmdet", "detectron2"])
def test_flip_testing_through_load(host, name, shapes_data, monkeypatch):
    """A symmetric picture: with the mirror nothing changes but digits; YOLACT refuses."""
    monkeypatch.setenv("METAHEADS_DATA", str(shapes_data))
    if name == SMALL:
        with pytest.raises(ValueError, match="no flip"):
            load(name, host=host, device="cpu", flip=True)
        return
    torch.manual_seed(0)
    model = load(name, host=host, device="cpu", flip=True)
    half = torch.randint(0, 255, (144, 96, 3), dtype=torch.uint8).numpy()
    found = model.predict(np.concatenate((half, half[:, ::-1]), 1))
    assert model.module.flip_test and found.scores.isfinite().all()
    if "points" in name:
        centres = (found.boxes[:, 0] + found.boxes[:, 2]) / 2
        nearest = (centres[:, None] + centres[None] - 192).abs().amin(1)
        assert len(found) == 100 and nearest.median() < 4, "and what is found is symmetric"


def test_several_sizes_give_the_same_in_both_hosts(
    models, name, shapes_data, monkeypatch, tmp_path
):
    """Each image at three sizes and mirrored; one size alone finds something else."""
    monkeypatch.setenv("METAHEADS_DATA", str(shapes_data))
    torch.save(models[0].state_dict(), tmp_path / "both.pth")
    image = torch.randint(0, 255, (144, 192, 3), dtype=torch.uint8).numpy()
    found = []
    for host in ("mmdet", "detectron2"):
        flip = name != SMALL
        model = load(name, tmp_path / "both.pth", host=host, device="cpu", flip=flip)
        for option in ("max_tag_distance", "max_outside", "centre_parts"):
            setattr(model.module.core, option, getattr(models[0].core, option))
        if name == SMALL:
            with pytest.raises(ValueError, match="no scales"):
                model.predict(image, scales=(1, 0.5))
            continue
        found.append(model.predict(image, scales=(0.5, 1, 1.5)))
        alone = model.predict(image)
    if found:
        ours, theirs = found
        assert torch.equal(ours.labels, theirs.labels)
        assert_close(ours.scores, theirs.scores, rtol=1e-4, atol=1e-5)
        assert_close(ours.boxes, theirs.boxes, rtol=1e-4, atol=1e-2)
        assert len(ours) > 10
        assert len(alone) != len(ours) or not torch.equal(alone.scores, ours.scores)


@pytest.mark.parametrize("host", ["mmdet", "detectron2"])
def test_evaluation_at_several_sizes(host, name, shapes_data, monkeypatch, tmp_path):
    monkeypatch.setenv("METAHEADS_DATA", str(shapes_data))
    torch.manual_seed(0)
    fresh = load(name, host=host, device="cpu")
    torch.save(fresh.checkpoint(), tmp_path / "fresh.pth")
    views: list[tuple] = []
    heads = type(fresh.module.core).forward

    def count_views(core, features):
        views.append(tuple(features[0].shape))
        return heads(core, features)

    monkeypatch.setattr(type(fresh.module.core), "forward", count_views)
    options = RunOptions(
        checkpoint=str(tmp_path / "fresh.pth"), eval_only=True, flip=True, scales=(0.5, 1, 1.5)
    )
    if name == SMALL:
        with pytest.raises(ValueError, match="cannot merge"):
            train(name, host, [], options, work_dir=str(tmp_path), check_data=False)
        return
    train(name, host, [], options, work_dir=str(tmp_path), check_data=False)
    folder = "shapes/faces/val" if name.endswith("_faces") else "shapes/val"
    images = len(list((shapes_data / folder).iterdir()))
    assert len(views) == 3 * images and all(shape[0] == 2 for shape in views)
    assert len({shape[2:] for shape in views}) == 3
    assert views[0][3] < views[2][3] and views[1][3] < views[0][3], "the own size first"


@pytest.mark.slow
@pytest.mark.parametrize("host", ["mmdet", "detectron2"])
def test_two_processes_evaluate_several_sizes(host, shapes_data, monkeypatch, tmp_path):
    monkeypatch.setenv("METAHEADS_DATA", str(shapes_data))
    name = "centernet_points/centernet_points_hourglass_small_160_shapes"
    torch.manual_seed(0)
    torch.save(load(name, host=host, device="cpu").checkpoint(), tmp_path / "fresh.pth")
    options = {"checkpoint": str(tmp_path / "fresh.pth"), "eval_only": True, "scales": (1, 0.5)}
    found = [
        train(
            name,
            host,
            [],
            RunOptions(num_gpus=count, **options),
            work_dir=str(tmp_path / str(count)),
            check_data=False,
        )
        for count in (1, 2)
    ]
    assert found[0].keys() == found[1].keys() and len(found[0]) > 3
    for key, value in found[0].items():
        assert value == pytest.approx(found[1][key], nan_ok=True)


def test_mmdetections_own_tta_begins_with_the_images_own_size(models, name, monkeypatch):
    """In whatever order a tta_pipeline lists its views."""
    from mmdet.structures import DetDataSample

    from metaheads.hosts.mmdet.models import TestTimeAugmentation

    if name == SMALL:
        with pytest.raises(ValueError, match="no scales"):
            TestTimeAugmentation(models[0])
        return
    seen = []
    monkeypatch.setattr(
        "metaheads.hosts.mmdet.models.predict_views",
        lambda _, views, flip: seen.extend(images.shape[-1] for images, _ in views) or [],
    )
    wrapped, images, samples = TestTimeAugmentation(models[0]), [], []
    for scale in (0.5, 1.0, 2.0):
        size = int(64 * scale), int(64 * scale)
        meta = {"view_scale": scale, "img_shape": size, "ori_shape": (64, 64)}
        images.append([torch.zeros(3, *size, dtype=torch.uint8)])
        samples.append([DetDataSample(metainfo=meta)])
    monkeypatch.setattr(models[0], "add_pred_to_datasample", lambda samples, _: samples)
    wrapped.test_step({"inputs": images, "data_samples": samples})
    assert seen == [64, 32, 128]


def test_a_checkpoint_moves_there_and_back(models):
    mmdet, detectron2 = models
    back = weights.to_host(detectron2.state_dict(), mmdet.state_dict())
    for name, value in mmdet.state_dict().items():
        assert torch.equal(value, back[name]), name
