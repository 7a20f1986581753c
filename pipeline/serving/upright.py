"""A prepared scan the right way up: its planes as radiologists look at them, for any picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.geometry import reorient
from data_prep.glimpse import plane_code
from data_prep.preprocess import AS_STORED, PrepConfig
from data_prep.volume import Volume

# Correlation from which channels count as one: JPEG rounds the channels of a grey image apart.
_ALIKE: Final = 0.999
# Axis that a plane lies across, axis to its right and axis down, where axes grow to L, P and I:
# axial, coronal and sagittal as radiologists look at them.
_PLANES: Final = ((2, 0, 1), (1, 0, 2), (0, 1, 2))
_OPPOSITE: Final = dict(zip("RLAPSI", "LRPAIS", strict=True))
_RAS: Final = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class Upright:
    """How a recipe's arrays are turned to be looked at.

    Attributes:
        orientation: Direction of each axis as the recipe leaves it, "RAS" or "PL"; "" where it
            leaves scans as they are stored.
        spacing: Relative edge of a voxel along each axis; where the recipe stretches scans to a
            shape a voxel is what the model saw, a cube.
    """

    orientation: str
    spacing: tuple[float, ...]

    @classmethod
    def of(cls, config: PrepConfig, spatial_ndim: int) -> Upright:
        """As the recipe of this config leaves scans of so many dimensions."""
        stated = config.spacing_mm if config.fit == "crop_or_pad" else None
        spacing = stated if isinstance(stated, tuple) else (stated or 1.0,) * spatial_ndim
        return cls("" if config.orientation == AS_STORED else config.orientation, spacing)

    def turn(self, array: NDArray[np.float32]) -> Volume:
        """(C, I, J[, K]) with axes to the left, posterior and inferior; a view."""
        volume = Volume(array, self._affine(), has_geometry=bool(self.orientation))
        if not self.orientation:
            return volume
        return reorient(volume, "LPI" if array.ndim == 4 else plane_code(self.orientation))

    def _affine(self) -> NDArray[np.float64]:
        if not self.orientation:
            return np.diag([*self.spacing, 1.0, 1.0][:4])
        affine = np.zeros((4, 4))
        affine[3, 3] = 1
        for column, (letter, mm) in enumerate(zip(self.orientation, self.spacing, strict=True)):
            axis, sign = _RAS[letter]
            affine[axis, column] = sign * mm
        if len(self.orientation) == 2:  # the plane's normal is what is left
            affine[int(np.flatnonzero(~affine[:3, :2].any(axis=1))[0]), 2] = 1
        return affine


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane of a scan.

    Attributes:
        values: (C, rows, columns).
        size: Relative height and width.
        letters: Of the patient's side at the left and at the top edge; "" where that is not known.
    """

    values: NDArray[np.float32]
    size: tuple[float, float]
    letters: tuple[str, str] = ("", "")


def planes(turned: Volume, through: Sequence[int] | None = None) -> list[Plane]:
    """The plane of an image, or three planes of a volume.

    Args:
        turned: As ``Upright.turn`` gives it.
        through: Voxel of ``turned`` where the planes of a volume cross; None: its middle.
    """
    array, spacing = turned.array, turned.spacing_mm
    if turned.spatial_ndim == 2:
        rows, columns = array.shape[1:]
        # an image need not state which way it lies: no letters
        return [Plane(array, (rows * spacing[0], columns * spacing[1]))]
    place = [n // 2 for n in array.shape[1:]] if through is None else through
    return [
        Plane(
            array.take(place[across], axis=1 + across).transpose(0, 2, 1),
            (array.shape[1 + down] * spacing[down], array.shape[1 + right] * spacing[right]),
            _letters(turned.orientation, right, down),
        )
        for across, right, down in _PLANES
    ]


def _letters(orientation: str, right: int, down: int) -> tuple[str, str]:
    if not orientation:
        return ("", "")
    return _OPPOSITE[orientation[right]], _OPPOSITE[orientation[down]]


def channels(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a picture of a plane has: grey, or the colours where three channels differ.

    Args:
        values: (C, rows, columns).

    Returns:
        (rows, columns) of the first channel, or (rows, columns, 3).
    """
    colour = len(values) == 3 and not _is_grey(values)
    return np.ascontiguousarray(values.transpose(1, 2, 0) if colour else values[0])


def _is_grey(values: NDArray[np.float32]) -> bool:
    """Whether the channels are one image, each on a linear scale of its own (``imagenet``)."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    flat = flat - flat.mean(axis=1, keepdims=True)
    spread = np.linalg.norm(flat, axis=1)
    together = np.abs(flat[1:] @ flat[0])
    return bool((together >= _ALIKE * spread[1:] * spread[0]).all())
