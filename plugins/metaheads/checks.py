"""What a run needs of a model beyond its config and its data; asked before any long work.

Only our architectures, a model's `core`, say what they give; of other models nothing is known.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from metaheads.mesh import MeshTopology

_LEAVE_OUT = (
    "or leave the metric out (MMDetection: NMEMetric or KeypointMetric of the evaluator; "
    "Detectron2: TEST.NME, MODEL.KEYPOINT_ON)"
)


def check_training(model: nn.Module) -> None:
    """Lets an architecture look for what its losses need besides data.

    Raises:
        FileNotFoundError, ValueError: as its `check_training` does.
    """
    core = getattr(model, "core", None)
    if core is not None and hasattr(core, "check_training"):
        core.check_training()


def check_points(model: nn.Module, mesh_file: str | Path = "") -> None:
    """Whether a model gives the points that a metric measures.

    Args:
        mesh_file: JSON of `metaheads.mesh`, if vertices are measured, too.

    Raises:
        FileNotFoundError: no such mesh file.
        ValueError: it does not; names the option and the remedy.
    """
    core = getattr(model, "core", None)
    if core is None:
        return
    if not getattr(core, "num_keypoints", 0):
        raise ValueError(
            "keypoints are to be measured, but the model gives none: set its num_keypoints "
            "(MMDetection: model.core.num_keypoints, Detectron2: MODEL.<NAME>.NUM_KEYPOINTS), "
            f"{_LEAVE_OUT}"
        )
    if not mesh_file:
        return
    expected, given = (
        MeshTopology.from_json(mesh_file).num_vertices,
        getattr(core, "num_vertices", 0),
    )
    if given != expected:
        raise ValueError(
            f"the {expected} vertices of {mesh_file} are to be measured, but the model gives "
            f"{given or 'none'}: set its num_vertices (MMDetection: model.core.num_vertices, "
            "Detectron2: MODEL.<NAME>.NUM_VERTICES), or leave the mesh file out of the metric "
            "(MMDetection: NMEMetric's mesh_file, Detectron2: INPUT.MESH_FILE)"
        )
