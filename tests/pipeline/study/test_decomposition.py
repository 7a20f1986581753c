"""Identities, closed forms and unbiasedness of the decompositions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_prep.task import Task, TaskKind
from pipeline.metrics import score
from pipeline.study.decomposition import decompose, log_loss, squared, zero_one
from pipeline.study.errors import StudyError
from pipeline.study.terms import Cells, Terms

Floats = NDArray[np.float64]
TASKS = {
    kind: Task(kind=kind, class_names=names)
    for kind, names in {
        "binary": ("a", "b"),
        "multi-class": ("a", "b", "c"),
        "multi-label": ("a", "b", "c"),
    }.items()
}


def probabilities(
    task: Task, shape: tuple[int, ...], rng: np.random.Generator, spread: float = 1.0
) -> Floats:
    """Random probabilities (..., K) that fit the task."""
    odds = np.exp(spread * rng.normal(size=(*shape, task.n_classes)))
    return odds / (1 + odds) if task.is_multi_label else odds / odds.sum(axis=-1, keepdims=True)


def labels(task: Task, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if task.is_multi_label:
        return rng.integers(0, 2, (n, task.n_classes))
    return rng.permutation(np.arange(n) % task.n_classes)


def value(terms: Terms, name: str) -> float:
    return float(terms[name].value.mean())


kinds = st.sampled_from(list(TASKS))


@settings(deadline=None, max_examples=40)
@given(
    kind=kinds,
    shape=st.tuples(st.integers(1, 5), st.integers(1, 3)),
    seed=st.integers(0, 1000),
    known=st.booleans(),
    lost=st.floats(0, 0.5),
)
def test_the_parts_of_every_loss_add_up_scan_by_scan(
    kind: TaskKind, shape: tuple[int, int], seed: int, known: bool, lost: float
) -> None:
    task, rng = TASKS[kind], np.random.default_rng(seed)
    p = probabilities(task, (*shape, 7), rng)
    p[rng.random(shape) < lost] = np.nan
    p[0, 0] = probabilities(task, (7,), rng)  # at least one cell is done
    bayes = probabilities(task, (7,), rng) if known else None
    target = labels(task, 7, rng)
    found = decompose(task, target, p, bayes=bayes, overlap=0.3)
    truth = task.one_hot(target) if bayes is None else bayes
    found["plain"] = dict(squared(Cells.of(p), truth, bayes=known, corrected=False))
    for loss, terms in found.items():
        bias = "bias" if "bias" in terms else "bias2"
        variances = [terms[n] for n in ("variance_data", "variance_seed") if n in terms]
        for part in ("value", "subsets", "seeds"):
            of = {name: np.nan_to_num(getattr(term, part)) for name, term in terms.items()}
            whole = of.get("noise", 0) + of[bias] + of["variance"]
            assert of["total"] == pytest.approx(whole, abs=1e-12)
            if loss == "zero_one":
                split = of["variance_unbiased"] - of["variance_biased"]
            else:
                split = sum((np.nan_to_num(getattr(v, part)) for v in variances), start=0.0)
            assert of["variance"] == pytest.approx(split, abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(kind=kinds, seed=st.integers(0, 1000))
def test_totals_are_the_mean_metrics_of_the_cells(kind: TaskKind, seed: int) -> None:
    task, rng = TASKS[kind], np.random.default_rng(seed)
    p, target = probabilities(task, (3, 2, 9), rng), labels(task, 9, rng)
    p[2, 1] = np.nan
    done = [p[d, s] for d in range(3) for s in range(2) if (d, s) != (2, 1)]
    scores = [score(task, target, rows) for rows in done]
    found = decompose(task, target, p)

    assert value(found["squared"], "total") == pytest.approx(np.mean([s["brier"] for s in scores]))
    assert value(found["log"], "total") == pytest.approx(np.mean([s["log_loss"] for s in scores]))
    wrong = 1 - np.mean([s["accuracy"] for s in scores])
    assert value(found["zero_one"], "total") == pytest.approx(wrong)


@settings(deadline=None, max_examples=20)
@given(kind=kinds, seed=st.integers(0, 1000), permute=st.permutations(range(4)))
def test_the_order_of_subsets_is_nothing(kind: TaskKind, seed: int, permute: list[int]) -> None:
    task, rng = TASKS[kind], np.random.default_rng(seed)
    p, target = probabilities(task, (4, 2, 5), rng), labels(task, 5, rng)
    for one, other in zip(
        decompose(task, target, p).values(),
        decompose(task, target, p[permute]).values(),
        strict=True,
    ):
        for name, term in one.items():
            assert other[name].value == pytest.approx(term.value, abs=1e-12)
            assert other[name].subsets == pytest.approx(term.subsets[permute], abs=1e-12)


def test_squared_loss_by_hand() -> None:
    """Two subsets by two seeds of one scan: p(class 1) = [[0.2, 0.4], [0.6, 0.8]], label 1."""
    one = np.array([[0.2, 0.4], [0.6, 0.8]])[..., None]
    p = np.stack([1 - one, one], axis=-1)
    plain = squared(Cells.of(p), np.array([[0.0, 1.0]]), corrected=False)
    assert value(plain, "bias2") == pytest.approx(2 * 0.25)  # mean 0.5; both columns
    assert value(plain, "variance_data") == pytest.approx(2 * 0.04)  # means 0.3 and 0.7
    assert value(plain, "variance_seed") == pytest.approx(2 * 0.01)
    found = squared(Cells.of(p), np.array([[0.0, 1.0]]))
    # No interaction: variance of the means 2 x 0.08; of seeds 2 x 0.02; bias2 less half of each.
    assert value(found, "variance_data") == pytest.approx(2 * 0.08)
    assert value(found, "variance_seed") == pytest.approx(2 * 0.02)
    assert value(found, "bias2") == pytest.approx(0.5 - 0.08 - 0.02)


def draw_cells(
    rng: np.random.Generator, centre: Floats, pool: int = 0, size: int = 5
) -> tuple[Floats, float]:
    """(6, 3, N, K) centre + subset, seed and interaction effects of variance 0.01, 0.0025, 0.0009.

    With a pool, a subset's effect is the mean over ``size`` of its patients.
    """
    shape = centre.shape
    if pool:
        patients = 0.1 * np.sqrt(size) * rng.normal(size=(pool, *shape))
        subset = np.stack([patients[rng.permutation(pool)[:size]].mean(axis=0) for _ in range(6)])
    else:
        subset = 0.1 * rng.normal(size=(6, *shape))
    seed = 0.05 * rng.normal(size=(1, 3, *shape))
    both = 0.03 * rng.normal(size=(6, 3, *shape))
    return centre + subset[:, None] + seed + both, size / pool if pool else 0.0


@pytest.mark.parametrize(("lost", "pool"), [(False, 0), (True, 0), (False, 12)])
def test_squared_terms_are_unbiased(lost: bool, pool: int) -> None:
    rng = np.random.default_rng(4)
    centre = probabilities(TASKS["multi-class"], (30,), rng)
    q = probabilities(TASKS["multi-class"], (30,), rng)
    names = ("noise", "bias2", "variance_data", "variance_seed")
    runs, plain = [], []
    for _ in range(300):
        p, overlap = draw_cells(rng, centre, pool)
        if lost:
            p[0] = np.nan
            p[1, 2] = p[2, 0] = np.nan
        terms = squared(Cells.of(p), q, bayes=True, overlap=overlap)
        runs.append([value(terms, name) for name in names])
        plain.append(value(squared(Cells.of(p), q, corrected=False), "bias2"))
    bias2 = ((q - centre) ** 2).sum(axis=1).mean()
    expected = [(q * (1 - q)).sum(axis=1).mean(), bias2, 3 * 0.01, 3 * (0.0025 + 0.0009)]
    error = np.std(runs, axis=0, ddof=1) / np.sqrt(len(runs))
    assert np.abs(np.mean(runs, axis=0) - expected) == pytest.approx(0, abs=4 * error.max() + 1e-12)
    assert (np.abs(np.mean(runs, axis=0) - expected)[1:] < 4 * error[1:]).all()
    assert np.mean(plain) - bias2 > 10 * error[1]  # what the correction is for


def test_bayes_probabilities_give_the_expectation_over_labels() -> None:
    """Every loss with q is the q-weighted mean of the same loss with each label."""
    task, rng = TASKS["multi-class"], np.random.default_rng(0)
    p, q = probabilities(task, (3, 2, 6), rng), probabilities(task, (6,), rng)
    known = decompose(task, np.zeros(6, dtype=np.int64), p, bayes=q)
    for loss, terms in known.items():
        by_label = [
            decompose(task, np.full(6, k), p)[loss]["total"].value * q[:, k] for k in range(3)
        ]
        assert terms["total"].value == pytest.approx(np.sum(by_label, axis=0))


def test_log_loss_terms_are_divergences() -> None:
    rng = np.random.default_rng(1)
    p, q = (probabilities(TASKS["multi-class"], s, rng) for s in ((4, 2, 5), (5,)))
    terms = log_loss(Cells.of(p), q, bayes=True)
    central = np.exp(np.log(p).mean(axis=(0, 1)))
    central /= central.sum(axis=1, keepdims=True)

    def divergence(a: Floats, b: Floats) -> Floats:
        found: Floats = (a * np.log(a / b)).sum(axis=-1)
        return found

    assert terms["noise"].value == pytest.approx(-(q * np.log(q)).sum(axis=1))
    assert terms["bias"].value == pytest.approx(divergence(q, central))
    assert terms["variance"].value == pytest.approx(divergence(central, p).mean(axis=(0, 1)))
    of_subset = np.exp(np.log(p).mean(axis=1))
    of_subset /= of_subset.sum(axis=2, keepdims=True)
    data = divergence(central, of_subset).mean(axis=0)
    seed = divergence(of_subset[:, None], p).mean(axis=(0, 1))
    assert terms["variance_data"].value == pytest.approx(data)
    assert terms["variance_seed"].value == pytest.approx(seed)


def test_zero_one_loss_is_domingos() -> None:
    """One scan that the vote gets right 4 times in 5, one that it gets wrong 4 times in 5."""
    says = np.array([[1, 0], [1, 0], [1, 0], [1, 0], [0, 1]])  # (subsets, scans): predicted class
    p = np.where(says[..., None] == np.arange(2), 0.9, 0.1)[:, None]
    terms = zero_one(Cells.of(p), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert terms["bias"].value.tolist() == [0, 1]
    assert terms["variance_unbiased"].value == pytest.approx([0.2, 0])
    assert terms["variance_biased"].value == pytest.approx([0, 0.2])
    assert terms["total"].value == pytest.approx([0.2, 0.8])
    # A biased scan of three classes: what helps is the share that says the truth (Domingos, th. 3)
    says = np.array([1, 1, 0, 2, 1])
    p = np.where(says[:, None] == np.arange(3), 0.8, 0.1)[:, None, None]
    three = zero_one(Cells.of(p), np.array([[1.0, 0, 0]]))
    assert value(three, "variance_biased") == pytest.approx(0.2)
    assert value(three, "total") == pytest.approx(0.8)


def test_a_tied_vote_goes_to_the_larger_mean_probability() -> None:
    p = np.array([[0.45, 0.55], [0.9, 0.1]])[:, None, None]
    terms = zero_one(Cells.of(p), np.array([[1.0, 0.0]]))
    assert value(terms, "bias") == 0
    assert value(terms, "variance_unbiased") == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("shape", "known"),
    [
        ((1, 1), set()),
        ((1, 3), {"variance_seed", "variance"}),
        ((3, 1), {"variance_data", "variance"}),
        ((3, 2), {"variance_data", "variance_seed", "variance"}),
    ],
)
def test_what_few_cells_cannot_tell_is_not_told(shape: tuple[int, int], known: set[str]) -> None:
    p = probabilities(TASKS["binary"], (*shape, 4), np.random.default_rng(0))
    for terms in (squared(Cells.of(p), np.eye(2)[[0, 1, 0, 1]]),
                  log_loss(Cells.of(p), np.eye(2)[[0, 1, 0, 1]])):  # fmt: skip
        told = {name for name, term in terms.items() if not np.isnan(term.value).any()}
        assert told - {"bias", "bias2", "total"} == known


def test_one_seed_each_counts_as_one_seed() -> None:
    """Failures that leave every subset one seed: the cells are as of one seed."""
    p = probabilities(TASKS["binary"], (3, 2, 4), np.random.default_rng(0))
    p[0, 0] = p[1, 1] = p[2, 0] = np.nan
    cells = Cells.of(p)
    assert cells.present.shape == (3, 1)
    assert cells.p[:, 0].tolist() == [p[0, 1].tolist(), p[1, 0].tolist(), p[2, 1].tolist()]


def test_no_cell_and_half_a_cell_are_refused() -> None:
    with pytest.raises(StudyError, match="none of 4 cells") as caught:
        Cells.of(np.full((2, 2, 3, 2), np.nan))
    assert caught.value.code == "study.no_cells"
    p = np.full((2, 2, 3, 2), 0.5)
    p[1, 0, 2] = np.nan
    with pytest.raises(StudyError, match="subset 1, seed 0") as caught:
        Cells.of(p)
    assert caught.value.code == "study.broken_cell"


def test_different_subsets_do_not_overlap_whole() -> None:
    cells = Cells.of(np.full((2, 1, 3, 2), 0.5))
    with pytest.raises(ValueError, match=r"overlap is 1\.0"):
        squared(cells, np.eye(2)[[0, 1, 0]], overlap=1.0)
