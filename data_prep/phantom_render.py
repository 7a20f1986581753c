"""Drawing phantom patients: anatomy in millimetres, sampled on any grid.

The patient frame is RAS+ with the origin in the middle of the body: a body of soft tissue, two dark
lobes like lungs, a bright liver on the patient's right and a heart to the left, so that left and
right, front and back, top and bottom can be told apart. Intensities are fractions of soft tissue:
air is 0, soft tissue 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.phantom_law import Lesion
from data_prep.volume import Volume

Point = tuple[float, float, float]
Image = NDArray[np.float64]

# Centre and semi-axes (mm), x to the Right, y to Anterior, z to Superior.
_BODY = ((0.0, 0.0, 0.0), (44.0, 32.0, 40.0))
_LIVER = ((19.0, 4.0, -20.0), (18.0, 18.0, 10.0))
_HEART = ((-5.0, 16.0, 8.0), (9.0, 9.0, 11.0))
_LOBE = ((22.0, -4.0, 9.0), (16.5, 20.0, 21.0))  # the right one; the left one is its mirror image
_EDGE_MM = 1.5  # how far a boundary is blurred
_PLANE_Z_MM = 10.0  # height of the axial plane of a 2D phantom: through the middle of the lobes


@dataclass(frozen=True)
class Ellipsoid:
    """A homogeneous organ: inside it, ``intensity`` takes the place of what lies below."""

    center_mm: Point
    semi_axes_mm: Point
    intensity: float


@dataclass(frozen=True)
class Ball:
    """Something in a lobe, ``contrast`` above its surroundings."""

    center_mm: Point
    diameter_mm: float
    contrast: float


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One patient.

    Attributes:
        organs: In the order in which they are painted.
        balls: Vessels, then the lesion.
        waves: (M, 4) texture: wave vector (radians per mm) and phase of each cosine.
        texture: Standard deviation of the texture, as a fraction of soft tissue.
    """

    organs: tuple[Ellipsoid, ...]
    balls: tuple[Ball, ...]
    waves: NDArray[np.float64]
    texture: float


@dataclass(frozen=True)
class Variation:
    """How much patients differ in what is not evidence.

    Attributes:
        size: Relative standard deviation of the body's size.
        lobe: Standard deviation of each lobe's own brightness.
        vessels: Most vessels in a lobe: small bright balls that are not lesions.
        jitter: How far from its lobe's middle a lesion lies, 0 (middle) to 1 (anywhere inside).
        texture: Standard deviation of the texture.
    """

    size: float
    lobe: float
    vessels: int
    jitter: float
    texture: float


def draw_anatomy(
    lesion: Lesion, variation: Variation, ndim: int, rng: np.random.Generator
) -> Anatomy:
    """A patient with this lesion; everything else is drawn without knowledge of the class.

    In 2D all balls are centred on the plane that is imaged.
    """
    scale = np.clip(1 + variation.size * rng.normal(size=3), 0.8, 1.2)
    lobes = {"right": _scaled(_LOBE, scale), "left": _scaled(_mirrored(_LOBE), scale)}
    lobe_intensity = {side: 0.4 + variation.lobe * rng.normal() for side in lobes}
    organs = (
        Ellipsoid(*_scaled(_BODY, scale), 1.0),
        Ellipsoid(*_scaled(_LIVER, scale), 1.35),
        *(Ellipsoid(*lobes[side], lobe_intensity[side]) for side in lobes),
        Ellipsoid(*_scaled(_HEART, scale), 1.25),
    )
    balls = []
    for side in lobes:
        for _ in range(int(rng.integers(variation.vessels + 1))):
            diameter, contrast = float(rng.uniform(3.5, 6.0)), float(rng.uniform(0.3, 0.7))
            center = _inside(lobes[side], diameter, 1.0, ndim, rng)
            balls.append(Ball(center, diameter, contrast))
    center = _inside(lobes[lesion.side], lesion.diameter_mm, variation.jitter, ndim, rng)
    balls.append(Ball(center, lesion.diameter_mm, lesion.contrast))
    return Anatomy(organs, tuple(balls), _draw_waves(rng), variation.texture)


def render(anatomy: Anatomy, axes_mm: Sequence[NDArray[np.float64]]) -> Image:
    """Sample a patient on a grid along the patient's axes.

    Args:
        anatomy: What to draw.
        axes_mm: Coordinates of the voxel centres along x, y and z; for an axial image, along x and
            y only.

    Returns:
        (nx, ny, nz) or (nx, ny), soft tissue about 1, air 0.
    """
    x, y, z = axes_mm if len(axes_mm) == 3 else (*axes_mm, np.array([_PLANE_Z_MM]))
    image = np.zeros((len(x), len(y), len(z)))
    for organ in anatomy.organs:
        box, cover = _cover(organ.center_mm, organ.semi_axes_mm, (x, y, z))
        image[box] += cover * (organ.intensity - image[box])
    body = np.minimum(image, 1.0)
    for ball in anatomy.balls:
        radius = ball.diameter_mm / 2
        box, cover = _cover(ball.center_mm, (radius, radius, radius), (x, y, z))
        image[box] += cover * ball.contrast
    image += anatomy.texture * body * _texture(anatomy.waves, (x, y, z))
    return image if len(axes_mm) == 3 else image[:, :, 0]


