from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_study import BINARY, open_store, toy_config, write_store

from data_prep.errors import CohortError
from data_prep.store import Store
from data_prep.task import Task
from pipeline.study.config import StudyConfig
from pipeline.study.grid import Plan, make_plan

FAMILIES = {"toy": toy_config()}
THREE = Task(kind="multi-class", class_names=("a", "b", "c"))


def config(**fields: Any) -> StudyConfig:
    return StudyConfig.model_validate({"families": ["toy"], "sizes": [8, "all"], **fields})


def plan(store: Store, arithmetic: Mapping[str, str] | None = None, **fields: Any) -> Plan:
    return make_plan(config(**fields), FAMILIES, store, arithmetic or {"torch": "2"})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(write_store(tmp_path / "store"))


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
