"""The expected squared loss of a claim's families, taken apart, on its page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

from pipeline.lecture.numerals import estimate
from pipeline.lecture.series import Series
from pipeline.page import markdown_table
from pipeline.study.claim import Claim
from pipeline.study.components import Measured
from pipeline.study.expectation import StudyOutcome
from pipeline.study.learning_curve import Point, Where, interval

TERMS: Final = {"bias2": "bias squared", "variance": "variance", "total": "expected squared loss"}
_NONE: Final = math.nan
_DIGITS: Final = 9  # beyond which sums that are 0 differ from it by rounding


def speaks_of_terms(claim: Claim) -> bool:
    """Whether the claim says anything of a term of the loss."""
    return any(quantity.term for quantity in claim.quantities())


def loss_terms(claim: Claim, outcomes: Mapping[str, StudyOutcome]) -> Iterator[str]:
    """A table for each cohort, where the claim speaks of terms; else nothing.

    Beside them the log loss on the scans that were fitted: bias of a network that is not trained
    out is no matter of its size.
    """
    if not speaks_of_terms(claim):
        return
    for cohort, outcome in outcomes.items():
        level = outcome.config.level
        names = list(dict.fromkeys(name for terms in outcome.terms.values() for name in terms))
        yield f"**Expected squared loss, taken apart**, `{cohort}`:"
        yield ""
        yield from markdown_table(
            ("family", "patients", *names, "log loss on training scans"),
            (
                (
                    family,
                    str(size),
                    *(_written(terms[name], level) for name in names),
                    _fitted(outcome, family, size),
                )
                for (family, size), terms in outcome.terms.items()
            ),
        )
        yield ""


def term_series(outcome: StudyOutcome, kinds: Mapping[str, str], term: str) -> list[Series]:
    """A line for each size over the families, at their places in order, where the term is known.

    Args:
        outcome: Of a cohort.
        kinds: Family -> what kind it is of; a line joins neighbours of one kind.
        term: Of the expected squared loss.
    """
    lines = []
    for number, size in enumerate(outcome.sizes):
        points = _points(outcome, list(kinds), size, term)
        for first, (_, same) in enumerate(groupby(points, key=lambda one: kinds[one[1].family])):
            lines.append(Series("" if first else f"{size} patients", number, list(same)))
    return lines


def _points(
    outcome: StudyOutcome, families: Sequence[str], size: int, term: str
) -> Iterator[tuple[float, Point]]:
    for place, family in enumerate(families):
        found = outcome.terms.get((family, size), {}).get(term)
        if found is not None and not math.isnan(found.value):
            ends = interval(found.drawn, outcome.config.level)
            where = (family, size, "test", term)
            grid = (outcome.config.subsets, outcome.config.seeds)
            cells = outcome.config.subsets * outcome.config.seeds
            yield float(place), Point(*where, found.value, *ends, _NONE, _NONE, *grid, cells)


def _written(term: Measured, level: float) -> str:
    if math.isnan(term.value):
        return "not known"
    ends = (term.value, *interval(term.drawn, level))
    return estimate(*(round(end, _DIGITS) for end in ends))


def _fitted(outcome: StudyOutcome, family: str, size: int) -> str:
    point = outcome.curves.points[Where(family, size, "train", "log_loss")]
    return estimate(point.mean, point.low, point.high)
