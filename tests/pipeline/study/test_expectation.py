"""What a claim expects, held against outcomes whose numbers are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from data_prep.config import read_config
from data_prep.errors import ConfigError
from pipeline.study.claim import Expectation, Expected, Ranking
from pipeline.study.components import Measured
from pipeline.study.config import StudyConfig
from pipeline.study.errors import StudyError
from pipeline.study.expectation import StudyOutcome, judge
from pipeline.study.learning_curve import Draws, Replicates, Where, curves

SHAPE = (1, 3, 200)  # subsets, seeds, resamples


def outcome(scores: dict[str, float], spread: float = 0.01, **place: Any) -> StudyOutcome:
    """A study of three seeds whose families score so, all off by the same on each resample."""
    rng = np.random.default_rng(0)
    patients = spread * rng.standard_normal(SHAPE[-1])
    seeds = spread / 10 * np.array([[-1.0, 0.0, 1.0]])
    where = {"size": 40, "split": "test", "metric": "auc"} | place
    replicates = {
        Where(family, **where): Replicates(score + seeds, (score + seeds)[..., None] + patients)
        for family, score in scores.items()
    }
    draws = Draws.of(*SHAPE, seed=0)
    config = StudyConfig.model_validate({"families": list(scores), "sizes": [40], "seeds": 3})
    return StudyOutcome(config, (40,), curves(replicates, draws, 0.95))


def expectation(**fields: Any) -> Expectation:
    return Expectation.model_validate(fields)


KNOWN = {"mlp": 0.80, "linear": 0.70, "knn": 0.795}


@pytest.mark.parametrize(
    ("fields", "holds"),
    [
        ({"value": "mlp", "is": "above", "of": "linear"}, True),
        ({"value": "mlp", "is": "above", "of": "linear", "by": 0.09}, True),
        ({"value": "mlp", "is": "above", "of": "linear", "by": 0.11}, False),
        ({"value": "linear", "is": "above", "of": "mlp"}, False),
        ({"value": "linear", "is": "below", "of": "mlp", "by": 0.09}, True),
        ({"value": "mlp", "is": "below", "of": "linear"}, False),
        ({"value": "mlp", "is": "near", "of": "knn", "within": 0.01}, True),
        ({"value": "mlp", "is": "near", "of": "linear", "within": 0.05}, False),
        ({"value": "mlp", "is": "above", "of": 0.7, "by": 0.05}, True),
        ({"value": "mlp", "is": "above", "of": 0.79}, False),  # within noise of the number
        ({"value": "mlp", "is": "near", "of": 0.8, "within": 0.05}, True),
        ({"value": "mlp", "is": "near", "of": 0.8, "within": 0.005}, False),  # too wide
    ],
)
def test_an_expectation_holds_where_its_interval_bears_it_out(
    fields: dict[str, Any], holds: bool
) -> None:
    found = judge(expectation(**fields), {"a": outcome(KNOWN)})
    assert found.holds is holds, found
    assert found.low <= found.difference <= found.high
    assert found.why


def test_families_are_compared_on_the_same_patients() -> None:
    """Noise that both share is in neither's favour: alone neither is told from 0.79."""
    small = {"value": "mlp", "is": "above", "of": "knn"}
    assert judge(expectation(**small), {"a": outcome(KNOWN, spread=0.05)}).holds


def test_what_is_quick_asks_for_the_direction_only() -> None:
    noisy = {"a": outcome(KNOWN, spread=0.2)}
    above = expectation(value="mlp", **{"is": "above"}, of=0.79)
    assert not judge(above, noisy).holds
    assert judge(above, noisy, significant=False).holds
    wide = expectation(value="mlp", **{"is": "above"}, of="linear", by=0.12)
    assert not judge(wide, noisy, significant=False).holds
    assert judge(wide, noisy, significant=False, slack=0.03).holds
    wrong = expectation(value="linear", **{"is": "above"}, of="mlp", by=0.02)
    assert not judge(wrong, noisy, significant=False, slack=0.5).holds
    near = expectation(value="mlp", **{"is": "near"}, of="linear", within=0.08)
    assert not judge(near, noisy, significant=False).holds
    assert judge(near, noisy, significant=False, slack=0.03).holds


UNTRAINED = {f"random_{n}": 0.6 + 0.05 * n for n in range(6)}
RANKS = {f"random_{n}": f"trained_{n}" for n in range(6)}


