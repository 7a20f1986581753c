"""Balanced weights are those of the references, and probabilities stay those of the cohort."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit, softmax
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge

from data_prep.progress import silent
from data_prep.task import Task, TaskKind
from pipeline.balance import prior_shift, shares
from pipeline.dataset import Scans
from pipeline.families import FamilyConfig, boosting, build_family, logistic, ridge
from pipeline.families.axes import Axes, standard
from pipeline.families.boosting import BoostConfig
from pipeline.metrics import score

KINDS: tuple[TaskKind, ...] = ("binary", "multi-class", "multi-label")
FREQUENCY = {"binary": (0.85, 0.15), "multi-class": (0.7, 0.2, 0.1), "multi-label": (0.1, 0.6, 0.2)}


def task_of(kind: TaskKind) -> Task:
    return Task(kind=kind, class_names=tuple("abc"[: len(FREQUENCY[kind])]))


def target_of(kind: TaskKind, n: int, rng: np.random.Generator) -> np.ndarray:
    share = FREQUENCY[kind]
    if kind == "multi-label":
        return (rng.random((n, len(share))) < share).astype(np.int64)
    counts = np.round(np.array(share) * n).astype(int)
    return rng.permutation(np.repeat(np.arange(len(share)), counts))


def scans_of(kind: TaskKind, n: int, seed: int) -> Scans:
    """Noise with a faint bright square for each class, each at its own place."""
    rng = np.random.default_rng(seed)
    target = target_of(kind, n, rng)
    x = rng.normal(size=(len(target), 1, 12, 12)).astype(np.float32)
    for label, wanted in enumerate(task_of(kind).one_hot(target).T):
        at = slice(1 + 4 * label, 4 + 4 * label)
        x[:, 0, at, at] += 0.9 * wanted[:, None, None]
    ids = np.array([f"{seed}-{i}" for i in range(len(target))])
    return Scans(torch.from_numpy(x), target, ids, ids)


MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("linear", {}),
    "filterbank": ("filterbank", {"sigmas": [1.0]}),
    "boosted": ("filterbank", {"sigmas": [1.0], "classifier": "boosted", "boost": {"trees": 40}}),
    "random_features": ("random_features", {"filters": 32, "sizes": [3]}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_a_balanced_fit_is_another_one_whose_probabilities_still_fit_the_cohort(
    name: str, kind: TaskKind
) -> None:
    family_name, params = MODELS[name]
    task, train, val, test = task_of(kind), *(scans_of(kind, 200, seed) for seed in (1, 2, 3))
    rows = {}
    for weights in ("none", "balanced"):
        config = FamilyConfig.model_validate(
            {"family": family_name, "params": params | {"class_weights": weights}}
        )
        family = build_family(config, task, train.scan_shape, seed=0)
        x = [family.prepare(scans.x) for scans in (train, val, test)]
        family.fit(train.with_x(x[0]), val.with_x(x[1]))
        rows[weights] = family.predict_proba(x[2])
    auc = {weights: score(task, test.target, row)["auc"] for weights, row in rows.items()}
    assert not np.array_equal(rows["none"], rows["balanced"])
    assert auc["balanced"] > max(0.75, auc["none"] - 0.06)
    frequency = task.one_hot(train.target).mean(axis=0)
    assert np.allclose(rows["balanced"].mean(axis=0), frequency, atol=0.09)


@pytest.mark.parametrize("kind", ["binary", "multi-class"])
def test_balanced_logistic_regression_is_scikit_learns_but_for_the_bias(kind: TaskKind) -> None:
    rng = np.random.default_rng(0)
    task, target = task_of(kind), target_of(kind, 100, rng)
    x = rng.normal(size=(100, 8)) + 0.7 * np.pad(task.one_hot(target), ((0, 0), (0, 8)))[:, :8]
    x = (x - x.mean(axis=0)).astype(np.float32)
    axes, wanted = Axes.of(x), logistic.columns(task, target)
    weights = logistic.balance(task, wanted)
    found = logistic.solve(task, axes, wanted, 0.03, None, weights)
    logits = axes.projected @ found.weight + found.bias
    reference = LogisticRegression(
        C=1 / (0.03 * len(x)), class_weight="balanced", tol=1e-9, max_iter=10_000
    ).fit(x.astype(np.float64), target)
    expected = reference.predict_proba(x.astype(np.float64))
    assert np.allclose(logistic.probability(task, logits), expected, atol=1e-5)
    back = logits + logistic.refit_bias(task, logits, wanted)
    shares_now = logistic.probability(task, back).mean(axis=0)
    assert np.allclose(shares_now, task.one_hot(target).mean(axis=0), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(6, 20),
    d=st.integers(1, 30),
    columns=st.integers(1, 3),
    seed=st.integers(0, 999),
)
def test_a_weight_in_the_ridge_is_as_good_as_scans_that_stand_several_times(
    n: int, d: int, columns: int, seed: int
) -> None:
    """Copies are of one patient, so that they are left out together."""
    rng = np.random.default_rng(seed)
    x, wanted = rng.normal(size=(n, d)), rng.normal(size=(n, columns))
    ids = np.array([f"p{i // 2}" for i in range(n)])
    times = rng.integers(1, 4, n)
    copied = np.repeat(np.arange(n), times)
    centre = x[copied].mean(axis=0)
    weights = times / times.mean()
    rows = ((x - centre) * np.sqrt(weights)[:, None]).astype(np.float32)
    for penalty in (1.0, 0.03):
        axes = Axes.of(rows)
        weighted = ridge.solve(axes, wanted, ids, [penalty], weights)
        plain_axes = Axes.of((x[copied] - centre).astype(np.float32))
        plain = ridge.solve(plain_axes, wanted[copied], ids[copied], [penalty])
        assert np.allclose(weighted.left_out[copied], plain.left_out, atol=1e-3)
        assert weighted.left_out_error == pytest.approx(plain.left_out_error, rel=1e-3)
        assert np.allclose(weighted.weights.bias, plain.weights.bias, atol=1e-5)
        assert np.allclose(
            axes.unproject(weighted.weights.weight),
            plain_axes.unproject(plain.weights.weight),
            atol=1e-3,
        )


def test_leaving_out_is_exact_where_a_class_has_no_scans() -> None:
    """A draw of few patients can miss a class; weights must have mean 1 all the same."""
    rng = np.random.default_rng(0)
    task = Task(kind="multi-class", class_names=("a", "b", "c"))
    target = np.array([0] * 21 + [1] * 9)
    features = rng.normal(size=(30, 4)).astype(np.float32) + 0.8 * target[:, None]
    ids = np.arange(30).astype(np.str_)
    features = features.astype(np.float32)
    found = ridge.fit_classifier(task, features, target, ids, [0.1], "balanced")
    wanted, (mean, scale) = task.one_hot(target), standard(features, floor=1e-3)
    rows = ((features - mean) / scale).astype(np.float64)
    weights = np.where(target == 0, 15 / 21, 15 / 9)
    squared = []
    for out in range(30):
        kept = np.arange(30) != out
        model = Ridge(alpha=0.1 * 30).fit(rows[kept], wanted[kept], sample_weight=weights[kept])
        squared.append(weights[out] * (wanted[out] - model.predict(rows[[out]])[0]) ** 2)
    assert found.left_out_error == pytest.approx(np.mean(squared), rel=1e-4)


def test_a_linear_model_is_penalised_alike_with_and_without_a_name_for_an_empty_class() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)).astype(np.float32)
    x -= x.mean(axis=0)
    target = (np.arange(40) < 10).astype(np.int64)
    rows = []
    for names in ("ab", "abc"):
        task = Task(kind="ordinal", class_names=tuple(names))  # a softmax for any number of classes
        axes, wanted = Axes.of(x), logistic.columns(task, target)
        solved = logistic.solve(task, axes, wanted, 0.1, None, logistic.balance(task, wanted))
        rows.append(softmax(solved.logits(axes.projected)[:, :2], axis=1))
    assert np.allclose(*rows, atol=1e-4)


def test_a_ridge_classifier_has_a_regression_for_each_label() -> None:
    train = scans_of("multi-label", 120, 1)
    features, ids = train.x.flatten(1).numpy(), train.patient_ids
    penalties = (1.0, 0.1)
    task = task_of("multi-label")
    joined = ridge.fit_classifier(task, features, train.target, ids, penalties, "balanced")
    assert joined.weights.weight.shape == (144, 3)
    for label in range(3):
        one = Task(kind="multi-label", class_names=("x",))
        alone = ridge.fit_classifier(
            one, features, train.target[:, [label]], ids, penalties, "balanced"
        )
        assert np.allclose(joined.weights.weight[:, label], alone.weights.weight[:, 0])
    assert min(penalties) <= joined.penalty <= max(penalties)


def test_balanced_trees_are_scikit_learns_but_for_the_bias() -> None:
    train = scans_of("binary", 150, 1)
    train = train.with_x(train.x.flatten(1))
    config = BoostConfig(trees=20, depth=2, learning_rate=0.2)
    task = task_of("binary")
    found = boosting.fit(
        task, config, train, train, seed=3, progress=silent, class_weights="balanced"
    )
    share = shares(logistic.columns(task, train.target))[0]
    reference = GradientBoostingClassifier(
        n_estimators=found.rounds,
        max_depth=2,
        learning_rate=0.2,
        subsample=config.subsample,
        max_features=config.feature_share,
        random_state=3,
    ).fit(
        train.x.numpy(),
        train.target,
        sample_weight=np.where(train.target == 1, 0.5 / share, 0.5 / (1 - share)),
    )
    expected = reference.predict_proba(train.x.numpy())[:, 1]
    logits = found.forest.logits(train.x)[:, 0].numpy()
    shift = logits - logit(expected)
    assert np.ptp(shift) < 1e-9
    assert expit(logits).mean() == pytest.approx(train.target.mean(), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_refitted_bias_of_logits_that_know_the_truth_is_the_prior_shift(
    kind: TaskKind,
) -> None:
    """For equally frequent classes, and very many scans."""
    rng = np.random.default_rng(0)
    task, n = task_of(kind), 60_000
    target = target_of(kind, n, rng)
    wanted = logistic.columns(task, target)
    evidence = 2 * wanted + rng.normal(size=wanted.shape)  # log p(x|1) / p(x|0) is 2 x - 2
    logits = 2 * evidence - 2
    each = logistic.by_label(task)
    shift = logistic.refit_bias(task, logits, wanted)
    expected = prior_shift(wanted, by_label=each)
    assert np.allclose(shift - (0 if each else shift.mean() - expected.mean()), expected, atol=0.05)


def test_a_class_that_no_scan_has_keeps_its_bias() -> None:
    task = Task(kind="multi-class", class_names=("a", "b", "c"))
    wanted = np.eye(3)[[0, 0, 0, 1]]
    logits = np.zeros((4, 3))
    shift = logistic.refit_bias(task, logits, wanted)
    assert shift[2] == 0
    found = logistic.probability(task, logits + shift)
    assert np.allclose(found, [0.5, 1 / 6, 1 / 3])  # a third, as before; the others 3 to 1


@pytest.mark.parametrize(
    ("kind", "balance"),
    [
        *((kind, "class_weights") for kind in (*KINDS, "ordinal")),
        *((kind, "sampling") for kind in ("binary", "multi-class", "ordinal")),
    ],
)
def test_a_balanced_network_gives_each_class_its_share(kind: TaskKind, balance: str) -> None:
    drawn = "multi-class" if kind == "ordinal" else kind
    train, val = scans_of(drawn, 120, 1), scans_of(drawn, 60, 2)
    task = task_of(drawn).model_copy(update={"kind": kind})
    config = FamilyConfig.model_validate(
        {
            "family": "mlp",
            "params": {
                "widths": [8],
                "train": {"epochs": 3, "min_steps": 30, "batch_size": 16, balance: "balanced"},
            },
        }
    )
    family = build_family(config, task, train.scan_shape, seed=0)
    family.fit(train, val)
    mean = family.predict_proba(train.x).mean(axis=0)
    assert np.allclose(mean, task.one_hot(train.target).mean(axis=0), atol=1e-4)
