"""What is said of cells that failed."""

from __future__ import annotations

from pipeline.study.failures import failure_sentences
from pipeline.study.grid import Cell
from pipeline.study.journal import Entry, Failure


def entry(family: str, subset: int, failure: Failure | None = None) -> Entry:
    cell = Cell(family, 6, subset, 0)
    return Entry(cell, f"{family}{subset}", failure, "", {}, {}, {}, {}, {}, 0)


def test_of_what_is_done_nothing_is_said() -> None:
    assert failure_sentences([entry("knn", 0), entry("knn", 1)]) == []


def test_each_family_is_named_with_its_first_reason_and_lost_ones_come_first() -> None:
    first, other = Failure("a.b", "no\n luck. "), Failure("c.d", "killed", passing=True)
    found = [
        *(entry("knn", 0), entry("knn", 1, first), entry("knn", 2, other)),
        *(entry("mlp", 0, other), entry("mlp", 1, other), entry("prior", 0, first)),
        entry("linear", 0),
    ]
    assert failure_sentences(found) == [
        "mlp has no result: all 2 of its cells failed (first: [c.d] killed; running the study "
        "again tries 2 once more).",
        "prior has no result: its only cell failed ([a.b] no luck).",
        "2 of 3 cells of knn failed and are left out (first: [a.b] no luck; running the study "
        "again tries 1 once more).",
    ]


def test_a_long_reason_is_cut() -> None:
    assert len(failure_sentences([entry("knn", 0, Failure("a.b", "x" * 5000))])[0]) < 400
