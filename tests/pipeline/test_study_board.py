"""A running study on the terminal and in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pipeline import console, study_board
from pipeline.study.config import StudyConfig
from pipeline.study.grid import Cell, Plan, PlannedCell
from pipeline.study_board import Board, duration


def plan() -> Plan:
    config = StudyConfig(families=("linear", "knn [x]"), sizes=(16, "all"), subsets=2)
    cells = [
        PlannedCell(Cell(family, size, subset, 0), f"{family}{size}{subset}", None, None)  # type: ignore[arg-type]
        for size in (16, 546)
        for family in config.families
        for subset in range(2)
    ]
    return Plan(config, {}, None, "", (16, 546), 546, {}, tuple(cells))  # type: ignore[arg-type]


def to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    written = io.StringIO()
    screen = Console(file=written, force_terminal=True, width=90, highlight=False)
    monkeypatch.setattr(study_board, "OUT", screen)
    monkeypatch.setattr(console, "OUT", screen)
    return written


def test_the_table_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    written = to_a_terminal(monkeypatch)
    laid_out = plan()
    with Board() as board:
        board.begin(laid_out, laid_out.cells, {"linear160"})
        board.expect(400)
        board.finished(laid_out.cells[1], 0.75)
        board.finished(laid_out.cells[2], None)
        board.finished(laid_out.cells[3], float("nan"))
        board.expect(200)
    shown = written.getvalue()
    assert "7 of 8 cells to compute, about 7 min" in shown
    last = shown[shown.rindex("patients") :]
    assert "2/2 0.750" in last
    assert "knn [x]" in last
    assert "4/8 cells   about 3 min left" in last
    assert "mean validation AUC" in shown


def test_what_is_left_is_counted_down_between_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    written = to_a_terminal(monkeypatch)
    laid_out = plan()
    now = [0.0]
    monkeypatch.setattr(study_board.time, "monotonic", lambda: now[0])
    with Board() as board:
        board.begin(laid_out, laid_out.cells, set())
        board.expect(80)
        now[0] = 50.0
    assert "0/8 cells   about 30 s left" in written.getvalue()


def test_a_finished_study_draws_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    written = to_a_terminal(monkeypatch)
    laid_out = plan()
    with Board() as board:
        board.begin(laid_out, laid_out.cells, {planned.key for planned in laid_out.cells})
        board.event("all cells stand")
    assert written.getvalue().strip() == "all cells stand"


def test_a_log_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    laid_out = plan()
    now = [0.0]
    monkeypatch.setattr(study_board.time, "monotonic", lambda: now[0])
    with Board() as board:
        board.begin(laid_out, laid_out.cells, set())
        board.expect(100)
        for n, planned in enumerate(laid_out.cells):
            now[0] = 4.0 * (n + 1)
            board.finished(planned, 0.5)
            board.expect(100 - 12 * (n + 1))
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "8 cells to compute, about 2 min",
        "study: 3/8 cells in 12.0 s, about 64 s left",
        "study: 6/8 cells in 24.0 s, about 28 s left",
        "study: 8/8 cells in 32.0 s, about 4 s left",
    ]


def test_of_some_families_only_their_cells_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    laid_out = plan()
    asked = [planned for planned in laid_out.cells if planned.cell.family == "linear"]
    with Board() as board:
        board.begin(laid_out, asked, {"knn [x]160"})
        board.expect(100)
        board.finished(asked[0], 0.5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 of 8 cells to compute, about 2 min"
    assert lines[1].startswith("study: 1/4 cells in ")

    written = to_a_terminal(monkeypatch)
    with Board() as board:
        board.begin(laid_out, asked, set())
        board.finished(asked[0], 0.5)
    assert "1/4 cells" in written.getvalue()
    assert "knn" not in written.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (1500, "25 min"), (9000, "2.5 h")],
)
def test_durations_are_no_more_precise_than_estimates(seconds: float, words: str) -> None:
    assert duration(seconds) == words
