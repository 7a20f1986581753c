"""Who is told what happens while a study runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pipeline.study.grid import Plan, PlannedCell


class Watcher:
    """Takes no notice; to be derived from by whoever shows a study."""

    def event(self, text: str) -> None:
        """Something that a user should know, in words."""

    def begin(self, plan: Plan, asked: Sequence[PlannedCell], standing: Collection[str]) -> None:
        """The study is laid out; ``standing`` has the keys of the cells that are not computed.

        ``asked`` are the plan's cells that are to stand at the end: of some families, or all.
        """

    def expect(self, seconds: float) -> None:
        """So many seconds are left on the clock, by the estimate; not told of a single cell."""

    def finished(self, planned: PlannedCell, score: float | None) -> None:
        """A cell is journaled; ``score`` is its validation score, None if it failed."""
