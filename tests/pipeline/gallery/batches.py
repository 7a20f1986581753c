"""Builders for the gallery's tests: a batch's tables and pictures without any model."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.readers.source import ScanSource
from data_prep.task import Task
from pipeline.gallery.beside import Gallery
from pipeline.gallery.pack import Pack, Pictures, append
from pipeline.gallery.page import Batch, write_page
from pipeline.serving.beside import ScoredScan
from pipeline.serving.predictions import Prediction, Tally, write_predictions
from pipeline.serving.spill import Spill

BINARY = Task(kind="binary", class_names=("healthy", "lesion"))
MODEL = {"digest": "d" * 64, "family": "linear", "data": "noise", "medcurve": "0"}
RECIPE = PrepRecipe(config=PrepConfig(shape=(12, 12)), spatial_ndim=2, channels=1)


def encoded(mode: str, kind: str) -> bytes:
    """A black square."""
    buffer = io.BytesIO()
    Image.new(mode, (12, 12)).save(buffer, kind)
    return buffer.getvalue()


NO_MAPS: MappingProxyType[str, bytes] = MappingProxyType({})
BLACK = encoded("L", "JPEG")
MAP = encoded("RGBA", "PNG")


def ok(scan: str, p_lesion: float, *flags: str, shift: float | None = 1.0) -> Prediction:
    """A row of a scored scan; its set holds both classes where neither has 0.8."""
    p = (round(1 - p_lesion, 6), p_lesion)
    within = tuple(name for name, each in zip(BINARY.class_names, p, strict=True) if each > 0.2)
    predicted = (BINARY.class_names[int(p_lesion > 0.5)],)
    return Prediction(scan, (scan,), "ok", predicted, p, within, shift, flags)


def bad(scan: str) -> Prediction:
    """A row of a quarantined scan."""
    return Prediction(scan, (scan,), "quarantined", code="file.empty", reason=f"{scan} is empty")


def write_batch(
    folder: Path,
    rows: Sequence[Prediction],
    task: Task = BINARY,
    skipped: int = 0,
    maps: Mapping[str, bytes] = NO_MAPS,
    notes: Sequence[str] = (),
) -> Path:
    """Write the tables of these rows and their page, each scan a picture of its own; the page.

    ``maps``: by scan, of those that were explained by occlusion.
    """
    folder.mkdir()
    gallery = Gallery(RECIPE)
    for number, row in enumerate(rows):
        if row.status == "ok":
            array = np.random.default_rng(number).random((1, 12, 12), dtype=np.float32)
            source = ScanSource("png", row.files)
            gallery.scan(folder, ScoredScan(row, folder, source, array))
    left_out = [(f"notes-{number}.txt", "text") for number in range(skipped)]
    with Spill(folder / ".rows", keys=2) as spill:
        tally = Tally(spill)
        for row in rows:
            tally.add(row)
        summary = tally.summary(left_out, task, MODEL, None, 0.0)
        write_predictions(folder, task, tally, left_out, summary)
    page = folder / "gallery.html"
    packs = [folder / "maps.pack", folder / "gallery.pack"]
    for pack in packs:
        pack.touch()
    for scan, drawn in maps.items():
        append(packs[0], scan, (scan,), Pictures(BLACK, drawn))
    with Pack(packs[0]) as explained, Pack(packs[1]) as pictures:
        table, method = folder / "predictions.parquet", "occlusion" if maps else None
        write_page(Batch(table, task, 0.9, summary, [explained, pictures], method, notes), page)
    return page
