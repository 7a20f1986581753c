"""How much is taken from an archive, and how much came."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Limits:
    """What is taken from an archive at most.

    Attributes:
        studies: Found by a query; more are refused before anything is fetched.
        series: Of one study; likewise.
        objects: Fetched in all, those that are not taken among them.
        object_bytes: Of one object.
        total_bytes: Of all objects.
        series_s: Seconds that one series may take.
    """

    studies: int = 100
    series: int = 10_000
    objects: int = 500_000
    object_bytes: int = 1 << 30
    total_bytes: int = 50 << 30
    series_s: float = 3600.0


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True)
class SeriesKey:
    """A series of the archive."""

    study: str
    series: str


@dataclass
class Fetched:
    """Counts of what came.

    Attributes:
        series: That were asked for.
        objects: That lie in the folder.
        refused: Code -> objects that were not taken.
        ours: Objects that medcurve had stored there.
        size: Bytes.
        received: Objects, those that were not taken among them.
    """

    series: int = 0
    objects: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    ours: int = 0
    size: int = 0
    received: int = 0
