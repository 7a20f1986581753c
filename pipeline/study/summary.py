"""What a study found, in plain words; never a winner where the difference is within noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.task import Task
from pipeline.metrics import higher_is_better
from pipeline.study.comparison import Difference, Trend
from pipeline.study.config import METRIC_WORDS, StudyConfig
from pipeline.study.learning_curve import Curves, Point, Where
from pipeline.study.reach import Reach
from pipeline.study.selection import Choice
from pipeline.wording import listed

# Above this, pairs that never part are not told one by one: the table has them.
MANY_FAMILIES: Final = 4
TREND_WORDS: Final = {
    "rising": "still rising",
    "falling": "falling",
    "flat": "flat",
    "not rising": "not rising, and perhaps falling",
    "open": "not settled (within noise)",
}
FEW_NUMBERS: Final = 2  # of families in one sentence
FEW_PATIENTS: Final = 10  # of a class in the test split: fewer make a bootstrap interval unsafe


def best_sentence(
    curves: Curves, families: Sequence[str], size: int, metric: str, pairs: Sequence[Difference]
) -> str:
    """Which family leads at the largest size, if any does beyond noise.

    Means are over the cells that each family has, comparisons over those that both have: where
    cells failed, the highest mean may be of a family that another one beats. That is no leader.
    """
    sign = 1 if higher_is_better(metric) else -1
    points = [curves.points[Where(family, size, "test", metric)] for family in families]
    ranked = sorted(
        (point for point in points if not math.isnan(point.mean)),
        key=lambda point: -sign * point.mean,
    )
    words = METRIC_WORDS[metric]
    if not ranked:
        return f"At {size} patients no family has a test {words}."
    here = [pair for pair in pairs if pair.size == size]
    losers = {loser for pair in here if (loser := _loser(pair))}
    leader = next((point for point in ranked if point.family not in losers), ranked[0])
    others = [point for point in ranked if point is not leader]
    shown = f"test {words} {interval_text(leader)}"
    if not others:
        return f"At {size} patients {leader.family} has a {shown}."
    if any(pair.few_patients for pair in here):
        return f"At {size} patients {leader.family} has the best mean: {shown}."
    beaten = {_loser(pair) for pair in here if pair.winner == leader.family}
    level = [point for point in others if point.family not in beaten]
    if not level:
        return f"At {size} patients {leader.family} is best: {shown}."
    rest = listed([f"{point.family} ({point.mean:.2f})" for point in level])
    # The others may well differ from each other: only the leader is spoken of.
    text = (
        f"At {size} patients no single family is best: {leader.family} ({shown}) is within noise "
        f"of {rest}"
    )
    if beaten:
        lower = listed([point.family for point in others if point.family in beaten])
        text += f"; {leader.family} beats {lower}"
    return f"{text}."


def few_patients(
    task: Task, target: NDArray[np.int64], patient_ids: NDArray[np.str_]
) -> Iterator[str]:
    """A warning where a class has so few test patients that resampling cannot tell its noise.

    The bootstrap knows only the patients that it is given: where a handful happen to be ranked
    without a fault, every resample is too, and the interval has no width.
    """
    has = task.one_hot(target) > 0
    sides = {f"with '{name}'": column for name, column in zip(task.class_names, has.T, strict=True)}
    if task.is_multi_label:
        sides |= {f"without '{n}'": ~c for n, c in zip(task.class_names, has.T, strict=True)}
    counts = {side: len(np.unique(patient_ids[column])) for side, column in sides.items()}
    rarest = min(counts, key=lambda side: counts[side])
    if counts[rarest] < FEW_PATIENTS:
        yield (
            f"The test split has {len(np.unique(patient_ids))} patients, {counts[rarest]} of them "
            f"{rarest}: intervals from so few are too narrow, so no difference between families or "
            "sizes, or from a target, is called settled."
        )


def pair_sentences(
    families: Sequence[str], sizes: Sequence[int], metric: str, pairs: Sequence[Difference]
) -> Iterator[str]:
    """For each pair of families, who is better at which sizes; nothing if none can be settled."""
    if any(pair.few_patients for pair in pairs):
        return
    for first, second in combinations(families, 2):
        found = [
            pair
            for pair in pairs
            if (pair.first, pair.second) == (first, second) and not math.isnan(pair.gain)
        ]
        winners = {pair.winner for pair in found} - {""}
        if not found or (len(families) > MANY_FAMILIES and len(winners) < 2):
            continue
        if not winners:
            where = "at every size" if len(found) > 1 else f"at {found[0].size} patients"
            yield f"{first} and {second} are within noise of each other {where}."
            continue
        runs = [
            _run(winner, list(run), sizes, metric)
            for winner, run in groupby(found, key=lambda pair: pair.winner)
        ]
        subject = "" if found[0].winner else f"{first} and {second} are "
        yield subject + "; ".join(runs) + "."


def trend_sentence(trends: Sequence[Trend], metric: str) -> str:
    """Whether more patients still help; "" where there is one size only."""
    if not trends:
        return ""
    start, end = trends[0].start, trends[0].end
    parts = []
    for verdict, word in TREND_WORDS.items():
        alike = [t for t in trends if t.verdict == verdict and not math.isnan(t.gain)]
        shown = {t.family: f" ({signed(t.gain, t.low, t.high)})" for t in alike}
        if alike:
            parts.append(f"{word}: {named(shown)}")
    gain = f"{METRIC_WORDS[metric]} gained from {start} to {end} patients"
    return f"{gain}: {'; '.join(parts)}." if parts else ""


def target_sentences(
    curves: Curves, reached: Sequence[Reach], config: StudyConfig
) -> Iterator[str]:
    """Which family first reaches each target, and whether beyond noise."""
    words = METRIC_WORDS[config.metric]

    def shown(one: Reach) -> str:
        where = Where(one.family, one.size, "test", config.metric)
        return f"{one.family} ({interval_text(curves.points[where])})"

    for target in config.targets:
        looks = [one for one in reached if one.target == target]
        least = min((one.size for one in looks if one.verdict == "beyond noise"), default=None)
        first = next((one for one in looks if one.verdict == "on average"), None)
        if least is not None:
            who = listed(
                [shown(o) for o in looks if o.size == least and o.verdict == "beyond noise"]
            )
            yield f"Test {words} {target:g} is reached beyond noise at {least} patients: {who}."
        elif first is not None:
            yield (
                f"Test {words} {target:g} is reached on average at {first.size} patients by "
                f"{shown(first)}, but not beyond noise{_of_looks(len(looks))}."
            )
        else:
            yield f"No mean test {words} reaches {target:g} at the sizes tried."


def _of_looks(looks: int) -> str:
    """Why an interval may leave the target out and yet not settle it."""
    return f", as one of {looks} looks (families and sizes)" if looks > 1 else ""


def caveats(config: StudyConfig, sizes: Sequence[int], available: int) -> Iterator[str]:
    """What the intervals do not cover in this study."""
    if config.subsets == 1:
        yield (
            "There is one subset per size, so the intervals do not cover the choice of training "
            "patients."
        )
    elif sizes[-1] == available:
        yield (
            f"At {available} patients every training patient is used: there the intervals cover "
            "test patients" + (" and seeds" if config.seeds > 1 else "") + " only."
        )
    if config.validation == "all" and len(sizes) > 1:
        yield ("Every validation patient was used for choosing at each size, also at the smallest.")


def headline(
    config: StudyConfig,
    families: Sequence[str],
    sizes: Sequence[int],
    curves: Curves,
    pairs: Sequence[Difference],
    trends: Sequence[Trend],
    reached: Sequence[Reach],
    choice: Choice | None,
    *,
    limits: Sequence[str] = (),
    forecasts: Sequence[str] = (),
) -> list[str]:
    """The whole summary, most important first: which family, what limits it, how much data.

    A page shows the first few of these and folds the rest, so pair by pair comes last.

    Args:
        config: The study's.
        families, sizes: Of the study.
        curves: The points.
        pairs, trends, reached: How families compare, how curves end, what targets are reached.
        choice: What the study releases, if anything.
        limits, forecasts: What limits each family, and what follows for more patients, in words.
    """
    metric = config.metric
    found = [
        best_sentence(curves, families, sizes[-1], metric, pairs),
        choice.reason if choice else "No cell can be released: no validation score.",
        _against_release(choice, pairs, sizes[-1]),
        *limits,
        trend_sentence(trends, metric),
        *forecasts,
        *target_sentences(curves, reached, config),
        *pair_sentences(families, sizes, metric, pairs),
    ]
    return [sentence for sentence in found if sentence]


def _against_release(choice: Choice | None, pairs: Sequence[Difference], size: int) -> str:
    """Said where the test scans prefer another family than the one that validation chose."""
    if choice is None:
        return ""
    better = [p.winner for p in pairs if p.size == size and _loser(p) == choice.cell.family]
    if not better:
        return ""
    does = "does" if len(better) == 1 else "do"
    return (
        f"On the test scans {listed(better)} {does} better than {choice.cell.family} beyond noise; "
        "what is released is chosen by validation scores alone."
    )


def _loser(pair: Difference) -> str:
    """The other family of a pair that has a winner; else ""."""
    return {"": "", pair.first: pair.second, pair.second: pair.first}[pair.winner]


def interval_text(point: Point) -> str:
    """``0.91 [0.87, 0.94]``."""
    return f"{point.mean:.2f} [{point.low:.2f}, {point.high:.2f}]"


def signed(value: float, low: float, high: float) -> str:
    """``+0.031 [+0.004, +0.060]``."""
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def named(shown: Mapping[str, str]) -> str:
    """Families, each with its number unless they are so many that only a table can be read."""
    few = len(shown) <= FEW_NUMBERS
    return listed([family + (text if few else "") for family, text in shown.items()])


def _run(winner: str, run: Sequence[Difference], sizes: Sequence[int], metric: str) -> str:
    """One stretch of sizes with the same winner."""
    where = _stretch(run[0].size, run[-1].size, sizes)
    if not winner:
        return f"within noise {where}"
    last = run[-1]
    loser = _loser(last)
    ends = (last.low, last.high) if winner == last.first else (-last.high, -last.low)
    gain = signed(abs(last.gain), *ends)
    return f"{winner} beats {loser} {where} ({METRIC_WORDS[metric]} {gain} at {last.size})"


def _stretch(first: int, last: int, sizes: Sequence[int]) -> str:
    if len(sizes) > 1 and (first, last) == (sizes[0], sizes[-1]):
        return "at every size"
    if first == last:
        return f"at {first} patients"
    if first == sizes[0]:
        return f"up to {last} patients"
    return f"from {first} patients" if last == sizes[-1] else f"from {first} to {last} patients"
