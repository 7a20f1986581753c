"""Bias and variance of each family and size as numbers with intervals, and the hardest scans.

A term (``pipeline.study.terms``) is averaged over the test scans. Its interval resamples test
patients, subsets and seeds, with the very draws of the learning curves (``Draws``), so that terms,
sizes and families are paired. A resample of subsets moves the term by the mean influence of the
subsets that are drawn; for a mean over cells that is the bootstrap of ``learning_curve`` itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.task import Task
from pipeline.metrics import patient_draws
from pipeline.study.decomposition import decompose
from pipeline.study.learning_curve import Draws, deviation, interval
from pipeline.study.terms import Floats, Term, Terms

# How much subsets differ cannot be told from fewer: the bootstrap's 95 % intervals of a variance
# between two of them covered it in 3 % of simulated studies, between five in 77 %.
FEWEST_SUBSETS: Final = 5
_BETWEEN_SUBSETS: Final = ("bias2", "variance_data", "variance")


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of the test scans, for all families and sizes.

    Attributes:
        task: What was predicted.
        target: (N,) class indices, or (N, L) 0/1.
        bayes: (N, K) true probabilities of a phantom, else None.
        patients: (N,) number of each scan's patient, from 0.
        weights: (N, R) how often each scan's patient is drawn in each resample.
        draws: Which subsets and seeds each resample takes.
        level: Coverage of the intervals.
    """

    task: Task
    target: NDArray[np.int64]
    bayes: Floats | None
    patients: NDArray[np.int64]
    weights: Floats
    draws: Draws
    level: float

    @property
    def parts(self) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """All scans (named ""), and the scans of each class: name and (N,) mask."""
        yield "", np.ones(len(self.target), dtype=bool)
        yield from zip(
            self.task.class_names, self.task.one_hot(self.target).T.astype(bool), strict=True
        )


@dataclass(frozen=True)
class Component:
    """One term of one decomposition, averaged over test scans.

    Attributes:
        family, size: Whose.
        loss: ``squared``, ``log`` or ``zero_one``.
        class_name: Over the scans of this class only; "" over all.
        term: Name of the term, as in ``pipeline.study.decomposition``.
        value, low, high: With interval; NaN where the cells cannot tell it: of what differs
            between subsets there is no interval with fewer than ``FEWEST_SUBSETS``. An unbiased
            estimate of a variance can come out below 0.
    """

    family: str
    size: int
    loss: str
    class_name: str
    term: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Measured:
    """A mean over test scans: ``value``, and ``drawn`` (R,) in each resample."""

    value: float
    drawn: Floats


@dataclass(frozen=True, eq=False)
class Decomposed:
    """One family at one size, taken apart.

    Attributes:
        family, size: Which.
        overlap: Training patients of the size, over all there are.
        components: Every term of every loss; of the squared loss also class by class.
        squared: Terms of the squared loss over all scans, with their resamples.
        loss, spread: (N,) expected squared loss of each scan, and its variance over subsets and
            seeds (NaN with one cell).
        probability: (N, K) mean probabilities over the cells.
    """

    family: str
    size: int
    overlap: float
    components: tuple[Component, ...]
    squared: Mapping[str, Measured]
    loss: Floats
    spread: Floats
    probability: Floats


@dataclass(frozen=True)
class ScanRank:
    """A scan that a family finds hard (``loss``) or is of several minds about (``spread``).

    Attributes:
        family, size: Whose view.
        ranked_by: ``loss`` or ``spread``.
        rank: From 1.
        scan: Position among the test scans.
        loss: Expected squared loss.
        spread: Variance of the probabilities over subsets and seeds.
    """

    family: str
    size: int
    ranked_by: str
    rank: int
    scan: int
    loss: float
    spread: float


def scan_weights(patient_ids: NDArray[np.str_], resamples: int, seed: int) -> Floats:
    """(N, R) how often each scan's patient is drawn, as in ``pipeline.metrics.resample``."""
    patients = patient_numbers(patient_ids)
    blocks = list(patient_draws(patients.max() + 1, resamples, seed))
    weights: Floats = np.concatenate(blocks, axis=1)[patients]
    return weights


def patient_numbers(patient_ids: NDArray[np.str_]) -> NDArray[np.int64]:
    """(N,) number of each scan's patient, from 0, in the order of the ids."""
    numbers: NDArray[np.int64] = np.unique(patient_ids, return_inverse=True)[1]
    return numbers


def measure(term: Term, weights: Floats, draws: Draws) -> Measured:
    """Average a term over scans.

    Args:
        term: Of N scans.
        weights: (N, R) how often each counts in each resample; where none does, it is NaN there.
        draws: Which subsets and seeds each resample takes.
    """
    whole = weights.sum(axis=0)
    share = 1 / np.where(whole > 0, whole, np.nan)  # after the products: they are far smaller
    drawn = term.value @ weights * share
    drawn = drawn + deviation(term.subsets @ weights * share, draws.subsets)
    drawn = drawn + deviation(term.seeds @ weights * share, draws.seeds)
    return Measured(float(term.value.mean()) if len(term.value) else np.nan, drawn)


def decomposed(family: str, size: int, p: Floats, truth: Truth, overlap: float) -> Decomposed:
    """Take one family at one size apart.

    Args:
        family, size: Which.
        p: (D, S, N, K) probabilities on the test scans; NaN throughout where a cell failed.
        truth: Of the test scans.
        overlap: Training patients of the size, over all there are.

    Raises:
        StudyError: ``study.no_cells``.
    """
    losses = decompose(truth.task, truth.target, p, bayes=truth.bayes, overlap=overlap)
    found: dict[tuple[str, str, str], Measured] = {}
    for loss, terms in losses.items():
        for class_name, scans in truth.parts:
            if loss == "squared" or not class_name:
                for name, term in terms.items():
                    part = Term(term.value[scans], term.subsets[:, scans], term.seeds[:, scans])
                    key = loss, class_name, name
                    found[key] = measure(part, truth.weights[scans], truth.draws)
    if 1 < _subsets(p) < FEWEST_SUBSETS:
        found |= {
            key: Measured(one.value, np.full_like(one.drawn, np.nan))
            for key, one in found.items()
            if key[0] == "squared" and key[2] in _BETWEEN_SUBSETS
        }
    components = tuple(
        Component(family, size, *key, one.value, *interval(one.drawn, truth.level))
        for key, one in found.items()
    )
    squared: Terms = losses["squared"]
    return Decomposed(
        family=family,
        size=size,
        overlap=overlap,
        components=components,
        squared={name: found["squared", "", name] for name in squared},
        loss=squared["total"].value,
        spread=squared["variance"].value,
        probability=np.nanmean(p, axis=(0, 1)),
    )


def _subsets(p: Floats) -> int:
    """Subsets that have a cell."""
    return int((~np.isnan(p).all(axis=(1, 2, 3))).sum())


def ranked_scans(found: Sequence[Decomposed], most: int) -> list[ScanRank]:
    """The hardest and the most contested scans of each family and size, worst first."""
    ranks = []
    for one in found:
        for ranked_by, values in (("loss", one.loss), ("spread", one.spread)):
            if not np.isnan(values).any():
                worst = np.argsort(-values, kind="stable")[:most]
                ranks += [
                    ScanRank(
                        one.family,
                        one.size,
                        ranked_by,
                        rank,
                        int(scan),
                        float(one.loss[scan]),
                        float(one.spread[scan]),
                    )
                    for rank, scan in enumerate(worst, start=1)
                ]
    return ranks
