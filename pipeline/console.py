"""What the command prints: progress bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bar,
)
from rich.progress import (
    Task as BarTask,
)
from rich.table import Table
from rich.text import Text

from data_prep.errors import SCAN_CODES, MedcurveError
from data_prep.progress import Progress

OUT = Console(highlight=False, soft_wrap=True)
ERR = Console(stderr=True, highlight=False, soft_wrap=True)

_PLAIN_EVERY_S = 10.0


class _Rate(ProgressColumn):
    """Units a second, of the whole run so far (steadier than the momentary speed)."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: BarTask) -> Text:
        """The rate, or nothing before the first unit is done."""
        if not task.elapsed or not task.completed:
            return Text("")
        return Text(f"{rate(task.completed / task.elapsed)} {self._unit}/s", style="cyan")


class _NotedBar(Bar):
    """A bar with a line of its own below it, so that neither is cut at 80 letters."""

    note = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, and the note if there is one."""
        yield from super().get_renderables()
        if self.note:
            yield Text(f"{'':<8} {self.note}", style="dim")


def rate(value: float) -> str:
    """Three significant digits: 0.52, 7.31, 45.2, 1240."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


@contextmanager
def progress(title: str, unit: str) -> Iterator[Progress]:
    """Yield a function to call with (done, total).

    In a terminal a bar with count, rate and time left; elsewhere (a log, CI) one plain line every
    ten seconds and one at the end.
    """
    with noted_progress(title, unit) as report:
        yield lambda done, total: report(done, total, "")


@contextmanager
def noted_progress(title: str, unit: str) -> Iterator[Callable[[int, int, str], None]]:
    """As ``progress``, with (done, total, a note shown below the bar or behind the line)."""
    if not OUT.is_terminal:
        with _plain(title, unit) as report:
            yield report
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with _NotedBar(*columns, console=OUT) as bar:
        task = bar.add_task(f"{title:<8}", total=None)

        def report(done: int, total: int, note: str) -> None:
            bar.note = note
            bar.update(task, completed=done, total=total)

        yield report
        if bar.tasks[task].total is None:  # there was nothing to do: what a stage made stands
            bar.update(task, visible=False)


@contextmanager
def _plain(title: str, unit: str) -> Iterator[Callable[[int, int, str], None]]:
    start = last = time.monotonic()
    begun = start  # when the first unit was done: what came before was not work on units
    seen = told = (0, 0)
    behind = ""

    def line() -> str:
        now = time.monotonic()
        seconds = now - start
        speed = f", {rate(seen[0] / seconds)} {unit}/s" if seconds > 0 else ""
        left = (seen[1] - seen[0]) * (now - begun) / (seen[0] - 1) if seen[0] > 1 else 0.0
        return (
            f"{title}: {seen[0]}/{seen[1]} {unit} in {seconds:.1f} s{speed}"
            + (f", about {left:.0f} s left" if left >= 1 else "")
            + (f" ({behind})" if behind else "")
        )

    def report(done: int, total: int, note: str) -> None:
        nonlocal seen, told, last, begun, behind
        if seen[0] == 0:
            begun = time.monotonic()
        seen, behind = (done, total), note
        if time.monotonic() - last >= _PLAIN_EVERY_S:
            last, told = time.monotonic(), seen
            say(line())

    yield report
    if seen != told:
        say(line())


def say(text: str, *, style: str = "") -> None:
    """Print one line; the text is never read as markup (file names may hold brackets)."""
    OUT.print(escape(text), style=style)


def heading(text: str) -> None:
    """Print the name of the step that begins."""
    OUT.print(f"\n[bold]{escape(text)}[/bold]")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, wrapped to a terminal; elsewhere one plain line a row."""
    if not OUT.is_terminal:
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for row in (header, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            say("  ".join(cells).rstrip())
        return
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(header):
        drawn.add_column(escape(name), overflow="fold", style="" if number else "bold")
    for row in rows:
        drawn.add_row(*map(escape, row))
    OUT.print(drawn, soft_wrap=False)


def say_quarantined(by_code: Mapping[str, int]) -> None:
    """Print how many scans were quarantined for which reason."""
    for code, count in by_code.items():
        say(f"  quarantined: {count} × {code} ({SCAN_CODES[code]})")


def warn(error: MedcurveError) -> None:
    """Print what went wrong without stopping the work."""
    ERR.print(f"[bold yellow]warning[/bold yellow] {escape(str(error))}")


def fail(error: MedcurveError) -> None:
    """Print an error for the user on standard error."""
    ERR.print(f"[bold red]error[/bold red] {escape(str(error))}")
