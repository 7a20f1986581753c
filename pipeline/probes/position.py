"""Does a network know where it looks? Position read out of its maps of images without content.

Islam, Jia and Bruce 2020, "How much position information do convolutional neural networks encode?":
zero padding tells a network how far the border is. On an image of one grey level all places of a
map are equal unless padding, or windows beyond the border, make them differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pipeline.dataset import Scans
from pipeline.families.base import Family
from pipeline.probes.base import Probe, ProbeError, Where, drawn, grey_images, tap
from pipeline.probes.pictures import plane, row, show, show_signed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Ridge penalty relative to the mean square of a centred feature: far above the squares of rounding
# (1e-32), so that a map without differences stays without; far below any real difference.
_PENALTY: Final = 1e-9
_AXES: Final = ("row", "column", "slice")


class Position(Probe):
    """Ridge regression from a map's channels at a place to the place, on grey images.

    Quantities, R^2 on images that the regression has not seen: ``position`` (mean over axes),
    ``position row``, ``position column``, ``position slice``: 1 where places are read off exactly,
    0 where they cannot be told apart (``valid`` and ``circular`` padding).

    Attributes:
        where: Which convolution.
        images: Of grey levels drawn within the scans' intensities; the regression is fitted on half
            of them and scored on the others.
    """

    units: ClassVar[Mapping[str, str]] = {"position": "R² of the place, read off the map"}
    bounds: ClassVar[tuple[float, float]] = (-math.inf, 1.0)

    probe: Literal["position"] = "position"
    where: Where = "last"
    images: int = Field(default=32, ge=2)

    @property
    def quantities(self) -> tuple[str, ...]:
        """As all probes; of images there is no ``position slice``."""
        return ("position", *(f"position {axis}" for axis in _AXES))

    def check(self, family: Family[Any]) -> None:
        """As all probes."""
        tap(family, self.where)

    def measure(self, family: Family[Any], scans: Scans, seed: int) -> dict[str, float]:
        """As all probes; also ``probe.scan_too_small`` where a map is one place along an axis."""
        scores = self._read(family, scans, seed).scores
        by_axis = {f"position {_AXES[axis]}": float(score) for axis, score in enumerate(scores)}
        return {"position": float(np.mean(scores)), **by_axis}

    def draw(self, family: Family[Any], scans: Scans, seed: int) -> Figure:
        """A grey image, how its mean map differs from place to place, and what is read off it."""
        found = self._read(family, scans, seed)
        title = f"{family.name}: what {found.layer} tells of places in a grey image"
        with row(title, 4) as (figure, panels):
            image = plane(found.image)
            show(panels[0], image, "grey image", vmin=image.min() - 1, vmax=image.max() + 1)
            mean = found.mean - found.mean.mean()
            spread = f"{float(mean.abs().max()):.2g}"
            show_signed(panels[1], plane(mean), f"mean map around its mean\n(largest: {spread})")
            for axis, panel in enumerate(panels[2:]):
                told = torch.from_numpy(found.told[..., axis])
                caption = f"{_AXES[axis]} read off: R² = {found.scores[axis]:.2f}"
                show(panel, plane(told), caption, cmap="PuOr", vmin=-1, vmax=1)
        return figure

    def _read(self, family: Family[Any], scans: Scans, seed: int) -> _Reading:
        drawn(family, scans, 1, seed)  # refuses foreign scans
        tapped = tap(family, self.where)
        images = grey_images(scans, self.images, seed)
        with torch.no_grad():
            maps = tapped.maps(images)
        shape = maps.shape[2:]
        if min(shape) < 2:
            raise ProbeError(
                "probe.scan_too_small",
                f"position: the maps of {tapped.layer.name} are {' x '.join(map(str, shape))}; "
                "places are told apart along axes of 2 and more",
                fix="set where: first_resolution, or probe larger scans",
            )
        places = np.stack(
            np.meshgrid(*(np.linspace(-1, 1, edge) for edge in shape), indexing="ij"), axis=-1
        ).reshape(-1, len(shape))
        features = maps.flatten(2).movedim(1, 2).numpy()  # (images, places, channels)
        half = self.images // 2
        told = _ridge(features[:half], features[half:], places)
        errors = np.square(told - places).sum(axis=(0, 1))
        scores = 1 - errors / (len(told) * np.square(places).sum(axis=0))
        return _Reading(
            tapped.layer.name,
            images[half, 0],
            maps[half].mean(dim=0),
            told[0].reshape(*shape, len(shape)),
            scores,
        )


@dataclass(frozen=True, eq=False)
class _Reading:
    """What was read off the maps of a layer.

    Attributes:
        layer: Its name.
        image: (I, J[, K]) grey image that was not fitted on.
        mean: (I', J'[, K']) mean over the channels of its map.
        told: (I', J'[, K'], axes) places read off that map, -1 to 1 along each axis.
        scores: (axes,) R^2.
    """

    layer: str
    image: Tensor
    mean: Tensor
    told: NDArray[np.float64]
    scores: NDArray[np.float64]


def _ridge(
    fitted: NDArray[np.float64], other: NDArray[np.float64], places: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Places (images, P, axes) told of maps ``other``, by a ridge on maps (images, P, channels)."""
    rows = fitted.reshape(-1, fitted.shape[-1])
    mean = rows.mean(axis=0)
    centred = rows - mean
    penalty = max(_PENALTY * float(np.square(centred).sum()), np.finfo(np.float64).tiny)
    wanted = np.tile(places, (len(fitted), 1))  # its mean is 0
    gram = centred.T @ centred + penalty * np.eye(len(mean))
    weights = np.linalg.solve(gram, centred.T @ wanted)
    told: NDArray[np.float64] = (other - mean) @ weights
    return told
