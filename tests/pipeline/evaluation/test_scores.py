"""Every metric against scikit-learn, and every interval against resamples drawn one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_prep.task import Task
from pipeline.evaluation.calibration_error import steadied
from pipeline.evaluation.decision import Decision
from pipeline.evaluation.intervals import bca, newcombe
from pipeline.evaluation.measures import Measures, Scans
from pipeline.evaluation.resampled import Plan, Told, resampled
from pipeline.evaluation.results import Evaluation
from pipeline.evaluation.scores import evaluate, evaluate_probabilities
from pipeline.metrics import patient_draws

Floats = NDArray[np.float64]
BINARY = Task(kind="binary", class_names=("healthy", "ill"))
AT = 0.8


def made(kind: str, seed: int, n: int = 40, decimals: int = 2, patients: int = 0) -> Scans:
    """Scans of a task, with ties; every class occurs where n allows."""
    rng = np.random.default_rng(seed)
    names = ("a", "b") if kind == "binary" else ("a", "b", "c")
    task = Task.model_validate({"kind": kind, "class_names": names})
    if task.is_multi_label:
        target = rng.integers(0, 2, (n, len(names)))
        target[0], target[1] = 0, 1
        truth = target
    else:
        target = rng.permutation(np.arange(n) % len(names))
        truth = np.eye(len(names))[target]
    p = np.exp(np.round(truth + rng.normal(size=(n, len(names))), decimals))
    p = np.round(p / (1 + p), decimals) if task.is_multi_label else p / p.sum(1, keepdims=True)
    patient = (
        np.arange(n)
        if not patients
        else np.append(np.arange(patients), rng.integers(0, patients, n - patients))
    )
    return Scans(task, target, p, Decision().decide(task, p), patient)


def scored(scans: Scans, weights: Floats | None = None) -> dict[str, Floats]:
    measures = Measures.of(scans, AT)
    weights = np.ones((scans.n_patients, 1)) if weights is None else weights
    return measures(weights)[0] | {"ece": measures.calibration(weights).ece}


def of_class(scans: Scans, name: str) -> dict[str, float]:
    classes = Measures.of(scans, AT)(np.ones((scans.n_patients, 1)))[1]
    return {metric: float(value[0]) for metric, value in classes[name].items()}


def by_sklearn(scans: Scans) -> dict[str, float]:
    """Every metric that scikit-learn has."""
    task, y, p, said = scans.task, scans.target, scans.probability, scans.decided
    if task.kind == "binary":
        score, average = p[:, 1], "binary"
        auc = sk.roc_auc_score(y, score)
    else:
        score, average = p, "macro"
        auc = sk.roc_auc_score(y, p, average="macro", multi_class="ovr")
    columns = list(zip(y.T, said.T, strict=True)) if task.is_multi_label else [(y, said)]
    found = {
        "auc": auc,
        "average_precision": sk.average_precision_score(y, score, average="macro"),
        "f1": sk.f1_score(y, said, average=average),
        "accuracy": np.mean([sk.accuracy_score(t, s) for t, s in columns]),
        "balanced_accuracy": np.mean([sk.balanced_accuracy_score(t, s) for t, s in columns]),
        "mcc": np.mean([sk.matthews_corrcoef(t, s) for t, s in columns]),
    }
    if task.is_multi_label:
        labels = range(task.n_classes)
        found["log_loss"] = np.mean([sk.log_loss(y[:, n], p[:, n]) for n in labels])
        found["brier"] = sum(sk.brier_score_loss(y[:, n], p[:, n]) for n in labels)
    else:
        found["log_loss"] = sk.log_loss(y, p)
    if task.kind == "binary":
        found["brier"] = 2 * sk.brier_score_loss(y, p[:, 1])  # both columns are summed
        found |= {
            "sensitivity": sk.recall_score(y, said),
            "specificity": sk.recall_score(y, said, pos_label=0),
            "ppv": sk.precision_score(y, said, zero_division=np.nan),
            "npv": sk.precision_score(y, said, pos_label=0, zero_division=np.nan),
        }
    if task.kind == "ordinal":
        found["kappa"] = sk.cohen_kappa_score(y, said, weights="quadratic")
    return {name: float(value) for name, value in found.items()}


@settings(deadline=None, max_examples=120)
@given(
    kind=st.sampled_from(["binary", "multi-class", "ordinal", "multi-label"]),
    seed=st.integers(0, 10_000),
    decimals=st.integers(0, 3),
    n=st.integers(6, 60),
)
def test_every_metric_is_scikit_learns(kind: str, seed: int, decimals: int, n: int) -> None:
    scans = made(kind, seed, n, decimals)
    occur = scans.target.sum(axis=0) if scans.task.is_multi_label else np.zeros(1)
    said = scans.decided.sum(axis=0) if scans.task.is_multi_label else np.ones(1)
    assume((occur + said > 0).all())
    found = scored(scans)
    for name, expected in by_sklearn(scans).items():
        assert float(found[name][0]) == pytest.approx(expected, abs=1e-9, nan_ok=True), name


@settings(deadline=None, max_examples=80)
@given(seed=st.integers(0, 10_000), decimals=st.integers(0, 2), n=st.integers(4, 50))
def test_points_of_the_roc_curve_are_scikit_learns(seed: int, decimals: int, n: int) -> None:
    scans = made("binary", seed, n, decimals)
    fpr, tpr, _ = sk.roc_curve(scans.target, scans.probability[:, 1], drop_intermediate=False)
    found = scored(scans)
    best = tpr[1 - fpr >= AT - 1e-12].max()
    assert float(found["sensitivity_at_specificity"][0]) == pytest.approx(best, abs=1e-12)
    best = (1 - fpr)[tpr >= AT - 1e-12].max()
    assert float(found["specificity_at_sensitivity"][0]) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("kind", ["multi-class", "multi-label"])
def test_a_class_against_the_rest_is_a_binary_task(kind: str) -> None:
    scans = made(kind, 3)
    for number, name in enumerate(scans.task.class_names):
        many = scans.task.is_multi_label
        truth = scans.target[:, number] if many else (scans.target == number).astype(np.int64)
        said = scans.decided[:, number] if many else (scans.decided == number).astype(np.int64)
        score = scans.probability[:, number]
        found = of_class(scans, name)
        assert found["auc"] == pytest.approx(sk.roc_auc_score(truth, score), abs=1e-12)
        assert found["average_precision"] == pytest.approx(
            sk.average_precision_score(truth, score), abs=1e-12
        )
        assert found["ppv"] == pytest.approx(sk.precision_score(truth, said), abs=1e-12)
        assert found["f1"] == pytest.approx(sk.f1_score(truth, said), abs=1e-12)
        assert found["prevalence"] == pytest.approx(truth.mean(), abs=1e-12)


def repeated(scans: Scans, weights: Floats) -> Scans:
    """Each scan as often as its patient was drawn, every one a patient of its own."""
    rows = np.repeat(np.arange(len(scans.patient)), weights[scans.patient].astype(np.int64))
    return Scans(
        scans.task,
        scans.target[rows],
        scans.probability[rows],
        scans.decided[rows],
        np.arange(len(rows)),
    )


@pytest.mark.parametrize("kind", ["binary", "multi-class", "ordinal", "multi-label"])
def test_weights_are_repetitions_bit_for_bit(kind: str) -> None:
    """An explicit loop over resamples, each a set of repeated scans, finds the same numbers.

    Counts are whole numbers, and so exactly the same; sums of fractions differ by rounding.
    """
    scans = made(kind, 5, n=60, decimals=1, patients=25)
    weights = next(patient_draws(25, 40, 7))
    together = scored(scans, weights)
    for resample in range(weights.shape[1]):
        alone = scored(repeated(scans, weights[:, resample]))
        for name, value in together.items():
            if name in ("brier", "log_loss", "average_precision"):
                assert value[resample] == pytest.approx(alone[name][0], abs=1e-12)
            elif name != "ece":  # its bins are laid once, on all scans
                assert np.array_equal(value[resample], alone[name][0], equal_nan=True), name


def naive_ece(said: Floats, true: Floats, bins: int) -> float:
    order = np.argsort(said, kind="stable")
    parts = np.array_split(order, bins)
    return sum(len(b) * abs(true[b].mean() - said[b].mean()) for b in parts) / len(said)


def test_calibration_error_is_the_distance_in_bins_of_equal_number() -> None:
    rng = np.random.default_rng(2)
    p = rng.permutation(np.linspace(0.01, 0.99, 300))
    target = (rng.random(300) < p**2).astype(np.int64)
    scans = Scans(
        BINARY, target, np.stack([1 - p, p], 1), (p > 0.5).astype(np.int64), np.arange(300)
    )
    found = scored(scans)
    assert found["ece"][0] == pytest.approx(naive_ece(p, target.astype(float), 15), abs=1e-12)


def test_the_debiased_error_of_true_probabilities_is_far_less() -> None:
    rng, plain, debiased = np.random.default_rng(3), [], []
    for _ in range(60):
        p = rng.random(150)
        target = (rng.random(150) < p).astype(np.int64)
        scans = Scans(BINARY, target, np.stack([1 - p, p], axis=1), target, np.arange(150))
        found = evaluated(scans).metrics
        plain.append(found["ece"].value)
        debiased.append(found["ece_debiased"].value)
        assert found["ece_debiased"].low <= debiased[-1] <= found["ece_debiased"].high
    assert min(plain) > 0.03
    assert np.mean(debiased) < np.mean(plain) / 2
    assert np.mean(np.array(debiased) == 0) > 0.2


def evaluated(scans: Scans, **changes: object) -> Evaluation:
    ids = np.array([f"P{number:03d}" for number in scans.patient])
    settings_ = {"resamples": 300, "seed": 1} | changes
    return evaluate(scans.task, scans.target, scans.probability, ids, Decision(), **settings_)


@pytest.mark.parametrize("kind", ["binary", "multi-class", "ordinal", "multi-label"])
def test_an_evaluation_says_everything_and_survives_json(kind: str) -> None:
    scans = made(kind, 6, n=120, patients=60)
    found = evaluated(scans, subgroups={"sex": np.array(["f", "m"] * 60)})
    assert Evaluation.model_validate_json(found.model_dump_json()) == found
    every = (found, *found.classes, *found.subgroups)
    for one in every:
        for score in one.metrics.values():
            assert score.low <= score.high
            assert all(map(math.isfinite, (score.value, score.low, score.high)))
    assert {"auc", "average_precision", "mcc", "ece_debiased", "brier"} <= set(found.metrics)
    assert ("kappa" in found.metrics) == (kind == "ordinal")
    assert [one.group for one in found.subgroups] == ["f", "m"]
    assert len(found.classes) == (1 if kind == "binary" else 3)
    assert found.delong is not None and found.delong.value == pytest.approx(
        found.metrics["auc"].value
    )


def test_intervals_repeat_and_are_of_patients() -> None:
    """Ten copies of each scan, under the same patient, change no interval of a rank or a rate."""
    scans = made("binary", 8, n=80)
    rows = np.repeat(np.arange(80), 10)
    copies = Scans(
        scans.task, scans.target[rows], scans.probability[rows], scans.decided[rows], rows
    )
    once, often = evaluated(scans), evaluated(copies)
    assert evaluated(scans) == once
    for name in ("auc", "balanced_accuracy", "f1", "sensitivity", "brier"):
        assert often.metrics[name].low == pytest.approx(once.metrics[name].low, abs=1e-9)
        assert often.metrics[name].high == pytest.approx(once.metrics[name].high, abs=1e-9)


def test_an_interval_is_of_the_explicit_resamples() -> None:
    """The bootstrap of scikit-learn's metric, patient by patient, with BCa on top."""
    scans = made("binary", 9, n=60, patients=40)
    weights = np.concatenate(list(patient_draws(40, 300, 1)), axis=1)

    def metric(rows: Scans) -> float:
        return float(sk.average_precision_score(rows.target, rows.probability[:, 1]))

    drawn = np.array([metric(repeated(scans, column)) for column in weights.T])
    left_out = np.array([metric(repeated(scans, column)) for column in 1 - np.eye(40)])
    rare = min(len(np.unique(scans.patient[scans.target == kind])) for kind in (0, 1))
    expected = bca(metric(scans), drawn, left_out, rare, 0.95)
    found = evaluated(scans).metrics["average_precision"]
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-9)


