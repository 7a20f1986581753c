"""All metrics of some scans at once: their values, and their intervals from the same resamples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation import calibration_error
from pipeline.evaluation.calibration_error import Bins
from pipeline.evaluation.counted import Scores, Shares
from pipeline.evaluation.intervals import bca, newcombe, percentiles
from pipeline.evaluation.measures import AT_FIXED_SHARE, Measures, Scans
from pipeline.evaluation.results import Score, Untold
from pipeline.metrics import patient_draws
from pipeline.shares import clustered_share, effective_patients
from pipeline.weighted_metrics import Floats

_FEW_PATIENTS: Final = 5.0  # less than so many from 0 or 1, a share is not resampled
_MOST_UNDEFINED: Final = 0.05  # of the resamples
_GROUPS: Final = 200  # of patients, left out one after another


@dataclass(frozen=True)
class Plan:
    """How patients are resampled; see ``scores.evaluate``."""

    resamples: int
    seed: int
    level: float
    at: float


@dataclass(frozen=True)
class Told:
    """What could be told of some metrics, and what not."""

    metrics: dict[str, Score]
    untold: dict[str, Untold]


@dataclass(frozen=True, eq=False)
class _Evidence:
    """One set of metrics: on all patients (1,), on resamples (R,), with groups left out (G,).

    Attributes:
        with_it, without: Patients of the rarest class, and of those that have another.
    """

    found: Scores
    drawn: Scores
    left_out: Scores
    shares: Shares
    with_it: int
    without: int


def resampled(scans: Scans, plan: Plan) -> tuple[Told, dict[str, Told]]:
    """Score the task, and each of its questions."""
    measures = Measures.of(scans, plan.at)
    n = scans.n_patients
    found, of_class = measures(np.ones((n, 1)))
    bins = measures.calibration(np.ones((n, 1)))
    blocks, drawn_bins = [], []
    for weights in patient_draws(n, plan.resamples, plan.seed):
        blocks.append(measures(weights))
        drawn_bins.append(measures.calibration(weights))
    left_out, class_left_out = measures(_leave_out(n))
    shares, class_shares = measures.shares
    support = _support(scans)
    drawn = _joined([block for block, _ in blocks])
    whole = _told(_Evidence(found, drawn, left_out, shares, *_rarest(support)), plan.level)
    whole.metrics.update(_calibration(bins, _joined_bins(drawn_bins), n, plan.level))
    classes = {
        name: _Evidence(
            of_class[name],
            _joined([block[name] for _, block in blocks]),
            class_left_out[name],
            class_shares[name],
            *support[name],
        )
        for name in of_class
    }
    return whole, {name: _told(one, plan.level) for name, one in classes.items()}


def resampled_probabilities(scans: Scans, plan: Plan) -> Told:
    """Score the probabilities alone: Brier score, log loss and calibration error of the task."""
    measures = Measures.of(scans, plan.at)
    n, everybody = scans.n_patients, np.ones((scans.n_patients, 1))
    draws = [
        (measures.mean_losses(weights), measures.calibration(weights))
        for weights in patient_draws(n, plan.resamples, plan.seed)
    ]
    evidence = _Evidence(
        measures.mean_losses(everybody),
        _joined([losses for losses, _ in draws]),
        measures.mean_losses(_leave_out(n)),
        {},
        *_rarest(_support(scans)),
    )
    told = _told(evidence, plan.level)
    drawn = _joined_bins([bins for _, bins in draws])
    told.metrics.update(_calibration(measures.calibration(everybody), drawn, n, plan.level))
    return told


def _support(scans: Scans) -> dict[str, tuple[int, int]]:
    """Patients with and without each."""
    return {
        name: (_patients(scans, truth), _patients(scans, ~truth))
        for name, truth, _, _ in scans.questions()
    }


def _told(evidence: _Evidence, level: float) -> Told:
    told = Told({}, {})
    for name in evidence.found:
        value = float(evidence.found[name][0])
        if not math.isfinite(value):
            told.untold[name] = Untold(value=None, why="not defined on these scans")
            continue
        score = _score(name, value, evidence, level)
        if isinstance(score, Score):
            told.metrics[name] = score
        else:
            told.untold[name] = Untold(value=value, why=score)
    return told


def _score(name: str, value: float, evidence: _Evidence, level: float) -> Score | str:
    """The metric with its interval, or why there is none."""
    resting_on = evidence.with_it
    if name in evidence.shares:
        part, whole = evidence.shares[name]
        resting_on = int((whole > 0).sum())
        if min(value, 1 - value) * effective_patients(whole) < _FEW_PATIENTS:
            low, high = clustered_share(part, whole, level)
            return Score(value=value, low=low, high=high, method="wilson")
    drawn = evidence.drawn[name]
    defined = drawn[~np.isnan(drawn)]
    rare = evidence.with_it
    if rare < 2 or len(defined) < (1 - _MOST_UNDEFINED) * len(drawn):
        return f"too few patients of the rarest class: {rare}"
    if defined.min() == defined.max():
        if name != "auc":
            return "no resample differs: too few errors, or none"
        low, high = newcombe(value, rare, evidence.without, level)
        return Score(value=value, low=low, high=high, method="newcombe")
    if name in AT_FIXED_SHARE:
        low, high = percentiles(defined, rare, level)
        return Score(value=value, low=low, high=high, method="percentile")
    low, high = bca(value, defined, evidence.left_out[name], resting_on, level)
    return Score(value=value, low=low, high=high)


def _calibration(
    found: Bins, drawn: Bins, n_patients: int, level: float
) -> Iterator[tuple[str, Score]]:
    """Both estimates of one error, and so one interval."""
    debiased, low, high = calibration_error.estimate(found, drawn, n_patients, level)
    for name, value in (("ece", float(found.ece[0])), ("ece_debiased", debiased)):
        yield name, Score(value=value, low=low, high=high, method="inverted")


def _leave_out(n_patients: int) -> Floats:
    """(P, G) all patients but a group, group after group."""
    n_groups = min(n_patients, _GROUPS)
    group = np.arange(n_patients) % n_groups
    weights: Floats = (group[:, None] != np.arange(n_groups)).astype(np.float64)
    return weights


def _patients(scans: Scans, chosen: NDArray[np.bool_]) -> int:
    return len(np.unique(scans.patient[chosen]))


def _rarest(support: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Patients of the rarest answer to a question, of those that occur, and of its reverse."""
    both = [
        pair
        for with_it, without in support.values()
        for pair in ((with_it, without), (without, with_it))
    ]
    return min(pair for pair in both if pair[0])


def _joined(blocks: list[Scores]) -> Scores:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _joined_bins(blocks: list[Bins]) -> Bins:
    share, gap = (
        np.concatenate([getattr(block, name) for block in blocks], axis=1)
        for name in ("share", "gap")
    )
    return Bins(share, gap)