@pytest.mark.parametrize(
    ("order", "by", "rho", "holds"),
    [
        ((0, 1, 2, 3, 4, 5), 0.9, 1.0, True),
        ((1, 0, 2, 3, 4, 5), 0.9, 33 / 35, True),
        ((1, 0, 2, 3, 5, 4), 0.9, 31 / 35, False),  # too little
        ((2, 0, 1, 5, 3, 4), 0.3, 23 / 35, False),  # chance does as well in one order of ten
        ((5, 4, 3, 2, 1, 0), -1.0, -1.0, False),
    ],
)
def test_ranks_hold_where_chance_would_hardly_order_families_so(
    order: tuple[int, ...], by: float, rho: float, holds: bool
) -> None:
    trained = {f"trained_{n}": 0.7 + 0.04 * rank for n, rank in enumerate(order)}
    found = judge(Ranking(ranks=RANKS, by=by), {"a": outcome(UNTRAINED | trained)})
    assert found.difference == pytest.approx(rho)
    assert found.holds is holds, found
    assert found.low <= found.difference <= found.high


def test_small_ranks_need_no_permutation_test_and_equal_scores_have_none() -> None:
    trained = {f"trained_{n}": 0.7 + 0.04 * rank for n, rank in enumerate((2, 0, 1, 5, 3, 4))}
    ranking = Ranking(ranks=RANKS, by=0.7)
    known = {"a": outcome(UNTRAINED | trained)}
    assert judge(ranking, known, slack=0.1, significant=False).holds
    assert not judge(ranking, known, significant=False).holds
    equal = dict.fromkeys(trained, 0.7)
    assert not judge(ranking, {"a": outcome(UNTRAINED | equal)}, significant=False).holds


def test_a_ranking_looks_at_both_scores_of_each_family_and_says_so() -> None:
    ranking = Ranking(ranks=RANKS, cohort="lecture/presence", by=0.5)
    assert [one.family for one in ranking.quantities] == [*RANKS, *RANKS.values()]
    assert {one.cohort for one in ranking.quantities} == {"lecture/presence"}
    assert str(ranking) == (
        "random_0 to random_5 on presence rank as trained_0 to trained_5, with a correlation of "
        "0.5 or more"
    )
    both = TypeAdapter(tuple[Expected, ...]).validate_python(
        [{"ranks": RANKS}, {"value": "mlp", "is": "above", "of": 0.5}, ranking]
    )
    assert [type(one) for one in both] == [Ranking, Expectation, Ranking]


def test_an_undefined_number_holds_nothing() -> None:
    broken = outcome(KNOWN | {"mlp": np.nan})
    found = judge(expectation(value="mlp", **{"is": "near"}, of="knn"), {"a": broken})
    assert not found.holds
    assert "undefined" in found.why
    assert found.no_interval == found.why


def test_numbers_of_several_cohorts_sizes_conditions_and_probes_are_found() -> None:
    fields = {
        "value": {"family": "mlp", "cohort": "b", "under": "shift 4 px", "metric": "brier"},
        "is": "below",
        "of": {"family": "mlp", "cohort": "b", "measured": "equivariance/border"},
    }
    first = outcome(KNOWN)
    shifted = outcome({"mlp": 0.1}, split="test/shift 4 px", metric="brier")
    probed = outcome({"mlp": 0.4}, split="measured", metric="equivariance/border")
    both = {
        name: {**getattr(shifted.curves, name), **getattr(probed.curves, name)}
        for name in ("points", "drawn", "replicates")
    }
    second = StudyOutcome(first.config, (40,), type(first.curves)(**both))
    found = judge(expectation(**fields), {"a": first, "b": second})
    assert found.holds
    assert (found.value, found.of) == pytest.approx((0.1, 0.4))
    assert found.expectation == (
        "mlp on b under shift 4 px (brier) is below mlp on b (equivariance: border)"
    )


def test_whether_a_network_is_trained_out_is_said_of_its_own_scans() -> None:
    known = outcome({"mlp": 0.02}, split="train", metric="log_loss")
    fitted = {"family": "mlp", "scans": "train", "metric": "log_loss"}
    found = judge(expectation(value=fitted, **{"is": "below"}, of=0.1), {"a": known})
    assert found.holds
    assert found.value == pytest.approx(0.02)
    assert found.expectation == "mlp (log_loss) on its training scans is below 0.1"


def test_how_well_cells_fit_their_own_scans_needs_no_interval() -> None:
    """One subset has none on training scans; on test scans, or beside them, it is asked for."""
    place = {"metric": "log_loss"}
    train, test = (outcome({"mlp": 0.02}, split=one, **place) for one in ("train", "test"))
    nothing = np.full(SHAPE[-1], np.nan)
    unknown = replace(
        train, curves=replace(train.curves, drawn=dict.fromkeys(train.curves.drawn, nothing))
    )
    fitted, other = ({"family": "mlp", "scans": one, **place} for one in ("train", "test"))
    below = {"is": "below", "of": 0.1}
    found = judge(expectation(value=fitted, **below), {"a": unknown})
    assert (found.holds, found.why) == (True, "it lies on that side")
    assert np.isnan(found.low)
    assert "on training scans, of one subset" in found.no_interval
    assert not judge(expectation(value=fitted, **below | {"of": 0.01}), {"a": unknown}).holds
    both = {"a": unknown, "b": test}
    gap = expectation(value=fitted, **{"is": "near"}, of=other | {"cohort": "b"})
    assert "no interval: the score is on training scans, of one subset" in judge(gap, both).why