def test_a_share_is_widened_by_those_it_is_a_share_of() -> None:
    """5 ill patients among 100 say nothing of how sure a share of all, or of the healthy, is."""
    rng, target = np.random.default_rng(4), (np.arange(100) < 5).astype(np.int64)
    p = rng.random(100)
    rows = np.stack([1 - p, p], axis=1)
    scans = Scans(BINARY, target, rows, (p > 0.5).astype(np.int64), np.arange(100))
    found = evaluated(scans, resamples=2000).metrics["specificity"]
    half = 1.96 * math.sqrt(found.value * (1 - found.value) / 95)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.12)
    fixed = evaluated(scans).metrics["specificity_at_sensitivity"]
    assert fixed.method == "percentile" and fixed.low <= fixed.value <= fixed.high


def test_a_pattern_that_chance_explains_is_drawn_to_a_line() -> None:
    rng = np.random.default_rng(0)
    line, noise = np.linspace(-0.1, 0.1, 15)[:, None], rng.normal(size=(15, 1))
    scatter = 0.05 * rng.normal(size=(15, 500))
    near = steadied(line + 0.03 * noise, scatter)
    assert near == pytest.approx(line + 0.03 * noise, abs=0.2)
    assert np.abs(np.diff(near, n=2, axis=0)).max() < 1e-9  # all of it was chance
    far = line + 0.5 * noise
    assert np.abs(steadied(far, scatter) - far).max() < 0.05  # hardly any of it was
    assert steadied(far[:2], scatter[:2]) == pytest.approx(far[:2])  # two points are a line


