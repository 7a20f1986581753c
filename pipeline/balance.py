"""How often each class occurs, weights that make all as important, and the way back.

Where every class weighs the same, a proper loss leads to the probabilities that would hold if all
classes were as frequent, p(c) / share(c), normalised (the prior shifts). Their logits differ from
those for the training frequencies by a constant a class, log(share(c)), so that it can be undone
exactly (Elkan 2001, "The foundations of cost-sensitive learning"; Saerens et al. 2002).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

ClassWeights = Literal["none", "balanced"]
Floats = NDArray[np.float64]


def shares(columns: Floats) -> Floats:
    """Share of scans with each class or label, (K,), kept half a scan away from 0 and 1.

    Args:
        columns: (N, K) of zeros and ones.
    """
    least = 0.5 / len(columns)
    kept: Floats = np.clip(columns.mean(axis=0), least, 1 - least)
    return kept


def balanced_weights(columns: Floats, *, by_label: bool) -> Floats:
    """Weights of mean 1 under which all classes weigh the same.

    Args:
        columns: (N, K) of zeros and ones.
        by_label: Each column is a question of its own, whose two answers are to weigh the same.

    Returns:
        (N, K) by label; else (N, 1), a weight for each scan.
    """
    share = shares(columns)
    if by_label:
        return np.where(columns == 1, 0.5 / share, 0.5 / (1 - share))
    each: Floats = (columns / (share * columns.shape[1])).sum(axis=1, keepdims=True)
    return each


def prior_shift(columns: Floats, *, by_label: bool) -> Floats:
    """(K,) what is added to logits for equally frequent classes to get those for ``columns``."""
    share = shares(columns)
    shift: Floats = np.log(share / (1 - share)) if by_label else np.log(share * len(share))
    return shift
