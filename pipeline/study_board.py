"""A running study on the terminal: a table that fills, or plain lines in a log."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Final, Self

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.console import OUT, say
from pipeline.study.config import METRIC_WORDS
from pipeline.study.grid import Plan, PlannedCell
from pipeline.study.watch import Watcher
from pipeline.wording import counted

_PLAIN_EVERY_S: Final = 10.0
_BAR_WIDTH: Final = 32

Place = tuple[str, int]


class Board(Watcher):
    """Shows each family and size with its cells done and their mean validation score so far.

    A context manager; where the output is no terminal, a line every ten seconds says how far the
    study is.
    """

    def __init__(self) -> None:
        self._metric = ""
        self._grid = 0
        self._wanted: dict[Place, int] = defaultdict(int)
        self._done: dict[Place, int] = defaultdict(int)
        self._scores: dict[Place, list[float]] = defaultdict(list)
        self._left: float | None = None  # seconds, at the time below
        self._left_at = 0.0
        self._computed = 0
        self._started = self._said = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        elif self._computed:
            say(self._line())

    def event(self, text: str) -> None:
        """Print it, above the table where there is one."""
        say(text)

    def begin(self, plan: Plan, asked: Sequence[PlannedCell], standing: Collection[str]) -> None:
        """Lay the table out, of the cells that are asked for."""
        self._metric = METRIC_WORDS[plan.config.release_metric]
        self._grid = len(plan.cells)
        for planned in asked:
            self._wanted[_place(planned)] += 1
            self._done[_place(planned)] += planned.key in standing
        self._started = self._said = time.monotonic()
        if OUT.is_terminal and sum(self._done.values()) < len(asked):
            self._live = Live(console=OUT, get_renderable=self._picture, refresh_per_second=4)
            self._live.start()

    def expect(self, seconds: float) -> None:
        """Take down what is left; the first time, and now and then, say it."""
        first, self._left, self._left_at = self._left is None, seconds, time.monotonic()
        if first:
            cells = sum(self._wanted.values()) - sum(self._done.values())
            say(f"{share(cells, self._grid)} to compute, about {duration(seconds)}")
        if self._live is None and time.monotonic() - self._said >= _PLAIN_EVERY_S:
            self._said = time.monotonic()
            say(self._line())

    def finished(self, planned: PlannedCell, score: float | None) -> None:
        """One more cell."""
        self._computed += 1
        self._done[_place(planned)] += 1
        if score is not None and not math.isnan(score):
            self._scores[_place(planned)].append(score)

    def _line(self) -> str:
        done, wanted = sum(self._done.values()), sum(self._wanted.values())
        seconds = time.monotonic() - self._started
        left = f", {self._remaining()}" if self._left else ""
        return f"study: {done}/{wanted} cells in {seconds:.1f} s{left}"

    def _picture(self) -> Group:
        families = list(dict.fromkeys(family for family, _ in self._wanted))
        sizes = sorted({size for _, size in self._wanted})
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("patients")
        for size in sizes:
            table.add_column(str(size), justify="right", no_wrap=True)
        for family in families:
            table.add_row(escape(family), *(self._cell((family, size)) for size in sizes))
        done, wanted = sum(self._done.values()), sum(self._wanted.values())
        bar = ProgressBar(total=wanted, completed=done, width=_BAR_WIDTH)
        note = Text(f"{done}/{wanted} cells   {self._remaining()}", style="cyan")
        foot = Table.grid(padding=(0, 2))
        foot.add_row("study", bar, note)
        head = Text(f"cells done, and their mean validation {self._metric}", style="dim")
        return Group(head, table, foot)

    def _remaining(self) -> str:
        """Counted down between cells, which may take minutes."""
        if not self._left:
            return ""
        return f"about {duration(self._left - (time.monotonic() - self._left_at))} left"

    def _cell(self, place: Place) -> Text:
        done, wanted, scores = self._done[place], self._wanted[place], self._scores[place]
        mean = f" {sum(scores) / len(scores):.3f}" if scores else ""
        style = "green" if done == wanted else "" if done else "dim"
        return Text(f"{done}/{wanted}{mean}", style=style)


def share(cells: int, grid: int) -> str:
    """In words: ``27 cells``, or ``9 of 27 cells``."""
    return counted(cells, "cell") if cells == grid else f"{cells} of {counted(grid, 'cell')}"


def duration(seconds: float) -> str:
    """In words, no more precise than an estimate is: ``40 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds)):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _place(planned: PlannedCell) -> Place:
    return planned.cell.family, planned.cell.size
