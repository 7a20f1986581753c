"""Sections on what a study asks beyond its scores: other conditions, and what probes measured."""

from __future__ import annotations

from typing import Final

from pipeline.study.config import METRIC_WORDS
from pipeline.study.quantity import MEASURED
from pipeline.study.report.parts import Cell, Record, Section, Table, at_largest, estimate, plain
from pipeline.study.results import CURVES
from pipeline.wording import counted

_UNDER: Final = "test/"


def condition_section(results: Record) -> Section | None:
    """Scores of the test scans under each condition; None where the study has none."""
    every = dict.fromkeys(point["split"] for point in results["points"])
    splits = [split for split in every if split.startswith(_UNDER)]
    if not splits:
        return None
    words = METRIC_WORDS[results["config"]["metric"]]
    level = f"{100 * results['config']['level']:g} %"
    shown = {
        (point["family"], split): estimate(point, "mean")
        for split in ("test", *splits)
        for point in at_largest(results, split)
    }
    rows = tuple(
        (
            *plain(family),
            *(shown.get((family, split), ("–", "")) for split in ("test", *splits)),
        )
        for family in results["families"]
    )
    return Section(
        "What if scans are otherwise?",
        sentences=(
            f"The same fits on the same test scans, predicted once more under "
            f"{counted(len(splits), 'condition')}. Nothing is chosen by these scores.",
        ),
        tables=(
            Table(
                f"Test {words} at {results['sizes'][-1]} patients, with {level} interval",
                ("Family", "As they are", *(split.removeprefix(_UNDER) for split in splits)),
                rows,
                folded=False,
            ),
        ),
        files=(CURVES,),
    )


def measured_section(results: Record) -> Section | None:
    """What probes measured on the fits; None where the study has none."""
    size = results["sizes"][-1]
    points = [p for p in results["points"] if p["split"] == MEASURED and p["size"] == size]
    if not points:
        return None
    level = f"{100 * results['config']['level']:g} %"
    return Section(
        "What do the networks do?",
        sentences=(
            f"What probes measured on every fit at {size} patients. Intervals are for other draws "
            "of these training patients and other seeds; a single fit has none.",
        ),
        tables=(
            Table(
                f"Mean over fits, with {level} interval",
                ("Family", "What", "Mean", "Fits"),
                tuple(
                    (
                        *plain(point["family"], point["metric"]),
                        _mean(point),
                        *plain(point["cells"]),
                    )
                    for point in points
                ),
                folded=False,
            ),
        ),
        files=(CURVES,),
    )


def _mean(point: Record) -> Cell:
    """Of any unit and magnitude, so to three digits that count."""
    if point["mean"] is None:
        return ("–", "")
    text = f"{point['mean']:.3g}"
    told = point["cells"] > 1 and point["low"] is not None
    return (text, f"[{point['low']:.3g}, {point['high']:.3g}]" if told else "")
