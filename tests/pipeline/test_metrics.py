"""Metrics equal scikit-learn's and the MedMNIST evaluator's; intervals resample whole patients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    log_loss,
    roc_auc_score,
)

from data_prep.errors import ConfigError
from data_prep.task import Task, TaskKind
from pipeline.metrics import METRICS, bootstrap, higher_is_better, score

KINDS: dict[TaskKind, int] = {"binary": 2, "multi-class": 4, "ordinal": 3, "multi-label": 3}
MEDMNIST_TASK = {
    "binary": "binary-class",
    "multi-class": "multi-class",
    "ordinal": "ordinal-regression",
    "multi-label": "multi-label, binary-class",
}


def task_of(kind: TaskKind) -> Task:
    return Task(kind=kind, class_names=tuple("abcdef"[: KINDS[kind]]))


def example(
    kind: TaskKind, n: int = 60, seed: int = 0, *, ties: bool = False
) -> tuple[Task, NDArray[np.int64], NDArray[np.float64]]:
    """A task with targets in which every class occurs, and probabilities that know a little."""
    task = task_of(kind)
    rng = np.random.default_rng(seed)
    if task.is_multi_label:
        target = rng.integers(0, 2, (n, task.n_classes))
        target[0], target[1] = 0, 1
    else:
        target = rng.permutation(np.arange(n) % task.n_classes)
    logits = task.one_hot(target) + rng.normal(0, 1.5, (n, task.n_classes))
    if ties:
        logits = np.round(logits)
    if task.is_multi_label:
        return task, target, 1 / (1 + np.exp(-logits))
    odds = np.exp(logits)
    return task, target, odds / odds.sum(axis=1, keepdims=True)


def medmnist_auc(truth: NDArray[np.int64], scores: NDArray[np.float64], task: str) -> float:
    """``getAUC`` of medmnist.evaluator (Yang et al. 2023), as published, in fewer words."""
    if task == "multi-label, binary-class":
        return float(np.mean([roc_auc_score(t, s) for t, s in zip(truth.T, scores.T, strict=True)]))
    if task == "binary-class":
        return float(roc_auc_score(truth, scores[:, -1]))
    classes = range(scores.shape[1])
    return float(
        np.mean([roc_auc_score((truth == i).astype(float), scores[:, i]) for i in classes])
    )


def medmnist_acc(truth: NDArray[np.int64], scores: NDArray[np.float64], task: str) -> float:
    """``getACC`` of medmnist.evaluator, threshold 0.5."""
    if task == "multi-label, binary-class":
        decided = scores > 0.5
        labels = range(truth.shape[1])
        return float(np.mean([accuracy_score(truth[:, i], decided[:, i]) for i in labels]))
    if task == "binary-class":
        return float(accuracy_score(truth, scores[:, -1] > 0.5))
    return float(accuracy_score(truth, np.argmax(scores, axis=-1)))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_auc_and_accuracy_are_the_medmnist_evaluators(kind: TaskKind, ties: bool) -> None:
    task, target, probability = example(kind, ties=ties)
    found = score(task, target, probability)
    assert found["auc"] == pytest.approx(
        medmnist_auc(target, probability, MEDMNIST_TASK[kind]), abs=1e-12
    )
    assert found["accuracy"] == pytest.approx(
        medmnist_acc(target, probability, MEDMNIST_TASK[kind]), abs=1e-12
    )


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["binary", "multi-class", "ordinal"]),
    n=st.integers(8, 80),
    seed=st.integers(0, 10_000),
    ties=st.booleans(),
)
def test_single_label_metrics_are_scikit_learns(
    kind: TaskKind, n: int, seed: int, ties: bool
) -> None:
    task, target, probability = example(kind, n, seed, ties=ties)
    found = score(task, target, probability)
    binary = kind == "binary"
    decided = probability[:, 1] > 0.5 if binary else probability.argmax(axis=1)
    expected = {
        "auc": roc_auc_score(
            target, probability[:, 1] if binary else probability, multi_class="ovr", average="macro"
        ),
        "accuracy": accuracy_score(target, decided),
        "balanced_accuracy": balanced_accuracy_score(target, decided),
        "brier": brier_score_loss(target, probability, scale_by_half=False),
        "log_loss": log_loss(target, probability, labels=range(task.n_classes)),
    }
    assert found == {name: pytest.approx(value, abs=1e-12) for name, value in expected.items()}


@settings(max_examples=20, deadline=None)
@given(n=st.integers(4, 60), seed=st.integers(0, 10_000))
def test_multi_label_metrics_average_scikit_learns_over_labels(n: int, seed: int) -> None:
    task, target, probability = example("multi-label", n, seed)
    found = score(task, target, probability)
    pairs = list(zip(target.T, probability.T, strict=True))

    def mean(metric: Callable[..., float], *, decide: bool) -> float:
        return float(np.mean([metric(t, p > 0.5 if decide else p) for t, p in pairs]))

    expected = {
        "auc": mean(roc_auc_score, decide=False),
        "accuracy": mean(accuracy_score, decide=True),
        "balanced_accuracy": mean(balanced_accuracy_score, decide=True),
        "brier": sum(float(np.mean((t - p) ** 2)) for t, p in pairs),
        "log_loss": mean(log_loss, decide=False),
    }
    assert found == {name: pytest.approx(value, abs=1e-12) for name, value in expected.items()}


def test_the_log_loss_of_certainty_is_clipped_as_scikit_learn_does() -> None:
    task, target = task_of("binary"), np.array([0, 1, 1])
    probability = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    expected = log_loss(target, probability)
    assert np.isfinite(expected)
    assert score(task, target, probability)["log_loss"] == pytest.approx(expected, abs=1e-12)


def test_auc_is_of_probabilities_not_of_decisions() -> None:
    task, target = task_of("binary"), np.array([0, 0, 1, 1])
    ranked = np.array([0.1, 0.2, 0.3, 0.4])  # perfectly ranked, all decided 0
    found = score(task, target, np.stack([1 - ranked, ranked], axis=1))
    assert found["auc"] == 1
    assert found["accuracy"] == 0.5


def test_where_a_metric_is_undefined_it_is_nan_and_the_others_are_not() -> None:
    task, target = task_of("binary"), np.zeros(3, dtype=np.int64)
    found = score(task, target, np.full((3, 2), 0.5))
    assert np.isnan(found["auc"])
    assert np.isnan(found["balanced_accuracy"])
    assert found["accuracy"] == 1
    assert found["brier"] == pytest.approx(0.5)
    many = task_of("multi-class")
    absent = score(many, np.array([0, 1, 2, 0]), np.full((4, 4), 0.25))
    assert np.isnan(absent["auc"])
    assert absent["balanced_accuracy"] == pytest.approx(1 / 3)  # of the classes that occur
    empty = score(task, np.zeros(0, dtype=np.int64), np.zeros((0, 2)))
    assert all(np.isnan(value) for value in empty.values())


@pytest.mark.parametrize(
    "probability", [np.full((3, 3), 1 / 3), np.full((2, 2), 0.5), np.array([[np.nan, 1.0]] * 3)]
)
def test_what_cannot_be_scored_is_refused(probability: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match=r"fit|NaN"):
        score(task_of("binary"), np.array([0, 1, 1]), probability)


def test_an_unknown_metric_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'log_loss'"):
        higher_is_better("logloss")
    task, target, probability = example("binary")
    with pytest.raises(ConfigError, match=r"config\.unknown_metric"):
        bootstrap(task, target, probability, target.astype(np.str_), names=("acc",), resamples=2)
    assert [name for name in METRICS if not higher_is_better(name)] == ["brier", "log_loss"]


def resampled_by_hand(
    task: Task,
    target: NDArray[np.int64],
    probability: NDArray[np.float64],
    patient_ids: NDArray[np.str_],
    resamples: int,
) -> dict[str, NDArray[np.float64]]:
    """The bootstrap with copied scans instead of weights."""
    rng = np.random.default_rng(0)
    patients = np.unique(patient_ids)
    rows = []
    for _ in range(resamples):
        drawn = rng.integers(len(patients), size=len(patients))
        scans = np.concatenate([np.flatnonzero(patient_ids == patients[p]) for p in drawn])
        rows.append(score(task, target[scans], probability[scans]))
    return {name: np.array([row[name] for row in rows]) for name in METRICS}


@pytest.mark.parametrize("kind", KINDS)
def test_the_bootstrap_equals_one_that_copies_the_drawn_patients_scans(kind: TaskKind) -> None:
    task, target, probability = example(kind, 24, ties=True)
    patient_ids = np.array([f"p{i // 3 % 7}" for i in range(24)])  # of 3 or more scans
    found = bootstrap(task, target, probability, patient_ids, resamples=300)
    values = score(task, target, probability)
    for name, drawn in resampled_by_hand(task, target, probability, patient_ids, 300).items():
        defined = drawn[~np.isnan(drawn)]
        low, high = np.quantile(defined, [0.025, 0.975])
        assert found[name].value == values[name]
        assert found[name].low == pytest.approx(low, abs=1e-12), name
        assert found[name].high == pytest.approx(high, abs=1e-12), name
        assert found[name].resamples == len(defined)


def test_resamples_without_a_class_are_left_out_and_counted() -> None:
    task, target = task_of("binary"), np.array([0, 0, 0, 0, 0, 1])
    risk = np.array([0.1, 0.2, 0.3, 0.2, 0.1, 0.9])
    probability = np.stack([1 - risk, risk], axis=1)
    ids = np.arange(6).astype(np.str_)
    found = bootstrap(task, target, probability, ids, resamples=400)
    assert found["accuracy"].resamples == 400
    # Patient 5 is missed with probability (5/6)^6 = 0.335.
    assert 210 < found["auc"].resamples < 320
    one = bootstrap(task, target[:5], probability[:5], ids[:5], resamples=50)["auc"]
    assert one.resamples == 0
    assert np.isnan([one.value, one.low, one.high]).all()


def test_a_seed_repeats_and_another_does_not() -> None:
    task, target, probability = example("binary", 50)
    ids = np.arange(50).astype(np.str_)
    first, again, other = (
        bootstrap(task, target, probability, ids, resamples=300, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first["auc"] != other["auc"]


def test_scans_of_one_patient_widen_the_interval() -> None:
    """Ten copies of each scan hold no more evidence than one, if they are known to be copies."""
    task, target, probability = example("binary", 60)
    ids = np.arange(60).astype(np.str_)
    once = bootstrap(task, target, probability, ids, resamples=500)["brier"]
    tenfold = [np.repeat(a, 10, axis=0) for a in (target, probability, ids)]
    clustered = bootstrap(task, *tenfold, resamples=500)["brier"]
    naive = bootstrap(task, *tenfold[:2], np.arange(600).astype(np.str_), resamples=500)["brier"]
    assert clustered.high - clustered.low == pytest.approx(once.high - once.low, rel=0.05)
    assert naive.high - naive.low < 0.5 * (clustered.high - clustered.low)
