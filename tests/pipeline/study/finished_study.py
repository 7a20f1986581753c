"""Whole studies for tests; apart from ``toy_study``, which worker processes import as well."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
from toy_study import in_process, write_store

from pipeline.study import compute
from pipeline.study.config import StudyConfig
from pipeline.study.grid import Plan, PlannedCell
from pipeline.study.report import write_report
from pipeline.study.run import run_study
from pipeline.study.watch import Watcher

RESULT_FILES = ("results.json", "curves.csv")


def write_toy_study(root: Path, **changes: Any) -> Path:
    """A finished study of two families with its report, computed in this process.

    The store and the second family's config stand beside it and serve again, with another grid
    (``changes``) by which the study goes on.
    """
    strict = root / "strict.yaml"
    strict.write_text("family: linear\nparams: {penalties: [1.0]}\n")
    settings = {"sizes": (6, "all"), "subsets": 2, "resamples": 100, **changes}
    config = StudyConfig.model_validate({"families": ("linear", str(strict)), **settings})
    store = root / "store"
    if not store.exists():
        write_store(store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute, "run_local", in_process)
        run_study(config, store, root / "study-toy", cohort="phantom")
    write_report(root / "study-toy")
    return root / "study-toy"


class Notes(Watcher):
    """Keeps what it is told, and does something after each cell."""

    def __init__(self, after: Callable[[int], None] = lambda _: None) -> None:
        self.said: list[str] = []
        self.begun: list[tuple[int, int]] = []
        self.cells: list[PlannedCell] = []
        self.scores: list[float | None] = []
        self.left: list[float] = []
        self._after = after

    def event(self, text: str) -> None:
        self.said.append(text)

    def begin(self, plan: Plan, asked: Sequence[PlannedCell], standing: Collection[str]) -> None:
        self.begun.append((len(asked), len(standing)))

    def expect(self, seconds: float) -> None:
        self.left.append(seconds)

    def finished(self, planned: PlannedCell, score: float | None) -> None:
        self.cells.append(planned)
        self.scores.append(score)
        self._after(len(self.cells))


def same_results(one: Path, other: Path) -> bool:
    """True where both studies have the same bytes."""
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in RESULT_FILES)
