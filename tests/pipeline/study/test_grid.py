from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_study import BINARY, open_store, toy_config, write_store

from data_prep.errors import CohortError
from data_prep.store import Store
from data_prep.task import Task, TaskKind
from pipeline.study.config import StudyConfig
from pipeline.study.grid import Plan, _patient_labels, make_plan, nested_order

FAMILIES = {"toy": toy_config()}
THREE = Task(kind="multi-class", class_names=("a", "b", "c"))


def config(**fields: Any) -> StudyConfig:
    return StudyConfig.model_validate({"families": ["toy"], "sizes": [8, "all"], **fields})


def plan(store: Store, arithmetic: Mapping[str, str] | None = None, **fields: Any) -> Plan:
    return make_plan(config(**fields), FAMILIES, store, arithmetic or {"torch": "2"})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(write_store(tmp_path / "store"))


def one_hot(classes: list[int], n_classes: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.eye(n_classes, dtype=bool)[classes]


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(2, 40), min_size=2, max_size=4),
    seed=st.integers(0, 1000),
)
def test_each_prefix_is_stratified_and_holds_two_of_each_class(
    counts: list[int], seed: int
) -> None:
    classes = [k for k, count in enumerate(counts) for _ in range(count)]
    labels = one_hot(classes, len(counts))
    order, front = nested_order(labels, [seed])

    assert sorted(order.tolist()) == list(range(len(classes)))
    assert front == 2 * len(counts)
    for size in range(front, len(classes) + 1):
        having = labels[order[:size]].sum(axis=0)
        assert (having >= 2).all()
        # The front may hold up to two too many of a class, which displaces as many of others.
        share = size * np.array(counts) / len(classes)
        assert (np.abs(having - share) <= 1 + 2 * (len(counts) - 1)).all()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), size=st.integers(8, 60))
def test_balanced_classes_stay_balanced_at_every_size(seed: int, size: int) -> None:
    labels = one_hot([n % 2 for n in range(60)], 2)
    order, _ = nested_order(labels, [seed])

    first, second = labels[order[:size]].sum(axis=0)
    assert abs(int(first) - int(second)) <= 1


def test_every_patient_is_equally_likely_to_be_drawn() -> None:
    labels = one_hot([0] * 30 + [1] * 10, 2)
    drawn = np.zeros(40)
    for replicate in range(2000):
        order, _ = nested_order(labels, [7, replicate])
        drawn[order[:20]] += 1

    assert drawn.mean() == 1000
    assert np.abs(drawn / 1000 - 1).max() < 0.1  # five standard deviations


def test_multi_label_subsets_hold_two_with_and_without_each_label() -> None:
    rng = np.random.default_rng(3)
    labels = rng.random((200, 4)) < np.array([0.5, 0.1, 0.9, 0.0])
    labels[[3, 77], 3] = True
    for seed in range(20):
        order, front = nested_order(labels, [seed])
        having = labels[order[:front]].sum(axis=0)
        assert (having >= 2).all()
        assert (front - having >= 2).all()


def test_subsets_of_one_replicate_are_nested_and_replicates_differ(store: Store) -> None:
    made = plan(store, sizes=[6, 12, 18], subsets=3)
    scans = {(p.cell.size, p.cell.subset): set(p.train.tolist()) for p in made.cells}

    for subset in range(3):
        assert scans[6, subset] < scans[12, subset] < scans[18, subset]
    assert len({frozenset(scans[6, subset]) for subset in range(3)}) == 3


def test_sizes_count_patients_and_take_all_their_scans(store: Store) -> None:
    rows = store.rows("train")
    for planned in plan(store).cells:
        patients = {rows[n].patient_id for n in planned.train}
        assert len(patients) == planned.cell.size
        assert len(planned.train) == 2 * planned.cell.size
        assert (np.diff(planned.train) > 0).all()


