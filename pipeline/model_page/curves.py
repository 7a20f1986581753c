"""What the page draws of test scans: ROC and precision-recall curves, and scores of shift."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from data_prep.task import Task
from pipeline.model_page.judged import Foreign
from pipeline.page import PALETTE, STYLE, svg
from pipeline.weighted_metrics import Floats, Labels, questions

_DASHES: Final = (0, (4, 3))
_BINS: Final = 30
# A score in steps has no upper end: what lies beyond is counted in the last bar.
_FARTHEST: Final = 12.0


@dataclass(frozen=True, eq=False)
class Operating:
    """How one class, or label, is told from the rest at every threshold, from high to low.

    Attributes:
        name: Which.
        alarms: (T,) share of the scans without it that are called it: 1 - specificity.
        hits: (T,) share of the scans with it that are called it: sensitivity, recall.
        precision: (T,) share of the scans called it that have it; 1 where none is called it.
        at: Index of the threshold that the model decides by; None where it takes the most
            probable of several classes.
        prevalence: Share of the scans that have it.
    """

    name: str
    alarms: Floats
    hits: Floats
    precision: Floats
    at: int | None
    prevalence: float


def operating(
    task: Task, target: Labels, probability: Floats, thresholds: tuple[float, ...]
) -> Iterator[Operating]:
    """The curve of each question of a task; those to which all scans answer alike have none.

    Args:
        task: What was predicted.
        target: (N,) class indices, or (N, L) 0/1 for multi-label.
        probability: (N, n_classes).
        thresholds: Of ``Decision``.
    """
    names = task.class_names[1:] if task.kind == "binary" else task.class_names
    one_by_one = task.kind in ("binary", "multi-label")
    asked = questions(task, target, probability)
    for number, (name, (truth, score)) in enumerate(zip(names, asked, strict=True)):
        if truth.all() or not truth.any():
            continue
        falling, group = np.unique(-score, return_inverse=True)
        hits = np.concatenate([[0], np.cumsum(np.bincount(group, truth))])
        alarms = np.concatenate([[0], np.cumsum(np.bincount(group, ~truth))])
        called = hits + alarms
        yield Operating(
            name=name,
            alarms=alarms / alarms[-1],
            hits=hits / hits[-1],
            precision=np.where(called > 0, hits / np.maximum(called, 1), 1.0),
            at=_reached(-falling, thresholds[number : number + 1]) if one_by_one else None,
            prevalence=float(truth.mean()),
        )


def _reached(falling: Floats, threshold: tuple[float, ...]) -> int:
    """How many distinct probabilities are decided to be positive, as ``Decision`` has it."""
    positive = falling >= threshold[0] if threshold else falling > 0.5
    return int(positive.sum())


def curves_figure(curves: list[Operating]) -> str:
    """ROC and precision-recall side by side, a line for each question, as SVG text."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 3.4), layout="constrained")
        roc, recall = figure.subplots(1, 2)
        for number, curve in enumerate(curves):
            colour = PALETTE[number % len(PALETTE)]
            label = curve.name if len(curves) > 1 else None
            roc.plot(curve.alarms, curve.hits, color=colour, linewidth=1.8, label=label)
            # The precision before the first scan is called is none.
            recall.plot(curve.hits[1:], curve.precision[1:], color=colour, linewidth=1.8)
            recall.axhline(curve.prevalence, color=colour, linewidth=0.8, linestyle=_DASHES)
            if curve.at is not None:
                dot = {"color": colour, "marker": "o", "markersize": 7, "markeredgecolor": "white"}
                roc.plot(curve.alarms[curve.at], curve.hits[curve.at], **dot)
                if curve.at:
                    recall.plot(curve.hits[curve.at], curve.precision[curve.at], **dot)
        roc.plot([0, 1], [0, 1], color="#8a8a8a", linewidth=0.8, linestyle=_DASHES)
        _square(roc, "1 − specificity", "Sensitivity")
        _square(recall, "Sensitivity (recall)", "Precision (PPV)")
        if len(curves) > 1:
            figure.legend(loc="outside upper left", ncols=3, frameon=False)
        return svg(figure, "curves")


def shift_figure(foreign: Foreign) -> str:
    """How many test scans have which score of shift, flagged ones apart, as SVG text."""
    scores = np.array([score for score, _ in foreign.scores]).clip(max=_FARTHEST)
    flagged = np.array([flag for _, flag in foreign.scores])
    edges = np.linspace(min(0.0, float(scores.min())), float(max(scores.max(), 1)), _BINS + 1)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 2.7), layout="constrained")
        axes = figure.add_subplot()
        below = _bars(axes, scores[~flagged], edges, None, PALETTE[0], "like the training scans")
        _bars(axes, scores[flagged], edges, below, PALETTE[1], "flagged")
        axes.set_xlabel("Score of shift, in steps of what held-out scans differ by")
        axes.set_ylabel("Scans")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
        return svg(figure, "shift")


def _bars(
    axes: Axes,
    scores: Floats,
    edges: Floats,
    bottom: NDArray[np.int64] | None,
    colour: str,
    label: str,
) -> NDArray[np.int64]:
    counts = np.histogram(scores, edges)[0]
    axes.bar(
        edges[:-1],
        counts,
        np.diff(edges),
        bottom,
        align="edge",
        color=colour,
        label=label,
        edgecolor="white",
        linewidth=0.5,
    )
    return counts


def _square(axes: Axes, x: str, y: str) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_aspect("equal")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
