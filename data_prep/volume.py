"""One scan in memory: an array and where its voxels lie in the patient.

Conventions (fixed once, in the readers; see docs/geometry.md):

* ``array`` is (C, I, J) for an image and (C, I, J, K) for a volume.
* ``affine`` maps voxel index (i, j, k) to millimetres in RAS+, which is NIfTI's and nibabel's
  frame (x to the patient's Right, y to Anterior, z to Superior). DICOM's LPS is converted in the
  DICOM reader. For an image, column 2 of the affine is the plane's unit normal or the slice step.
* An image is (C, rows, columns): I runs down the rows, as numpy, Pillow and MONAI have it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import ScanError

Array = NDArray[Any]
Affine = NDArray[np.float64]

# RAS+ letter of each world axis, (negative end, positive end): nibabel.orientations.axcodes2ornt.
_AXIS_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan: intensities with geometry, both checked on construction.

    Attributes:
        array: (C, I, J) or (C, I, J, K), real and finite, at least one voxel.
        affine: (4, 4) float64, voxel index to RAS+ millimetres.
        has_geometry: False where the file states no geometry (a PNG): then the affine only
            carries the spacing, and orientation cannot be known or changed.
        modality: DICOM's modality code ("CT", "MR", "US", ...) or "" if not known.
        flags: Accepted oddities, as stable words ("lossy", "qform_differs", ...).

    Raises:
        ScanError: ``volume.bad_shape``, ``volume.not_finite`` or ``volume.bad_affine``.
    """

    array: Array
    affine: Affine
    has_geometry: bool = True
    modality: str = ""
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.array.ndim not in (3, 4) or 0 in self.array.shape:
            raise ScanError(
                "volume.bad_shape",
                f"array has shape {self.array.shape}; allowed: (C, I, J) or (C, I, J, K), "
                "no axis empty",
            )
        if self.array.dtype.kind not in "uifb":
            raise ScanError(
                "volume.bad_shape", f"voxels are {self.array.dtype}; allowed: integers and floats"
            )
        if self.array.dtype.kind == "f" and not np.isfinite(self.array).all():
            bad = int(self.array.size - np.isfinite(self.array).sum())
            raise ScanError("volume.not_finite", f"{bad} voxels are NaN or infinite")
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ScanError("volume.bad_affine", "the affine is not a finite 4x4 matrix")
        # A determinant near zero for the size of the columns: two axes point the same way.
        i, j, k = affine[:3, :3].T.tolist()
        scale = math.hypot(*i) * math.hypot(*j) * math.hypot(*k)
        if scale == 0 or abs(_determinant(i, j, k)) < 1e-4 * scale:
            raise ScanError("volume.bad_affine", "the affine is singular")
        object.__setattr__(self, "affine", affine)

    @property
    def spatial_ndim(self) -> int:
        """2 for an image, 3 for a volume."""
        return self.array.ndim - 1

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Voxel size along i, j (and k) in millimetres."""
        lengths = np.linalg.norm(self.affine[:3, : self.spatial_ndim], axis=0)
        return tuple(float(v) for v in lengths)

    @property
    def orientation(self) -> str:
        """Nearest anatomical direction of each array axis: "RAS", "LPS", ...; two letters in 2D.

        An empty string where the file states no geometry.
        """
        return axis_codes(self.affine)[: self.spatial_ndim] if self.has_geometry else ""

    def with_flags(self, *flags: str) -> Volume:
        """The same volume with more flags, each at most once."""
        return self._with_all((*self.flags, *flags))

    def with_flags_first(self, *flags: str) -> Volume:
        """As ``with_flags``, the new ones before those that it has."""
        return self._with_all((*flags, *self.flags))

    def _with_all(self, flags: Iterable[str]) -> Volume:
        all_flags = tuple(dict.fromkeys(flags))
        if all_flags == self.flags:
            return self
        flagged = copy.copy(self)  # its voxels and affine were checked
        object.__setattr__(flagged, "flags", all_flags)
        return flagged


def _determinant(i: list[float], j: list[float], k: list[float]) -> float:
    """Of three columns: the triple product, which for so few numbers is quicker than LAPACK."""
    return (
        i[0] * (j[1] * k[2] - j[2] * k[1])
        - i[1] * (j[0] * k[2] - j[2] * k[0])
        + i[2] * (j[0] * k[1] - j[1] * k[0])
    )


def axis_codes(affine: Affine) -> str:
    """Three letters that name the anatomical direction in which i, j and k grow.

    Each world axis is used once: axes are assigned by the strongest direction cosine first, as
    nibabel's ``io_orientation`` does, so that an oblique scan still gets three distinct axes.
    """
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    strength = np.abs(cosines)
    letters = ["", "", ""]
    for _ in range(3):
        world, voxel = np.unravel_index(int(np.argmax(strength)), (3, 3))
        letters[voxel] = _AXIS_LETTERS[world][int(cosines[world, voxel] > 0)]
        strength[world, :] = -1
        strength[:, voxel] = -1
    return "".join(letters)
