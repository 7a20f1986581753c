"""Expected loss of a family at one size, taken apart into noise, bias and variance, scan by scan.

Let p_ds be the class probabilities that subset d of the training patients and seed s give for a
test scan, and t the scan's truth: its label as zeros and ones y, or, where they are known (a
phantom), its Bayes probabilities q, with which losses are expectations over the label. Overlines
are means over the cells (d, s); every identity below holds scan by scan, to rounding.

Squared loss, summed over classes (Neal et al. 2018, section 3; James and Hastie 1997):

    mean ||y - p||^2 = noise + ||t - p~||^2 + Var_d(E_s p) + E_d Var_s(p),   noise = sum q (1 - q)

With ``corrected``, the three terms are unbiased: products of two cells of different subsets and
seeds estimate ||E p||^2, of one subset and different seeds ||E p||^2 + Var_d(E_s p), of a cell with
itself all of E||p||^2 (U-statistics; for a full grid they are the two-way analysis of variance).
Without, they are the plain means over the cells there are, in which a share of 1/D of the variance
stands as bias.

Subsets that are drawn from the same N training patients resemble each other more than independent
ones do. The part of p that is a mean over patients has correlation n/N between subsets of n
patients; ``overlap`` takes that out of variance and bias^2 (their sum does not change). For parts
of higher order the correlation is smaller, so variance_data is then an upper estimate, and the
uncorrected one a lower (Hoeffding 1948, section 5).

Log loss, natural logarithm (Heskes 1998; Yang et al. 2020). The central prediction p~ is the
normalised geometric mean, exp(mean log p) / Z; H is the entropy:

    -mean sum t log p = H(t) + KL(t || p~) - log Z,   -log Z = mean KL(p~ || p)

The split of the variance applies the same to the seeds of each subset, then to subsets. These are
plain means over the cells: no unbiased estimate is known, and the variance is low by about 1/D.

0-1 loss (Domingos 2000; James 2003). The main prediction m is the vote of the cells, ties to the
larger mean probability; v_k is the share of cells that say k, b the best class (argmax of t):

    sum v_k (1 - t_k) = (1 - t_b) + (t_b - t_m) + net,   net = sum v_k (t_m - t_k)

net is Domingos' net variance: unbiased variance where m = b, less biased variance elsewhere.

Multi-label tasks are taken label by label: squared loss sums over them, log and 0-1 loss average,
as the metrics do.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax, xlogy

from data_prep.task import Task
from pipeline.study.terms import Cells, Floats, Term, Terms
from pipeline.weighted_metrics import no_and_yes

LOSSES: Final = ("squared", "log", "zero_one")
_TIE: Final = 1e-9  # less than one vote of any grid: the mean probability decides ties only


def squared(
    cells: Cells,
    truth: Floats,
    *,
    bayes: bool = False,
    corrected: bool = True,
    overlap: float = 0.0,
) -> Terms:
    """Squared loss: [noise,] bias2, variance_data, variance_seed, variance, total.

    With one seed, variance_seed is not known (NaN), and bias2 and variance_data are that seed's;
    with one subset, variance_data is not known and stands in bias2; with one cell, so does all
    variance.

    Args:
        cells: Probabilities (D, S, N, K).
        truth: (N, K) labels as zeros and ones, or Bayes probabilities.
        bayes: Whether ``truth`` are Bayes probabilities; then there is ``noise``.
        corrected: Whether to correct for the number of cells.
        overlap: Correlation between subsets: patients of the size, over all there are to train on.

    Raises:
        ValueError: If ``overlap`` is not in [0, 1) though there are several subsets.
    """
    subsets = len(cells.present)
    overlap = _overlap(subsets, overlap)
    mean, by_subset, _ = cells.means(cells.p)
    error = truth - mean
    moved = -2 * np.einsum("nk,dnk->dn", error, by_subset - mean)
    loss = cells.term(((truth - cells.p) ** 2).sum(axis=3))
    total = replace(loss, subsets=loss.subsets + (_widened(subsets, overlap) - 1) * moved)
    within = cells.term(((cells.p - by_subset[:, None]) ** 2).sum(axis=3))
    between = cells.term(((cells.p - mean) ** 2).sum(axis=3)) - within
    if corrected:
        between, within = _corrected(cells, between, within, overlap)
    return _assembled(
        cells, "bias2", total, between, within, truth * (1 - truth) if bayes else None
    )


def log_loss(
    cells: Cells,
    truth: Floats,
    *,
    multi_label: bool = False,
    bayes: bool = False,
    overlap: float = 0.0,
) -> Terms:
    """Log loss: [noise,] bias, variance_data, variance_seed, variance, total.

    Probabilities are clipped to the machine epsilon, as ``pipeline.metrics`` does. What is not
    known with few cells is as in ``squared``.

    Args:
        cells, truth, bayes, overlap: As in ``squared``.
        multi_label: Whether each of K is a question of its own.

    Raises:
        ValueError: As ``squared``.
    """
    overlap = _overlap(len(cells.present), overlap)
    epsilon = np.finfo(np.float64).eps
    t = _questions(truth, multi_label)
    logs = np.log(np.clip(_questions(cells.p, multi_label), epsilon, 1 - epsilon))
    mean, by_subset, by_seed = cells.means(logs)
    central, central_of = softmax(mean, axis=-1), softmax(by_subset, axis=-1)
    divergence = xlogy(t, t) - t * logs  # summed over answers: the log loss less the noise
    loss = cells.term(_average(divergence))
    moved = _average((central - t) * (by_subset - mean))
    total = replace(loss, subsets=loss.subsets + (_widened(len(by_subset), overlap) - 1) * moved)
    variance = Term(
        -logsumexp(mean, axis=-1).mean(axis=-1),
        -_average(central * (by_subset - mean)),
        -_average(central * (by_seed - mean)),
    )
    left = cells.term(_average(-central_of[:, None] * (logs - by_subset[:, None])))
    of_subset = -logsumexp(by_subset, axis=-1).mean(axis=-1)  # (D, N): variance within each
    share = cells.present.sum(axis=1) / cells.present.sum()
    within = Term(share @ of_subset, of_subset - share @ of_subset, left.seeds)
    noise = -xlogy(t, t).mean(axis=-2) if bayes else None
    return _assembled(cells, "bias", total, variance - within, within, noise)


def zero_one(
    cells: Cells, truth: Floats, *, multi_label: bool = False, bayes: bool = False
) -> Terms:
    """0-1 loss: [noise,] bias, variance_unbiased, variance_biased, variance (net), total.

    The main prediction counts as given: no influence of a subset or seed goes through it.

    Args:
        cells, truth, multi_label, bayes: As in ``log_loss``.
    """
    t, p = _questions(truth, multi_label), _questions(cells.p, multi_label)
    n_classes = t.shape[-1]
    votes = np.eye(n_classes)[np.argmax(p, axis=-1)]
    shares, probability = cells.means(votes)[0], cells.means(p)[0]
    main = np.argmax(shares + _TIE * probability, axis=-1)[..., None]
    best = np.argmax(t, axis=-1)[..., None]
    of_main, of_best = np.take_along_axis(t, main, -1), np.take_along_axis(t, best, -1)
    lost = votes * (of_main - t)
    right = main == best
    unbiased, biased = cells.term(_average(lost * right)), cells.term(_average(-lost * ~right))
    bias = cells.constant((of_best - of_main)[..., 0].mean(axis=-1))
    noise = cells.constant((1 - of_best)[..., 0].mean(axis=-1))
    net = unbiased - biased
    return {
        **({"noise": noise} if bayes else {}),
        "bias": bias,
        "variance_unbiased": unbiased,
        "variance_biased": biased,
        "variance": net,
        "total": noise + bias + net,
    }


def decompose(
    task: Task,
    target: NDArray[np.int64],
    p: Floats,
    *,
    bayes: Floats | None = None,
    overlap: float = 0.0,
) -> dict[str, Terms]:
    """All three losses, by name (``LOSSES``); the squared one corrected.

    Args:
        task: What was predicted.
        target: (N,) class indices, or (N, L) 0/1 for multi-label.
        p: (D, S, N, K) probabilities of each subset and seed; NaN throughout where a cell failed.
        bayes: (N, K) true probabilities, where they are known.
        overlap: As for ``squared``.

    Raises:
        StudyError: As ``Cells.of``.
    """
    cells = Cells.of(p)
    truth, known = (task.one_hot(target), False) if bayes is None else (bayes, True)
    labels = task.is_multi_label
    return {
        "squared": squared(cells, truth, bayes=known, overlap=overlap),
        "log": log_loss(cells, truth, multi_label=labels, bayes=known, overlap=overlap),
        "zero_one": zero_one(cells, truth, multi_label=labels, bayes=known),
    }


def _corrected(cells: Cells, between: Term, within: Term, overlap: float) -> tuple[Term, Term]:
    """Variance by subset and by seed with unbiased values, and influences to their scale."""
    subsets, seeds = cells.present.shape
    of_subset, of_seed, of_neither = cells.products()
    itself = cells.means((cells.p**2).sum(axis=3))[0]
    apart = of_neither if seeds > 1 else of_seed  # of two subsets
    same = of_subset if seeds > 1 else itself  # of one subset
    between = Term(
        (same - apart) / (1 - overlap),
        # Squares of correlated deviations correlate as the square (of normal ones: Isserlis 1918).
        between.subsets * _unshrink(subsets) / (1 - overlap) * _widened(subsets, overlap**2),
        between.seeds,
    )
    grow = _unshrink(seeds)
    return between, Term(itself - of_subset, within.subsets * grow, within.seeds * grow)


def _assembled(
    cells: Cells, bias: str, total: Term, between: Term, within: Term, noise: Floats | None
) -> dict[str, Term]:
    """Name the terms; variance that the cells cannot tell is NaN and stays in the bias."""
    subsets, seeds = cells.present.shape
    none = cells.constant(np.zeros(len(total.value)))
    unknown = cells.constant(np.full(len(total.value), np.nan))
    data, seed = between if subsets > 1 else none, within if seeds > 1 else none
    floor = none if noise is None else cells.constant(noise.sum(axis=1))
    return {
        **({} if noise is None else {"noise": floor}),
        bias: total - data - seed,
        "variance_data": data if subsets > 1 else unknown,
        "variance_seed": seed if seeds > 1 else unknown,
        "variance": data + seed if max(subsets, seeds) > 1 else unknown,
        "total": total + floor,
    }


def _questions(x: Floats, multi_label: bool) -> Floats:
    """(..., K) as (..., questions, answers): one question of K, or K questions of no and yes."""
    return no_and_yes(x) if multi_label else x[..., None, :]


def _average(x: Floats) -> Floats:
    """(..., questions, answers) -> (...): summed over answers, averaged over questions."""
    average: Floats = x.sum(axis=-1).mean(axis=-1)
    return average


def _unshrink(n: int) -> float:
    """What makes the spread of n values around their mean unbiased."""
    return n / (n - 1) if n > 1 else 1.0


def _widened(subsets: int, overlap: float) -> float:
    """How much further the mean over subsets may be off for being drawn from the same patients.

    With correlation r between subsets the mean over D has r + (1 - r)/D of the variance of one, of
    which the spread between them shows (1 - r)/D only.
    """
    return math.sqrt(1 + subsets * overlap / (1 - overlap))


def _overlap(subsets: int, overlap: float) -> float:
    """The overlap, 0 where there is one subset and nothing for it to overlap with."""
    if subsets == 1:
        return 0.0
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is {overlap}; {subsets} different subsets have one in [0, 1)")
    return overlap
