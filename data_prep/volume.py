"""One scan in memory: an array and where its voxels lie in the patient.

Conventions (fixed once, in the readers; see docs/geometry.md):

* ``array`` is (C, I, J) for an image and (C, I, J, K) for a volume.
* ``affine`` maps voxel index (i, j, k) to millimetres in RAS+, which is NIfTI's and nibabel's
  frame (x to the patient's Right, y to Anterior, z to Superior). DICOM's LPS is converted in the
  DICOM reader. For an image, column 2 of the affine is the plane's unit normal or the slice step.
* An image is (C, rows, columns): I runs down the rows, as numpy, Pillow and MONAI have it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
        scale = float(np.prod(np.linalg.norm(affine[:3, :3], axis=0)))
        if scale == 0 or abs(np.linalg.det(affine[:3, :3])) < 1e-4 * scale:
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
        all_flags = tuple(dict.fromkeys((*self.flags, *flags)))
        return self if all_flags == self.flags else replace(self, flags=all_flags)


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
