"""Foreign scans are flagged, others at the stated rate, and a damaged reference is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from looked_scans import Looked, looked, misread_axes, phantoms, seen
from sklearn.metrics import roc_auc_score

from pipeline.trust.shift_cloud import FARTHEST
from pipeline.trust.shift_fit import fit_shift_reference
from pipeline.trust.shift_reference import ShiftError, ShiftReference


def reference_of(train: Looked, held: Looked, false_alarms: float = 0.05) -> ShiftReference:
    return fit_shift_reference(*train, *held, false_alarms)


@cache
def made_up() -> ShiftReference:
    return reference_of(looked(120, 1), looked(60, 2))


@cache
def of_phantoms() -> ShiftReference:
    return reference_of(seen(phantoms(90)), seen(phantoms(39, 90)))


def test_false_alarms_come_at_the_stated_rate() -> None:
    train = looked(60, 1)
    held, new = looked(60 * 39, 2), looked(60 * 20, 3)
    flags = []
    for cohort in range(60):
        places = slice(39 * cohort, 39 * cohort + 39)
        reference = reference_of(train, (held[0][places], held[1][places]), 0.1)
        assert reference.rate == 0.1
        some = slice(20 * cohort, 20 * cohort + 20)
        flags += [score.flagged for score in reference.score(new[0][some], new[1][some])]
    # 1,200 scans in 60 groups that share a threshold: a standard deviation of about 1 %.
    assert 0.1 - 0.03 < np.mean(flags) <= 0.1 + 0.03


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"spacing": 2.0}, "metadata"),
        ({"bright": 400.0}, "histogram"),
    ],
)
def test_a_foreign_scan_is_flagged_from_the_side_that_differs(
    change: dict[str, float], part: str
) -> None:
    scores = made_up().score(*looked(20, 5, **change))
    assert all(score.flagged for score in scores)
    assert {score.raised_by for score in scores} == {part}


def test_foreign_features_and_words_are_flagged() -> None:
    looks, features = looked(10, 6)
    score = made_up().score(looks, features + 30)[0]
    assert score.flagged
    assert score.raised_by == "features"
    unknown = made_up().score([replace(looks[0], modality="CT", dtype="float64")], features[:1])[0]
    assert unknown.flagged
    assert unknown.raised_by == "metadata"


def test_a_wrong_orientation_in_the_header_is_flagged() -> None:
    new = phantoms(20, 130)
    right = of_phantoms().score(*seen(new))
    wrong = of_phantoms().score(*seen([misread_axes(volume) for volume in new]))
    both = [score.score for score in (*right, *wrong)]
    assert roc_auc_score(np.repeat([0, 1], 20), both) >= 0.95
    assert np.mean([score.flagged for score in wrong]) >= 0.8
    assert np.mean([score.flagged for score in right]) <= 0.2


def test_another_gain_is_flagged_though_the_recipe_takes_it_away() -> None:
    new = phantoms(8, 130)
    brighter = [replace(volume, array=3 * volume.array) for volume in new]
    scores = of_phantoms().score(*seen(brighter))
    assert all(score.flagged and score.raised_by == "histogram" for score in scores)
    plain = of_phantoms().score(*seen(new))
    for one, other in zip(scores, plain, strict=True):
        assert one.parts["pixels"] == pytest.approx(other.parts["pixels"], abs=0.01)


def test_a_row_does_not_depend_on_the_others() -> None:
    looks, features = looked(7, 8)
    together = made_up().score(looks, features)
    for n, score in enumerate(together):
        alone = made_up().score([looks[n]], features[n : n + 1])[0]
        assert alone.p_value == score.p_value
        assert alone.score == pytest.approx(score.score, rel=1e-6)
    assert made_up().score([], features[:0]) == []


def steps_outside(pool: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Each column in steps of 1.2816ths of its 0.9 quantile less its median, of 0.25 at least."""
    wide = pool.astype(np.float64)
    middle = np.median(wide, axis=0)
    upper = np.quantile(wide, 0.9, axis=0, method="lower")
    return (distances.astype(np.float64) - middle) / np.maximum((upper - middle) / 1.2816, 0.25)


@pytest.mark.parametrize("n_held", [4, 9, 20, 41, 60])
@pytest.mark.parametrize("decimals", [None, 1])
def test_a_scan_is_measured_in_the_pool_that_it_joins(n_held: int, decimals: int | None) -> None:
    """By the definition, each scan's pool sorted anew; also where distances are equal."""
    looks, features = looked(70, 9)
    reference = reference_of(looked(40, 1), looked(n_held, 2))
    held, distances = reference.held, reference.spaces.distances(looks, features + 1)
    if decimals is not None:
        held, distances = held.round(decimals), distances.round(decimals)
    reference = replace(reference, held=held)
    for score, row in zip(reference._scored(distances), distances, strict=True):
        pool = np.vstack([held, row])
        greatest = steps_outside(pool, pool).max(axis=1)
        assert score.p_value == np.mean(greatest >= greatest[-1])
        assert score.score == steps_outside(held, row).max()


