"""Targets that are reached beyond noise, on average or not."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_cells import cells, made

from pipeline.study.learning_curve import Replicates
from pipeline.study.reach import Reach, reaches


def looks(many: dict[str, Replicates], target: float) -> list[Reach]:
    return reaches(made(many), list(many), [40], [target], "auc", 0.95)


def test_many_looks_reach_a_target_by_chance_no_more_often_than_one() -> None:
    """Twelve families whose expected score is the target: one or more "beyond noise" in 5 %."""
    rng = np.random.default_rng(8)
    told = single = 0
    for _ in range(200):
        many = {f"f{n}": cells(rng, (6, 1)) for n in range(12)}
        many = {  # the test patients of each family are a draw of their own
            name: Replicates(one.values + 0.01 * rng.normal(), one.resampled)
            for name, one in many.items()
        }
        told += any(one.verdict == "beyond noise" for one in looks(many, 0.8))
        first = {"f0": many["f0"]}
        single += looks(first, 0.8)[0].verdict == "beyond noise"
    assert told / 200 <= 0.06
    assert single / 200 <= 0.06  # one side of a test at 5 %


def test_a_target_is_reached_surely_on_average_or_not() -> None:
    rng = np.random.default_rng(9)
    many = {name: cells(rng, (6, 1), mean) for name, mean in (("a", 0.9), ("b", 0.6))}
    nothing = Replicates(np.full((6, 1), np.nan), np.full((6, 1, 200), np.nan))
    found = looks(many | {"c": nothing}, 0.8)
    assert [(one.family, one.verdict) for one in found] == [("a", "beyond noise"), ("b", "not")]
    mean = many["a"].mean
    (barely,) = looks({"a": many["a"]}, mean)
    assert (barely.verdict, barely.gain) == ("on average", 0)


def test_a_loss_reaches_a_target_from_above() -> None:
    rng = np.random.default_rng(9)
    low = {"a": cells(rng, (6, 1), 0.2)}
    (found,) = reaches(made(low, "brier"), "a", [40], [0.3], "brier", 0.95)
    assert found.verdict == "beyond noise" and found.gain == pytest.approx(0.3 - low["a"].mean)


def test_few_test_patients_reach_nothing_beyond_noise() -> None:
    sure = {"a": cells(np.random.default_rng(9), (6, 1), 0.9)}
    (found,) = reaches(made(sure), "a", [40], [0.8], "auc", 0.95, few_patients=True)
    assert found.verdict == "on average"
