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
    """Weights of mean 1 under which all classes that there are weigh the same.

    Args:
        columns: (N, K) of zeros and ones.
        by_label: Each column is a question of its own, whose two answers are to weigh the same.

    Returns:
        (N, K) by label; else (N, 1), a weight for each scan.
    """
    no, yes = answer_weights(columns, by_label=by_label)
    each: Floats = np.where(columns == 1, yes, no)
    return each if by_label else each.sum(axis=1, keepdims=True)


def answer_weights(columns: Floats, *, by_label: bool) -> tuple[Floats, Floats]:
    """(K,) weight of a 0 and (K,) weight of a 1 in each column; the rest as ``balanced_weights``.

    A scan's weight is that of each label's answer, or the sum over the classes, where a 0 weighs
    nothing.
    """
    share = shares(columns)
    if by_label:
        no, yes = 0.5 / (1 - share), 0.5 / share
        mean = np.where(columns == 1, yes, no).mean(axis=0)
    else:
        no, yes = np.zeros_like(share), 1 / (share * len(share))
        mean = (columns * yes).sum(axis=1).mean()
    # Already 1, but where a class (an answer) has no scans: then the others have its weight too.
    return no / mean, yes / mean


def prior_shift(columns: Floats, *, by_label: bool) -> Floats:
    """(K,) what is added to logits for equally frequent classes to get those for ``columns``."""
    share = shares(columns)
    shift: Floats = np.log(share / (1 - share)) if by_label else np.log(share * len(share))
    return shift