def inside_ball(ball: Ball, volume: Volume) -> NDArray[np.bool_]:
    """Which voxels of a scan lie in a ball: those whose centres do, and always the nearest one.

    Of an image, the distance within its plane counts: the phantoms' balls are centred on it.

    Args:
        ball: In the patient's frame.
        volume: A scan of the patient, oriented and spaced as it may be.

    Returns:
        (I, J[, K]).
    """
    shape = volume.array.shape[1:]
    columns = volume.affine[:3, : len(shape)]
    # The ball's centre in voxels: least squares, so that in 2D the height above the plane is lost.
    offset = np.array(ball.center_mm) - volume.affine[:3, 3]
    middle = np.linalg.lstsq(columns, offset, rcond=None)[0]
    steps = np.indices(shape).reshape(len(shape), -1) - middle[:, None]
    distance = np.linalg.norm(columns @ steps, axis=0).reshape(shape)
    return np.asarray(distance <= max(ball.diameter_mm / 2, distance.min()))


def _scaled(shape: tuple[Point, Point], scale: NDArray[np.float64]) -> tuple[Point, Point]:
    center, semi_axes = np.array(shape) * scale
    return _point(center), _point(semi_axes)


def _mirrored(shape: tuple[Point, Point]) -> tuple[Point, Point]:
    (x, y, z), semi_axes = shape
    return (-x, y, z), semi_axes


def _point(values: NDArray[np.float64]) -> Point:
    return float(values[0]), float(values[1]), float(values[2])


def _inside(
    lobe: tuple[Point, Point],
    diameter_mm: float,
    reach: float,
    ndim: int,
    rng: np.random.Generator,
) -> Point:
    """A centre for which the whole ball lies inside the lobe; ``reach`` 0 is the lobe's middle."""
    direction = rng.normal(size=3)
    if ndim == 2:
        direction[2] = 0.0
    radius = reach * rng.random() ** (1 / ndim)
    room = np.maximum(np.array(lobe[1]) - diameter_mm / 2 - _EDGE_MM, 0.0)
    center = np.array(lobe[0]) + radius * direction / np.linalg.norm(direction) * room
    if ndim == 2:
        center[2] = _PLANE_Z_MM
    return _point(center)


def _cover(
    center: Point, semi_axes: Point, axes_mm: tuple[NDArray[np.float64], ...]
) -> tuple[tuple[slice, ...], Image]:
    """The box of voxels that an ellipsoid touches, and how much of each it covers (0..1)."""
    box, squares = [], []
    for middle, half, axis in zip(center, semi_axes, axes_mm, strict=True):
        reach = half + 2 * _EDGE_MM
        first, last = np.searchsorted(axis, (middle - reach, middle + reach))
        box.append(slice(int(first), int(last)))
        squares.append(((axis[first:last] - middle) / half) ** 2)
    distance = np.sqrt(
        squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :]
    )
    # Exact for a ball; for an ellipsoid, the distance to the boundary along the shortest axis.
    depth_mm = (1 - distance) * min(semi_axes)
    return tuple(box), np.clip(0.5 + depth_mm / (2 * _EDGE_MM), 0.0, 1.0)


def _draw_waves(rng: np.random.Generator, count: int = 12) -> NDArray[np.float64]:
    """Cosines of random direction and phase with wavelengths of 10 to 30 mm."""
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    wavelength = rng.uniform(10.0, 30.0, size=(count, 1))
    phase = rng.uniform(0, 2 * np.pi, size=(count, 1))
    return np.hstack([2 * np.pi / wavelength * direction, phase])


def _texture(waves: NDArray[np.float64], axes_mm: tuple[NDArray[np.float64], ...]) -> Image:
    """A smooth random field of variance 1: the sum of the waves."""
    x, y, z = axes_mm
    field = np.zeros((len(x), len(y), len(z)))
    for kx, ky, kz, phase in waves:
        along = np.exp(1j * (kx * x + phase))[:, None] * np.exp(1j * ky * y)[None, :]
        up = np.exp(1j * kz * z)
        field += along.real[:, :, None] * up.real - along.imag[:, :, None] * up.imag
    return np.asarray(field * np.sqrt(2 / len(waves)), dtype=np.float64)
