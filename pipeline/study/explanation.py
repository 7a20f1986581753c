"""Why families score as they do, and what more patients would bring, in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from pipeline.study.components import FEWEST_SUBSETS, Component, Decomposed
from pipeline.study.config import METRIC_WORDS, StudyConfig
from pipeline.study.forecast import POINTS, Forecast, Outlook
from pipeline.study.reach import Reach
from pipeline.study.summary import named
from pipeline.study.verdict import Verdict
from pipeline.wording import listed


def limit_sentences(
    found: Sequence[Decomposed], verdicts: Sequence[Verdict], size: int
) -> Iterator[str]:
    """What limits the families at one size; families of one verdict in one sentence."""
    here = {one.family: one for one in found if one.size == size}
    mine = [verdict for verdict in verdicts if verdict.size == size]
    for limit in dict.fromkeys(verdict.limit for verdict in mine):
        alike = [verdict for verdict in mine if verdict.limit == limit]
        shown = {verdict.family: _parts(here[verdict.family], limit) for verdict in alike}
        says = _WORDS.get(limit, limit)
        if len(alike) == 1:
            (family, parts), *_ = shown.items()
            text = f"At {size} patients {family} is {says}: {parts}"
        else:
            who = named({family: f" ({parts})" for family, parts in shown.items()})
            text = f"At {size} patients these are {says}: {who}"
        yield f"{text}{_reservation(alike, here)}."


def outlook_sentences(
    outlook: Outlook, reached: Sequence[Reach], config: StudyConfig
) -> Iterator[str]:
    """Forecasts of the targets, crossings, and how far the laws proved right.

    What was measured beyond noise is not foretold: of a family that reached a target, the sizes at
    which it did are told elsewhere.
    """
    words = METRIC_WORDS[config.metric]
    for target in config.targets:
        seen = {r.family: r for r in reached if r.target == target and r.verdict == "on average"}
        sure = {r.family for r in reached if r.target == target and r.verdict == "beyond noise"}
        left = [o for o in outlook.forecasts if o.target == target and o.family not in sure]
        yield from _forecast_sentences(left, seen, f"{words} {target:g}")
    for one in outlook.crossings:
        if one.settled:
            at = f"{one.patients:.0f} [{one.low:.0f}, {one.high:.0f}]"
            yield f"{one.leader} is overtaken by {one.follower} at {at} patients ({words})."
    if outlook.backtest:
        hits = sum(one.covered for one in outlook.backtest)
        yield (
            f"Back-test: laws fitted to the smaller half of the sizes agree with {hits} of "
            f"{len(outlook.backtest)} scores measured at the larger sizes."
        )


_FLOOR: Final = "at the noise floor"
_WORDS: Final = {
    "undecided": "limited by bias or variance, undecided which",
    "not settled": "limited by bias or variance, not settled which",
}
_TERMS: Final = {
    "bias2": "bias²",
    "variance": "variance",
    "variance_data": "variance by patients",
    "variance_seed": "variance by seed",
}


def _reservation(alike: Sequence[Verdict], here: Mapping[str, Decomposed]) -> str:
    """What the verdict takes for granted, or lacks."""
    limit = alike[0].limit
    said = ""
    if limit == "bias-limited":
        if not alike[0].noise_known:
            said += "; noise of the labels counts as bias"
            perhaps = [verdict.family for verdict in alike if not verdict.beyond_noise]
            said += f", and may be all of it for {listed(perhaps)}" if perhaps else ""
        if lender := max(verdict.borrowed_from for verdict in alike):
            said += f"; variance by patients is taken to be at most that at {lender} patients"
    if limit == "not settled":
        said += _two_estimates(alike, here)
    if limit == "undecided":
        families = [verdict.family for verdict in alike]
        lone = [name for name in families if _one_subset(here[name])]
        few = [name for name in families if _few_subsets(here[name])]
        if lone:
            said += f"; one subset{_of(lone, families)} cannot tell bias from variance by patients"
        if few:
            said += (
                f"; at least {FEWEST_SUBSETS} subsets{_of(few, families)} are needed to tell how "
                "much they differ"
            )
    return said


def _of(some: Sequence[str], families: Sequence[str]) -> str:
    """Names families where a reason is not that of all."""
    return "" if len(some) == len(families) else f" of {listed(some)}"


def _two_estimates(alike: Sequence[Verdict], here: Mapping[str, Decomposed]) -> str:
    """What the verdict would be with and without the correction for draws that share patients."""
    told = {
        verdict.family: f"{verdict.corrected} if corrected for draws that share patients, "
        f"{verdict.uncorrected} if not"
        for verdict in alike
    }
    said = "".join(
        f"; {family} is {words}" if len(told) > 1 else f"; it is {words}"
        for family, words in told.items()
    )
    lone = [family for family in told if math.isnan(here[family].squared["variance_seed"].value)]
    if lone:
        said += "; with one seed, what chance does to a fit counts as variance by patients"
    return said


def _parts(one: Decomposed, limit: str) -> str:
    """The terms that decide, with intervals, out of the total."""
    at = {c.term: c for c in one.components if c.loss == "squared" and not c.class_name}
    total = f"of {at['total'].value:.2f}"
    if limit == _FLOOR:
        return f"noise {_interval(at['noise'])} {total}"
    names = {
        "bias-limited": ("bias2",),
        "variance-limited (patients)": ("variance_data",),
        "variance-limited (seed)": ("variance_seed",),
        "variance-limited": ("variance",),
        "undecided": ("bias2", "variance_seed" if _one_subset(one) else "variance"),
        "not settled": ("bias2", "variance"),
    }[limit]
    shown = [
        f"{_TERMS[name]} {_interval(at[name])}" for name in names if not math.isnan(at[name].value)
    ]
    return f"{listed(shown)} {total}"


def _one_subset(one: Decomposed) -> bool:
    return math.isnan(one.squared["variance_data"].value)


def _few_subsets(one: Decomposed) -> bool:
    """Whether there are too few for an interval of what differs between them."""
    between = one.squared["variance_data"]
    return not math.isnan(between.value) and bool(np.isnan(between.drawn).all())


def _interval(component: Component) -> str:
    if math.isnan(component.low):
        return f"{component.value:.2f}"
    return f"{component.value:.2f} [{component.low:.2f}, {component.high:.2f}]"


def _forecast_sentences(
    forecasts: Sequence[Forecast], seen: Mapping[str, Reach], target: str
) -> Iterator[str]:
    reached = [one for one in forecasts if one.status == "reached"]
    if reached:
        who = listed([f"{one.family} {_patients(one)}" for one in reached])
        yield f"By its fitted curve, {target} takes {who} patients."
    below = [one for one in forecasts if one.status == "reached below"]
    if below:
        fewest = listed([f"{one.family} ({one.low:.0f})" for one in below])
        yield f"By its fitted curve, {target} takes no more than the fewest patients of: {fewest}."
    for one in forecasts:
        if one.status == "not reachable":
            level = f"{one.asymptote:.2f} [{one.asymptote_low:.2f}, {one.asymptote_high:.2f}]"
            though = ""
            if one.family in seen:
                though = f", though its mean at {seen[one.family].size} patients does"
            yield (
                f"By its fitted curve, {one.family} does not reach {target}{though}: the curve "
                f"levels off at {level}."
            )
    open_ = [one for one in forecasts if one.status == "not identifiable"]
    if open_:
        who = listed([f"{one.family}{_at_least(one)}" for one in open_])
        yield f"Patients for {target} are not identifiable from these sizes: {who}."


def _patients(one: Forecast) -> str:
    return f"{math.ceil(one.patients)} [{math.ceil(one.low)}, {math.ceil(one.high)}]"


def _at_least(one: Forecast) -> str:
    if math.isnan(one.asymptote):
        return f" (no law: fewer than {POINTS} sizes, or a curve that falls)"
    return "" if math.isnan(one.low) else f" (more than {math.floor(one.low)})"