def test_without_errors_there_are_wilsons_and_newcombes_intervals_or_none() -> None:
    target = np.arange(40) % 2
    p = np.where(target == 1, 0.9, 0.2)
    scans = Scans(BINARY, target, np.stack([1 - p, p], 1), target, np.arange(40))
    found = evaluated(scans)
    assert found.metrics["auc"].method == "newcombe"
    assert 0.8 < found.metrics["auc"].low < 1 == found.metrics["auc"].high
    assert found.metrics["sensitivity"].method == "wilson"
    assert found.metrics["sensitivity"].low == pytest.approx(20 / (20 + 1.959964**2), abs=1e-6)
    assert found.untold["mcc"].value == 1
    assert "too few errors" in found.untold["mcc"].why
    assert found.delong is None


def test_what_is_not_defined_is_told() -> None:
    scans = made("binary", 1, n=30)
    one_class = Scans(
        BINARY, np.zeros(30, dtype=np.int64), scans.probability, scans.decided, np.arange(30)
    )
    found = evaluated(one_class)
    assert found.untold["auc"].value is None
    assert "accuracy" in found.metrics and "brier" in found.metrics
    single = np.zeros(30, dtype=np.int64)
    single[0] = 1
    lone = evaluated(Scans(BINARY, single, scans.probability, scans.decided, np.arange(30)))
    assert "too few patients of the rarest class: 1" in lone.untold["auc"].why


