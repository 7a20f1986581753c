"""What a study will cost: from its journal where it can be, else from a try."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from toy_study import BINARY, open_store, write_store

from pipeline.families import build_family, load_family_config
from pipeline.study import costs as costs_module
from pipeline.study.config import StudyConfig
from pipeline.study.costs import estimate_costs
from pipeline.study.grid import Plan, make_plan
from pipeline.study.journal import Entry, Failure
from pipeline.study.run import StudyCost
from pipeline.train_config import TrainConfig


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("costs") / "store", patients=(60, 10, 16))


def plan_of(store: Path, family: str, sizes: tuple[int, ...] = (10, 20)) -> Plan:
    config = StudyConfig(families=(family,), sizes=sizes, subsets=2, seeds=2)
    return make_plan(config, {family: load_family_config(family)}, open_store(store), {})


def entry(plan: Plan, number: int, fit: float, failure: Failure | None = None) -> Entry:
    planned = plan.cells[number]
    seconds = {"fit": fit, "predict": 0.5}
    return Entry(planned.cell, planned.key, failure, "", {}, {}, {}, {}, seconds, 0)


def test_cells_of_the_journal_set_the_pace(store: Path) -> None:
    plan = plan_of(store, "prior")
    first = entry(plan, 0, 3.0)
    found = estimate_costs(plan, open_store(store), {first.key: first}, plan.cells)
    for planned in plan.cells:  # prior's work grows with its scans, two a patient
        predicted = 0.5 * (1 + len(planned.train) / 52)  # of validation and test scans 52 in all
        assert found.of_cells[planned.key] == pytest.approx(
            3.0 * planned.cell.size / 10 + predicted
        )
    both = sum(found.of_cells[planned.key] for planned in plan.cells[1:3])
    ready = [("prior", seed) for seed in plan.seeds]
    assert found.left(plan.cells[1:3], ready) == pytest.approx(both)


def test_a_failed_cell_sets_no_pace(store: Path) -> None:
    plan = plan_of(store, "linear")
    failed = entry(plan, 0, 1e6, Failure("family.refuses", "no"))
    found = estimate_costs(plan, open_store(store), {failed.key: failed}, plan.cells)
    assert 0 < max(found.of_cells.values()) < 1e3


def spent(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    """What is timed takes so long, one after the other."""
    clock = iter([at for number in seconds for at in (0.0, number)])
    monkeypatch.setattr(costs_module, "time", SimpleNamespace(monotonic=lambda: next(clock)))


@pytest.mark.parametrize(
    ("short", "long", "pace", "once"),
    [
        (5.0, 7.0, 2.0, 3.0),  # 4 steps more take 2 s: 3 s of the first 5 are done once
        (2.0, 4.0, 2.0, 0.0),
        (2.0, 9.0, 2.0, 0.0),  # noise: the first 4 steps took no longer than they did
        (4.0, 4.0, 2.0, 2.0),  # noise: all is booked on the 8 steps
    ],
)
def test_a_network_is_tried_in_brief(
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    short: float,
    long: float,
    pace: float,
    once: float,
) -> None:
    """Seconds of 4 steps, and of what is done once, from fits of 4 and of 8 steps."""
    # a fit, three predictions, a fit; of fewer scans, what steps take in proportion
    spent(monkeypatch, short, 0.0, 0.0, 0.0, long, pace / 3, 2 * pace / 3)
    monkeypatch.setattr(costs_module, "_scoring", lambda *_: 0.0)
    plan = plan_of(store, "mlp", (32, 60))
    training = plan.families["mlp"].params.training
    assert training is not None
    found = estimate_costs(plan, open_store(store), {}, plan.cells)
    for planned in plan.cells:
        n = len(planned.train)
        share = training.scans_seen(n) / training.brief().scans_seen(48)
        assert found.of_cells[planned.key] == pytest.approx(pace * share + once * n / 48)


def test_a_step_costs_something_however_small_its_batch(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4 steps of 48 scans take 2 s and of 16 scans 1.2 s: 0.2 s a step, 6.25 ms a scan of it."""
    spent(monkeypatch, 2.0, 0.0, 0.0, 0.0, 4.0, 1.2, 2.4)
    monkeypatch.setattr(costs_module, "_scoring", lambda *_: 0.0)
    plan = plan_of(store, "mlp", (5, 60))
    training = plan.families["mlp"].params.training
    assert training is not None
    found = estimate_costs(plan, open_store(store), {}, plan.cells)
    for planned in plan.cells:
        n = len(planned.train)
        steps = 0.2 * training.epochs * training.steps_per_epoch(n)
        assert found.of_cells[planned.key] == pytest.approx(
            steps + 0.00625 * training.scans_seen(n)
        )


def test_what_is_over_quickly_is_timed_more_than_once(monkeypatch: pytest.MonkeyPatch) -> None:
    spent(monkeypatch, 0.01, 0.09, 0.02)
    assert costs_module._seconds(lambda: None) == pytest.approx(0.02)
    spent(monkeypatch, 5.0)
    assert costs_module._seconds(lambda: None) == 5.0


