"""An answer as a picture: the scan as the model saw it, and below it what the model says.

The picture goes to where patients' images are: it shows no name and no path, only the answer, the
model and what it is for.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from data_prep.preprocess import AS_STORED, PrepRecipe
from pipeline.dicom_out.identity import CAUTION, model_name
from pipeline.serving.package import ModelPackage
from pipeline.serving.predictions import UNLIKE_TRAINING, Prediction

Pixels = NDArray[np.uint8]

WIDTH: Final = 768
_GAP: Final = 8
_LINE: Final = 26
_FONT_SIZE: Final = 18
_MOST_CLASSES: Final = 6  # that have a bar
_BAR: Final = (300, 360)  # where bars begin, and how long a probability of 1 is
_WHITE: Final = (235, 235, 235)
_GREY: Final = (150, 150, 150)
_AMBER: Final = (255, 190, 60)
_BLUE: Final = (90, 160, 235)
# Percentiles of a scan that are black and white.
_SHOWN: Final = (0.5, 99.5)
_OPAQUE: Final = 0.6  # the strongest evidence still lets the scan through
_OPPOSITE: Final = dict(zip("RLAPSI", "LRPAIS", strict=True))
# Planes of a volume as radiologists look at them: (directions of the picture's down and right).
_PLANES: Final = (("P", "L"), ("I", "L"), ("I", "P"))


@dataclass(frozen=True, eq=False)
class _Panel:
    """One slice: (rows, columns, 3) colours 0..1, evidence 0..1 or None, and edge letters."""

    colours: NDArray[np.float64]
    evidence: NDArray[np.float64] | None
    letters: tuple[str, str] = ("", "")  # at the left and at the top


def answer_picture(
    package: ModelPackage,
    array: NDArray[np.float32],
    row: Prediction,
    evidence: NDArray[np.float32] | None = None,
) -> Pixels:
    """Draw an answer; the same pixels for the same input.

    Args:
        package: The model that answered.
        array: (C, I, J[, K]) the scan as the model saw it.
        row: The answer.
        evidence: (I, J[, K]) an explanation map on the same grid; only what speaks for the class
            (above 0) is drawn. A volume is shown through its peak, else through the middle.

    Returns:
        (rows, ``WIDTH``, 3) RGB.
    """
    slices = [_scaled(panel) for panel in _panels(package.recipe, array, evidence)]
    width = (WIDTH - _GAP * (len(slices) - 1)) // len(slices)
    pictures = [_fitted(picture, width) for picture, _ in slices]
    height = max(picture.height for picture in pictures)
    lines = 5 + min(len(row.probability), _MOST_CLASSES + 1)
    canvas = Image.new("RGB", (WIDTH, height + 2 * _GAP + lines * _LINE))
    draw = ImageDraw.Draw(canvas)
    for number, (picture, (_, letters)) in enumerate(zip(pictures, slices, strict=True)):
        left = number * (width + _GAP) + (width - picture.width) // 2
        top = (height - picture.height) // 2
        canvas.paste(picture, (left, top))
        _write(draw, (left + 4, top + picture.height // 2 - 12), letters[0], _WHITE)
        _write(draw, (left + picture.width // 2 - 6, top + 2), letters[1], _WHITE)
    _answer(draw, height + _GAP, package, row)
    return np.asarray(canvas)


def _panels(
    recipe: PrepRecipe, array: NDArray[np.float32], evidence: NDArray[np.float32] | None
) -> list[_Panel]:
    colours = _colours(array)
    share = _share(evidence)
    if array.ndim == 3:
        return [_Panel(colours, share)]
    if share is None or not share.any():
        place = tuple(size // 2 for size in array.shape[1:])
    else:
        place = tuple(int(n) for n in np.unravel_index(int(share.argmax()), share.shape))
    code = recipe.config.orientation
    if code == AS_STORED:  # which way the axes point is not known
        last = (slice(None), slice(None), place[2])
        return [_Panel(colours[last], None if share is None else share[last])]
    return [_plane(colours, share, place, code, down, right) for down, right in _PLANES]


def _plane(
    colours: NDArray[np.float64],
    share: NDArray[np.float64] | None,
    place: Sequence[int],
    code: str,
    down: str,
    right: str,
) -> _Panel:
    """The slice through ``place`` whose rows run ``down`` and whose columns run ``right``."""
    rows, columns = (
        next(axis for axis in range(3) if code[axis] in (way, _OPPOSITE[way]))
        for way in (down, right)
    )
    across = 3 - rows - columns

    def cut(values: NDArray[np.float64]) -> NDArray[np.float64]:
        plane: NDArray[np.float64] = np.take(values, place[across], axis=across)
        plane = plane if rows < columns else plane.swapaxes(0, 1)
        plane = plane if code[rows] == down else plane[::-1]
        return plane if code[columns] == right else plane[:, ::-1]

    letters = (_OPPOSITE[right], _OPPOSITE[down])
    return _Panel(cut(colours), None if share is None else cut(share), letters)


def _colours(array: NDArray[np.float32]) -> NDArray[np.float64]:
    """(C, ...) of any scale -> (..., 3) in 0..1."""
    values = np.asarray(array if len(array) == 3 else array[:1], dtype=np.float64)
    low, high = np.percentile(values, _SHOWN)
    shown = ((values - low) / max(high - low, 1e-12)).clip(0, 1)
    return np.moveaxis(np.broadcast_to(shown, (3, *shown.shape[1:])), 0, -1)


def _share(evidence: NDArray[np.float32] | None) -> NDArray[np.float64] | None:
    """Evidence for the class as a share of the largest."""
    if evidence is None:
        return None
    positive = np.nan_to_num(np.asarray(evidence, dtype=np.float64)).clip(0, None)
    return np.asarray(positive / max(float(positive.max()), 1e-12))


def _scaled(panel: _Panel) -> tuple[Image.Image, tuple[str, str]]:
    colours = panel.colours
    if panel.evidence is not None:
        shades = mpl.colormaps["inferno"](panel.evidence)[..., :3]
        cover = _OPAQUE * panel.evidence[..., np.newaxis]
        colours = colours * (1 - cover) + shades * cover
    return Image.fromarray((colours * 255).round().astype(np.uint8)), panel.letters


def _fitted(picture: Image.Image, width: int) -> Image.Image:
    """As large as fits into a square: voxels stay visible as such."""
    scale = min(width, WIDTH * 2 // 3) / max(picture.size)
    size = tuple(max(1, round(length * scale)) for length in picture.size)
    return picture.resize((size[0], size[1]), Image.Resampling.NEAREST)


def _answer(draw: ImageDraw.ImageDraw, top: int, package: ModelPackage, row: Prediction) -> None:
    def line(text: str, colour: tuple[int, int, int]) -> None:
        nonlocal top
        _write(draw, (_GAP, top), _shortened(text, WIDTH - 2 * _GAP), colour)
        top += _LINE

    predicted = ", ".join(row.predicted) or "no class is given"
    line(CAUTION.upper(), _AMBER)
    line(predicted, _WHITE)
    ranked = sorted(zip(row.probability, package.task.class_names, strict=True), reverse=True)
    for probability, name in ranked[:_MOST_CLASSES]:
        start, full = _BAR
        _write(draw, (_GAP, top), _shortened(name, start - 2 * _GAP), _GREY)
        box = (start, top + 5, start + round(full * probability), top + _LINE - 5)
        draw.rectangle(box, fill=_BLUE)
        _write(draw, (start + full + _GAP, top), f"{probability:.3f}", _WHITE)
        top += _LINE
    if len(ranked) > _MOST_CLASSES:
        line(f"and {len(ranked) - _MOST_CLASSES} more", _GREY)
    coverage = package.card.trust.conformal.coverage
    line(f"prediction set of {coverage:.1%}: {', '.join(row.within) or 'empty'}", _GREY)
    line(*_likeness(row))
    line(f"{model_name(package)}, sha256 {package.digest[:16]}", _GREY)


def _likeness(row: Prediction) -> tuple[str, tuple[int, int, int]]:
    if row.shift is None:
        return "whether it looks like the training scans is not known", _GREY
    if UNLIKE_TRAINING in row.flags:
        return "UNLIKE THE TRAINING SCANS: do not rely on this", _AMBER
    return "looks like the training scans", _GREY


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, colour: tuple[int, int, int]
) -> None:
    draw.text(place, text, fill=colour, font=_font(), stroke_width=1, stroke_fill=(0, 0, 0))


def _shortened(text: str, width: int) -> str:
    shown = "".join(c for c in text if c.isprintable())
    if _font().getlength(shown) <= width:
        return shown
    while shown and _font().getlength(f"{shown}…") > width:
        shown = shown[:-1]
    return f"{shown}…"


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: the same letters on every machine."""
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", _FONT_SIZE)