def test_subgroups_of_few_patients_are_told_and_not_scored() -> None:
    scans = made("binary", 4, n=38)
    site = np.array(["north"] * 30 + ["south"] * 4 + [""] * 4)
    found = evaluated(scans, subgroups={"site": site})
    by_name = {one.group: one for one in found.subgroups}
    assert [(one.group, one.patients) for one in found.subgroups] == [("north", 30), ("other", 8)]
    assert by_name["other"].too_few and not by_name["other"].metrics
    north = scans.of(np.arange(38) < 30)
    assert by_name["north"].metrics == evaluated(north).metrics


@pytest.mark.parametrize("kind", ["binary", "ordinal", "multi-label"])
def test_probabilities_alone_are_scored_as_with_everything_else(kind: str) -> None:
    scans = made(kind, 3, n=50)
    found = evaluated(scans)
    alone = evaluate_probabilities(
        scans.task,
        scans.target,
        scans.probability,
        np.array([f"P{number:03d}" for number in scans.patient]),
        resamples=found.resamples,
        seed=found.seed,
    )
    assert set(alone) == {"brier", "log_loss", "ece", "ece_debiased"}
    assert alone == {name: found.metrics[name] for name in alone}


def test_numbers_of_many_values_are_quartered() -> None:
    scans = made("binary", 4, n=80)
    found = evaluated(scans, subgroups={"age": np.array([f"{20 + n}" for n in range(80)])})
    assert [one.group for one in found.subgroups] == [
        "20 to 39",
        "40 to 59",
        "60 to 79",
        "80 to 99",
    ]
    assert {one.scans for one in found.subgroups} == {20}
    few = evaluated(scans, subgroups={"grade": np.array([f"{n % 3 + 9}" for n in range(80)])})
    assert [one.group for one in few.subgroups] == ["9", "10", "11"]


