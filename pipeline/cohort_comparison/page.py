"""The page of two cohorts: the answer first, then tables and pictures.

The page is the operator's own: it shows scans in miniature, but no patient ids and no paths.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from data_prep.files import write_bytes
from pipeline.cohort_comparison.compare import Aspect, CohortComparison, CohortSide, Difference
from pipeline.cohort_comparison.pictures import histograms, mean_pictures, scan_picture
from pipeline.cohort_page import facts
from pipeline.page import render
from pipeline.wording import listed

_STRANGEST: Final = 12
_NAMES: Final[dict[Aspect, str]] = {
    "metadata": "How they were taken",
    "intensities": "Intensities as read",
    "appearance": "What they show",
    "labels": "Labels",
}
# Told apart so well, a classifier errs on hardly any scan, or does little better than a coin.
_WELL, _HARDLY = 0.95, 0.65


def write_comparison(
    sides: tuple[CohortSide, CohortSide], found: CohortComparison, out: Path
) -> Path:
    """Write the page of two cohorts, and return ``out``."""
    first, second = sides
    values = {
        "first": first.name,
        "second": second.name,
        "sentences": sentences(sides, found),
        "aspects": aspect_rows(found),
        "facts": fact_rows(sides),
        "classes": _class_rows(sides),
        "histograms": histograms(sides),
        "means": mean_pictures(sides),
        "strangest": [
            (
                side.name,
                other.name,
                [
                    (side.records[n].scan_id, scan_picture(side.planes[n]))
                    for n in order[:_STRANGEST].tolist()
                ],
            )
            for side, other, order in zip(sides, reversed(sides), found.strangest, strict=True)
        ],
    }
    write_bytes(out, render("pipeline.cohort_comparison", "comparison.html.j2", values))
    return out


def sentences(sides: Sequence[CohortSide], found: CohortComparison) -> list[str]:
    """The answer, and what it rests on."""
    first, second = sides
    differing = found.differing()
    if not differing:
        said = [
            f"No difference between the scans of {first.name} and {second.name} was found "
            f"(p = {_p(found.p_value)}). That is no proof that there is none: few patients show "
            "large differences only."
        ]
    else:
        said = [
            f"The scans of {second.name} do not look like those of {first.name}: they differ in "
            f"{listed([_SAID[aspect] for aspect in differing])}. A model of one has to be tested "
            "on the other before it is used there."
        ]
        said += [_told_apart(aspect, found.differences[aspect]) for aspect in differing]
    if found.identical:
        are = "scan is" if found.identical == 1 else "scans are"
        said.append(
            f"{found.identical:,} {are} in both cohorts, voxel by voxel: {second.name} is no "
            f"independent test of a model of {first.name}."
        )
    if "labels" not in found.differences:
        said.append("Their labels have other classes, and were not compared.")
    return said


_SAID: Final[dict[Aspect, str]] = {
    "metadata": "how they were taken",
    "intensities": "their intensities",
    "appearance": "what they show",
    "labels": "how frequent the classes are",
}


def aspect_rows(found: CohortComparison) -> list[tuple[str, str, str, str, str]]:
    """Aspect, verdict, p-value, AUROC of a classifier, and scans and patients compared."""
    differing = found.differing()
    return [
        (
            _NAMES[aspect],
            "differs" if aspect in differing else "no difference found",
            _p(difference.test.p_value),
            "–" if difference.auroc is None else f"{difference.auroc:.2f}",
            " and ".join(
                f"{scans:,} of {patients:,}"
                for scans, patients in zip(
                    difference.test.scans, difference.test.groups, strict=True
                )
            ),
        )
        for aspect, difference in found.differences.items()
    ]


def fact_rows(sides: Sequence[CohortSide]) -> list[tuple[str, str, str, bool]]:
    """Name, the fact of both cohorts, and whether they differ."""
    first, second = (dict(facts(side.seen, side.counts)) for side in sides)
    names = [name for name in first if name in second and name != "classes"]
    return [
        (name, first[name], second[name], _kinds(first[name]) != _kinds(second[name]))
        for name in names
    ]


def _kinds(fact: str) -> str:
    """A fact without the numbers of scans: cohorts of different sizes do not differ by them."""
    return re.sub(r": [\d,]+", "", fact)


def _class_rows(sides: Sequence[CohortSide]) -> list[tuple[str, str, str]]:
    names = dict.fromkeys(name for side in sides for name in side.seen.scans_per_class)
    return [(name, _share(sides[0], name), _share(sides[1], name)) for name in names]


def _share(side: CohortSide, name: str) -> str:
    count = side.seen.scans_per_class.get(name)
    return "–" if count is None else f"{count:,} ({100 * count / side.seen.scans:.1f} %)"


def _told_apart(aspect: Aspect, difference: Difference) -> str:
    start = f"{_NAMES[aspect]} (p = {_p(difference.test.p_value)}): "
    if difference.auroc is None:
        return start + "too few patients to say how well a classifier tells them apart."
    if difference.auroc >= _WELL:
        how = "a simple classifier tells nearly all of them apart"
    elif difference.auroc <= _HARDLY:
        how = "a difference of the whole, which a simple classifier hardly sees in a single scan"
    else:
        how = "a simple classifier tells many of them apart"
    return f"{start}{how} (AUROC {difference.auroc:.2f})."


def _p(value: float) -> str:
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def to_json(sides: Sequence[CohortSide], found: CohortComparison) -> dict[str, Any]:
    """The numbers of the page."""
    return {
        "cohorts": [side.name for side in sides],
        "p_value": found.p_value,
        "identical": found.identical,
        "aspects": {
            aspect: {
                "p_value": difference.test.p_value,
                "auroc": difference.auroc,
                "scans": difference.test.scans,
                "patients": difference.test.groups,
                "differs": aspect in found.differing(),
            }
            for aspect, difference in found.differences.items()
        },
    }