def test_the_looks_at_validation_are_counted(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the epochs predicts all validation scans; a brief fit looks at few of them once."""
    spent(monkeypatch, 1.5, 1.5, 1.5, 0.25, 0.5)  # the brief fits take their one look
    monkeypatch.setattr(costs_module, "_scoring", lambda *_: 0.0)
    plan = plan_of(store, "mlp", (32,))
    training = plan.families["mlp"].params.training
    assert training is not None
    found = estimate_costs(plan, open_store(store), {}, plan.cells)
    for planned in plan.cells:
        steps = 0.75 * training.scans_seen(len(planned.train)) / training.brief().scans_seen(48)
        seen = 52 + len(planned.train) + training.epochs * len(planned.val)
        assert found.of_cells[planned.key] == pytest.approx(1.5 / 16 * seen + steps)


def test_small_batches_are_tried_with_steps_of_two_numbers() -> None:
    """Where an epoch has more than the brief steps, twice as many are still more work."""
    training = TrainConfig(batch_size=4)
    steps = training.brief().steps_per_epoch(48)
    assert training.brief(2 * steps).scans_seen(48) == 2 * training.brief().scans_seen(48)


def drawn(place: Path) -> str:
    """Random filters that fit the store's small scans."""
    path = place / "random_features.yaml"
    path.write_text("family: random_features\nparams: {filters: 8, sizes: [3]}\n")
    return str(path)


@pytest.mark.parametrize(("family", "times"), [("filterbank", 1), ("random_features", 2)])
def test_features_are_paid_for_as_often_as_they_are_worked_out(
    store: Path, tmp_path: Path, family: str, times: int
) -> None:
    """Once a seed, and once for all seeds where no seed changes them."""
    file = family if times == 1 else drawn(tmp_path)
    config = StudyConfig(families=(family,), sizes=(10, 20), subsets=2, seeds=2)
    plan = make_plan(config, {family: load_family_config(file)}, open_store(store), {})
    found = estimate_costs(plan, open_store(store), {}, plan.cells)
    features = found.of_features[family]
    assert features > 0
    cells = sum(found.of_cells[planned.key] for planned in plan.cells)
    assert found.left(plan.cells) == pytest.approx(cells + times * features)
    ready = {found.features(planned) for planned in plan.cells}
    assert len(ready) == times
    assert found.left(plan.cells, ready) == pytest.approx(cells)


def test_a_family_without_features_pays_for_none(store: Path) -> None:
    plan = plan_of(store, "linear")
    found = estimate_costs(plan, open_store(store), {}, plan.cells)
    assert found.of_features == {"linear": 0.0}


def test_only_what_is_missing_is_tried(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = StudyConfig(families=("prior", "linear"), sizes=(10,), subsets=2)
    families = {name: load_family_config(name) for name in config.families}
    plan = make_plan(config, families, open_store(store), {})
    monkeypatch.setattr("pipeline.families.linear.Linear.fit", lambda *_: pytest.fail("was tried"))
    missing = [planned for planned in plan.cells if planned.cell.family == "prior"]
    found = estimate_costs(plan, open_store(store), {}, missing)
    assert found.of_cells.keys() == {planned.key for planned in missing}


def test_start_and_results_are_counted_as_well(store: Path) -> None:
    """Results take longer for more resamples, and for more cells."""
    few, many = (
        estimate_costs(plan, open_store(store), {}, plan.cells[:1]).results
        for plan in (
            make_plan(
                StudyConfig(families=("prior",), sizes=(10,), subsets=2, resamples=resamples),
                {"prior": load_family_config("prior")},
                open_store(store),
                {},
            )
            for resamples in (100, 20_000)
        )
    )
    assert 1 < few < many
    cost = StudyCost(cells=9, standing=0, families=(("prior", 2, 8.0), ("knn", 1, 4.0)), besides=5)
    assert [cost.on_the_clock(workers) for workers in (1, 2, 3, 16)] == [17, 11, 9, 9]


def test_a_family_that_cannot_be_tried_stops_nothing(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("a fault of the family")

    monkeypatch.setattr("pipeline.families.linear.Linear.fit", refuse)
    plan = plan_of(store, "linear")
    assert set(estimate_costs(plan, open_store(store), {}, plan.cells).of_cells.values()) == {0.0}


def test_a_family_that_refuses_the_scans_stops_nothing(store: Path) -> None:
    plan = plan_of(store, "random_features")  # whose filters are wider than these scans
    found = estimate_costs(plan, open_store(store), {}, plan.cells)
    assert found.left(plan.cells) == 0


def test_few_scans_of_every_class_are_tried(store: Path) -> None:
    samples = costs_module._Samples.read(plan_of(store, "linear"), open_store(store))
    assert np.bincount(samples.train.target).tolist() == [24, 24]
    assert np.bincount(samples.few.target).tolist() == [8, 8]
    assert (samples.predicted, samples.scans) == (52, 172)


def test_decompositions_grow_faster_than_their_scans() -> None:
    config = load_family_config("random_features")
    work = build_family(config, BINARY, (1, 28, 28), 0).work
    assert work(60) < 2 * work(30)  # what does not grow counts for most of it
    assert work(4000) > 4 * work(2000)


def test_work_counts_the_scans_that_steps_see() -> None:
    config = TrainConfig(epochs=10, min_steps=30, batch_size=16)
    assert config.scans_seen(8) == 30 * 8
    assert config.scans_seen(100) == 10 * 7 * 16
    assert config.brief().scans_seen(8) == 4 * 8