def test_shapes_and_numbers_are_checked() -> None:
    ids = np.array(["a"])
    with pytest.raises(ValueError, match="do not fit a binary task"):
        evaluate(BINARY, np.array([0]), np.ones((1, 3)), ids, Decision())
    with pytest.raises(ValueError, match="no scan"):
        evaluate(BINARY, np.array([], dtype=np.int64), np.ones((0, 2)), ids[:0], Decision())
    with pytest.raises(ValueError, match="NaN"):
        evaluate(BINARY, np.array([0]), np.array([[np.nan, 1]]), ids, Decision())


@given(st.integers(2, 60), st.integers(2, 60), st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_newcombes_interval_holds_the_auc_and_narrows(m: int, n: int, auc: float) -> None:
    low, high = newcombe(auc, m, n, 0.95)
    assert 0 <= low <= auc <= high <= 1
    assert low < high
    wide = newcombe(auc, 2 * m, 2 * n, 0.95)
    assert wide[1] - wide[0] < high - low
    mirrored = newcombe(1 - auc, m, n, 0.95)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-6)


def test_what_is_known_of_the_same_scans_is_not_drawn_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scans = made("multi-class", 3, n=60)
    names = np.array([f"p{n}" for n in scans.patient])
    old, new = (np.array([f"{word}{n % 2}" for n in range(60)]) for word in ("s", "t"))
    new[:15] = "t2"
    rows = (scans.task, scans.target, scans.probability, names, Decision())
    known = evaluate(*rows, subgroups={"site": old}, resamples=200)
    drawn: list[int] = []

    def counted(chosen: Scans, plan: Plan) -> tuple[Told, dict[str, Told]]:
        drawn.append(len(chosen.patient))
        return resampled(chosen, plan)

    monkeypatch.setattr("pipeline.evaluation.scores.resampled", counted)
    rounded = scans.probability * (1 + 1e-9)
    both = {"site": old, "town": new}
    again = evaluate(*rows[:2], rounded, *rows[3:], subgroups=both, resamples=200, known=known)
    assert again.metrics == known.metrics
    assert again.classes == known.classes
    assert again.subgroups[:2] == known.subgroups
    assert [group.attribute for group in again.subgroups] == ["site"] * 2 + ["town"] * 3
    assert drawn == [group.scans for group in again.subgroups[2:]]
    fresh = evaluate(*rows, subgroups=both, resamples=200)
    assert fresh.metrics == again.metrics
    assert fresh.subgroups[:2] == again.subgroups[:2]
    drawn.clear()
    others = np.roll(scans.probability, 1, axis=0)
    found = evaluate(*rows[:2], others, *rows[3:], resamples=200, known=known)
    assert found == evaluate(*rows[:2], others, *rows[3:], resamples=200)
    assert evaluate(*rows, resamples=200, seed=1, known=known).seed == 1
    assert evaluate(*rows, resamples=300, known=known).resamples == 300
    assert drawn == [60] * 4
