"""Test scans under conditions: a split of its own in everything that a study says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_study import open_store, write_store

from data_prep.errors import ConfigError
from data_prep.intensity_rules import ZScore, rescale
from pipeline.families import build_family
from pipeline.study.cell import Splits, arithmetic
from pipeline.study.condition import Condition, under
from pipeline.study.config import StudyConfig
from pipeline.study.findings import find
from pipeline.study.grid import make_plan
from pipeline.study.journal import CELLS, Journal
from pipeline.study.learning_curve import Where
from pipeline.study.plan import open_plan, read_families
from pipeline.study.report import write_report
from pipeline.study.report.conditions import condition_section, measured_section
from pipeline.study.results import read_results
from pipeline.study.run import run_study
from pipeline.tracking.study_runs import read_study

CONDITIONS = [{"kind": "bias", "amount": 0.0}, {"kind": "shift", "amount": 2, "axes": [0, 1]}]
SAME, MOVED = "test/bias 0 of the range", "test/shift 2 px axis 0, 1"
RANDOM = {
    "name": "features",
    "like": "random_features",
    "params": {"filters": 8, "sizes": [3], "pyramid": [1]},
}


def study(conditions: list[dict[str, Any]] = CONDITIONS) -> StudyConfig:
    """Two families, one of which prepares its scans."""
    return StudyConfig.model_validate(
        {
            "families": ["linear", RANDOM],
            "sizes": ["all"],
            "subsets": 1,
            "resamples": 100,
            "conditions": conditions,
        }
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with conditions, run in a process of its own; its store lies beside it."""
    folder = tmp_path_factory.mktemp("conditions")
    write_store(folder / "store")
    run_study(study(), folder / "store", folder / "study")
    return folder


def test_each_condition_has_a_point_of_the_curve(finished: Path) -> None:
    plan, store = open_plan(study(), finished / "store")
    journal = Journal(finished / "study" / CELLS)
    entries = [entry for cell in plan.cells if (entry := journal.read(cell.key))]
    points = find(plan, store, journal, entries, lambda done, total: None).curves.points

    for family in ("linear", "features"):
        test, same, moved = (
            points[Where(family, 24, split, "brier")] for split in ("test", SAME, MOVED)
        )
        assert (same.mean, same.low, same.high) == (test.mean, test.low, test.high)
        assert moved.mean != test.mean


def test_what_is_journaled_is_the_familys_answer_to_shifted_scans(finished: Path) -> None:
    plan, store = open_plan(study(), finished / "store")
    journal = Journal(finished / "study" / CELLS)
    shift = Condition.model_validate(CONDITIONS[1])
    for planned in plan.cells:
        entry = journal.read(planned.key)
        assert entry is not None
        raw = Splits.load(store, [shift])
        family = build_family(plan.families[planned.cell.family], store.task, (1, 4, 4), 0)
        seen = raw.prepared_by(family, 1)
        family.fit(seen.train, seen.val)
        expected = family.predict_proba(seen.shifted[MOVED].x)
        np.testing.assert_array_equal(journal.by_split(entry)[MOVED], expected)


def test_mlflow_gets_a_curve_of_each_condition(finished: Path) -> None:
    _, run = read_study(finished / "study")
    names = {point.name for point in run.children[0].metrics}
    assert {"test_auc", "test/shift 2 px axis 0 1_auc"} <= names


def test_conditions_decide_a_cells_key_and_their_absence_does_not(tmp_path: Path) -> None:
    store = open_store(write_store(tmp_path / "store"))

    def keys(conditions: list[dict[str, Any]]) -> set[str]:
        config = study(conditions)
        families = read_families(config.families)
        return {cell.key for cell in make_plan(config, families, store, arithmetic(1)).cells}

    assert not keys(CONDITIONS) & keys([])
    assert keys(CONDITIONS) == keys(list(CONDITIONS))


def test_a_rule_that_looks_at_one_scan_takes_gain_and_offset_back() -> None:
    rng = np.random.default_rng(0)
    raw = rng.gamma(2.0, 100.0, size=(5, 1, 6, 7)).astype(np.float32)
    scaled = np.stack([rescale(ZScore(), scan, ()) for scan in raw])
    for kind, amount in (("gain", 3.0), ("bias", 0.4)):
        shift = {"kind": kind, "amount": amount}
        shifted, restored = (
            under(scaled, Condition.model_validate(shift | more))
            for more in ({}, {"then": {"kind": "z_score"}})
        )
        assert np.abs(shifted - scaled).max() > 0.1
        np.testing.assert_allclose(restored, scaled, atol=1e-5)
    assert Condition(kind="gain", amount=2, then=ZScore()).split == "test/gain 2x, then z_score"


def test_a_rule_that_is_fitted_is_no_condition() -> None:
    with pytest.raises(ValueError, match="training_z_score is fitted on training scans"):
        Condition.model_validate(
            {"kind": "gain", "amount": 2, "then": {"kind": "training_z_score"}}
        )


def test_an_axis_that_scans_do_not_have_is_refused(tmp_path: Path) -> None:
    write_store(tmp_path / "store")
    with pytest.raises(ConfigError, match="the scans have 2 axes"):
        run_study(
            study([{"kind": "shift", "amount": 1, "axes": [2]}]),
            tmp_path / "store",
            tmp_path / "study",
        )


def test_a_condition_that_shows_nothing_is_refused(tmp_path: Path) -> None:
    write_store(tmp_path / "store")
    with pytest.raises(ConfigError, match="moved out of the picture") as found:
        run_study(study([{"kind": "shift", "amount": 4}]), tmp_path / "store", tmp_path / "study")
    assert found.value.code == "shift.out_of_scan"


def test_the_report_has_the_scores_under_each_condition(finished: Path) -> None:
    results = read_results(finished / "study")
    section = condition_section(results)
    assert section is not None
    (table,) = section.tables
    assert table.header == ("Family", "As they are", "bias 0 of the range", "shift 2 px axis 0, 1")
    assert [row[0][0] for row in table.rows] == ["linear", "features"]
    points = {
        (p["family"], p["split"]): f"{p['mean']:.3f}"
        for p in results["points"]
        if p["metric"] == "auc"
    }
    for family, as_is, same, moved in table.rows:
        assert as_is == same
        assert moved[0] == points[family[0], MOVED]
    page = write_report(finished / "study").read_text()
    assert section.title in page and "What do the networks do?" not in page


def test_a_study_without_conditions_or_probes_says_nothing_of_them(finished: Path) -> None:
    results = read_results(finished / "study")
    plain = {**results, "points": [p for p in results["points"] if p["split"] == "test"]}
    assert condition_section(plain) is None
    assert measured_section(plain) is None


def test_what_probes_measured_is_a_table(finished: Path) -> None:
    """Of any magnitude; of one fit there is no interval."""
    results = read_results(finished / "study")
    row = {"family": "linear", "size": 24, "split": "measured", "low": 20.0, "high": 30.0}
    points = [
        {**row, "metric": "radius", "mean": 25.55, "cells": 4},
        {**row, "metric": "share", "mean": 0.000123, "cells": 1},
        {**row, "metric": "none", "mean": None, "cells": 0, "low": None, "high": None},
        {**row, "metric": "early", "mean": 1.0, "cells": 4, "size": 6},
    ]
    section = measured_section({**results, "points": points})
    assert section is not None
    assert [row[1:] for row in section.tables[0].rows] == [
        (("radius", ""), ("25.6", "[20, 30]"), ("4", "")),
        (("share", ""), ("0.000123", ""), ("1", "")),
        (("none", ""), ("–", ""), ("0", "")),
    ]
