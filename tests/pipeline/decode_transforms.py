"""Transforms for decode children, which import this file, and so nothing heavy with it."""

from __future__ import annotations

import os
from typing import Final

import numpy as np

from data_prep.volume import Volume

FIFTH: Final = 5.5


def turned_but_the_fifth(volume: Volume) -> Volume:
    """Memory in neither C's order nor Fortran's; an abort where the first voxel is 5.5."""
    if volume.array[0, 0, 0, 0] == FIFTH:
        os.abort()
    return Volume(np.ascontiguousarray(volume.array).transpose(0, 2, 3, 1), volume.affine)


def has_a_defect(volume: Volume) -> Volume:
    """Fails."""
    raise KeyError(volume.modality)