def test_at_the_full_size_there_is_one_subset_and_seeds_vary(store: Store) -> None:
    made = plan(store, sizes=[8, 24, "all"], subsets=3, seeds=2, seed=5)
    cells = [(p.cell.size, p.cell.subset, p.cell.seed) for p in made.cells]

    assert made.sizes == (8, 24)
    assert [c for c in cells if c[0] == 24] == [(24, 0, 5), (24, 0, 6)]
    assert len([c for c in cells if c[0] == 8]) == 6
    assert cells == sorted(cells)  # small sizes first


def test_the_seed_decides_the_patients(store: Store) -> None:
    first, again, other = (plan(store, seed=seed, sizes=[8]) for seed in (1, 1, 2))

    assert [p.key for p in first.cells] == [p.key for p in again.cells]
    assert [p.train.tolist() for p in first.cells] != [p.train.tolist() for p in other.cells]


def test_the_same_draws_serve_more_sizes_and_subsets_later(store: Store) -> None:
    small = plan(store, sizes=[8], subsets=2)
    large = plan(store, sizes=[8, 16], subsets=4)

    assert {p.key for p in small.cells} < {p.key for p in large.cells}
    assert small.digest != large.digest


def test_the_key_follows_everything_that_decides_a_result(store: Store, tmp_path: Path) -> None:
    other_store = open_store(write_store(tmp_path / "other", seed=1))
    families = {"toy": toy_config("calm")}
    keys = [
        plan(store).cells[0].key,
        plan(store, {"torch": "3"}).cells[0].key,
        plan(store, seed=1).cells[0].key,
        plan(store, validation="proportional").cells[0].key,
        plan(other_store).cells[0].key,
        make_plan(config(), families, store, {"torch": "2"}).cells[0].key,
    ]

    assert len(set(keys)) == len(keys)


def test_proportional_validation_grows_with_the_size(store: Store) -> None:
    made = plan(store, sizes=[8, 16, "all"], validation="proportional", subsets=1)
    patients = [len({store.rows("val")[n].patient_id for n in p.val}) for p in made.cells]

    assert patients == [4, 7, 10]  # at least two of each class, then in proportion, then all
    assert all(len(p.val) == 20 for p in plan(store).cells)


@pytest.mark.parametrize(
    ("kind", "counts", "label"),
    [
        ("binary", [3, 1], [False, True]),  # ill if any scan is
        ("binary", [2, 0], [True, False]),
        ("multi-class", [1, 3, 1], [False, True, False]),  # the commonest
        ("ordinal", [2, 0, 2], [False, False, True]),  # of equals the higher grade
        ("multi-label", [1, 0, 4], [True, False, True]),  # whatever any scan has
    ],
)
def test_a_patient_has_the_class_of_its_scans(
    kind: TaskKind, counts: list[int], label: list[bool]
) -> None:
    task = Task(kind=kind, class_names=("a", "b", "c")[: len(counts)])
    assert _patient_labels(task, np.array([counts], float)).tolist() == [label]


@pytest.mark.parametrize(
    ("fields", "patients", "task", "code", "said"),
    [
        ({"sizes": [25]}, (24, 9, 9), BINARY, "study.size_too_large", "24 training patients"),
        ({"sizes": [5]}, (24, 9, 9), THREE, "study.size_too_small", "5 cannot hold 2 patients"),
        ({"sizes": ["all"]}, (4, 9, 9), THREE, "study.small_class", "class 'b' has 1 of 4"),
    ],
)
def test_a_size_that_does_not_fit_the_cohort_is_refused(
    tmp_path: Path,
    fields: dict[str, Any],
    patients: tuple[int, int, int],
    task: Task,
    code: str,
    said: str,
) -> None:
    store = open_store(write_store(tmp_path / "s", patients=patients, task=task))
    with pytest.raises(CohortError, match=said) as caught:
        plan(store, **fields)
    assert caught.value.code == code
    assert caught.value.fix


def test_a_label_that_everybody_has_is_refused(tmp_path: Path) -> None:
    task = Task(kind="multi-label", class_names=("effusion",))
    store = open_store(write_store(tmp_path / "s", task=task))
    with pytest.raises(CohortError, match="'effusion' has 24 of 24") as caught:
        plan(store)
    assert caught.value.code == "study.small_class"
