"""How a scene is drawn: patterns of dots, gratings and leaves, on a square of pixels.

A dot that lies between pixels is shared out to the four around it, so that its brightness in all is
the same wherever it lies and however a pattern is turned.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Nine dots each, within two pixels of the middle: (row, column). T among L is the pair that studies
# of visual search use (Wolfe 1998, "Visual search"): the same two strokes, joined differently.
T: Final = np.array([(-2, c) for c in range(-2, 3)] + [(r, 0) for r in range(-1, 3)], dtype=float)
L: Final = np.array([(2, c) for c in range(-2, 3)] + [(r, -2) for r in range(-2, 2)], dtype=float)
PATCH: Final = np.array([(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)], dtype=float)
DOT: Final = np.zeros((1, 2))
# Where dots of a pattern that is turned by any angle overlap, or waves are cut by the border, they
# are at most this bright.
OVERLAP: Final = 1.4


def turning(quarter_turns: int, mirrored: bool, degrees: float) -> Floats:
    """(2, 2) matrix that turns (row, column) offsets, after mirroring them.

    Args:
        quarter_turns: Turns by 90 degrees, which are exact.
        mirrored: Whether left and right are exchanged first.
        degrees: Turn by any angle.
    """
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    mirror = np.diag([1.0, -1.0 if mirrored else 1.0])
    exact = np.linalg.matrix_power(quarter, quarter_turns) @ mirror
    if degrees == 0:
        return np.asarray(exact)
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.asarray(np.array([[cos, -sin], [sin, cos]]) @ exact)


def scatter(edge_px: int, points: Floats, weights: Floats) -> Floats:
    """Draw dots.

    Args:
        edge_px: Rows and columns of the image.
        points: (n, 2) row and column of each, in pixels, inside the image.
        weights: (n,) brightness of each.

    Returns:
        (edge_px, edge_px) whose sum is that of the weights.
    """
    assert ((points >= 0) & (points <= edge_px - 1)).all(), "a dot lies outside the image"
    image = np.zeros((edge_px + 1, edge_px + 1))  # the last row and column take shares of nothing
    low = np.floor(points).astype(np.int64)
    part = points - low
    for down in (0, 1):
        for across in (0, 1):
            share = np.where((down, across), part, 1 - part).prod(axis=1)
            np.add.at(image, (low[:, 0] + down, low[:, 1] + across), weights * share)
    return image[:edge_px, :edge_px]


def grating(edge_px: int, frequency: Floats, phase: float) -> Floats:
    """Draw stripes of mean 0 and variance 1/2, as those of a whole number of waves have.

    Args:
        edge_px: Rows and columns of the image.
        frequency: (2,) waves a pixel along the rows' and the columns' axis.
        phase: In waves.
    """
    rows, columns = np.indices((edge_px, edge_px))
    waves = np.cos(2 * np.pi * (frequency[0] * rows + frequency[1] * columns + phase))
    centred = waves - waves.mean()
    return np.asarray(centred / centred.std() * np.sqrt(0.5))


def leaf(edge_px: int, middle: Floats, radius_px: float, radians: float, *, square: bool) -> Floats:
    """How much of each pixel a disc covers, or a square of the same area.

    The border is a pixel wide: coverage falls along it with the distance from the shape's edge. So
    the corners of a square are a little full: of a radius of 3 pixels its area is up to 7 % larger.

    Args:
        edge_px: Rows and columns of the image.
        middle: (2,) row and column.
        radius_px: Of the disc.
        radians: By which the square is turned.
        square: Which of the two.

    Returns:
        (edge_px, edge_px) of 0 to 1.
    """
    down, across = np.indices((edge_px, edge_px)) - middle[:, None, None]
    if square:
        cos, sin = np.cos(radians), np.sin(radians)
        along, beside = cos * down + sin * across, cos * across - sin * down
        beyond = np.maximum(abs(along), abs(beside)) - radius_px * np.sqrt(np.pi) / 2
    else:
        beyond = np.hypot(down, across) - radius_px
    return np.asarray(np.clip(0.5 - beyond, 0, 1))
