"""How the probes' pictures look: scans and maps as panels without axes, one style for all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.page import PALETTE, STYLE

if TYPE_CHECKING:
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIGNED: Final = "RdBu_r"  # for what has a sign: white is 0, and red and blue differ for all eyes
_PANEL_INCHES: Final = 2.6


@contextmanager
def canvas(title: str, width: float, height: float) -> Iterator[Figure]:
    """A figure of that size in inches in the pages' style; draw in it within the block."""
    import matplotlib as mpl  # half a second, which who draws nothing need not wait
    from matplotlib.figure import Figure

    with mpl.rc_context({**STYLE, "font.size": 9}):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.suptitle(title, fontsize=11)
        yield figure


@contextmanager
def row(title: str, panels: int) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with that many panels side by side."""
    with canvas(title, _PANEL_INCHES * panels + 0.4, _PANEL_INCHES + 0.9) as figure:
        yield figure, list(figure.subplots(1, panels, squeeze=False)[0])


def plane(image: Tensor) -> NDArray[np.float64]:
    """(I, J) as it is, or the slice in the middle of the last axis of (I, J, K)."""
    flat = image if image.ndim == 2 else image[..., image.shape[2] // 2]
    shown: NDArray[np.float64] = flat.detach().double().numpy()
    return shown


def scan_plane(scan: Tensor) -> NDArray[np.float64]:
    """One plane of a scan (C, I, J[, K]), its channels averaged."""
    return plane(scan.detach().double().mean(dim=0))


def show(panel: Axes, image: NDArray[np.float64], title: str, **look: Any) -> mpl.image.AxesImage:
    """Draw an image, the first axis downwards, grey unless ``look`` (imshow's own) says more."""
    panel.set_title(title, fontsize=9)
    panel.set_axis_off()
    return panel.imshow(image, **{"cmap": "gray", "interpolation": "nearest", **look})


def show_signed(
    panel: Axes, image: NDArray[np.float64], title: str, largest: float | None = None
) -> mpl.image.AxesImage:
    """Draw an image whose sign means something, white at 0."""
    most = largest or float(np.abs(image).max()) or 1.0
    return show(panel, image, title, cmap=SIGNED, vmin=-most, vmax=most)


def colour_bar(figure: Figure, shown: mpl.image.AxesImage, panel: Axes) -> None:
    """A scale beside a panel."""
    bar = figure.colorbar(shown, ax=panel, shrink=0.75, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2)


def frame(panel: Axes, corner: Sequence[float], size: Sequence[float]) -> None:
    """A dashed box, (rows, columns) of voxels, from the voxel at ``corner`` on."""
    from matplotlib.patches import Rectangle

    place = (corner[1] - 0.5, corner[0] - 0.5)
    panel.add_patch(
        Rectangle(place, size[1], size[0], fill=False, ec=PALETTE[1], lw=1.2, ls=(0, (4, 2)))
    )
