"""Counts in words."""

from __future__ import annotations

from pipeline.study_board import share
from pipeline.wording import counted


def test_one_is_singular_and_the_rest_are_plural() -> None:
    assert [counted(count, "scan") for count in (0, 1, 2, 1000)] == [
        "0 scans",
        "1 scan",
        "2 scans",
        "1,000 scans",
    ]
    assert [counted(count, "study", "studies") for count in (1, 2)] == ["1 study", "2 studies"]


def test_a_share_of_a_grid_counts_its_cells() -> None:
    assert [share(*given) for given in ((1, 1), (2, 2), (1, 2))] == [
        "1 cell",
        "2 cells",
        "1 of 2 cells",
    ]
