"""Resampling along one axis: which input voxels an output voxel is made of, and how much of each.

Linear interpolation is separable: along each axis the output is a sparse matrix times the input.
No voxel goes through BLAS: the order of every sum is fixed, and the bits do not depend on the
number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from data_prep.memory_order import c_contiguous, copy_into
from data_prep.volume import Array

# scipy.ndimage's gaussian_filter cuts the kernel at 4 sigma as well (its `truncate`).
_GAUSSIAN_RADIUS_SIGMAS: Final = 4.0


@dataclass(frozen=True)
class Sampling:
    """Regular samples along one axis: sample o lies at input voxel ``start + o * step``."""

    n_in: int
    n_out: int
    start: float
    step: float

    @classmethod
    def centred(cls, n_in: int, n_out: int, step: float) -> Sampling:
        """Samples whose middle is the middle of the axis."""
        return cls(n_in, n_out, (n_in - 1) / 2 - (n_out - 1) / 2 * step, step)

    def cut(self, window: Window) -> Sampling:
        """Only the samples inside the window."""
        start = self.start + window.start * self.step
        return replace(self, start=start, n_out=window.kept)

    def positions(self) -> NDArray[np.float64]:
        """(n_out,) input coordinates; beyond the ends, that of the end (the edge is replicated)."""
        positions = self.start + np.arange(self.n_out) * self.step
        return np.clip(positions, 0, self.n_in - 1)

    def nearest(self) -> NDArray[np.intp]:
        """(n_out,) nearest input voxel; a tie goes up, as in torch's "nearest-exact"."""
        return np.minimum(np.floor(self.positions() + 0.5).astype(np.intp), self.n_in - 1)

    def matrix(self) -> sparse.csr_array:
        """(n_out, n_in) float64 weights: Gaussian where the step is above 1, then linear."""
        sigma = max(0.0, (self.step - 1) / 2)
        radius = int(_GAUSSIAN_RADIUS_SIGMAS * sigma + 0.5)
        offsets = np.arange(-radius, radius + 1)
        kernel = np.exp(-0.5 * (offsets / sigma) ** 2) if radius else np.ones(1)
        kernel /= kernel.sum()
        below = np.minimum(self.positions().astype(np.intp), max(self.n_in - 2, 0))
        fraction = (self.positions() - below)[:, None]
        # The two linear taps, each a whole kernel wide, as one row of 2 * radius + 2 taps.
        taps = np.arange(-radius, radius + 2)
        weights = (1 - fraction) * np.append(kernel, 0.0) + fraction * np.append(0.0, kernel)
        columns = np.clip(below[:, None] + taps, 0, self.n_in - 1)
        rows = np.repeat(np.arange(self.n_out), len(taps))
        entries = (weights.ravel(), (rows, columns.ravel()))
        matrix = sparse.coo_array(entries, shape=(self.n_out, self.n_in)).tocsr()
        matrix.eliminate_zeros()
        return matrix


@dataclass(frozen=True)
class Window:
    """What of an axis is kept (``kept`` voxels from ``start``) and what is added around it."""

    start: int
    kept: int
    before: int
    after: int

    @classmethod
    def centred(cls, n: int, wanted: int) -> Window:
        """Keep or add at the centre: MONAI's CenterSpatialCrop and SpatialPad ("symmetric")."""
        if wanted <= n:
            return cls(n // 2 - wanted // 2, wanted, 0, 0)
        before = (wanted - n) // 2
        return cls(0, n, before, wanted - n - before)


@lru_cache(maxsize=64)
def weights(*samplings: Sampling) -> sparse.csr_array | None:
    """One matrix (n_out, n_in), float32, for samplings of one axis, the first one first.

    None where no voxel changes. The scans of a cohort are mostly of one shape and spacing: their
    matrices are made once, and are not to be changed.
    """
    first, *others = (sampling.matrix() for sampling in samplings)
    for other in others:
        first = other @ first
    matrix = first.astype(np.float32)
    n_out, n_in = matrix.shape
    if n_out == n_in and (matrix != sparse.eye_array(n_in, dtype=np.float32)).nnz == 0:
        return None
    return matrix


def apply_along_axes(
    array: Array, matrices: Sequence[sparse.csr_array | None]
) -> NDArray[np.float32]:
    """(C, n...) times one (m, n) matrix an axis (None: left as it is) -> (C, m...) float32."""
    shape = tuple(
        n if matrix is None else matrix.shape[0]
        for n, matrix in zip(array.shape[1:], matrices, strict=True)
    )
    out = np.empty((len(array), *shape), dtype=np.float32)
    for channel, result in zip(array, out, strict=True):
        # Axes in the order in which they lie in memory (a NIfTI file's first axis runs fastest):
        # then the sums below run over neighbouring memory.
        order = sorted(range(channel.ndim), key=lambda axis: -abs(channel.strides[axis]))
        block = np.ascontiguousarray(channel.transpose(order), dtype=np.float32)
        for axis, source in enumerate(order[:-1]):
            block = _apply_along_axis(block, matrices[source], axis)
        # The fastest axis comes last, and for that first, the others in the order of the result.
        fastest = order[-1]
        others = [order.index(axis) for axis in range(channel.ndim) if axis != fastest]
        block = c_contiguous(block.transpose(channel.ndim - 1, *others))
        block = _apply_along_axis(block, matrices[fastest], 0)
        copy_into(result, np.moveaxis(block, 0, fastest))
    return out


def _apply_along_axis(
    block: NDArray[np.float32], matrix: sparse.csr_array | None, axis: int
) -> NDArray[np.float32]:
    """Along any axis but the last of several."""
    if matrix is None:
        return block
    n_out, n_in = matrix.shape
    if axis == 0:
        return np.asarray(matrix @ block.reshape(n_in, -1)).reshape(n_out, *block.shape[1:])
    slabs = [matrix @ slab for slab in block.reshape(-1, n_in, block.shape[-1])]
    return np.stack(slabs).reshape(*block.shape[:axis], n_out, *block.shape[axis + 1 :])
