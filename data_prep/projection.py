"""From the grid of a prepared scan back to the voxels of the scan as it was read.

What a model says of a place is said on the recipe's grid; a reader looks for it in the scan. The
steps of the recipe are undone one by one: padding is cut off, what was cropped is 0, resampling is
read off by linear interpolation at each voxel's centre, axes are put back.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from data_prep.geometry import FitMode, lattice, orient_back, reorient
from data_prep.sampling import Sampling, apply_along_axes
from data_prep.volume import Volume

# A voxel's edge lies half a step from its centre; rounding must not move a voxel off the grid.
_HALF_STEP = 0.5 + 1e-9


def project_back(
    prepared: NDArray[np.float32],
    volume: Volume,
    orientation: str | None,
    spacing_mm: Sequence[float] | None,
    fit: FitMode,
) -> NDArray[np.float32]:
    """The values of a map of the prepared scan at the centres of the scan's voxels.

    Linear between the centres of prepared voxels; in the outer half of an outermost voxel, that
    voxel's value. Where the scan's voxels are the larger ones, the map is smoothed first as
    ``geometry.to_grid`` smooths a scan, so that no prepared voxel is passed over.

    Args:
        prepared: (I', J'[, K']) on the grid that these steps give.
        volume: The scan before them.
        orientation: As ``geometry.reorient`` took it; None: axes as stored.
        spacing_mm: As ``geometry.to_grid`` took it.
        fit: As ``geometry.to_grid`` took it.

    Returns:
        (I, J[, K]) float32; 0 at voxels that the prepared scan does not cover.

    Raises:
        ScanError: As ``geometry.reorient`` and ``geometry.to_grid``.
    """
    turned = volume if orientation is None else reorient(volume, orientation)
    placed = lattice(turned, spacing_mm, prepared.shape, fit)
    found = apply_along_axes(prepared[np.newaxis], [_inverse(s) for s in placed])[0]
    back = found if orientation is None else orient_back(found, volume, orientation)
    return np.ascontiguousarray(back)


def _inverse(sampling: Sampling) -> sparse.csr_array:
    """(n_in, n_out): each input voxel from the samples around it; nothing where there is none."""
    step = 1 / sampling.step
    back = Sampling(sampling.n_out, sampling.n_in, -sampling.start * step, step)
    # Not back.positions(), which are held within the grid.
    positions = back.start + np.arange(back.n_out) * step
    covered = (positions >= -_HALF_STEP) & (positions <= sampling.n_out - 1 + _HALF_STEP)
    matrix = sparse.diags_array(covered.astype(np.float64)) @ back.matrix()
    return matrix.astype(np.float32).tocsr()
