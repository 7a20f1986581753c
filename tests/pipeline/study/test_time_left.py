"""What is said of the time that is left does not leap about."""

from __future__ import annotations

import numpy as np
import pytest
from toy_study import open_store, write_store

from pipeline.families import load_family_config
from pipeline.study.config import StudyConfig
from pipeline.study.costs import Costs
from pipeline.study.grid import Plan, make_plan
from pipeline.study.journal import CellResult
from pipeline.study.time_left import TimeLeft


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    store = write_store(tmp_path_factory.mktemp("left") / "store", patients=(60, 10, 16))
    config = StudyConfig(families=("prior",), sizes=(10, 20), subsets=2, seeds=2)
    return make_plan(config, {"prior": load_family_config("prior")}, open_store(store), {})


def begun(plan: Plan, seconds: list[float]) -> TimeLeft:
    """Of cells that are estimated to take so long, on one process, with 2 s for the report."""
    of_cells = {planned.key: each for planned, each in zip(plan.cells, seconds, strict=True)}
    return TimeLeft(Costs(of_cells, {}, plan.families, 3.0, 2.0), list(plan.cells), 1)


def took(seconds: float) -> CellResult:
    nothing = np.empty((0, 2))
    return CellResult(nothing, nothing, seconds={"fit": seconds})


def test_a_cheap_first_cell_that_takes_long_says_little_of_the_rest(plan: Plan) -> None:
    dear = [0.01] + [10.0] * (len(plan.cells) - 1)
    left = begun(plan, dear)
    before = left.seconds
    assert before == pytest.approx(3 + sum(dear) + 2)
    left.book(plan.cells[0], took(2.0))  # 200 times as long as it should
    assert left.seconds < 1.3 * before


def test_the_pace_is_learnt_as_the_work_is_done(plan: Plan) -> None:
    left = begun(plan, [10.0] * len(plan.cells))
    for planned in plan.cells[:-1]:
        left.book(planned, took(20.0))
    assert 0.8 * 20 + 2 < left.seconds <= 20 + 2
    left.book(plan.cells[-1], took(20.0))
    assert left.seconds == 2.0
