"""Whether two scores rank the same things alike, and how likely chance alone does as well."""

from __future__ import annotations

import itertools
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]

_MOST_ORDERS: Final = 10_000  # of the permutation test; all of them up to 7 things


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's, of (n,) and (n,); NaN where a side is constant or not finite."""
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return math.nan
    a, b = (rankdata(side) - (len(side) + 1) / 2 for side in (first, second))
    length = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / length if length else math.nan


def permutation_p(first: Floats, second: Floats, seed: int = 0) -> float:
    """Share of the orders of ``second`` (n,) whose correlation is at least the one found."""
    found = rank_correlation(first, second)
    if math.isnan(found):
        return math.nan
    n = len(second)
    exact = math.factorial(n) <= _MOST_ORDERS
    generator = np.random.default_rng(seed)
    orders = (
        itertools.permutations(range(n))
        if exact
        else (tuple(generator.permutation(n)) for _ in range(_MOST_ORDERS))
    )
    reached = [rank_correlation(first, second[list(order)]) >= found - 1e-12 for order in orders]
    own = 0 if exact else 1  # a drawn order may lack the one found (Phipson and Smyth 2010)
    return (sum(reached) + own) / (len(reached) + own)
