"""How long the fits of a claim's study took: told on its page, and never asserted.

Seconds are of the clock on the wall, of one process on the machine that computed a cell, whatever
else that machine was doing. So what is told are the quickest and the slowest of the fits.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.study.results import COSTS

FitSeconds = Mapping[tuple[str, int], Sequence[float]]


def read_fit_seconds(study: Path) -> FitSeconds:
    """(family, size) -> seconds of each fit, from the folder of a finished study."""
    found = defaultdict(list)
    with (study / COSTS).open(newline="") as file:
        for row in csv.DictReader(file):
            found[row["family"], int(row["size"])].append(float(row["fit_seconds"]))
    return found


def in_words(seconds: Sequence[float]) -> str:
    """``2.1 to 3.4 s``."""
    ends = [f"{end:.1f}" for end in (min(seconds), max(seconds))]
    return f"{' to '.join(dict.fromkeys(ends))} s"
