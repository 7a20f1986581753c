"""The figures of a cohort's page, as SVG text that stands by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from data_prep.fingerprint import CohortFingerprint, in_frame, states_spacing
from data_prep.manifest import ScanRecord
from data_prep.survey import SampledScan
from pipeline.page import PALETTE, STYLE, svg

_BINS: Final = 40
_WIDTH_IN: Final = 5.2
# More classes than this in one figure cannot be told apart.
MOST_CLASSES: Final = 6


def geometry(records: Sequence[ScanRecord], seen: CohortFingerprint) -> str:
    """Histograms of size, spacing and extent along each axis; "" where all scans are alike."""
    ndim = seen.spatial_ndim
    alike = [record for record in records if len(record.shape) - 1 == ndim]
    spaced = [record for record in alike if states_spacing(record)]
    rows = [(f"{seen.unit}s", np.array([in_frame(r, r.shape[1:], seen.frame) for r in alike]))]
    if spaced:
        sizes = np.array([in_frame(r, r.shape[1:], seen.frame) for r in spaced])
        spacing = np.array([in_frame(r, r.spacing_mm, seen.frame) for r in spaced])
        rows += [(f"{seen.unit} size (mm)", spacing), ("extent (mm)", sizes * spacing)]
    rows = [(what, values) for what, values in rows if np.ptp(values, axis=0).any()]
    if not rows:
        return ""
    with mpl.rc_context({**STYLE, "font.size": 9}):
        figure = Figure(figsize=(_WIDTH_IN, 0.5 + 1.25 * len(rows)), layout="constrained")
        panels = figure.subplots(len(rows), ndim, squeeze=False, sharey="row")
        for (what, values), line in zip(rows, panels, strict=True):
            edges = np.histogram_bin_edges(values, min(_BINS, 20))
            for number, panel in enumerate(line):
                panel.hist(values[:, number], edges, color=PALETTE[0])
                panel.set_xlabel(what)
                panel.xaxis.set_major_locator(MaxNLocator(3))
                panel.yaxis.set_major_locator(MaxNLocator(3, integer=True))
            line[0].set_ylabel("scans")
        for axis, panel in zip(seen.axes, panels[0], strict=True):
            panel.set_title(axis.name, fontsize=9)
        return svg(figure, "geometry")


def histograms(sample: Sequence[SampledScan], classes: Sequence[str], unit: str) -> str:
    """Share of voxels at each intensity: one line a class, or one for all of many classes.

    Args:
        sample: The scans that were read again.
        classes: Their classes.
        unit: "voxel" or "pixel".
    """
    groups = _by_class(sample, classes)
    low, high = _range(sample)
    edges = np.linspace(low, high, _BINS + 1)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH_IN, 2.9), layout="constrained")
        axes = figure.add_subplot()
        for (name, scans), colour in zip(groups, PALETTE, strict=False):
            values = np.array([scan.quantiles for scan in scans])
            share = np.histogram(values, edges)[0] / values.size
            axes.stairs(share, edges, color=colour, linewidth=2, label=name)
        axes.set_yscale("symlog", linthresh=0.01)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_locator(mpl.ticker.FixedLocator([0, 0.01, 0.1, 1]))
        axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        axes.set_xlabel("Intensity as read")
        axes.set_ylabel(f"Share of {unit}s")
        _legend(axes, len(groups))
        return svg(figure, "histograms")


def ranges(sample: Sequence[SampledScan], classes: Sequence[str]) -> str:
    """Each scan's 1st to 99th percentile and its median, scans side by side."""
    groups = _by_class(sample, classes)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH_IN, 2.9), layout="constrained")
        axes = figure.add_subplot()
        start = 0
        for (name, scans), colour in zip(groups, PALETTE, strict=False):
            ends = np.array([_percentiles(scan) for scan in scans])
            low, middle, high = ends[np.argsort(ends[:, 2] - ends[:, 0])].T
            at = start + np.arange(len(scans))
            axes.vlines(at, low, high, color=colour, alpha=0.45, linewidth=3)
            axes.plot(at, middle, "o", color=colour, markersize=3.5, label=name)
            start += len(scans) + 1
        axes.set_xticks([])
        axes.set_xlabel(f"{len(sample)} scans")
        axes.set_ylabel("Intensity as read")
        _legend(axes, len(groups))
        return svg(figure, "ranges")


def _by_class(
    sample: Sequence[SampledScan], classes: Sequence[str]
) -> list[tuple[str, list[SampledScan]]]:
    """Scans by class; a scan with several labels stands in each. All together for many classes."""
    if len(classes) > MOST_CLASSES:
        return [("all classes", list(sample))]
    groups = [(name, [scan for scan in sample if name in scan.labels]) for name in classes]
    return [(name, scans) for name, scans in groups if scans]


def _percentiles(scan: SampledScan) -> NDArray[np.float64]:
    kept = np.linspace(0, 1, len(scan.quantiles))
    return np.asarray(np.interp((0.01, 0.5, 0.99), kept, scan.quantiles))


def _range(sample: Sequence[SampledScan]) -> tuple[float, float]:
    """What half a percent of all voxels lie below and above; never empty."""
    low, high = np.quantile([scan.quantiles for scan in sample], (0.005, 0.995))
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def _legend(axes: Axes, count: int) -> None:
    if count > 1:
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=min(count, 3), frameon=False, borderpad=0
        )
