"""One scan under every shift of an audit, as the model would see it.

Runs in the decode process, which reads the scan once: no torch here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.geometry import reorient
from data_prep.miniature import pixel_digest
from data_prep.preprocess import PrepRecipe
from data_prep.volume import Volume
from pipeline.audit.sweep import Step
from pipeline.shifting import misread, shift_scan
from pipeline.shifts import Shift

_OPPOSITE: Final = dict(zip("RLAPSI", "LRPAIS", strict=True))


@dataclass(frozen=True)
class ShiftScan:
    """Turns a volume into every scan that the model is to be asked about; picklable.

    Attributes:
        recipe: The model's.
        steps: The shifts.
    """

    recipe: PrepRecipe
    steps: tuple[Step, ...]

    @property
    def count(self) -> int:
        """How many scans ``__call__`` returns."""
        return 2 * (1 + len(self.steps)) + 1

    def __call__(self, volume: Volume) -> NDArray[np.float32]:
        """The scan unshifted and under each step; first with the recipe, then without it.

        The raw volume is shifted, then prepared, as a scan of another hospital would be.

        Returns:
            (count, C, I, J[, K]) float32: unshifted and each step with the recipe; the same without
            it (``PrepRecipe.shape_only``); last the unshifted scan without intensity step.

        Raises:
            ScanError: As ``PrepRecipe.apply``.
        """
        bare = self.recipe.shape_only()
        out = np.empty((self.count, *self.recipe.scan_shape), dtype=np.float32)
        without = 1 + len(self.steps)
        for number, shifted in enumerate(self._volumes(volume)):
            out[number] = self.recipe.apply(shifted)
            out[without + number] = bare.apply(shifted)
        out[-1] = self.recipe.without_intensity().apply(volume)
        return out

    def _volumes(self, volume: Volume) -> Iterator[Volume]:
        yield volume
        # The noise is decided by the scan itself: in whichever process and order, it is the same.
        seed = int(pixel_digest(volume)[:16], 16)
        ratio = voxel_ratio(self.recipe, volume)
        read = replace(volume, array=np.asarray(volume.array, dtype=np.float32))
        for step in self.steps:
            yield shift_volume(read, step, ratio, seed)


def shift_volume(volume: Volume, step: Step, ratio: float, seed: int) -> Volume:
    """A scan as it would be read after a step of the sweep.

    Args:
        volume: (C, I, J[, K]) float32.
        step: What happens to it.
        ratio: Voxels of the scan to one of the model's grid, along an axis.
        seed: Decides the noise.

    Returns:
        The header stays as it is, but for ``storage``, where it tells the truth. (An orientation
        mistake exchanges voxels with their sizes: it is a mistake about directions.) A scan
        without geometry cannot be stored otherwise, and stays as it is.
    """
    mistake = int(step.shift.amount)
    if step.kind == "storage":
        code = volume.orientation
        return reorient(volume, stored_as(code, mistake)) if code else volume
    if step.kind == "orientation":
        affine = volume.affine.copy()
        if mistake in (1, 4):
            lengths = np.linalg.norm(affine[:3, :2], axis=0)
            affine[:3, :2] *= lengths[::-1] / lengths
        return replace(volume, array=misread(volume.array, mistake), affine=affine)
    return replace(volume, array=shift_scan(volume.array, _in_voxels(step.shift, ratio), seed))


def stored_as(orientation: str, mistake: int) -> str:
    """The code of a scan whose axes stand as a mistake of ``ORIENTATION_MISTAKES`` would put them.

    Example: ``stored_as("RAS", 2) == "LPS"``.
    """
    letters = list(orientation)
    if mistake in (1, 4):
        letters[0], letters[1] = letters[1], letters[0]
    for axis in {2: (0, 1), 3: (-1,), 4: (0,)}.get(mistake, ()):
        letters[axis] = _OPPOSITE[letters[axis]]
    return "".join(letters)


def voxel_ratio(recipe: PrepRecipe, volume: Volume) -> float:
    """Voxels of the scan to one voxel of what the recipe gives: geometric mean over axes."""
    config, ndim = recipe.config, volume.spatial_ndim
    if config.fit == "resize":
        ratios = np.divide(volume.array.shape[1:], recipe.scan_shape[1:])
    elif config.spacing_mm is not None:
        wanted = np.broadcast_to(np.asarray(config.spacing_mm, dtype=float), ndim)
        ratios = wanted / volume.spacing_mm
    else:
        return 1.0
    return float(np.prod(ratios) ** (1 / ndim))


def _in_voxels(shift: Shift, ratio: float) -> Shift:
    """The same in voxels of the scan; a movement in whole ones, so that nothing is blurred."""
    if shift.kind == "blur":
        return shift.model_copy(update={"amount": shift.amount * ratio})
    if shift.kind == "shift":
        whole = round(shift.amount * ratio)
        return shift.model_copy(update={"amount": float(whole)})
    return shift
