"""A picture of the scans that a family's fits disagree about most, for the operator's eyes only.

It shows scans and names them, so it lies in the study's folder, readable by its owner only, and is
part of nothing that is shown or synced: the report says that it is there, and no more.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from data_prep.files import write_bytes
from data_prep.glimpse import thumbnail
from data_prep.store import Store
from data_prep.task import Task
from data_prep.volume import Volume
from pipeline.page import STYLE
from pipeline.study.components import Decomposed, ranked_scans
from pipeline.study.terms import Floats

CONTESTED: Final = "contested.png"
MOST: Final = 6  # scans of a family
_CELL_IN: Final = (1.75, 2.1)  # width and height of a scan and its caption
_ID_LETTERS: Final = 20  # of a scan's id in one line


@dataclass(frozen=True, eq=False)
class Contested:
    """Scans that one family's fits disagree about, the most contested first.

    Attributes:
        family, size: Whose, at the largest size where it has fits that disagree.
        scans: (n,) positions among the test scans.
        probability: (n, K) mean probabilities over the fits.
    """

    family: str
    size: int
    scans: tuple[int, ...]
    probability: Floats


def contested(found: Sequence[Decomposed]) -> list[Contested]:
    """The most contested test scans of each family that has any."""
    chosen = []
    for family in dict.fromkeys(one.family for one in found):
        several = [one for one in found if one.family == family and (one.spread > 0).any()]
        if several:
            one = max(several, key=lambda place: place.size)
            ranks = [rank for rank in ranked_scans([one], MOST) if rank.ranked_by == "spread"]
            scans = tuple(rank.scan for rank in ranks if rank.spread > 0)
            chosen.append(Contested(family, one.size, scans, one.probability[list(scans)]))
    return chosen


def draw_contested(path: Path, task: Task, store: Store, families: Sequence[Contested]) -> None:
    """Draw one row of scans for each family; without any, an earlier picture is removed.

    Args:
        path: Of the PNG file.
        task: What was predicted.
        store: Of the test scans.
        families: What to draw.
    """
    if not families:
        path.unlink(missing_ok=True)
        return
    tests = store.rows("test")
    width, height = _CELL_IN
    with mpl.rc_context({**STYLE, "font.size": 7}):
        figure = Figure(figsize=(MOST * width, height * len(families)), dpi=110)
        panels = figure.subplots(len(families), MOST, squeeze=False)
        inch = 1 / (height * len(families))
        figure.subplots_adjust(
            left=0.01, right=0.99, bottom=0.55 * inch, top=1 - 0.3 * inch, wspace=0.08, hspace=0.6
        )
        for row, shown in zip(panels, families, strict=True):
            for axes in row:
                axes.set_axis_off()
            rows = [tests[scan] for scan in shown.scans]
            for axes, scan, record, p in zip(
                row, store.read(rows), rows, shown.probability, strict=False
            ):
                axes.imshow(_picture(scan), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                caption = f"{_broken(record.scan_id)}\n{_told(task, record.target, p)}"
                axes.text(0.5, -0.03, caption, ha="center", va="top", transform=axes.transAxes)
            title = f"{shown.family}, {shown.size} patients: true class and its mean probability"
            row[0].set_title(title, loc="left", fontsize=9)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    write_bytes(path, buffer.getvalue())
    path.chmod(0o600)


def _told(task: Task, target: tuple[int, ...], p: Floats) -> str:
    """True class, or labels, with their mean probability."""
    true = np.flatnonzero(target).tolist() if task.is_multi_label else list(target)
    if not true:
        most = int(p.argmax())
        return f"no label; {task.class_names[most]}: {p[most]:.2f}"
    return ", ".join(f"{task.class_names[number]}: {p[number]:.2f}" for number in true)


def _broken(scan_id: str) -> str:
    """An id in lines that fit under a scan: it is what finds the scan, and must be whole."""
    starts = range(0, len(scan_id), _ID_LETTERS)
    return "\n".join(scan_id[start : start + _ID_LETTERS] for start in starts)


def _picture(scan: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A prepared image, or the slice across the last axis of a prepared volume, in 8 bits.

    Prepared volumes that state how they lie are RAS (``configs/prep``): the slice is then axial.
    """
    if scan.ndim == 4:
        return thumbnail(Volume(scan, np.eye(4)))
    if len(scan) == 3:
        low, high = np.percentile(scan, (1, 99))
        scan = np.clip(255 * (scan - low) / max(high - low, 1e-6), 0, 255)
        return thumbnail(Volume(np.rint(scan).astype(np.uint8), np.eye(4), has_geometry=False))
    return thumbnail(Volume(scan, np.eye(4), has_geometry=False))
