"""What is printed: a bar in a terminal, plain lines in a log, never markup from a file's name."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from data_prep.errors import MedcurveError
from pipeline import console


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    text = io.StringIO()
    for name in ("OUT", "ERR"):
        monkeypatch.setattr(console, name, Console(file=text, soft_wrap=True, highlight=False))
    return text


def test_a_log_gets_one_line_at_the_end(screen: io.StringIO) -> None:
    with console.progress("ingest", "scans") as report:
        for done in range(1, 4):
            report(done, 3)
    (line,) = screen.getvalue().splitlines()
    assert line.startswith("ingest: 3/3 scans in ")
    assert "scans/s" in line
    assert "left" not in line


def test_a_long_job_tells_every_ten_seconds(
    screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    with console.progress("ingest", "scans") as report:
        for done, now in enumerate((4.0, 12.0, 15.0, 24.0), start=1):  # noqa: B007
            report(done, 8)
    lines = screen.getvalue().splitlines()
    assert lines[0] == "ingest: 2/8 scans in 12.0 s, 0.167 scans/s, about 48 s left"
    assert len(lines) == 2


def test_a_note_stands_behind_the_bar_and_behind_the_line(
    screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    with console.noted_progress("predict", "scans") as report:
        report(3, 3, "2 ok · 1 [red]quarantined")
    assert screen.getvalue().rstrip().endswith("(2 ok · 1 [red]quarantined)")
    text = io.StringIO()
    monkeypatch.setattr(console, "OUT", Console(file=text, force_terminal=True, width=140))
    with console.noted_progress("predict", "scans") as report:
        report(3, 3, "2 ok · 1 [red]quarantined")
    assert "2 ok · 1 [red]quarantined" in text.getvalue()


def test_a_line_that_was_said_is_not_said_again_at_the_end(
    screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    with console.progress("predict", "scans") as report:
        now = 12.0
        report(3, 3)
    assert len(screen.getvalue().splitlines()) == 1


def test_the_longest_bar_of_predict_fits_eighty_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(console, "OUT", Console(file=text, force_terminal=True, width=200))
    monkeypatch.setattr(console, "rate", lambda _: "1240")
    with console.noted_progress("predict", "scans") as report:
        report(199_999, 199_999, "187654 ok · 12345 quarantined · 54321 skipped")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.getvalue()).split("\r")[-1]
    bar, below = (line.rstrip() for line in plain.splitlines()[:2])
    assert "199999/199999 1240 scans/s" in bar
    assert below.strip() == "187654 ok · 12345 quarantined · 54321 skipped"
    assert max(len(bar), len(below)) <= 80


def test_in_a_terminal_no_work_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    for total, shown in ((None, False), (3, True)):
        text = io.StringIO()
        monkeypatch.setattr(console, "OUT", Console(file=text, force_terminal=True, width=100))
        with console.progress("ingest", "scans") as report:
            if total:
                report(total, total)
        last = text.getvalue().rsplit("\x1b[2K", 1)[
            -1
        ]  # what stands after the line was last erased
        assert ("3/3" in last, "ingest" in last) == (shown, shown)


def test_no_work_is_no_line(screen: io.StringIO) -> None:
    with console.progress("ingest", "scans"):
        pass
    assert screen.getvalue() == ""


def test_a_terminal_gets_a_bar_with_rate_and_count(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    terminal = Console(file=text, force_terminal=True, width=100)
    monkeypatch.setattr(console, "OUT", terminal)
    with console.progress("ingest", "scans") as report:
        report(5, 8)
        report(8, 8)
    assert "8/8" in text.getvalue()
    assert "scans/s" in text.getvalue()


def test_names_are_not_read_as_markup(screen: io.StringIO) -> None:
    console.say("[red]scan[/red].dcm [1]")
    console.heading("[a]")
    console.fail(MedcurveError("x.y", "[b]bad[/b]", fix="do [this]"))
    console.warn(MedcurveError("x.z", "careful"))
    lines = screen.getvalue().splitlines()
    assert lines[0] == "[red]scan[/red].dcm [1]"
    assert "[a]" in lines[2]
    assert lines[3:] == ["error [x.y] [b]bad[/b]", "  → do [this]", "warning [x.z] careful"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.5234, "0.523"), (7.314, "7.31"), (45.21, "45.2"), (1240.4, "1240")]
)
def test_rates_have_three_digits(value: float, text: str) -> None:
    assert console.rate(value) == text
