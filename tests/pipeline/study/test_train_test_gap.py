"""What a family has learnt by heart: training score less test score, with its interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.study.learning_curve import Curves, Draws, Replicates, Where, curves
from pipeline.study.train_test_gap import gaps, on_training_scans

RESAMPLES = 200


def study(
    train: np.ndarray, test: np.ndarray, metric: str, noise: float = 0.02
) -> tuple[Curves, Draws]:
    """Curves of one family at 10 patients, from (D, S) scores."""
    draws = Draws.of(*train.shape, RESAMPLES, 0)
    rng = np.random.default_rng(1)
    patients = rng.normal(0, noise, RESAMPLES)
    found = {
        Where("toy", 10, "train", metric): on_training_scans(train, RESAMPLES),
        Where("toy", 10, "test", metric): Replicates(test, test[..., None] + patients),
    }
    return curves(found, draws, 0.95), draws


@settings(deadline=None, max_examples=40)
@given(
    metric=st.sampled_from(["auc", "brier"]),
    subsets=st.integers(1, 4),
    seeds=st.integers(1, 3),
    shift=st.floats(-0.2, 0.2),
)
def test_the_gap_is_the_mean_of_paired_differences(
    metric: str, subsets: int, seeds: int, shift: float
) -> None:
    rng = np.random.default_rng([subsets, seeds])
    test = rng.uniform(0.3, 0.7, (subsets, seeds))
    train = test + shift
    found, draws = study(train, test, metric)
    (gap,) = gaps(found, ["toy"], [10], metric, draws, 0.95)
    sign = 1 if metric == "auc" else -1

    assert gap.value == pytest.approx(sign * shift)
    assert gap.low < gap.value + 1e-9 and gap.value - 1e-9 < gap.high
    # Each cell has the same gap, so that neither subsets nor seeds widen it: test patients do.
    assert gap.high - gap.low == pytest.approx(4 * 0.02, rel=0.3)


def test_a_training_score_of_one_subset_has_no_interval() -> None:
    one = np.array([[0.9, 0.8]])
    found, draws = study(one, one - 0.1, "auc")
    point = found.points[Where("toy", 10, "train", "auc")]
    assert point.mean == pytest.approx(0.85)
    assert np.isnan(point.low) and np.isnan(point.high)
    (gap,) = gaps(found, ["toy"], [10], "auc", draws, 0.95)
    assert gap.low < gap.value < gap.high


def test_subsets_widen_a_training_scores_interval() -> None:
    train = np.array([[0.9], [0.7], [0.8]])
    found, _ = study(train, train, "auc")
    point = found.points[Where("toy", 10, "train", "auc")]
    assert point.low < point.mean < point.high


def test_cells_that_failed_leave_the_gap_to_the_others() -> None:
    train = np.array([[0.9, np.nan], [0.8, 0.8]])
    found, draws = study(train, train - 0.2, "auc")
    (gap,) = gaps(found, ["toy"], [10], "auc", draws, 0.95)
    assert gap.value == pytest.approx(0.2)

    nothing = np.full((2, 2), np.nan)
    found, draws = study(nothing, nothing, "auc")
    (gap,) = gaps(found, ["toy"], [10], "auc", draws, 0.95)
    assert np.isnan([gap.value, gap.low, gap.high]).all()
