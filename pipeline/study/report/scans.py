"""Sections on the test scans: are probabilities true, what is taken for what, which are hard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from pipeline.study.contested import CONTESTED
from pipeline.study.report.draw_scans import agreement, confusion, label_rates, reliability
from pipeline.study.report.panels import each, together
from pipeline.study.report.parts import (
    Cell,
    Figure,
    Record,
    Section,
    Table,
    estimate,
    number,
    plain,
    single,
)
from pipeline.study.results import CONFUSION, DIFFICULTY, HARDEST_SCANS, RELIABILITY
from pipeline.wording import counted

_PANEL: Final = (2.1, 2.2)
_ASKED: Final = {
    "binary": "how often a scan is '{name}' where that was given this probability",
    "multi-label": "how often a label is true where it was given this probability",
}
_ASKED_OF_BEST: Final = "how often the most probable class is right where it had this probability"


def calibration_section(results: Record) -> Section | None:
    """Reliability diagrams at the largest size; None where no family has a fit there."""
    bins, summary = results["reliability"], results["calibration"]
    if not bins:
        return None
    task, level = results["task"], f"{100 * results['config']['level']:g} %"
    asked = _ASKED.get(task["kind"], _ASKED_OF_BEST).format(name=task["class_names"][-1])
    families = [one["family"] for one in summary]
    draw = reliability(bins, list(results["families"]))
    told = Table(
        "Calibration error: mean distance of observed from predicted. Bins are off where the "
        f"{level} interval leaves the prediction out; by chance alone at most about one in "
        f"{1 / (1 - results['config']['level']):.0f} is.",
        ("Family", "Calibration error", "Bins that are off"),
        tuple(
            plain(one["family"], number(one["error"]), f"{one['off']} of {one['bins']}")
            for one in summary
        ),
    )
    every = Table(
        f"Every bin, with {level} interval",
        ("Family", "Bin", "Predicted", "Observed", "Predictions of one fit"),
        tuple(
            (
                *plain(one["family"], one["bin"], number(one["predicted"])),
                estimate(one, "observed"),
                *plain(f"{one['predictions']:.1f}"),
            )
            for one in bins
        ),
    )
    return Section(
        "Do the probabilities mean what they say?",
        sentences=(
            f"At {results['sizes'][-1]} patients, before any recalibration: {asked}. On the dashed "
            "line a probability means what it says; below the line probabilities are too high.",
        ),
        figures=(
            Figure(
                "Observed share against predicted probability, family by family",
                each(draw, families, "reliability", _PANEL),
                together(draw, families, "reliability", _PANEL),
                "reliability",
                f"Across: predicted; up: observed share, with {level} interval. Each point is the "
                "same number of predictions.",
            ),
        ),
        tables=(told, every),
        files=(RELIABILITY,),
    )


def confusion_section(results: Record) -> Section | None:
    """What the released family takes for what; None where none is released."""
    if results["release"] is None:
        return None
    family, size = (results["release"]["cell"][name] for name in ("family", "size"))
    rows = [row for row in results["confusion"] if row["family"] == family]
    classes, level = results["task"]["class_names"], f"{100 * results['config']['level']:g} %"
    if results["task"]["kind"] == "multi-label":
        drawing, label = label_rates(rows, classes), "Sensitivity and specificity of each label"
        head: tuple[str, ...] = ("Label", "Has it", "Said")
        caption = f"Decided at a probability of 0.5; bars: {level} interval."
    else:
        drawing, label = confusion(rows, classes), "Predicted against true class"
        head = ("True class", "Predicted class")
        caption = "Share of the scans of each true class; the most probable class is predicted."
    table = Table(
        f"Test scans of one fit of {family}, on average, and their share of the true class",
        (*head, "Scans", f"Share with {level} interval"),
        tuple(
            (
                *plain(*([row["label"]] if row["label"] else []), row["true"], row["predicted"]),
                *plain(f"{row['scans']:.1f}"),
                estimate(row, "share"),
            )
            for row in rows
        ),
    )
    return Section(
        "What is taken for what?",
        sentences=(
            f"{family}, the family that is released, at {size} patients; every fit counts alike. "
            "The CSV file has the other families.",
        ),
        figures=(single("confusion", label, drawing, caption),),
        tables=(table,),
        files=(CONFUSION,),
    )


def agreement_section(results: Record) -> Section | None:
    """How many test scans are easy, contested or missed; None where there is no fit."""
    rows = results["difficulty"]
    if not rows:
        return None
    labelled = results["task"]["kind"] == "multi-label"
    what = "labels of test scans" if labelled else "test scans"
    everything = [row for row in rows if not row["class_name"]]
    total = sum(everything[0][name] for name in ("right", "contested", "wrong"))
    fits = Counter(
        cell["family"]
        for cell in results["cells"]
        if cell["size"] == results["sizes"][-1] and cell["status"] == "done"
    )
    level = f"{100 * results['config']['level']:g} %"
    fewest, most = min(fits.values()), max(fits.values())
    spoken = counted(most, "fit") if fewest == most else f"{fewest} to {most} fits"
    return Section(
        "Which scans are hard?",
        sentences=(
            f"{results['missed_by_all']} of {total} {what} "
            f"{'is' if results['missed_by_all'] == 1 else 'are'} missed by most fits of every "
            "family: look there first, for a wrong label or for what no family sees.",
            "Scans are not named here. The hardest and the most contested of each family stand in "
            f"{HARDEST_SCANS} in the study's folder, which only its owner can read and which is "
            "neither shown nor logged.",
            *_pictures(results),
        ),
        figures=(
            single(
                "agreement",
                f"How many {what} every fit gets right, fits disagree about, every fit gets wrong",
                agreement(everything, what.capitalize()),
                f"At {results['sizes'][-1]} patients, over {spoken} of each family; black: {level} "
                "interval over test patients of those that every fit gets right, or wrong.",
            ),
        ),
        tables=(_agreement_table(results, what, level),),
        files=(DIFFICULTY,),
    )


def _agreement_table(results: Record, what: str, level: str) -> Table:
    return Table(
        f"Number of {what}, with {level} interval over test patients",
        ("Family", "Class", "Every fit right", "Fits disagree", "Every fit wrong"),
        tuple(
            (
                *plain(row["family"], row["class_name"] or "all"),
                _count(row, "right"),
                *plain(row["contested"]),
                _count(row, "wrong"),
            )
            for row in results["difficulty"]
        ),
    )


def _pictures(results: Record) -> Iterator[str]:
    """Where the operator finds pictures of scans; none are on this page."""
    if results["contested"]:
        yield (
            f"Pictures of the {results['contested']} most contested: {CONTESTED} in the study's "
            "folder. It shows scans, so it is not part of the report."
        )


def _count(row: Record, name: str) -> Cell:
    """A number of scans with its interval."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return (str(row[name]), "" if low is None else f"[{low:.0f}, {high:.0f}]")
