"""Explanations as pictures: the scan, and beside or on it what speaks for the class.

A volume is shown in the three planes through the map's peak, as radiologists look at it: the
patient's right on the left of an axial and a coronal picture, anterior on the left of a sagittal
one. The letters at the edges say so.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from data_prep.geometry import reorient
from data_prep.intensity import to_grey
from data_prep.volume import Volume
from pipeline.page import STYLE
from pipeline.trust.explain_methods import Method
from pipeline.trust.explain_scan import Explanation

TITLES: Final[dict[Method, str]] = {
    "grad_cam": "Grad-CAM",
    "occlusion": "Occlusion",
    "integrated_gradients": "Integrated gradients",
}
# Even in lightness or symmetric about white, and told apart with any common colour blindness:
# matplotlib's inferno, and ColorBrewer's PuOr with orange for the class.
_ONE_SIDED: Final = "inferno"
_SIGNED: Final = "PuOr_r"
# Percentiles of a scan that are black and white, and of a signed map's size that is full colour.
_SHOWN: Final = (0.5, 99.5)
_FULL: Final = 99.8
OPAQUE: Final = 0.75  # the strongest evidence still lets the scan through
# Inches that all columns may have, and each row; and what a title needs.
_WIDTH: Final = 9.0
_HEIGHT: Final = 5.5
_LEAST_WIDTH: Final = 6.5
_LETTERS: Final = 80  # of a name in the title
_OPPOSITE: Final = dict(zip("RLAPSI", "LRPAIS", strict=True))
# Panels of a volume: (name, axis that it lies across, axis to its right, axis down).
_PLANES: Final = (("axial", 2, 0, 1), ("coronal", 1, 0, 2), ("sagittal", 0, 1, 2))


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture: grey values and map, rows down and columns across.

    Attributes:
        name: What it shows.
        grey: (rows, columns).
        values: (rows, columns) of the map.
        spacing: Of rows and columns, mm.
        letters: At the left, right, top and bottom edge; "" where unknown.
        peak: (row, column) of the map's peak; None: there is none.
    """

    name: str
    grey: NDArray[np.float64]
    values: NDArray[np.float32]
    spacing: tuple[float, float]
    letters: tuple[str, str, str, str]
    peak: tuple[int, int] | None


def overlay_png(explanation: Explanation, volume: Volume, scan: str) -> bytes:
    """An explanation on its scan, as PNG; the same bytes for the same input.

    Args:
        explanation: Of ``volume``.
        volume: As it was read.
        scan: Name that the title shows.
    """
    explanation = _scaled(explanation)
    made = _panels_2d if volume.spatial_ndim == 2 else _panels_3d
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = _drawn(explanation, made(explanation, volume), scan)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _scaled(explanation: Explanation) -> Explanation:
    """Grad-CAM's values have no unit: they are drawn as shares of the largest."""
    largest = float(explanation.map.max())
    if explanation.method != "grad_cam" or not largest > 0:
        return explanation
    return replace(explanation, map=explanation.map / largest)


def _grey(volume: Volume) -> NDArray[np.float64]:
    """(I, J[, K]), black 0 and white 1."""
    array = to_grey(volume.array) if len(volume.array) == 3 else volume.array[:1]
    values = np.asarray(array[0], dtype=np.float64)
    low, high = np.percentile(values, _SHOWN)
    return np.asarray(((values - low) / max(high - low, 1e-12)).clip(0, 1))


def _panels_2d(explanation: Explanation, volume: Volume) -> list[Panel]:
    peak = explanation.peak()
    rows, columns = volume.spacing_mm
    letters = _letters(volume.orientation, 0, 1)
    at = None if peak is None else (peak[0], peak[1])
    return [Panel("scan", _grey(volume), explanation.map, (rows, columns), letters, at)]


