"""Losses of RetinaFace. Letters as in network.py; S positives of a batch, E edges of the mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from metaheads.architectures.retinaface.decode import mesh_deltas, priors_of, refine_priors
from metaheads.architectures.retinaface.targets import assign_priors, encode_points, usable
from metaheads.boxes import encode_boxes
from metaheads.distributed import mean_count
from metaheads.losses import hard_examples
from metaheads.structures import Targets

if TYPE_CHECKING:
    from metaheads.architectures.retinaface.network import RetinaFace, RetinaFaceOutputs


def losses(
    core: RetinaFace, outputs: RetinaFaceOutputs, targets: list[Targets]
) -> dict[str, Tensor]:
    """The weighted losses of a batch, in float32."""
    priors = priors_of(core, outputs, targets[0].image_size)
    with torch.autocast(outputs.box_deltas.device.type, enabled=False):
        return prior_losses(core, as_floats(outputs), priors, targets)


def prior_losses(
    core: RetinaFace, outputs: RetinaFaceOutputs, priors: Tensor, targets: list[Targets]
) -> dict[str, Tensor]:
    """The weighted losses of a batch.

    Args:
        priors: (P, 4) cxcywh in the unit of the targets.
    """
    found = {}
    every = priors.expand(len(targets), -1, -1)  # (B, P, 4)
    if outputs.first is not None:
        first = _Batch(core, outputs.first, every, targets, stage=0).losses()
        found = {name.replace("loss_", "loss_first_"): value for name, value in first.items()}
        every = refine_priors(core, outputs.first, priors)
    return found | _Batch(core, outputs, every, targets, stage=-1).losses()


def as_floats(outputs: Any) -> Any:
    """Nested outputs in float32."""
    if isinstance(outputs, Tensor):
        return outputs.float()
    if isinstance(outputs, list):
        return [as_floats(each) for each in outputs]
    return None if outputs is None else type(outputs)(*map(as_floats, outputs))


class _Batch:
    """One batch at one stage, with its objects assigned to priors.

    Args:
        priors: (B, P, 4).
    """

    def __init__(
        self,
        core: RetinaFace,
        outputs: RetinaFaceOutputs,
        priors: Tensor,
        targets: list[Targets],
        *,
        stage: int,
    ) -> None:
        self.core, self.outputs = core, outputs
        objects = [target[usable(target)] for target in targets]
        assigned = [
            assign_priors(
                own_priors,
                each.boxes,
                each.labels,
                target.boxes[target.is_crowd],
                positive_iou=core.positive_iou[stage],
                negative_iou=core.negative_iou[stage],
                best_prior_iou=core.best_prior_iou,
                crowd_iof=core.crowd_iof,
                is_compatible=core.is_compatible,
            )
            for own_priors, each, target in zip(priors, objects, targets, strict=True)
        ]
        self.classes = torch.stack([each.classes for each in assigned])  # (B, P)
        self.image, self.prior = (self.classes > 0).nonzero(as_tuple=True)  # (S,)
        self.priors = priors[self.image, self.prior]  # (S, 4)
        rows = [each.matched[each.classes > 0] for each in assigned]
        self.matched = [each[own] for each, own in zip(objects, rows, strict=True)]
        self.num_positive = self._count(self.classes > 0)

    def losses(self) -> dict[str, Tensor]:
        core, out = self.core, self.outputs
        chosen = hard_examples(
            out.class_logits.detach(),
            self.classes,
            core.negatives_per_positive,
            min_positives=0 if core.is_compatible else 1,
        )
        classes = F.cross_entropy(out.class_logits[chosen], self.classes[chosen], reduction="sum")
        wanted = encode_boxes(self._of_objects("boxes"), self.priors, core.variances)
        deltas = out.box_deltas[self.image, self.prior]
        box = F.smooth_l1_loss(deltas, wanted, reduction="sum")
        found = {
            "loss_class": core.class_weight * classes / self.num_positive,
            "loss_box": core.box_weight * box / self.num_positive,
        }
        if out.keypoint_deltas is not None:
            found["loss_keypoints"] = core.keypoint_weight * self._keypoint_loss()
        if out.mesh_features is not None:
            found |= self._mesh_losses()
        return found

    def _keypoint_loss(self) -> Tensor:
        assert self.outputs.keypoint_deltas is not None
        points = self._of_objects("keypoints")  # (S, K, 3)
        is_known = points[..., 2] > 0
        wanted = encode_points(points[..., :2], self.priors, self.core.variances[0])
        deltas = self.outputs.keypoint_deltas[self.image, self.prior].unflatten(1, (-1, 2))
        summed = F.smooth_l1_loss(
            deltas[is_known], wanted[is_known], reduction="sum", beta=self.core.keypoint_beta
        )
        return summed / self._count(is_known.any(1))

    def _mesh_losses(self) -> dict[str, Tensor]:
        """Means over faces with a mesh, over their coordinates and over their edges."""
        core = self.core
        assert self.outputs.mesh_features is not None
        vertices = self._of_objects("vertices")  # (S, V, D)
        has_mesh = vertices.isfinite().flatten(1).all(1)
        wanted = encode_points(vertices, self.priors, core.variances[0])[has_mesh]
        rows = self.image[has_mesh], self.prior[has_mesh]
        deltas = mesh_deltas(core, self.outputs.mesh_features, *rows)
        count = self._count(has_mesh)
        off = (deltas - wanted).abs().flatten(1).mean(1).sum() / count
        found = {"loss_mesh_vertices": core.vertex_weight * off}
        if core.mesh is not None:
            edges = torch.from_numpy(core.mesh.edges).to(deltas.device)
            off = (edge_lengths(deltas, edges) - edge_lengths(wanted, edges)).abs().sum()
            found["loss_mesh_edges"] = core.edge_weight * off / (max(len(edges), 1) * count)
        return found

    def _of_objects(self, name: str) -> Tensor:
        """(S, ...) a field of the object of every positive.

        Raises:
            ValueError: the targets do not have it, or not as many of them.
        """
        expected = {
            "boxes": (4,),
            "keypoints": (self.core.num_keypoints, 3),
            "vertices": (self.core.num_vertices, self.core.vertex_dimensions),
        }[name]
        values = [self.priors.new_zeros((0, *expected))]
        for objects in self.matched:
            each = getattr(objects, name)
            shape = None if each is None else tuple(each.shape[1:])
            if shape == expected:
                values.append(each)
            elif len(objects):
                raise ValueError(
                    f"the model learns {name} {expected} of each object, the targets carry "
                    f"{shape or 'none'}: load them in the data set, or set num_{name} to what it "
                    "has (0 for none)"
                )
        return torch.cat(values)

    def _count(self, chosen: Tensor) -> Tensor:
        """How many, at least 1; the mean over all processes in training."""
        count = chosen.sum()
        return mean_count(count) if self.core.training else count.clamp(min=1)


def edge_lengths(vertices: Tensor, edges: Tensor) -> Tensor:
    """(S, V, D) and (E, 2) -> (S, E); an edge of no length has a gradient of zero."""
    difference = vertices[:, edges[:, 0]] - vertices[:, edges[:, 1]]
    return (difference.square().sum(-1) + 1e-12).sqrt()
