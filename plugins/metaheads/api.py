"""Three lines of Python, the same for both hosts:

from metaheads import load
model = load("yolact/yolact_r50_550_coco", "weights.pth", host="mmdet")
result = model.predict("street.jpg")
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from metaheads import optimise as optimisation
from metaheads.augment import check_scales, check_views, predict_at_scales
from metaheads.configs import find_config
from metaheads.media import read_image
from metaheads.profiling import Probe
from metaheads.structures import Detections, PanopticSegmentation


@dataclass(frozen=True)
class InputFormat:
    """What a network sees.

    Attributes:
        size: (height, width) to which images are stretched; None: it follows the image.
        mean, std: per channel, on 0..255, in the order of `channels`.
        channels: "RGB" or "BGR".
    """

    size: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: str


class HostedModel(Protocol):
    """What each host's `inference.build` returns."""

    module: torch.nn.Module
    class_names: list[str]
    input_format: InputFormat
    num_things: int | None

    def detect(
        self, images: list[np.ndarray], scales: Sequence[float] = ()
    ) -> list[Detections]: ...

    def segment(self, images: list[np.ndarray]) -> list[PanopticSegmentation]: ...

    def probes(self) -> list[Probe]: ...

    def checkpoint(self) -> dict[str, Any]: ...


@dataclass
class TrainingStep:
    """What each host's `steps.build` returns.

    Attributes:
        loss: the total loss of one and the same batch, with a graph.
        probes: the methods that make up the stages "preprocess" and "forward" of `loss`.
    """

    module: torch.nn.Module
    optimizer: torch.optim.Optimizer
    loss: Callable[[], Tensor]
    probes: list[Probe]


class Model:
    """A model of either host that is ready to predict.

    Attributes:
        module: the host's model in evaluation mode.
        class_names: name of every label; of panoptic models the things, then the stuff.
        input_format: size and normalisation of the network's input.
        num_things: how many of them come apart as things; 0 of semantic models, None of models of
            detections alone.
        bfloat16: predicts with autocast to bfloat16.
        is_optimised: batch norms are folded.
    """

    def __init__(
        self, hosted: HostedModel, *, bfloat16: bool = False, is_optimised: bool = False
    ) -> None:
        self._hosted = hosted
        self.is_optimised = is_optimised
        self.bfloat16 = bfloat16
        self.module = hosted.module
        self.class_names = hosted.class_names
        self.input_format = hosted.input_format
        self.num_things = hosted.num_things

    @property
    def is_panoptic(self) -> bool:
        """Whether `predict_panoptic` works; of semantic models every segment is a whole class."""
        return self.num_things is not None

    @torch.no_grad()
    def predict(
        self,
        image: str | Path | np.ndarray,
        threshold: float = 0.0,
        scales: Sequence[float] = (),
    ) -> Detections:
        """What is in an image: finished detections on the CPU, in pixels of this image.

        Args:
            image: a file, or (H, W, 3) uint8 RGB.
            threshold: only detections with a score above it.
            scales: sizes at which the image is looked at, by default what the config says; merged
                by the architecture, or for a host's own model by `augment.predict_at_scales`.

        Raises:
            FileNotFoundError, ValueError: no such file; not an image, or an array of another form;
                scales for a model that cannot merge them; a semantic model.
        """
        pixels = as_rgb(image)
        if scales and self.is_panoptic:
            raise ValueError("panoptic models look at an image at one size: leave the scales out")
        if not scales or hasattr(self.module, "core"):
            (found,) = self._detect([pixels], scales)
            return found[found.scores > threshold]
        scales = check_scales(scales)
        found = predict_at_scales(lambda each: self.predict_batch([each])[0], pixels, scales)
        return found[found.scores > threshold]

    @torch.no_grad()
    def predict_batch(self, images: list[np.ndarray], threshold: float = 0.0) -> list[Detections]:
        """As `predict`, for several (H, W, 3) uint8 RGB arrays in one pass of the network."""
        images = [as_rgb(each) for each in images]
        found = self._detect(images) if images else []
        return [each[each.scores > threshold] for each in found]

    def predict_panoptic(
        self, image: str | Path | np.ndarray, threshold: float = 0.0
    ) -> PanopticSegmentation:
        """What every pixel of an image belongs to, on the CPU, in pixels of this image.

        Args:
            image: a file, or (H, W, 3) uint8 RGB.
            threshold: things whose score is not above it become void.

        Raises:
            FileNotFoundError, ValueError: as `predict`; a model that gives no such thing.
        """
        return self.predict_panoptic_batch([as_rgb(image)], threshold)[0]

    @torch.no_grad()
    def predict_panoptic_batch(
        self, images: list[np.ndarray], threshold: float = 0.0
    ) -> list[PanopticSegmentation]:
        """As `predict_panoptic`, for several arrays in one pass of the network."""
        if not self.is_panoptic:
            raise ValueError(
                f"{type(self.module).__name__} gives no panoptic segmentation: UPSNet, the hosts' "
                "Panoptic FPN and SemanticSegmenter do; predict gives its detections"
            )
        images = [as_rgb(each) for each in images]
        with self._precision():
            found = self._hosted.segment(images) if images else []
        return [
            each.to("cpu").keep(lambda segment: segment.score is None or segment.score > threshold)
            for each in found
        ]

    def predict_results(
        self, images: list[np.ndarray], threshold: float = 0.0
    ) -> list[Detections] | list[PanopticSegmentation]:
        """What the model is made for: of panoptic models segmentations, else detections."""
        if self.is_panoptic:
            return self.predict_panoptic_batch(images, threshold)
        return self.predict_batch(images, threshold)

    def _detect(self, images: list[np.ndarray], scales: Sequence[float] = ()) -> list[Detections]:
        if self.num_things == 0:
            raise ValueError(
                f"{type(self.module).__name__} labels pixels and gives no detections: call "
                "predict_panoptic"
            )
        with self._precision():
            return [each.to("cpu") for each in self._hosted.detect(images, scales)]

    def probes(self) -> list[Probe]:
        """The methods of the model that make up the stages of a prediction, for `StageClock`:
        "preprocess", "backbone", "neck", "heads", "decode" (with NMS) and "masks"."""
        return self._hosted.probes()

    def checkpoint(self) -> dict[str, Any]:
        """The weights as the host's own loaders expect them in a file, without a training's
        state.

        Raises:
            ValueError: an optimised model has others than its config describes.
        """
        if self.is_optimised:
            raise ValueError("the weights of an optimised model fit no config: load it plainly")
        return self._hosted.checkpoint()

    @torch.no_grad()
    def raw_outputs(self, images: Tensor) -> Any:
        """(B, 3, H, W) already normalised images -> the architecture's outputs before decoding."""
        with self._precision():
            return self.module.raw_outputs(images)

    def _precision(self) -> contextlib.AbstractContextManager:
        if not self.bfloat16:
            return contextlib.nullcontext()
        device = next(self.module.parameters()).device.type
        return torch.autocast(device, torch.bfloat16)


