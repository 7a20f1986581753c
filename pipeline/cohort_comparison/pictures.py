"""The pictures of two cohorts side by side: histograms, mean scans, the strangest scans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from data_prep.glimpse import png
from data_prep.miniature import EDGE, Planes
from pipeline.cohort_comparison.compare import CohortSide
from pipeline.page import PALETTE, STYLE, data_uri, svg

_BINS: Final = 40
_PLANES: Final = {1: ("image",), 3: ("along the first axis", "along the second", "along the third")}


def histograms(sides: Sequence[CohortSide]) -> str:
    """Share of voxels at each intensity, a line for each cohort."""
    quantiles = [np.array([scan.quantiles for scan in side.sample]) for side in sides]
    ends = [np.quantile(values, (0.005, 0.995)) for values in quantiles]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 2.9), layout="constrained")
        axes = figure.add_subplot()
        for side, values, colour, line in zip(sides, quantiles, PALETTE, ("-", "--"), strict=False):
            share = np.histogram(values, edges)[0] / values.size
            axes.stairs(share, edges, color=colour, linewidth=2, linestyle=line, label=side.name)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        axes.set_xlabel("Intensity as read")
        axes.set_ylabel(f"Share of {sides[0].seen.unit}s")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderpad=0)
        return svg(figure, "histograms")


def mean_pictures(sides: Sequence[CohortSide]) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each projection its name; captions and pictures of both means and their difference."""
    means = [_mean(side.planes) for side in sides]
    shown = []
    for number, name in enumerate(_PLANES[len(means[0])]):
        first, second = means[0][number], means[1][number]
        pictures = [data_uri(png(np.rint(mean).astype(np.uint8))) for mean in (first, second)]
        pictures.append(data_uri(png(_signed(second - first))))
        captions = (*(side.name for side in sides), "difference")
        shown.append((name, list(zip(captions, pictures, strict=True))))
    return shown


def scan_picture(planes: Planes) -> str:
    """A scan in miniature; of a volume the projection along its last axis (RAS: from above)."""
    return data_uri(png(planes[-1] if len(planes) else np.zeros((EDGE, EDGE), np.uint8)))


def _mean(planes: Sequence[Planes]) -> NDArray[np.float64]:
    """Of the scans that are not of one intensity; black where all are."""
    count = max((len(scan) for scan in planes), default=0) or 1
    total = np.zeros((count, EDGE, EDGE))
    seen = [scan for scan in planes if len(scan)]
    for scan in seen:
        total += scan
    return total / max(1, len(seen))


def _signed(difference: NDArray[np.float64]) -> NDArray[np.uint8]:
    """White where the second cohort is brighter by the largest difference, black where darker."""
    largest = float(np.abs(difference).max()) or 1.0
    return np.rint(127.5 + 127.5 * difference / largest).astype(np.uint8)
