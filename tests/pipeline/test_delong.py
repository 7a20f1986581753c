"""DeLong's variance against its definition, and its tests on simulated nulls."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_prep.task import Task
from pipeline.delong import AucParts, auc_parts, placements
from pipeline.metrics import score

Floats = NDArray[np.float64]
BINARY = Task(kind="binary", class_names=("healthy", "ill"))


def one_each(n: int) -> NDArray[np.str_]:
    return np.array([f"P{number:04d}" for number in range(n)])


def rows(scores: Floats) -> Floats:
    """Scores in (0, 1) as probabilities of two classes."""
    return np.stack([1 - scores, scores], axis=-1)


def direct(truth: NDArray[np.bool_], *scores: Floats) -> tuple[list[float], Floats]:
    """AUCs and covariance as DeLong et al. (1988) define them, over all m x n pairs."""
    kernels = []
    for s in scores:
        x, y = s[truth][:, None], s[~truth][None]
        kernels.append((x > y) + 0.5 * (x == y))
    aucs = [float(kernel.mean()) for kernel in kernels]
    v10 = np.stack([kernel.mean(axis=1) for kernel in kernels])
    v01 = np.stack([kernel.mean(axis=0) for kernel in kernels])
    covariance = np.cov(v10) / v10.shape[1] + np.cov(v01) / v01.shape[1]
    return aucs, np.atleast_2d(covariance)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), decimals=st.integers(0, 3), n=st.integers(6, 60))
def test_auc_and_covariance_are_delongs(seed: int, decimals: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(n) % 3 == 0)
    first, second = (np.round(rng.random(n), decimals) for _ in range(2))
    aucs, covariance = direct(truth, first, second)
    parts = [
        auc_parts(BINARY, truth.astype(np.int64), rows(s), one_each(n)) for s in (first, second)
    ]

    assert [part.value for part in parts] == pytest.approx(aucs)
    found = np.array([[a.patients @ b.patients for a in parts] for b in parts])
    assert found == pytest.approx(covariance, abs=1e-12)
    assert parts[0].variance == pytest.approx(covariance[0, 0], abs=1e-12)


@pytest.mark.parametrize("kind", ["binary", "multi-class", "multi-label"])
def test_the_value_is_the_metric_averaged_over_cells(kind: str) -> None:
    rng = np.random.default_rng(1)
    names = ("a", "b") if kind == "binary" else ("a", "b", "c")
    task = Task.model_validate({"kind": kind, "class_names": names})
    target = rng.integers(0, 2, (40, 3)) if task.is_multi_label else np.arange(40) % len(names)
    p = rng.random((2, 3, 40, len(names)))
    p = p if task.is_multi_label else p / p.sum(axis=-1, keepdims=True)
    metric = [score(task, target, p[d, s])["auc"] for d in range(2) for s in range(3)]
    assert auc_parts(task, target, p, one_each(40)).value == pytest.approx(np.mean(metric))


def test_placements_of_several_classifiers_at_once() -> None:
    rng = np.random.default_rng(2)
    truth, scores = rng.random(20) < 0.4, np.round(rng.random((3, 20)), 1)
    together = placements(truth, scores)
    assert together == pytest.approx(np.stack([placements(truth, row) for row in scores]))
    assert together[:, truth].mean(axis=1) == pytest.approx(together[:, ~truth].mean(axis=1))


def clustered(
    rng: np.random.Generator, patients: int, gain: float
) -> tuple[NDArray[np.int64], Floats, Floats, NDArray[np.str_]]:
    """Three scans a patient of one label, two equally good classifiers; scores share effects."""
    label = rng.permutation(np.arange(patients) % 2)
    patient = np.repeat(np.arange(patients), 3)
    shared = gain * label + rng.normal(size=patients)
    scores = [
        (shared + rng.normal(size=patients))[patient] + 0.3 * rng.normal(size=3 * patients)
        for _ in range(2)
    ]
    first, second = (rows(1 / (1 + np.exp(-s))) for s in scores)
    return label[patient], first, second, np.array([f"P{p:03d}" for p in patient])


def test_simulated_nulls_reject_as_often_as_they_should() -> None:
    """Two classifiers of equal AUC: 5 % of paired tests reject when clustered, far more if not."""
    rng = np.random.default_rng(3)
    rejected = {"clustered": 0, "scans": 0}
    covered = 0
    expected = 0.5 * (1 + math.erf(1.0 / math.sqrt(2 * 2.09) / math.sqrt(2)))
    for _ in range(400):
        target, first, second, patients = clustered(rng, 60, 1.0)
        for name, ids in (("clustered", patients), ("scans", one_each(len(target)))):
            a, b = (auc_parts(BINARY, target, p, ids) for p in (first, second))
            apart = a.patients - b.patients
            rejected[name] += abs(a.value - b.value) > 1.96 * math.sqrt(apart @ apart)
            if name == "clustered":
                low, high = a.interval()
                covered += low <= expected <= high
    assert 0.02 <= rejected["clustered"] / 400 <= 0.09
    assert rejected["scans"] / 400 > 0.15
    assert 0.91 <= covered / 400 <= 0.98


def test_a_clustered_auc_is_obuchowskis() -> None:
    """Her formula (1997, equations 2 to 5), patients with scans of one kind each."""
    rng = np.random.default_rng(4)
    target, p, _, patients = clustered(rng, 30, 1.0)
    truth, found = target == 1, auc_parts(BINARY, target, p, patients)
    placed = placements(truth, p[:, 1])
    sums = {True: [], False: []}  # type: dict[bool, list[float]]
    for name in np.unique(patients):
        mine = patients == name
        kind = bool(truth[mine][0])
        sums[kind].append(float((placed[mine] - found.value).sum()))
    variance = 0.0
    for kind, deviations in sums.items():
        n, scans = len(deviations), int((truth == kind).sum())
        variance += n / ((n - 1) * scans) * float(np.square(deviations).sum()) / scans
    assert found.variance == pytest.approx(variance)


def test_no_auc_without_both_kinds() -> None:
    found = auc_parts(BINARY, np.zeros(5, dtype=np.int64), rows(np.full(5, 0.5)), one_each(5))
    assert math.isnan(found.value) and math.isnan(found.variance)
    assert all(math.isnan(end) for end in found.interval())


def test_one_patient_of_a_kind_has_no_variance() -> None:
    target = np.array([1, 0, 0, 0])
    found = auc_parts(BINARY, target, rows(np.array([0.5, 0.1, 0.7, 0.2])), one_each(4))
    assert found.value == pytest.approx(2 / 3)
    assert math.isnan(found.variance)


@given(st.floats(0.01, 0.99), st.floats(0, 0.2), st.floats(0.5, 0.99))
def test_an_interval_stays_within_0_and_1_around_the_value(
    value: float, error: float, level: float
) -> None:
    low, high = AucParts(value, np.array([error])).interval(level)
    assert 0 <= low <= value + 1e-12 and value - 1e-12 <= high <= 1
    assert AucParts(1.0, np.array([0.0])).interval(level) == (1.0, 1.0)


def test_few_patients_of_the_rarest_side_widen_the_interval() -> None:
    rng = np.random.default_rng(6)
    target = (np.arange(60) % 6 == 0).astype(np.int64)  # two scans each, of 5 ill and 25 healthy
    patients = np.array([f"P{number % 30:02d}" for number in range(60)])
    found = auc_parts(BINARY, target, rows(rng.random(60)), patients)
    assert found.rarest == 5
    low, high = found.interval(0.95)

    def odds(p: float) -> float:
        return math.log(p / (1 - p))

    half = 2.7764 * math.sqrt(found.variance) / (found.value * (1 - found.value))
    assert (odds(low), odds(high)) == pytest.approx(
        (odds(found.value) - half, odds(found.value) + half), abs=1e-3
    )


# albumin, total protein, K-G score and outcome of 43 patients with ovarian cancer: DeLong et al.
# (1988), as reprinted in the SAS/STAT user's guide, PROC LOGISTIC, example "Comparing Receiver
# Operating Characteristic Curves"
OVARIAN = """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1
3.8 5.7 5 1 3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0
2.3 4.4 6 1 4.2 7.6 4 0 4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1
3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1 4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0
3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1 2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1
3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1
"""


def test_on_the_data_of_delongs_paper() -> None:
    table = np.array(OVARIAN.split(), dtype=np.float64).reshape(-1, 4)
    target, scores = table[:, 3].astype(np.int64), (table[:, 0], table[:, 1], 10 - table[:, 2])
    parts = [auc_parts(BINARY, target, rows(each), one_each(43)) for each in scores]
    aucs, covariance = direct(target == 1, *scores)
    assert [part.value for part in parts] == pytest.approx(aucs)
    found = np.array([[a.patients @ b.patients for a in parts] for b in parts])
    assert found == pytest.approx(covariance, abs=1e-12)


# WFNS grade, S100B and NDKA of 113 patients with a ruptured aneurysm, by outcome after six months
# (Turck et al. 2010, Intensive Care Medicine 36:107-115): the data aSAH of R's package pROC
POOR = """
3 0.13 17.4  2 0.1 12.75  4 0.16 13.2  5 0.12 15.96  5 0.44 5.18  5 0.71 8.9  5 0.49 11.6
2 0.07 32.37  5 0.33 54.82  2 0.09 32.41  1 0.07 40.34  2 0.41 9.85  5 0.35 14.04
4 0.48 21.93  4 0.96 7.42  2 0.25 8.38  5 0.86 13.56  5 0.52 3.87  5 2.07 419.19  2 0.07 21.22
5 0.77 10.4  2 0.3 11.09  5 0.03 12.22  2 0.09 13.67  4 0.23 22.63  5 0.7 12.9  4 0.27 21.57
4 0.71 8.23  1 0.08 72.57  4 0.26 15.54  4 0.13 5.19  2 0.1 9.63  2 0.11 21.48  5 0.22 5.37
5 0.56 9.57  2 0.14 34.06  2 0.58 11.72  5 0.32 14.26  5 0.82 47.61  5 0.74 11.67
5 0.44 15.89
"""
GOOD = """
1 0.13 3.01  1 0.14 8.54  1 0.1 8.09  1 0.04 10.42  5 0.47 6  1 0.18 15.54  2 0.1 6.01
2 0.1 17.86  1 0.04 13.41  2 0.08 20.75  2 0.04 16.11  1 0.09 49.94  1 0.11 9.47  1 0.07 6.29
2 0.17 12.53  1 0.07 6.54  2 0.11 6.3  1 0.13 80.3  1 0.19 12.8  3 0.05 9.8  4 0.16 9.81
1 0.14 18.21  4 0.34 5.03  1 0.09 8.02  5 0.5 6.59  5 0.46 9.63  1 0.16 13.12  1 0.07 7.96
2 0.43 14.34  4 0.45 41.43  1 0.11 7.63  1 0.08 7.06  2 0.09 12.59  2 0.08 9.44  1 0.06 7.66
2 0.13 12.98  1 0.1 27.19  2 0.14 22.27  2 0.15 9.95  1 0.06 11.73  1 0.05 58.83  1 0.09 6.39
1 0.04 17.21  2 0.09 9.7  1 0.08 10.51  2 0.16 10.6  1 0.09 14.57  1 0.08 4.61  3 0.33 17.3
2 0.11 12.71  4 0.28 9.44  2 0.07 11.07  1 0.1 19.46  4 0.32 10.83  1 0.07 11.97  1 0.05 7.75
5 0.24 9.83  4 0.38 10.55  2 0.1 28.49  2 0.15 8.53  1 0.08 12.57  1 0.14 12.9  1 0.1 46.83
3 0.07 11.68  1 0.04 12.67  2 0.19 9.01  2 0.15 24.58  4 0.47 10.33  4 0.17 13.87
1 0.15 22.43  1 0.5 6.79  1 0.48 13.45
"""


def markers() -> tuple[NDArray[np.int64], dict[str, AucParts]]:
    """Outcome, and what is found for each marker."""
    poor, good = (np.array(text.split(), dtype=np.float64).reshape(-1, 3) for text in (POOR, GOOD))
    target = np.repeat((1, 0), (len(poor), len(good)))
    table = np.concatenate([poor, good])
    return target, {
        name: auc_parts(BINARY, target, rows(column), one_each(len(target)))
        for name, column in zip(("wfns", "s100b", "ndka"), table.T, strict=True)
    }


def test_the_published_example_of_proc() -> None:
    """What pROC prints (Robin et al. 2011, BMC Bioinformatics 12:77; its manual and its tests).

    Its interval is on the scale of the AUC itself, ours on the logit's, so that the deviations
    are held against each other.
    """
    target, found = markers()
    assert (len(target), int(target.sum())) == (113, 41)
    assert found["wfns"].value == pytest.approx(0.823678861788618, rel=1e-12)
    assert found["ndka"].value == pytest.approx(0.611957994579946, rel=1e-12)
    assert found["wfns"].variance == pytest.approx(0.00146991470882363, rel=1e-10)
    assert found["ndka"].variance == pytest.approx(0.0031908105493913, rel=1e-10)
    assert found["s100b"].variance == pytest.approx(0.00266868245717244, rel=1e-10)
    value, deviation = found["s100b"].value, math.sqrt(found["s100b"].variance)
    ends = [round(value + z * deviation, 4) for z in (-1.959964, 0, 1.959964)]
    assert ends == [0.6301, 0.7314, 0.8326]


@pytest.mark.parametrize(
    ("first", "second", "z"),
    [
        ("wfns", "s100b", 2.20898359144091),
        ("wfns", "ndka", 2.79777591868904),
        ("ndka", "s100b", -1.39077002573558),
    ],
)
def test_the_published_paired_tests_of_proc(first: str, second: str, z: float) -> None:
    _, found = markers()
    apart = found[first].patients - found[second].patients
    difference = found[first].value - found[second].value
    assert difference / math.sqrt(apart @ apart) == pytest.approx(z, rel=1e-10)