@settings(deadline=None, max_examples=25)
@given(st.floats(0, 50), st.floats(0, 50))
def test_the_further_out_the_higher_the_score_and_the_lower_the_p_value(a: float, b: float) -> None:
    looks, features = looked(1, 9)
    near, far = sorted((a, b))
    first, second = (made_up().score(looks, features + step + 10)[0] for step in (near, far))
    assert second.parts["features"] >= first.parts["features"] - 1e-6
    assert second.p_value <= first.p_value
    assert 1 / 61 <= second.p_value <= 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_features_without_end_are_as_foreign_as_can_be(bad: float) -> None:
    looks, features = looked(1, 9)
    score = made_up().score(looks, np.full_like(features, bad))[0]
    assert score.flagged
    assert np.isfinite(score.score)
    assert score.score <= FARTHEST / 0.25


def test_few_held_out_scans_are_told_not_hidden() -> None:
    few = reference_of(looked(40, 1), looked(9, 2))
    assert few.rate == pytest.approx(0.1)
    assert any("needs 19 held-out scans; there are 9" in note for note in few.notes)
    assert few.score(*looked(1, 5, bright=400.0))[0].flagged
    low, high = few.rate_interval
    assert low < 0.1 < high
    enough = reference_of(looked(40, 1), looked(19, 2))
    assert enough.rate == 0.05
    assert len(enough.notes) == 1


def test_a_model_that_looks_at_nothing_has_no_features() -> None:
    (train, _), (held, _), (new, _) = looked(40, 1), looked(20, 2), looked(3, 3)
    nothing = [np.zeros((len(looks), 0), np.float32) for looks in (train, held, new)]
    reference = fit_shift_reference(train, nothing[0], held, nothing[1])
    assert reference.parts == ("metadata", "histogram", "pixels")
    assert set(reference.score(new, nothing[2])[0].parts) == set(reference.parts)
    again = ShiftReference.from_state(reference.facts, reference.state())
    assert again.parts == reference.parts


def test_scans_that_are_all_alike_have_no_steps_of_rounding() -> None:
    look, features = (made[0] for made in looked(1))
    reference = fit_shift_reference(
        [look] * 30, np.tile(features, (30, 1)), [look] * 20, np.tile(features, (20, 1))
    )
    jittered = replace(look, raw=look.raw * (1 + 1e-7))
    scores = reference.score([look, jittered], np.tile(features, (2, 1)))
    assert not any(score.flagged for score in scores[:1])
    assert scores[1].score < 0.1


def test_scans_of_another_kind_are_refused() -> None:
    looks, features = looked(2, 5)
    for wrong in (features[:1], features[:, :5]):
        with pytest.raises(ShiftError, match="features") as caught:
            made_up().score(looks, wrong)
        assert caught.value.code == "shift.other_scans"
    volumetric, _ = seen(phantoms(2))
    with pytest.raises(ShiftError, match="axes"):
        made_up().coordinates(volumetric, features)


def test_the_state_becomes_the_same_object_and_is_small() -> None:
    for reference, new in ((made_up(), looked(9, 4)), (of_phantoms(), seen(phantoms(4, 130)))):
        facts = type(reference.facts).model_validate_json(reference.facts.model_dump_json())
        state = {name: array.copy() for name, array in reference.state().items()}
        again = ShiftReference.from_state(facts, state)
        assert again.score(*new) == reference.score(*new)
        assert again.notes == reference.notes
        for name, array in again.state().items():
            assert np.array_equal(array, state[name])
            assert array.flags.c_contiguous
        assert sum(array.nbytes for array in state.values()) < 350_000


def test_the_largest_state_is_below_350_kilobytes() -> None:
    looks, _ = looked(800, 1)
    small = np.random.default_rng(0).normal(size=(800, 648)).astype(np.float32)
    wide = [replace(look, small=row) for look, row in zip(looks, small, strict=True)]
    features = np.random.default_rng(1).normal(size=(800, 3000)).astype(np.float32)
    reference = fit_shift_reference(wide[:400], features[:400], wide[400:], features[400:])
    assert sum(array.nbytes for array in reference.state().values()) < 350_000


def damaged(state: dict[str, Any], fault: str, name: str) -> dict[str, Any]:
    array = state[name]
    match fault:
        case "missing":
            return {key: value for key, value in state.items() if key != name}
        case "extra":
            return state | {"surplus": array}
        case "shape":
            return state | {name: array[:-1]}
        case "dtype":
            return state | {name: array.astype(np.float64)}
        case "axes":
            return state | {name: array[None]}
        case _:
            broken = array.copy()
            broken.flat[0] = np.nan if fault == "nan" else -1
            return state | {name: broken}


@pytest.mark.parametrize("fault", ["missing", "extra", "shape", "dtype", "axes", "nan"])
@pytest.mark.parametrize("name", sorted(made_up().state()))
def test_a_damaged_state_is_refused(fault: str, name: str) -> None:
    with pytest.raises(ShiftError) as caught:
        ShiftReference.from_state(made_up().facts, damaged(made_up().state(), fault, name))
    assert caught.value.code == "shift.bad_state"


@pytest.mark.parametrize("name", ["pixels.scale", "features.variances"])
def test_a_scale_that_is_not_positive_is_refused(name: str) -> None:
    with pytest.raises(ShiftError, match="not above 0"):
        ShiftReference.from_state(made_up().facts, damaged(made_up().state(), "negative", name))


def test_facts_of_other_scans_are_refused() -> None:
    for change in ({"spatial_ndim": 3}, {"held_out": 61}, {"features": 0}, {"small": 15}):
        facts = made_up().facts.model_copy(update=change)
        with pytest.raises(ShiftError) as caught:
            ShiftReference.from_state(facts, made_up().state())
        assert caught.value.code == "shift.bad_state"