def test_an_interval_keeps_to_what_the_numbers_can_be() -> None:
    place = {"split": "measured", "metric": "adversarial/pgd accuracy at 0.02"}
    probed = outcome({"mlp": 0.02, "cnn": 0.97}, spread=0.2, **place)
    assert all(0 <= one.low <= one.high <= 1 for one in probed.curves.points.values())
    asked = {"family": "mlp", "measured": place["metric"]}
    found = judge(expectation(value=asked, **{"is": "below"}, of=0.5), {"a": probed})
    assert found.low == pytest.approx(-0.5)
    assert found.high < 0.5


def test_a_number_that_did_not_come_out_is_an_error_that_says_what_did() -> None:
    known = {"a": outcome(KNOWN)}
    for fields, there in (({"metric": "brier"}, "auc"), ({"term": "bias2"}, "nothing of the kind")):
        asked = expectation(value={"family": "mlp", **fields}, **{"is": "above"}, of=0.5)
        with pytest.raises(StudyError, match=f"there is {there}") as caught:
            judge(asked, known)
        assert caught.value.code == "study.no_such_number"


def test_a_term_of_the_loss_is_a_number_like_any_other() -> None:
    first = outcome(KNOWN)
    drawn = np.linspace(0.1, 0.2, SHAPE[-1])
    terms = {
        ("mlp", 40): {"bias2": Measured(0.15, drawn), "variance": Measured(0.1, drawn * np.nan)},
        ("knn", 40): {"bias2": Measured(0.05, drawn - 0.1), "variance": Measured(0.02, drawn)},
    }
    both = {"a": StudyOutcome(first.config, (40,), first.curves, terms)}

    def less(term: str) -> Expectation:
        value, of = ({"family": name, "term": term} for name in ("mlp", "knn"))
        return expectation(value=value, **{"is": "above"}, of=of, by=0.05)

    found = judge(less("bias2"), both)
    assert found.holds
    assert (found.difference, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found.expectation == "mlp (bias2) is above knn (bias2) by 0.05 or more"
    without = judge(less("variance"), both)
    assert not without.holds
    assert "too few subsets" in without.why
    assert judge(less("variance"), both, significant=False).holds


CLAIM = """
families: [mlp, linear]
sizes: [20]
conditions: [{kind: shift, amount: 4}]
claim:
  number: 1
  title: t
  says: s
  source: s
  practice: p
  limits: l
  flip: {says: f, permute: {mlp: 1}}
  cohorts: [phantom2d]
  expect: [%s]
"""


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        ("{value: mpl, is: above, of: linear}", "'mpl' has family 'mpl'.*mean 'mlp'"),
        ("{value: {family: mlp, under: shift 3 px}, is: above, of: 1}", "mean 'shift 4 px'"),
        ("{value: {family: mlp, size: 30}, is: above, of: 1}", "size '30'.*it has all, 20"),
        ("{value: {family: mlp, size: 20}, is: above, of: 1}", "quick.size '20'.*it has all"),
        ("{value: {family: mlp, cohort: other}, is: above, of: 1}", "it has phantom2d"),
        ("{value: {family: mlp, metric: acu}, is: above, of: 1}", "allowed: auc"),
        ("{value: {family: mlp, term: bias}, is: above, of: 1}", "'noise', 'bias2'"),
        ("{value: {family: mlp, term: bias2, metric: auc}, is: above, of: 1}", "give one of"),
        ("{value: {family: mlp, scans: train, term: bias2}, is: above, of: 1}", "there is a score"),
        ("{value: mlp, is: over, of: linear}", "'above', 'below' or 'near'"),
        ("{value: mlp, is: near, of: linear, wihtin: 1}", "did you mean 'within'"),
    ],
)
def test_a_claim_about_what_the_study_has_not_is_refused(
    tmp_path: Path, expect: str, said: str
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(CLAIM % expect)
    with pytest.raises(ConfigError, match=said):
        read_config(path, StudyConfig)


def test_a_claim_survives_its_own_json(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(CLAIM % "{value: mlp, is: near, of: {family: linear}, within: 0.1}")
    config = read_config(path, StudyConfig)
    assert StudyConfig.model_validate(config.model_dump(mode="json")) == config
