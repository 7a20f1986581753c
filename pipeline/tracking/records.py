"""Runs as they should stand in MLflow, as plain records: numbers, settings and digests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from data_prep.files import digest
from pipeline.study.config import EXTENDABLE

KEY: Final = "medcurve.key"
CONTENT: Final = "medcurve.content"
STUDY: Final = "medcurve.study"
CELL: Final = "medcurve.cell"
KIND: Final = "medcurve.kind"
CODE: Final = "medcurve.code"
CLAIM: Final = "medcurve.claim"
CLAIM_MODE: Final = "medcurve.claim_mode"  # full, quick, flipped, quick flipped
CLAIM_HELD: Final = "medcurve.claim_held"  # yes, no: on the study's run, once it is judged
ARM: Final = "medcurve.arm"  # of a claim's experiment: the family, and what it was shown
PARENT: Final = "mlflow.parentRunId"
NOTE: Final = "mlflow.note.content"
# What `--extend` changes is shown as tags: MLflow never lets a run change a parameter.
GRID: Final = {name: f"medcurve.{name}" for name in EXTENDABLE}
TAGS: Final = frozenset(
    {
        KEY,
        CONTENT,
        STUDY,
        CELL,
        KIND,
        CODE,
        CLAIM,
        CLAIM_MODE,
        ARM,
        PARENT,
        NOTE,
        "mlflow.runName",
        *GRID.values(),
    }
)


@dataclass(frozen=True)
class MetricPoint:
    """One value of a metric.

    Attributes:
        name, value: What.
        step: Number of training patients; on the study's run the number of its cells, for a cell's
            ``history/`` the epoch, for ``system/`` the number of the sample.
        time_ms: When it was measured, in milliseconds since 1970; None: at the run's end.
    """

    name: str
    value: float
    step: int
    time_ms: int | None = None


@dataclass(frozen=True)
class RunRecord:
    """One run as it should stand in MLflow.

    Attributes:
        key: Identity: two runs with one key are the same run.
        name: What the UI shows.
        tags, params, metrics: Its content.
        failed: True for a cell without a result.
        start_ms, end_ms: When it ran, in milliseconds since 1970.
        children: Runs nested in it.
        grows: True for the study: its run stays the same one when it is extended, and what is new
            is added to it. Any other run is replaced when its content has changed.
    """

    key: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: tuple[MetricPoint, ...]
    failed: bool
    start_ms: int
    end_ms: int
    children: tuple[RunRecord, ...] = field(default=())
    grows: bool = False

    @property
    def content(self) -> str:
        """Digest of what it shows: by it a run is known to be out of date."""
        points = [[point.name, point.value, point.step] for point in self.metrics]
        return digest([self.name, dict(self.tags), dict(self.params), points, self.failed])

    def __iter__(self) -> Iterator[RunRecord]:
        """This run and all below it."""
        yield self
        for child in self.children:
            yield from child
