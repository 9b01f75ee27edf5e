"""Scaled and shifted views of an image, as CenterNet takes them; for both hosts, by OpenCV.

Unlike `transforms`, which stretches pictures by our own kernel, this is the authors' geometry:
pixel centres at whole numbers, black around the picture. Letters: N objects, K keypoints, H, W
pixels of the image, h, w of the result. Boxes are xyxy, sizes (height, width), points (x, y).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy import ndarray

from metaheads.datasets.transforms import Record
from metaheads.datasets.views import fit_short_side, resize_image, scale_size
from metaheads.structures import Geometry

VIEW_KINDS = ("keep", "pad", "fit", "short", "original")
# Principal components of ImageNet's colours, in BGR on [0, 1] (Krizhevsky et al., 2012).
_EIGENVALUES = np.array([0.2141788, 0.01817699, 0.00341571], np.float32)
_EIGENVECTORS = np.array(
    [
        [-0.58752847, -0.69563484, 0.41340352],
        [-0.5832747, 0.00994535, -0.81221408],
        [-0.56089297, 0.71832671, 0.41158938],
    ],
    np.float32,
)


@dataclass(frozen=True)
class Warp:
    """A view of an image whose centre and width are given; it keeps the aspect ratio.

    Attributes:
        centre: (x, y) of the image that comes to the middle of the view.
        extent: width of the image that fills the view's width.
        size: (h, w) of the view.
    """

    centre: tuple[float, float]
    extent: float
    size: tuple[int, int]

    @property
    def matrix(self) -> ndarray:
        """(2, 3) float64 from the image to the view."""
        height, width = self.size
        source = _frame(self.centre, self.extent)
        return cv2.getAffineTransform(source, _frame((width * 0.5, height * 0.5), width))

    def pixels(self, image: ndarray) -> ndarray:
        """(H, W, 3) uint8 -> (h, w, 3) uint8, bilinear, black outside of the image."""
        return cv2.warpAffine(image, self.matrix, self.size[::-1], flags=cv2.INTER_LINEAR)

    def points(self, points: ndarray) -> ndarray:
        """(..., 2) -> (..., 2) float32."""
        ones = np.ones_like(points[..., :1], np.float32)
        homogeneous = np.concatenate((points.astype(np.float32), ones), -1)
        return (homogeneous @ self.matrix.T).astype(np.float32)

    def geometry(self, original_size: tuple[int, int]) -> Geometry:
        """How the view lies in an image of this (height, width)."""
        height, width = self.size
        source = _frame((width * 0.5, height * 0.5), width)
        inverse = cv2.getAffineTransform(source, _frame(self.centre, self.extent))
        rows = tuple(tuple(float(value) for value in row) for row in inverse)
        return Geometry(self.size, original_size, rows)  # type: ignore[arg-type]


def keep_resolution(image_size: tuple[int, int], multiple: int) -> Warp:
    """The image as large as it is in the middle of a view whose sides are multiples of this."""
    height, width = image_size
    size = tuple((side | (multiple - 1)) + 1 for side in (height, width))
    return Warp((width // 2, height // 2), size[1], size)  # type: ignore[arg-type]


def pad(image_size: tuple[int, int], multiple: int) -> Warp:
    """As `keep_resolution`, but sides are one less than multiples (CornerNet: 127, 255, ...)."""
    height, width = image_size
    size = (height | (multiple - 1), width | (multiple - 1))
    return Warp((width // 2 + 0.5, height // 2 + 0.5), size[1], size)


def fit(image_size: tuple[int, int], size: tuple[int, int]) -> Warp:
    """The image in a view of fixed size, its longer side as long as the view is wide."""
    height, width = image_size
    return Warp((width / 2, height / 2), float(max(height, width)), size)


class TestView:
    """How an image is shown to the network in tests, as its authors do.

    Args:
        kind: "keep" leaves its resolution and surrounds it with black up to the next multiples,
            "pad" up to one less; "fit" brings its longer side to the view's width; "short" (the
            hosts' usual way, by our own kernel) stretches it until its shorter side is size[0], or
            the longer one size[1]; "original" shows it as it is. RetinaFace's authors test on WIDER
            FACE by "original" or by "short" with size (1600, 2150).
        size: (h, w) of the view, for "fit"; sides, for "short".
        multiple: of which the view's sides are, for "keep" and "pad"; a power of two.

    Raises:
        ValueError: another kind, or a multiple that is no power of two.
    """

    __test__ = False  # its name looks like a test to pytest

    def __init__(
        self, *, kind: str = "keep", size: tuple[int, int] = (512, 512), multiple: int = 32
    ) -> None:
        if kind not in VIEW_KINDS:
            raise ValueError(f"the view's kind must be one of {VIEW_KINDS}, got {kind!r}")
        if multiple < 1 or multiple & (multiple - 1):
            raise ValueError(f"the view's multiple must be a power of two, got {multiple}")
        self.kind, self.multiple = kind, multiple
        self.size = size if kind == "fit" else None
        self.sides = size if kind == "short" else None

    def __call__(self, image: ndarray, scale: float = 1.0) -> tuple[ndarray, Geometry]:
        """(H, W, 3) uint8 -> (h, w, 3) float32 on 0..255, and how it lies in the image.

        Args:
            scale: of the image, for multi-scale testing; for "fit" that of the view.
        """
        original = image.shape[0], image.shape[1]
        if self.size:
            warp = fit(original, scale_size(self.size, scale))
            return warp.pixels(image).astype(np.float32), warp.geometry(original)
        if self.sides:
            short, longest = (max(1, round(side * scale)) for side in self.sides)
            size = fit_short_side(original, short, longest)
            return resize_image(image, size), Geometry.from_resize(size, original)
        if self.kind == "original":
            size = tuple(max(1, round(side * scale)) for side in original)
            return resize_image(image, size), Geometry.from_resize(size, original)
        if scale != 1:
            width, height = (max(1, int(side * scale)) for side in original[::-1])
            image = cv2.resize(image, (width, height))
        seen = image.shape[0], image.shape[1]
        warp = (pad if self.kind == "pad" else keep_resolution)(seen, self.multiple)
        geometry = warp.geometry(seen).of_resized(original)
        return warp.pixels(image).astype(np.float32), geometry


class CropTransform:
    """The augmentation of CornerNet's authors: a random part of the image, the mirror, colours.

    Args:
        size: (h, w) of the result.
        scales: the part is as large as the result times one of these; empty: all of the image, in a
            square as large as its longer side.
        border: the part's centre keeps this distance from the image's border (halved for small
            images until it fits).
        flip, jitter, lighting, color_order, keypoint_flip_pairs: as in `WarpTransform`.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] = (511, 511),
        scales: tuple[float, ...] = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3),
        border: int = 128,
        flip: float = 0.5,
        jitter: float = 0.4,
        lighting: float = 0.1,
        color_order: str = "rgb",
        keypoint_flip_pairs: tuple[tuple[int, int], ...] = (),
    ) -> None:
        _check_augmentation(size, flip, color_order)
        self.size, self.scales, self.border = size, scales, border
        self.flip, self.jitter, self.lighting = flip, jitter, lighting
        self.color_order = color_order
        self.keypoint_flip_pairs = keypoint_flip_pairs

    def __call__(self, record: Record, rng: Any = np.random) -> Record:
        """Augments one record, which stays as it is; see `WarpTransform`."""
        record = self._crop(record, rng)
        if rng.uniform() < self.flip:
            record = _mirror(record, self.keypoint_flip_pairs)
        image = record.image.astype(np.float32)
        if self.jitter or self.lighting:
            image = change_colors(image, self.jitter, self.lighting, self.color_order, rng)
        return dataclasses.replace(record, image=image)

    def _crop(self, record: Record, rng: Any) -> Record:
        height, width = record.image.shape[:2]
        if self.scales:
            scale = rng.choice(np.array(self.scales))
            part = int(self.size[0] * scale), int(self.size[1] * scale)
            across, down = (_keep_inside(self.border, side) for side in (width, height))
            centre = (
                rng.randint(low=across, high=width - across),
                rng.randint(low=down, high=height - down),
            )
        else:
            part, centre = (max(height, width),) * 2, (width // 2, height // 2)
        cut, shift = _cut(record.image, centre, part)
        zoom = np.array([self.size[1] / part[1], self.size[0] / part[0]], np.float32)
        keypoints = record.keypoints
        if keypoints is not None:
            points = np.where(keypoints[..., 2:] > 0, (keypoints[..., :2] + shift) * zoom, 0)
            keypoints = np.concatenate((points, keypoints[..., 2:]), -1).astype(np.float32)
        vertices = record.vertices
        if vertices is not None:
            points = (vertices[..., :2] + shift) * zoom
            depths = vertices[..., 2:] * np.sqrt(zoom.prod())
            vertices = np.concatenate((points, depths), -1).astype(np.float32)
        return dataclasses.replace(
            record,
            image=cv2.resize(cut, self.size[::-1]),
            boxes=((record.boxes + np.tile(shift, 2)) * np.tile(zoom, 2)).astype(np.float32),
            masks=None,
            keypoints=keypoints,
            vertices=vertices,
            semantic=None,
        )


class WarpTransform:
    """The augmentation of CenterNet's authors: a random view, the mirror, colours.

    Args:
        size: (h, w) of the result.
        scales: the view's width is the image's longer side times one of these; empty: the image
            fits the view and stays in its middle.
        border: the view's centre keeps this distance from the image's border (halved for small
            images until it fits).
        flip: probability of the mirror.
        jitter: brightness, contrast and saturation change by up to this part; 0 is off.
        lighting: deviation of the shift along the colours' principal components; 0 is off.
        color_order: of the record's image, "rgb" or "bgr".
        keypoint_flip_pairs: keypoints that the mirror swaps, such as left and right eye.

    Raises:
        ValueError: an empty size, a probability outside of [0, 1], or another color_order.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] = (512, 512),
        scales: tuple[float, ...] = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3),
        border: int = 128,
        flip: float = 0.5,
        jitter: float = 0.4,
        lighting: float = 0.1,
        color_order: str = "rgb",
        keypoint_flip_pairs: tuple[tuple[int, int], ...] = (),
    ) -> None:
        _check_augmentation(size, flip, color_order)
        self.size, self.scales, self.border = size, scales, border
        self.flip, self.jitter, self.lighting = flip, jitter, lighting
        self.color_order = color_order
        self.keypoint_flip_pairs = keypoint_flip_pairs

    def __call__(self, record: Record, rng: Any = np.random) -> Record:
        """Augments one record, which stays as it is.

        Args:
            record: image uint8; boxes may leave the view, they are not clipped; masks and
                the semantic map are left out.
            rng: whatever has numpy's `choice`, `randint`, `random`, `uniform` and `normal`.

        Returns:
            A record with a float32 image of `size` on 0..255, not clipped where colours changed.
        """
        warp = self._sample(record.image.shape[:2], rng)
        if rng.random() < self.flip:
            record = _mirror(record, self.keypoint_flip_pairs)
            width = record.image.shape[1]
            centre = (width - warp.centre[0] - 1, warp.centre[1])
            warp = dataclasses.replace(warp, centre=centre)
        record = warp_record(record, warp)
        image = record.image
        if self.jitter or self.lighting:
            image = change_colors(image, self.jitter, self.lighting, self.color_order, rng)
        return dataclasses.replace(record, image=image)

    def _sample(self, image_size: tuple[int, ...], rng: Any) -> Warp:
        height, width = image_size
        plain = fit((height, width), self.size)
        if not self.scales:
            return plain
        extent = plain.extent * rng.choice(np.array(self.scales))
        across, down = (_keep_inside(self.border, side) for side in (width, height))
        x = rng.randint(low=across, high=width - across)
        y = rng.randint(low=down, high=height - down)
        return Warp((x, y), extent, self.size)


def warp_record(record: Record, warp: Warp) -> Record:
    """What the view shows: image as float32, boxes, keypoints and vertices.

    Masks and the semantic map are left out.
    """
    corners = warp.points(record.boxes.reshape(-1, 2, 2))
    keypoints = record.keypoints
    if keypoints is not None:
        visible = keypoints[..., 2:].astype(np.float32)
        points = np.where(visible > 0, warp.points(keypoints[..., :2]), 0)
        keypoints = np.concatenate((points, visible), -1).astype(np.float32)
    vertices = record.vertices
    if vertices is not None:
        depths = vertices[..., 2:] * np.float32(warp.size[1] / warp.extent)
        vertices = np.concatenate((warp.points(vertices[..., :2]), depths), -1)
    return dataclasses.replace(
        record,
        image=warp.pixels(record.image).astype(np.float32),
        boxes=corners.reshape(-1, 4),
        masks=None,
        keypoints=keypoints,
        vertices=vertices,
        semantic=None,
    )


def change_colors(
    image: ndarray, jitter: float, lighting: float, color_order: str, rng: Any = np.random
) -> ndarray:
    """Brightness, contrast and saturation in any order, then a shift along ImageNet's colours.

    Args:
        image: (h, w, 3) float32 on 0..255.

    Returns:
        (h, w, 3) float32, not clipped.
    """
    is_rgb = color_order == "rgb"
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY if is_rgb else cv2.COLOR_BGR2GRAY)
    mean = float(grey.mean())
    others: list[Any] = [0.0, mean, grey[..., None]]  # black, even grey, without colour
    rng.shuffle(others)
    for other in others:
        amount = np.float32(1 + rng.uniform(-jitter, jitter))
        image = image * amount + other * (1 - amount)
    shift = 255 * _EIGENVECTORS @ (_EIGENVALUES * rng.normal(scale=lighting or 0, size=3))
    return (image + (shift[::-1] if is_rgb else shift)).astype(np.float32)


def _check_augmentation(size: tuple[int, int], flip: float, color_order: str) -> None:
    if min(size) < 1:
        raise ValueError(f"size: expected (height, width) of at least (1, 1), got {size}")
    if not 0 <= flip <= 1:
        raise ValueError(f"flip: expected a probability in [0, 1], got {flip}")
    if color_order not in ("rgb", "bgr"):
        raise ValueError(f'color_order: expected "rgb" or "bgr", got {color_order!r}')


def _cut(image: ndarray, centre: tuple[int, int], size: tuple[int, int]) -> tuple[ndarray, ndarray]:
    """A part of this size around a pixel, black outside of the image, and (2,) how points move.

    Of odd sizes the last row or column stays black, as in the authors' code.
    """
    part = np.zeros((*size, 3), image.dtype)
    source, target, shift = [], [], []
    for place, side, limit in zip(centre, size[::-1], image.shape[1::-1], strict=True):
        first, last = max(place - side // 2, 0), min(place + side // 2, limit)
        move = side // 2 - place
        source.append(slice(first, last))
        target.append(slice(first + move, last + move))
        shift.append(move)
    part[target[1], target[0]] = image[source[1], source[0]]
    return part, np.array(shift, np.float32)


def _frame(centre: tuple[float, float], width: float) -> ndarray:
    """Three points that fix a view: the centre, the middle of its upper side if it were a square,
    and that square's upper left corner."""
    x, y = centre
    half = width * 0.5
    return np.array([[x, y], [x, y - half], [x - half, y - half]], np.float32)


def _keep_inside(border: int, side: int) -> int:
    parts = 1
    while side - border // parts <= border // parts:
        parts *= 2
    return border // parts


def _mirror(record: Record, flip_pairs: tuple[tuple[int, int], ...]) -> Record:
    """x -> W - 1 - x, of boxes too, as the authors do."""
    width = record.image.shape[1]
    boxes = record.boxes.copy()
    boxes[:, [0, 2]] = width - record.boxes[:, [2, 0]] - 1
    keypoints = record.keypoints
    if keypoints is not None:
        order = np.arange(keypoints.shape[1])
        for first, second in flip_pairs:
            order[[first, second]] = second, first
        keypoints = keypoints[:, order].copy()
        keypoints[..., 0] = width - keypoints[..., 0] - 1
    vertices = record.vertices
    if vertices is not None:
        vertices = vertices[:, record.vertex_flip]
        vertices[..., 0] = width - vertices[..., 0] - 1
    image = np.ascontiguousarray(record.image[:, ::-1])
    return dataclasses.replace(
        record, image=image, boxes=boxes, keypoints=keypoints, vertices=vertices
    )
