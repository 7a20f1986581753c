"""How families stand beside published scores on one cohort, from a finished study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from data_prep.cohort import CohortConfig, MedMnistSource
from data_prep.files import write_bytes, write_csv
from data_prep.published import Published, published_scores
from data_prep.readers.medmnist_facts import facts_of, official_name
from pipeline.page import markdown_table
from pipeline.study.config import METRIC_WORDS
from pipeline.study.journal import or_nan
from pipeline.study.results import read_results

_HEADER: Final = (
    "cohort",
    "method",
    "published",
    "chosen",
    "seeds",
    "validation",
    "auc",
    "auc_low",
    "auc_high",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
)
_RULES: Final = {
    "best": "chosen by the best",
    "one_standard_error": "chosen as the simplest within one standard error of the best",
}


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its interval over test patients and seeds; NaN where undefined."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "–"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Standing:
    """One family at the study's largest size.

    Attributes:
        family: Its name.
        seeds: How many fits the means are of.
        validation: Mean score by which the choice was made.
        auc, accuracy: On test.
        chosen: Whether validation preferred it to all others.
    """

    family: str
    seeds: int
    validation: float
    auc: Estimate
    accuracy: Estimate
    chosen: bool


@dataclass(frozen=True)
class Standings:
    """All that is to be shown of one cohort.

    Attributes:
        cohort: Its name.
        title: For people.
        patients: Split -> number of patients.
        validated_by: The validation score, in words.
        rule: How it decided, in words.
        level: Coverage of the intervals, in percent.
        families: In the study's order.
        published: Scores of others on the same dataset, or on that which it was rebuilt from.
        rebuilt: Whether the cohort only resembles the dataset of the published scores.
    """

    cohort: str
    title: str
    patients: Mapping[str, int]
    validated_by: str
    rule: str
    level: float
    families: tuple[Standing, ...]
    published: tuple[Published, ...]
    rebuilt: bool


def read_standings(cohort: CohortConfig, study: Path) -> Standings:
    """What the results of the finished study in the folder ``study`` say."""
    results = read_results(study)
    config = results["config"]
    metric = config["release"]["metric"] or config["metric"]
    size = results["sizes"][-1]
    points = {
        (p["family"], p["split"], p["metric"]): p for p in results["points"] if p["size"] == size
    }
    released = results["release"] and results["release"]["cell"]["family"]
    dataset = cohort.source.dataset if isinstance(cohort.source, MedMnistSource) else None
    return Standings(
        cohort=cohort.name,
        title=facts_of(dataset).title if dataset else cohort.name,
        patients=results["patients"],
        validated_by=f"mean validation {METRIC_WORDS[metric]}",
        rule=_RULES[config["release"]["rule"]],
        level=100 * config["level"],
        families=tuple(
            Standing(
                family=family,
                seeds=points[family, "test", "auc"]["cells"],
                validation=or_nan(points[family, "val", metric]["mean"]),
                auc=_estimate(points[family, "test", "auc"]),
                accuracy=_estimate(points[family, "test", "accuracy"]),
                chosen=family == released,
            )
            for family in results["families"]
        ),
        published=published_scores(dataset) if dataset else (),
        rebuilt=dataset is not None and official_name(dataset) != dataset,
    )


def rows(standings: Standings) -> list[tuple[str, str, str, str]]:
    """(method, validation, test AUC, test accuracy): ours, best AUC first, then the published."""
    ours = [
        (
            f"{one.family} (chosen)" if one.chosen else one.family,
            f"{one.validation:.3f}",
            str(one.auc),
            str(one.accuracy),
        )
        for one in sorted(standings.families, key=_worst_last)
    ]
    said = "published, official data" if standings.rebuilt else "published"
    theirs = [
        (f"{one.method} ({said})", "", f"{one.auc:.3f}", f"{one.accuracy:.3f}")
        for one in standings.published
    ]
    return ours + theirs


def sentence(standings: Standings) -> str:
    """The chosen family beside the best published AUC; no claim where the interval holds both."""
    chosen = next((one for one in standings.families if one.chosen), None)
    if chosen is None:
        return f"{standings.title}: no family has a validation score."
    text = (
        f"{standings.title}: {chosen.family}, {standings.rule} {standings.validated_by}, has test "
        f"AUC {chosen.auc}"
    )
    if not standings.published:
        return f"{text} and accuracy {chosen.accuracy}."
    best = standings.published[0]
    if chosen.auc.low > best.auc:
        found = "above"
    elif chosen.auc.high < best.auc:
        found = "below"
    else:
        found = "within noise of"
    return f"{text}, {found} the best published at 28 pixels ({best.method}, {best.auc:.3f})."


def write_standings(folder: Path, all_standings: Sequence[Standings]) -> Path:
    """Write ``leaderboard.md`` and ``leaderboard.csv`` into ``folder``; return the former."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(["# Leaderboard", "", *_lines(all_standings)])
    write_bytes(folder / "leaderboard.md", text.encode())
    write_csv(
        folder / "leaderboard.csv", _HEADER, [row for one in all_standings for row in _table(one)]
    )
    return folder / "leaderboard.md"


def _lines(all_standings: Iterable[Standings]) -> Iterable[str]:
    for one in all_standings:
        counts = ", ".join(f"{name} {count}" for name, count in one.patients.items())
        seeds = max(family.seeds for family in one.families)
        yield f"## {one.title}"
        yield ""
        yield sentence(one)
        yield ""
        yield from markdown_table(
            ("method", one.validated_by, "test AUC", "test accuracy"), rows(one)
        )
        yield ""
        yield (
            f"Patients: {counts}. Each row of ours is the mean of {seeds} seeds with a "
            f"{one.level:g} % interval over test patients and seeds."
        )
        if one.rebuilt:
            yield "The data are rebuilt; the published scores are of the official data."
        yield ""


def _table(standings: Standings) -> Iterable[tuple[object, ...]]:
    for one in standings.families:
        yield (
            standings.cohort,
            one.family,
            False,
            one.chosen,
            one.seeds,
            *(
                "" if math.isnan(value) else value
                for value in (
                    one.validation,
                    *(one.auc.mean, one.auc.low, one.auc.high),
                    *(one.accuracy.mean, one.accuracy.low, one.accuracy.high),
                )
            ),
        )
    for other in standings.published:
        cells = (other.auc, "", "", other.accuracy, "", "")
        yield (standings.cohort, other.method, True, False, "", "", *cells)


def _worst_last(one: Standing) -> tuple[bool, float]:
    return (math.isnan(one.auc.mean), -one.auc.mean)


def _estimate(point: Mapping[str, Any]) -> Estimate:
    return Estimate(*(or_nan(point[name]) for name in ("mean", "low", "high")))