def _panels_3d(explanation: Explanation, volume: Volume) -> list[Panel]:
    """The planes through the peak, or through the middle of an empty map."""
    shown = replace(volume, array=np.stack([_grey(volume), explanation.map]))
    if volume.has_geometry:
        shown = reorient(shown, "LPI")  # columns to L or P and rows to P or I, as it is looked at
    grey, values = shown.array
    empty = explanation.peak() is None
    place = [n // 2 for n in values.shape]
    if not empty:
        place = [int(i) for i in np.unravel_index(int(values.argmax()), values.shape)]
    return [
        Panel(
            name=name if volume.has_geometry else f"{'ijk'[right]}, {'ijk'[down]}",
            grey=grey.take(place[across], axis=across).T,
            values=values.take(place[across], axis=across).T,
            spacing=(shown.spacing_mm[down], shown.spacing_mm[right]),
            letters=_letters(shown.orientation, down, right),
            peak=None if empty else (place[down], place[right]),
        )
        for name, across, right, down in _PLANES
    ]


def _letters(orientation: str, down: int, right: int) -> tuple[str, str, str, str]:
    if not orientation:
        return ("", "", "", "")
    to_right, to_bottom = orientation[right], orientation[down]
    return (_OPPOSITE[to_right], to_right, _OPPOSITE[to_bottom], to_bottom)


def _drawn(explanation: Explanation, panels: Sequence[Panel], scan: str) -> Figure:
    """The scan above (of an image: beside) the same with the map on it."""
    volume = len(panels) > 1
    rows, columns = (2, len(panels)) if volume else (1, 2)
    widths = [_width_mm(p) for p in panels] if volume else [_width_mm(panels[0])] * 2
    height = max(_height_mm(p) for p in panels)
    inches = min(_WIDTH / sum(widths), _HEIGHT / height)  # per mm
    size = (max(inches * sum(widths), _LEAST_WIDTH) + 1.6, rows * inches * height + 1.2)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, width_ratios=widths)
    colours = _colours(explanation)
    for panel, (plain, mapped) in zip(panels, axes.T if volume else axes, strict=True):
        _show(plain, panel, None)
        _show(mapped, panel, colours)
        plain.set_title(panel.name, fontsize=10)
        if not volume:
            mapped.set_title(TITLES[explanation.method], fontsize=10)
    bar = figure.colorbar(colours, ax=axes, fraction=0.025, pad=0.02)
    bar.set_label(UNITS[explanation.method], fontsize=9)
    bar.outline.set_visible(False)
    figure.suptitle(_title(explanation, scan), fontsize=10, x=0.01, ha="left")
    return figure


UNITS: Final[dict[Method, str]] = {
    "grad_cam": "evidence for the class, relative to the largest",
    "occlusion": "log-odds of the class lost where hidden",
    "integrated_gradients": "log-odds of the class added, per voxel",
}


def _title(explanation: Explanation, scan: str) -> str:
    """Three lines at most; of a long scan's name the end, where scans of a folder differ."""
    name = _shortened(explanation.class_name)
    lines = [
        f"{TITLES[explanation.method]} · {name} · probability {explanation.probability:.3f}",
        _shortened(scan[::-1])[::-1],
    ]
    if explanation.peak() is None:
        lines.append("nothing in this scan speaks for this class")
    return "\n".join(lines)


def _shortened(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"


def is_signed(method: Method) -> bool:
    """Whether its maps also say what speaks against the class."""
    return method != "grad_cam"


def colour_map(method: Method) -> Colormap:
    """Colours of a map's values, from none to most, or from most against to most for the class."""
    if not is_signed(method):
        return mpl.colormaps[_ONE_SIDED]
    # Without the darkest ends, which a dark part of a scan would swallow.
    return ListedColormap(mpl.colormaps[_SIGNED](np.linspace(0.12, 0.88, 256)))


def full_colour(method: Method, values: NDArray[np.float32]) -> float:
    """The value of a map that has full colour: its largest, or of a signed map nearly that."""
    if not is_signed(method):
        return float(values.max()) if values.max() > 0 else 1.0
    size = np.abs(values[values != 0])
    return float(np.percentile(size, _FULL)) if size.size else 1.0


def _colours(explanation: Explanation) -> ScalarMappable:
    """Grad-CAM's from 0, signed ones about 0."""
    method, full = explanation.method, full_colour(explanation.method, explanation.map)
    return ScalarMappable(Normalize(-full if is_signed(method) else 0, full), colour_map(method))


def _show(axes: Axes, panel: Panel, colours: ScalarMappable | None) -> None:
    aspect = panel.spacing[0] / panel.spacing[1]
    axes.imshow(panel.grey, cmap="gray", vmin=0, vmax=1, aspect=aspect, interpolation="nearest")
    if colours is not None:
        shades = colours.to_rgba(panel.values)
        # Linear in the evidence: weak evidence must not cover the scan.
        share = np.abs(panel.values) / (colours.norm.vmax or 1.0)
        shades[..., 3] = OPAQUE * share.clip(0, 1)
        axes.imshow(shades, aspect=aspect, interpolation="nearest")
        if panel.peak is not None:
            row, column = panel.peak
            axes.plot(column, row, "+", color="white", markersize=11, markeredgewidth=2.6)
            axes.plot(column, row, "+", color="black", markersize=9, markeredgewidth=1.0)
    places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.98), (0.5, 0.02))
    sides = (("left", "center"), ("right", "center"), ("center", "top"), ("center", "bottom"))
    for letter, (x, y), (across, along) in zip(panel.letters, places, sides, strict=True):
        text = axes.text(x, y, letter, transform=axes.transAxes, ha=across, va=along, fontsize=9)
        text.set(color="white", path_effects=[withStroke(linewidth=2, foreground="black")])
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _width_mm(panel: Panel) -> float:
    return float(panel.grey.shape[1] * panel.spacing[1])


def _height_mm(panel: Panel) -> float:
    return float(panel.grey.shape[0] * panel.spacing[0])
