"""Figures of the report: names can be read, bytes repeat, nothing is drawn of what is not there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from pipeline.page import MARKERS, PALETTE
from pipeline.study.report.draw_cost import cost_against_score
from pipeline.study.report.draw_curves import (
    family_curve,
    learning_curves,
    scores_at_one_size,
)
from pipeline.study.report.draw_limits import legend, limits, limits_at_one_size
from pipeline.study.report.draw_scans import agreement, confusion
from pipeline.study.report.panels import each, look, together

FAMILIES = [f"family{n}" for n in range(9)]


def point(family: str, size: int, mean: float, metric: str = "auc") -> dict[str, Any]:
    ends = {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}
    return {"family": family, "size": size, "metric": metric, "split": "test", **ends}


def law(family: str, **parts: float) -> dict[str, Any]:
    return {"family": family, "sizes": [20, 40], "asymptote": 0.1, "scale": 1.0, "exponent": 0.5}


def heights(svg: str, words: Sequence[str]) -> list[float]:
    """Where texts stand, in points from the top."""
    found = dict.fromkeys(words, 0.0)
    for attributes, text in re.findall(r"<text([^>]*)>([^<]*)</text>", svg):
        at = re.search(r' y="([\d.]+)"', attributes) or re.search(
            r"translate\([\d.]+[ ,]+([\d.]+)\)", attributes
        )
        if text in found and at:
            found[text] = float(at[1])
    return list(found.values())


@pytest.mark.parametrize("level", [0.5, 0.8, 0.99])
def test_direct_labels_neither_overlap_nor_leave_the_figure(level: float) -> None:
    points = [
        point(name, size, level + 0.001 * n) for n, name in enumerate(FAMILIES) for size in (20, 40)
    ]
    at = heights(learning_curves(points, FAMILIES, "auc"), FAMILIES)
    assert all(at)
    assert min(abs(a - b) for a, b in pairwise(sorted(at))) > 8  # points: a line of text
    assert min(at) > 5


def test_labels_of_points_of_one_cost_do_not_overlap() -> None:
    points = [point(name, 40, 0.8) for name in FAMILIES]
    svg = cost_against_score(dict.fromkeys(FAMILIES, 2.0), points, FAMILIES, "auc")
    for side in ("text-anchor: start", "text-anchor: end"):  # right and left of the points
        texts = re.findall(rf"<text[^>]*{side}[^>]*>family\d</text>", svg)
        at = heights("".join(texts), re.findall(r">(family\d)<", "".join(texts)))
        assert len(at) >= 3 and all(at)
        assert min(abs(a - b) for a, b in pairwise(sorted(at))) > 8
    assert all(f">{name}<" in svg for name in FAMILIES)


def test_each_family_has_a_look_of_its_own() -> None:
    assert len({look(n) for n in range(9)}) == 9
    assert len(set(PALETTE)) == len(set(MARKERS)) == 9


def test_figures_are_the_same_bytes_again() -> None:
    points = [point("linear", 20, 0.7), point("linear", 40, 0.8)]
    first, second = (learning_curves(points, ["linear"], "auc", [0.75]) for _ in range(2))
    assert first == second
    cost = cost_against_score({"linear": 0.0}, points[1:], ["linear", "absent"], "auc")
    assert "linear" in cost and "absent" not in cost
    assert ">absent<" in scores_at_one_size(points[1:], ["linear", "absent"], "auc", [0.75])


def test_a_forecast_adds_its_size_and_a_dashed_line() -> None:
    points = [point("linear", 20, 0.7), point("linear", 40, 0.8)]
    ahead = [{"family": "linear", "size": 80, "value": 0.85, "low": 0.7, "high": 0.9}]
    with_law = learning_curves(points, ["linear"], "auc", (), [law("linear")])
    foretold = learning_curves(points, ["linear"], "auc", (), [law("linear")], ahead)
    assert ">80<" in foretold and ">80<" not in with_law
    assert "dasharray" in foretold and "dasharray" not in with_law


def test_a_law_of_a_loss_is_drawn_as_a_loss() -> None:
    points = [point("linear", size, 0.3, "brier") for size in (20, 40)]
    svg = learning_curves(points, ["linear"], "brier", (), [law("linear")])
    assert "Test Brier score" in svg
    assert ">0.9<" not in svg  # 1 - error would be up there


def terms(width: float | None = 0.01, **changes: float | None) -> dict[str, dict[str, Any]]:
    values = {"bias2": 0.1, "variance_data": 0.02, "variance_seed": -0.01} | changes
    return {
        name: {"value": value, "low": None, "high": None}
        if value is None or width is None
        else {"value": value, "low": value - width, "high": value + width}
        for name, value in values.items()
    }


def black(svg: str) -> int:
    """Whiskers that are drawn."""
    return len(re.findall(r"stroke: #1c1c1e", svg))


def test_every_part_of_a_bar_that_has_an_interval_has_a_whisker() -> None:
    verdicts = {("a", 8): "undecided"}
    shown = {
        width: limits_at_one_size({("a", 8): terms(width)}, verdicts, ["a"])
        for width in (0.01, None)
    }
    assert (black(shown[0.01]), black(shown[None])) == (3, 0)
    draw = limits({("a", 8): terms(variance_data=None)}, verdicts, [8])
    (drawn,) = each(draw, ["a"], "limits", (2.3, 1.95))
    assert black(drawn) == 2


def test_counts_of_scans_have_whiskers() -> None:
    row = {"family": "a", "right": 6, "contested": 1, "wrong": 3}
    ends = {"right_low": 4.0, "right_high": 8.0, "wrong_low": 1.0, "wrong_high": 5.0}
    assert black(agreement([row | ends], "Test scans")) >= 2


def test_the_smallest_and_the_furthest_size_are_named_in_a_narrow_panel() -> None:
    sizes = (10, 12, 16, 24, 40, 64, 96, 97)
    points = [point("a", size, 0.8) for size in sizes]
    (drawn,) = each(family_curve(points, ["a"], "auc", ()), ["a"], "curve", (2.3, 1.95))
    assert ">10<" in drawn and ">97<" in drawn and ">12<" not in drawn and ">96<" not in drawn


def test_the_forecast_has_a_ribbon_from_the_largest_size_on() -> None:
    points = [point("linear", 20, 0.7), point("linear", 40, 0.8)]
    band = [
        {"family": "linear", "size": size, "value": 0.8, "low": 0.7, "high": 0.9}
        for size in (40, 80)
    ]
    plain, told = (
        learning_curves(points, ["linear"], "auc", (), [law("linear")], band[1:], shown)
        for shown in ([], band)
    )
    assert told.count("FillBetween") == plain.count("FillBetween") + 1
    alone = family_curve(points, ["linear"], "auc", (), band)
    (drawn,) = each(alone, ["linear"], "curve", (2.3, 1.95))
    assert ">80<" in drawn and "dasharray" in drawn


def test_what_one_subset_cannot_tell_apart_is_hatched() -> None:
    told, mixed = terms(), terms(variance_data=None)
    assert [pattern for *_, pattern in legend({("a", 8): told})] == [""] * 3
    both = legend({("a", 8): told, ("a", 16): mixed})
    assert [pattern for *_, pattern in both] == ["", "hatched", "", ""]
    assert [pattern for *_, pattern in legend({("a", 16): mixed})] == ["hatched", ""]
    verdicts = {("a", 8): "bias-limited", ("a", 16): "undecided"}
    draw = limits({("a", 8): told, ("a", 16): mixed}, verdicts, [8, 16])
    (drawn,) = each(draw, ["a"], "limits", (2.5, 2.0))
    assert "pattern" in drawn and ">B<" in drawn and ">?<" in drawn
    assert "pattern" not in limits_at_one_size({("a", 8): told}, verdicts, ["a"])


def test_sizes_that_are_not_there_are_left_out_of_the_bars() -> None:
    draw = limits({("a", 8): terms()}, {("a", 8): "undecided"}, [8, 16, 100_000, 200_000, 400_000])
    (drawn,) = each(draw, ["a"], "limits", (2.5, 2.0))
    assert drawn.count(">?<") == 1
    assert "400000" in drawn
    assert together(draw, ["a"], "limits", (2.5, 2.0)).count("<svg") == 1


def test_a_class_without_test_scans_is_a_dash_in_the_confusion_matrix() -> None:
    rows = [{"share": 0.25}, {"share": 0.75}, {"share": None}, {"share": None}]
    drawn = confusion(rows, ["healthy", "a class with a name that goes on"])
    assert ">25 %<" in drawn and ">75 %<" in drawn
    assert drawn.count(">–<") == 2
    assert "a class with a na…" in drawn