def load(
    config: str | Path,
    checkpoint: str | Path | None = None,
    *,
    host: str | None = None,
    device: str | None = None,
    trust_checkpoint: bool = False,
    optimise: bool = False,
    bfloat16: bool = False,
    compile: bool = False,
    flip: bool = False,
) -> Model:
    """Builds the model of a config and loads a checkpoint of either host, or an imported one.

    Args:
        config: a file, or the name of one of our configs.
        checkpoint: without one, the weights are those of a fresh model.
        host: "mmdet" or "detectron2", where a name does not tell.
        device: "cpu", "cuda", ...; by default the GPU if there is one.
        trust_checkpoint: read a checkpoint that needs arbitrary code.
        optimise: fold batch norms and lay weights out channels last, for prediction only; raw
            outputs change by less than 1e-4 of their largest value.
        bfloat16: predict with autocast to bfloat16, where the device computes with it; raw outputs
            change by less than 5 % of their largest value.
        compile: torch.compile backbone, neck and heads, at the first image of a size.
        flip: predict from the image and its mirror, where the architecture can merge them.

    Raises:
        FileNotFoundError, ValueError, KeyError: what does not exist or does not fit, and the
        remedy.
    """
    path, host = find_config(str(config), host)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_device(device)
    if bfloat16 and device.startswith("cuda") and not torch.cuda.is_bf16_supported():
        raise ValueError(f"{torch.cuda.get_device_name(device)} has no bfloat16: leave it out")
    inference = importlib.import_module(f"metaheads.hosts.{host}.inference")
    hosted = inference.build(path, checkpoint, device, trust_checkpoint)
    if bfloat16 and optimisation.has_mmcv_regions(hosted.module):
        raise ValueError(f"{config}: mmcv's RoIAlign has no bfloat16: leave it out")
    if flip:
        core = getattr(hosted.module, "core", hosted.module)
        check_views(core, flip=True, scales=(1.0,))
        hosted.module.flip_test = True
    if optimise:
        grey = np.full((64, 64, 3), 128, np.uint8)
        run = hosted.detect if hosted.num_things is None else hosted.segment
        optimisation.optimise(hosted.module, lambda: run([grey]))
    if compile:
        optimisation.compile_parts(hosted.module)
    return Model(hosted, bfloat16=bfloat16, is_optimised=optimise)


def check_device(device: str) -> None:
    """Raises ValueError for a device that torch does not know or does not see."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(f"no device {device!r}: write cpu, cuda or cuda:0") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device}: torch sees no GPU here (metaheads doctor tells more)")


def as_rgb(image: str | Path | np.ndarray) -> np.ndarray:
    """A file or array -> (H, W, 3) uint8 RGB."""
    if not isinstance(image, np.ndarray):
        return read_image(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"image must be (H, W, 3) uint8 RGB, got shape {image.shape}, dtype {image.dtype}"
        )
    return image


def necks(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The feature pyramid, wherever an architecture keeps it."""
    core = getattr(module, "core", None)
    found = [getattr(module, "neck", None), getattr(core, "neck", None), getattr(core, "fpn", None)]
    return [each for each in found if each is not None]


def core_probes(module: torch.nn.Module) -> list[Probe]:
    """The stages of a model of ours behind its features; none of a model of the host's own."""
    if not hasattr(module, "core"):
        return []
    steps = ("candidates", "merge_views") if hasattr(module.core, "merge_views") else ("decode",)
    # The NMS of region architectures; semantic scores that an evaluator labels.
    steps += tuple(name for name in ("select", "decode_scores") if hasattr(module.core, name))
    found: list[Probe] = [(module.core, name, "decode") for name in steps]
    return [*found, (Detections, "finish", "masks")]
