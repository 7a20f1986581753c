"""An answer as a picture: the scan as the model saw it, and below it what the model says.

The picture goes to where patients' images are: it shows no name and no path, only the answer, what
it rests on where that was asked for, the model and what it is for.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.dicom_out.identity import CAUTION, model_name
from pipeline.dicom_out.panels import Panel, coloured, in_pixels, is_drawn, panels
from pipeline.serving.package import ModelPackage
from pipeline.serving.predictions import UNLIKE_TRAINING, Prediction
from pipeline.trust.explain_picture import TITLES, UNITS, full_colour, is_signed
from pipeline.trust.explain_scan import Explanation

Pixels = NDArray[np.uint8]
_Colour = tuple[int, int, int]

WIDTH: Final = 768
_MOST_HEIGHT: Final = 512  # of a row of pictures
_GAP: Final = 8
_LINE: Final = 26
_FONT_SIZE: Final = 18
_BETWEEN: Final = " · "  # classes: a name may hold commas
_MOST_CLASSES: Final = 6  # that have a bar
_BAR: Final = (300, 360)  # where bars begin, and how long a probability of 1 is
_WHITE: Final = (235, 235, 235)
_GREY: Final = (150, 150, 150)
_AMBER: Final = (255, 190, 60)
_BLUE: Final = (90, 160, 235)


@dataclass(frozen=True)
class _Line:
    """A line of text, and maybe a bar with what stands at its ends.

    Attributes:
        text: At the left.
        colour: Of the text.
        bar: (pixels, 3) colours of the bar, from left to right; None: there is none.
        before: Text at the bar's left end.
        behind: Text at its right end.
    """

    text: str
    colour: _Colour
    bar: Pixels | None = None
    before: str = ""
    behind: str = ""


def answer_picture(
    package: ModelPackage,
    array: NDArray[np.float32],
    row: Prediction,
    explanation: Explanation | None = None,
) -> Pixels:
    """Draw an answer; the same pixels for the same input.

    Args:
        package: The model that answered.
        array: (C, I, J[, K]) the scan as the model saw it.
        row: The answer.
        explanation: Of this scan: its map is drawn on a second picture of the scan, and a legend
            says what its colours are.

    Returns:
        (rows, ``WIDTH``, 3) RGB.
    """
    sheet = _sheet(panels(package.recipe, array, explanation))
    lines = [*_answer(package, row), *(_legend(explanation) if explanation else ())]
    grid = " \N{MULTIPLICATION SIGN} ".join(map(str, array.shape[1:]))
    lines.append(_Line(f"the scan is drawn as the model saw it: {grid} voxels", _GREY))
    lines.append(_Line(f"{model_name(package)}, sha256 {package.digest[:16]}", _GREY))
    canvas = Image.new("RGB", (WIDTH, sheet.height + 2 * _GAP + len(lines) * _LINE))
    canvas.paste(sheet)
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        _draw_line(canvas, draw, sheet.height + _GAP + number * _LINE, line)
    return np.asarray(canvas)


def _sheet(rows: Sequence[Sequence[Panel]]) -> Image.Image:
    """Rows of panels on black, all at one scale."""
    scale = min(
        *((WIDTH - _GAP * (len(row) - 1)) / sum(panel.size[1] for panel in row) for row in rows),
        *(_MOST_HEIGHT / panel.size[0] for row in rows for panel in row),
    )
    heights = [max(round(panel.size[0] * scale) for panel in row) for row in rows]
    sheet = Image.new("RGB", (WIDTH, sum(heights) + _GAP * (len(rows) - 1)))
    draw = ImageDraw.Draw(sheet)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        widths = [int(panel.size[1] * scale) for panel in row]
        left = (WIDTH - sum(widths) - _GAP * (len(row) - 1)) // 2
        for panel, width in zip(row, widths, strict=True):
            image = in_pixels(panel, round(panel.size[0] * scale), width)
            place = (left, top + (height - image.height) // 2)
            sheet.paste(image, place)
            _write(draw, (left + 4, place[1] + image.height // 2 - 12), panel.letters[0], _WHITE)
            _write(draw, (left + width // 2 - 6, place[1] + 2), panel.letters[1], _WHITE)
            left += width + _GAP
        top += height + _GAP
    return sheet


def _answer(package: ModelPackage, row: Prediction) -> Iterator[_Line]:
    """What the model says."""
    yield _Line(CAUTION.upper(), _AMBER)
    yield _Line(_BETWEEN.join(row.predicted) or "no class is given", _WHITE)
    ranked = sorted(zip(row.probability, package.task.class_names, strict=True), reverse=True)
    for probability, name in ranked[:_MOST_CLASSES]:
        bar = np.tile(np.array(_BLUE, dtype=np.uint8), (max(1, round(_BAR[1] * probability)), 1))
        yield _Line(name, _GREY, bar, behind=f"{probability:.3f}")
    if len(ranked) > _MOST_CLASSES:
        yield _Line(f"and {len(ranked) - _MOST_CLASSES} more", _GREY)
    coverage = package.card.trust.conformal.coverage
    yield _Line(f"prediction set of {coverage:.1%}: {_BETWEEN.join(row.within) or 'empty'}", _GREY)
    yield _likeness(row)


def _likeness(row: Prediction) -> _Line:
    if row.shift is None:
        return _Line("whether it looks like the training scans is not known", _GREY)
    if UNLIKE_TRAINING in row.flags:
        return _Line("UNLIKE THE TRAINING SCANS: do not rely on this", _AMBER)
    return _Line("looks like the training scans", _GREY)


def _legend(explanation: Explanation) -> Iterator[_Line]:
    """What the colours on the scan are."""
    method, name = explanation.method, explanation.class_name
    if not is_drawn(explanation):
        yield _Line(f"{TITLES[method]}: nothing in this scan speaks for {name}", _WHITE)
        return
    full = full_colour(method, explanation.prepared)
    least, most = (f"{-full:.2g}", f"+{full:.2g}") if is_signed(method) else ("none", "most")
    share = np.linspace(-1 if is_signed(method) else 0, 1, _BAR[1])
    yield _Line(f"in colour: {TITLES[method]} for {name}", _WHITE)
    bar = np.rint(255 * coloured(share, method)).astype(np.uint8)
    yield _Line("", _GREY, bar, least, most)
    yield _Line(UNITS[method], _GREY)
    yield _Line("it shows what the answer rests on, not the outline of a finding", _AMBER)


def _draw_line(canvas: Image.Image, draw: ImageDraw.ImageDraw, top: int, line: _Line) -> None:
    start, full = _BAR
    if line.bar is None:
        _write(draw, (_GAP, top), _shortened(line.text, WIDTH - 2 * _GAP), line.colour)
        return
    _write(draw, (_GAP, top), _shortened(line.text, start - 2 * _GAP), line.colour)
    thick = np.tile(line.bar, (_LINE - 10, 1, 1))
    canvas.paste(Image.fromarray(thick), (start, top + 5))
    if line.before:
        left = start - _GAP - int(_font().getlength(line.before))
        _write(draw, (left, top), line.before, _WHITE)
    _write(draw, (start + full + _GAP, top), line.behind, _WHITE)


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, colour: _Colour) -> None:
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
