"""Comparisons, selection and the words for them, on curves made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pytest

from data_prep.task import Task
from pipeline.study.comparison import differences, trends
from pipeline.study.config import StudyConfig
from pipeline.study.grid import Cell
from pipeline.study.learning_curve import Curves, Draws, Replicates, Where, curves
from pipeline.study.reach import reaches
from pipeline.study.selection import Choice, ScoredCell, choose, choose_by_each
from pipeline.study.summary import caveats, few_patients, headline
from pipeline.wording import listed

SIZES = (20, 40, 80)
DRAWS = Draws.of(1, 1, 1000, 0)


def made(
    means: Mapping[str, Mapping[int, float]], *, metric: str = "auc", noise: float = 0.01
) -> Curves:
    """Curves with these means on val and test; families and sizes share no noise."""
    rng = np.random.default_rng(0)
    places = {}
    for family, by_size in means.items():
        for size, mean in by_size.items():
            for split in ("val", "test"):
                drawn = mean + noise * rng.normal(size=(1, 1, 1000))
                replicates = Replicates(np.array([[mean]]), drawn)
                places[Where(family, size, split, metric)] = replicates
    return curves(places, DRAWS, 0.95)


def config(families: tuple[str, ...] = ("linear", "forest"), **fields: Any) -> StudyConfig:
    return StudyConfig.model_validate({"families": families, "sizes": SIZES, **fields})


def scored(family: str, subset: int, seed: int, val: float, size: int = 80) -> ScoredCell:
    cell = Cell(family, size, subset, seed)
    scores = {"auc": val, "brier": val}
    return ScoredCell(cell, f"{family}-{subset}-{seed}", {"auc": 0.9}, scores, {"auc": 0.5})


def told(
    found: Curves, *, few_patients: bool = False, choice: Choice | None = None, **fields: Any
) -> list[str]:
    settings = config(**fields)
    families = settings.families
    metric = settings.metric
    few = {"few_patients": few_patients}
    pairs = differences(found, families, SIZES, metric, 0.95, **few)
    steps = trends(found, families, SIZES, metric, 0.95, DRAWS, **few)
    reached = reaches(found, families, SIZES, settings.targets, metric, 0.95, **few)
    return headline(settings, families, SIZES, found, pairs, steps, reached, choice)


CROSSING = {
    "linear": {20: 0.80, 40: 0.82, 80: 0.83},
    "forest": {20: 0.70, 40: 0.82, 80: 0.93},
}


@pytest.mark.parametrize("kind", ["binary", "multi-label"])
def test_a_handful_of_test_patients_is_said_first(kind: Literal["binary", "multi-label"]) -> None:
    task = Task(kind=kind, class_names=("ill", "well"))
    patients = np.array([f"P{n // 2}" for n in range(60)])  # two scans each
    ill = np.arange(60) < 18
    target = (~ill).astype(np.int64) if kind == "binary" else np.stack([ill, ~ill], 1).astype(int)
    (sentence,) = few_patients(task, target, patients)
    assert "has 30 patients, 9 of them with" in sentence
    assert (
        "no difference between families or sizes, or from a target, is called settled" in sentence
    )
    assert "'ill'" in sentence
    enough = np.arange(60) % 4 < 2
    target = enough.astype(np.int64) if kind == "binary" else np.stack([enough, ~enough], 1)
    assert not list(few_patients(task, target.astype(np.int64), patients))


def test_crossing_curves_are_told_by_size() -> None:
    sentences = told(made(CROSSING))

    assert sentences[0].startswith("At 80 patients forest is best: test AUC 0.93 [0.91, 0.95]")
    crossing = next(s for s in sentences if s.startswith("linear beats forest"))
    assert "linear beats forest at 20 patients (AUC +0.100 [" in crossing
    assert "; within noise at 40 patients; " in crossing
    assert "forest beats linear at 80 patients (AUC +0.100 [" in crossing


def test_where_no_difference_is_settled_no_sentence_settles_one() -> None:
    """The page says first that test patients are too few; what follows must not know better."""
    sure = told(made(CROSSING, noise=0.001), targets=(0.7,))
    few = told(made(CROSSING, noise=0.001), targets=(0.7,), few_patients=True)
    claims = ("is best", "beats", "beyond noise at", "rising", "falling", "within noise of")
    assert all(any(claim in s for s in sure) for claim in ("is best", "beats", "rising"))
    assert not any(claim in s for s in few for claim in claims)
    assert few[0].startswith("At 80 patients forest has the best mean: test AUC 0.93 [")
    assert any(s.startswith("AUC gained from 40 to 80 patients: not settled") for s in few)
    assert any(s.startswith("Test AUC 0.7 is reached on average at 20 patients") for s in few)


def test_the_highest_mean_is_no_leader_where_another_family_beats_it() -> None:
    """b lost its cells of the poor draws: its mean is of the good ones, on which a is better."""
    rng = np.random.default_rng(0)
    draws = np.array([0.6, 0.6, 0.6, 0.9, 0.9, 0.9])[:, None]
    places = {}
    for family, values in (("a", draws + 0.02), ("b", np.where(draws < 0.8, np.nan, draws))):
        replicates = Replicates(values, values[..., None] + 0.001 * rng.normal(size=1000))
        for size in SIZES:
            places[Where(family, size, "test", "auc")] = replicates
    found = curves(places, Draws.of(6, 1, 1000, 0), 0.95)
    first, *_ = told(found, families=("a", "b"))
    assert first.startswith("At 80 patients a is best")


def test_a_release_that_the_test_scans_speak_against_is_said_to_be_by_validation() -> None:
    def against(family: str) -> list[str]:
        choice = Choice(Cell(family, 80, 0, 0), "key", f"{family} is released.")
        return [s for s in told(made(CROSSING), choice=choice) if s.startswith("On the test scans")]

    assert against("linear") == [
        "On the test scans forest does better than linear beyond noise; what is released is chosen "
        "by validation scores alone."
    ]
    assert against("forest") == []


def test_no_winner_within_noise() -> None:
    level = {"linear": dict.fromkeys(SIZES, 0.8), "forest": dict.fromkeys(SIZES, 0.805)}
    sentences = told(made(level))

    assert "no single family is best: forest" in sentences[0]
    assert "linear and forest are within noise of each other at every size." in sentences
    assert not any("beats" in sentence for sentence in sentences)


def test_a_loss_is_better_when_lower() -> None:
    low = {"linear": dict.fromkeys(SIZES, 0.8), "forest": dict.fromkeys(SIZES, 0.3)}
    sentences = told(made(low, metric="brier"), metric="brier")

    assert sentences[0].startswith("At 80 patients forest is best: test Brier score 0.30")
    assert any(s.startswith("forest beats linear at every size") for s in sentences)


def test_runs_of_sizes_are_put_together() -> None:
    means = {
        "linear": {20: 0.80, 40: 0.90, 80: 0.90},
        "forest": {20: 0.80, 40: 0.80, 80: 0.80},
    }
    sentences = told(made(means))

    assert any(
        s.startswith(
            "linear and forest are within noise at 20 patients; linear beats forest from 40"
        )
        for s in sentences
    )


def test_the_last_step_is_rising_flat_falling_or_open() -> None:
    means = {
        "rises": {40: 0.70, 80: 0.80},
        "falls": {40: 0.80, 80: 0.70},
        "stays": {40: 0.80, 80: 0.795},
        "swings": {40: 0.80, 80: 0.81},
    }
    found = made(means, noise=0.001)
    noisy = made({"swings": {40: 0.80, 80: 0.81}}, noise=0.05)
    steps = trends(found, list(means), (40, 80), "auc", 0.95, DRAWS)
    verdicts = {t.family: t.verdict for t in steps}

    assert verdicts["rises"] == "rising"
    assert verdicts["falls"] == "falling"
    assert verdicts["stays"] == "falling"  # by 0.005, and sure of it
    assert trends(noisy, ["swings"], (40, 80), "auc", 0.95, DRAWS)[0].verdict == "open"
    flat = made({"stays": {40: 0.80, 80: 0.80}}, noise=0.001)
    assert trends(flat, ["stays"], (40, 80), "auc", 0.95, DRAWS)[0].verdict == "flat"
    assert trends(flat, ["stays"], (80,), "auc", 0.95, DRAWS) == []
    sinks = made({"sinks": {40: 0.85, 80: 0.80}}, noise=0.02)  # by 0.05, but not for certain
    assert trends(sinks, ["sinks"], (40, 80), "auc", 0.95, DRAWS)[0].verdict == "not rising"


def test_of_many_families_names_are_told_and_numbers_left_to_the_table() -> None:
    level = {name: dict.fromkeys(SIZES, 0.8) for name in ("a", "b", "c")}
    families = tuple(level)
    trend = next(s for s in told(made(level), families=families) if s.startswith("AUC gained"))
    assert trend.endswith(": a, b and c.") and "[" not in trend
    few = next(s for s in told(made(CROSSING)) if s.startswith("AUC gained"))
    assert "linear (+0.010 [" in few


def test_within_noise_is_said_of_the_leader_only() -> None:
    means = {
        "a": dict.fromkeys(SIZES, 0.80),
        "b": dict.fromkeys(SIZES, 0.795),
        "c": dict.fromkeys(SIZES, 0.5),
    }
    (first, *_) = told(made(means), families=tuple(means))
    assert "a (test AUC 0.80 [0.78, 0.82]) is within noise of b (0.80); a beats c." in first


def test_targets_are_reached_surely_barely_or_not() -> None:
    sentences = told(made(CROSSING), targets=[0.75, 0.93, 0.99])

    assert any(
        s.startswith("Test AUC 0.75 is reached beyond noise at 20 patients: linear")
        for s in sentences
    )
    assert any(
        s.startswith("Test AUC 0.93 is reached on average at 80 patients by forest (0.93 [")
        and s.endswith("but not beyond noise, as one of 6 looks (families and sizes).")
        for s in sentences
    )
    assert "No mean test AUC reaches 0.99 at the sizes tried." in sentences


def test_more_pairs_need_wider_intervals() -> None:
    found = made(CROSSING | {"third": dict.fromkeys(SIZES, 0.5)})
    two = differences(found, ["linear", "forest"], SIZES, "auc", 0.95)[0]
    three = differences(found, ["linear", "forest", "third"], SIZES, "auc", 0.95)[0]

    assert (two.first, two.second, two.size) == (three.first, three.second, three.size)
    assert two.gain == three.gain
    assert three.low < two.low < two.high < three.high


def test_an_undefined_score_is_no_winner() -> None:
    means = {"linear": dict.fromkeys(SIZES, 0.8), "forest": dict.fromkeys(SIZES, float("nan"))}
    sentences = told(made(means))

    assert sentences[0].startswith("At 80 patients linear has a test AUC 0.80")
    assert not any("forest" in sentence for sentence in sentences)


def test_nothing_defined_is_said() -> None:
    sentences = told(made({"linear": dict.fromkeys(SIZES, float("nan"))}), families=("linear",))

    assert sentences == [
        "At 80 patients no family has a test AUC.",
        "No cell can be released: no validation score.",
    ]


def test_many_families_are_told_only_where_they_cross() -> None:
    names = tuple("abcde")
    means = {name: dict.fromkeys(SIZES, 0.5 + 0.1 * n) for n, name in enumerate(names)}
    means["e"] = {20: 0.45, 40: 0.9, 80: 0.95}
    sentences = told(made(means), families=names)

    pairs = [s for s in sentences if "beats" in s and not s.startswith("At ")]
    assert len(pairs) == 4  # e crosses each of the others; the rest stand in the table
    assert all("e beats" in s for s in pairs)


@pytest.mark.parametrize(("rule", "chosen"), [("best", "forest"), ("one_standard_error", "linear")])
def test_the_release_follows_the_rule_and_validation_only(rule: str, chosen: str) -> None:
    means = {"linear": {80: 0.90}, "forest": {80: 0.905}}
    found = made(means, noise=0.02)
    cells = [
        scored("linear", 0, 0, 0.89),
        scored("linear", 0, 1, 0.91),
        scored("forest", 0, 0, 0.905),
        scored("linear", 0, 2, 0.99, size=40),
        scored("linear", 0, 3, float("nan")),
    ]
    settings = config(release={"rule": rule})
    choice = choose(settings, ["linear", "forest"], 80, found, cells)

    assert choice is not None
    assert choice.cell.family == chosen
    assert choice.key == {"linear": "linear-0-1", "forest": "forest-0-0"}[chosen]
    assert chosen in choice.reason and "validation AUC at 80 patients" in choice.reason
    assert ("standard error" in choice.reason) == (chosen == "linear")
    each = choose_by_each(settings, ["linear", "forest"], 80, found, cells)
    assert {name: one and one.cell.family for name, one in each.items()} == {
        "best": "forest",
        "one_standard_error": "linear",
    }
    assert each[rule] == choice


def test_a_loss_is_released_where_it_is_lowest() -> None:
    found = made({"linear": {80: 0.2}, "forest": {80: 0.4}}, metric="brier")
    cells = [scored("linear", 0, 0, 0.3), scored("linear", 0, 1, 0.1), scored("forest", 0, 0, 0.4)]
    choice = choose(config(metric="brier"), ["linear", "forest"], 80, found, cells)

    assert choice is not None and choice.key == "linear-0-1"


def test_equal_cells_are_settled_by_their_order() -> None:
    found = made({"linear": {80: 0.9}})
    cells = [scored("linear", 1, 0, 0.9), scored("linear", 0, 1, 0.9)]
    choice = choose(config(families=("linear",)), ["linear"], 80, found, cells)

    assert choice is not None and choice.key == "linear-0-1"


def test_without_a_validation_score_nothing_is_released() -> None:
    found = made({"linear": {80: float("nan")}})
    assert choose(config(families=("linear",)), ["linear"], 80, found, []) is None


def test_caveats_say_what_intervals_leave_out() -> None:
    one = list(caveats(config(subsets=1, validation="proportional"), SIZES, 100))
    full = list(caveats(config(subsets=3, seeds=2), SIZES, 80))
    part = list(caveats(config(subsets=3, validation="proportional"), SIZES, 100))

    assert len(one) == 1 and "one subset" in one[0]
    assert "test patients and seeds only" in full[0] and "validation patient" in full[1]
    assert part == []


def test_lists_read_as_english() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
