"""The scan of an answer as the model saw it, and beside or below it the same with a map on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_prep.preprocess import PrepRecipe
from pipeline.serving.upright import Plane, Upright, channels, planes
from pipeline.trust.explain_methods import Method
from pipeline.trust.explain_picture import OPAQUE, colour_map, full_colour, is_signed
from pipeline.trust.explain_scan import Explanation

# Percentiles of a scan that are black and white.
_SHOWN: Final = (0.5, 99.5)


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a plane.

    Attributes:
        colours: (rows, columns, 3) 0..1.
        size: Relative height and width.
        letters: Of the patient's side at the left and at the top edge; "" where that is not known.
    """

    colours: NDArray[np.float64]
    size: tuple[float, float]
    letters: tuple[str, str]


def panels(
    recipe: PrepRecipe, array: NDArray[np.float32], explanation: Explanation | None
) -> list[list[Panel]]:
    """Rows of pictures: an image or three planes of a volume, then the same with the map.

    Args:
        recipe: Of the model.
        array: (C, I, J[, K]) the scan as the model saw it.
        explanation: Its map is on the same grid; a volume is cut through its peak, else through its
            middle. None, or an empty one: there are no pictures with a map.

    Returns:
        Of an image one row, scan and map side by side; of a volume a row of each.
    """
    upright = Upright.of(recipe.config, recipe.spatial_ndim)
    turned = upright.turn(array)
    if explanation is None or not is_drawn(explanation):
        return [_plain(planes(turned), array)]
    evidence = upright.turn(explanation.prepared[np.newaxis])
    peak = np.unravel_index(int(evidence.array[0].argmax()), evidence.array.shape[1:])
    through = [int(n) for n in peak] if explanation.prepared.max() > 0 else None
    plain = _plain(planes(turned, through), array)
    full = full_colour(explanation.method, explanation.prepared)
    mapped = [
        _mapped(panel, plane, explanation.method, full)
        for panel, plane in zip(plain, planes(evidence, through), strict=True)
    ]
    return [plain, mapped] if turned.spatial_ndim == 3 else [plain + mapped]


def is_drawn(explanation: Explanation) -> bool:
    """Whether a map has anything that can be seen."""
    least = -np.inf if is_signed(explanation.method) else 0.0
    return bool((explanation.prepared.clip(least) != 0).any())


def coloured(share: NDArray[np.float64], method: Method) -> NDArray[np.float64]:
    """(...) evidence as a share of full colour, -1..1 -> (..., 3) colours of its method, 0..1."""
    low = -1.0 if is_signed(method) else 0.0
    return np.asarray(colour_map(method)((share.clip(low, 1) - low) / (1 - low))[..., :3])


def in_pixels(panel: Panel, height: int, width: int) -> Image.Image:
    """A panel at that size; a voxel that is larger than pixels stays visible as such."""
    image = Image.fromarray((panel.colours * 255).round().astype(np.uint8))
    # a mean of what falls into a pixel
    return image.resize((max(1, width), max(1, height)), Image.Resampling.BOX)


def _plain(shown: Sequence[Plane], array: NDArray[np.float32]) -> list[Panel]:
    pictures = [channels(plane.values).astype(np.float64) for plane in shown]
    in_colour = any(values.ndim == 3 for values in pictures)
    low, high = np.percentile(array if in_colour else array[:1], _SHOWN)
    scaled = [((values - low) / max(high - low, 1e-12)).clip(0, 1) for values in pictures]
    return [
        Panel(v if v.ndim == 3 else np.stack([v, v, v], axis=-1), plane.size, plane.letters)
        for v, plane in zip(scaled, shown, strict=True)
    ]


def _mapped(panel: Panel, plane: Plane, method: Method, full: float) -> Panel:
    """The map on a panel, linear in the evidence: weak evidence must not cover the scan."""
    least = -1.0 if is_signed(method) else 0.0
    share = (plane.values[0].astype(np.float64) / full).clip(least, 1)
    cover = OPAQUE * np.abs(share)[..., np.newaxis]
    colours = panel.colours * (1 - cover) + coloured(share, method) * cover
    return Panel(colours, panel.size, panel.letters)
