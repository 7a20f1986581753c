"""Explanation maps of a batch's scans, written beside its tables, and shown in its gallery.

A map is brought back to the scan's own voxels, so the scan is read once more, by a process on this
machine: maps are made of few scans, or take far longer than reading.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

import numpy as np
from PIL import Image

from data_prep.errors import ScanError
from data_prep.files import write_csv
from data_prep.readers.sandbox import DecodePool
from data_prep.readers.source import ScanSource
from data_prep.volume import Volume
from pipeline.gallery.beside import MAPS_PACK
from pipeline.gallery.pack import Pictures, append
from pipeline.gallery.picture import laid_out, picture
from pipeline.serving.answers import EITHER
from pipeline.serving.beside import ScoredScan
from pipeline.serving.explained import COLUMNS, TABLE, write_explanation
from pipeline.serving.package import ModelPackage
from pipeline.serving.predictions import Prediction, PredictionSummary
from pipeline.serving.upright import Plane, Upright, planes
from pipeline.trust.explain_methods import Method
from pipeline.trust.explain_picture import OPAQUE, colour_map, full_colour, is_signed
from pipeline.trust.explain_scan import Explanation, check_method, explain

Only = Literal["all", "flagged", "unsure"]

FOLDER: Final = "explanations"
# Rows of the table until it is written: one JSON list a line.
_ROWS: Final = "explanations.rows"
# A map is smooth: it is shown at half the edge of the picture that it lies on, in 16 colours.
_EDGES: Final = (48, 32, 24, 16)
_LEVELS: Final = 16
MAX_MAP_BYTES: Final = 600


@dataclass(frozen=True)
class Wanted:
    """Which scans are explained, and how.

    Attributes:
        method: Of ``explain_methods.METHODS``.
        only: ``flagged``: scans with a flag; ``unsure``: those whose prediction set does not hold
            one class (for several labels: those with an open one); ``all``.
        pictured: Whether a gallery is written that is to show the maps.
        several: Whether a scan can have several labels.
    """

    method: Method
    only: Only = "all"
    pictured: bool = True
    several: bool = False

    def takes(self, row: Prediction) -> bool:
        """Whether this scan is explained."""
        if self.only == "flagged":
            return bool(row.flags)
        if self.only == "unsure" and self.several:
            return any(name.endswith(EITHER) for name in row.within)
        return self.only == "all" or len(row.within) != 1


class Explained:
    """Maps of scored scans as NIfTI and PNG with a table; a ``Beside`` and a context manager.

    Args:
        package: The model.
        wanted: Which scans, and how.

    Attributes:
        written: Number of maps.
        empty: Of these, maps in which nothing speaks for the class.

    Raises:
        ExplainError: ``explain.no_such_map``.
    """

    def __init__(self, package: ModelPackage, wanted: Wanted) -> None:
        check_method(package.family, wanted.method)
        self.written = self.empty = 0
        self._package, self._wanted = package, wanted
        self._upright = Upright.of(package.recipe.config, package.recipe.spatial_ndim)
        self._pools: dict[Path, DecodePool] = {}
        self._last: tuple[Prediction, Explanation] | None = None

    def __enter__(self) -> Explained:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def scan(self, folder: Path, scored: ScoredScan) -> None:
        """Explain the class that the row shows, if the scan is wanted.

        Raises:
            ScanError: The scan cannot be read again, or its map is not finite.
        """
        if not self._wanted.takes(scored.row):
            return
        package, method = self._package, self._wanted.method
        volume = self._read(scored.root, scored.source)
        target = shown_class(package, scored.row)
        found = explain(package.family, package.recipe, volume, method, target)
        (folder / FOLDER).mkdir(exist_ok=True)
        row = write_explanation(folder / FOLDER, scored.row.scan, volume, found)
        with (folder / _ROWS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self._wanted.pictured:
            pictures = self._pictures(scored, found)
            append(folder / MAPS_PACK, scored.row.scan, scored.row.files, pictures)
        self._last = scored.row, found
        self.written += 1
        self.empty += found.peak() is None

    def explanation(self, scored: ScoredScan) -> Explanation | None:
        """The explanation of the scan that was explained last; None of any other."""
        return self._last[1] if self._last and self._last[0] is scored.row else None

    def finish(self, folder: Path, package: ModelPackage, summary: PredictionSummary) -> None:
        """Write ``explanations/explanations.csv``."""
        self._close()
        self._last = None
        rows = folder / _ROWS
        (folder / FOLDER).mkdir(exist_ok=True)
        lines = rows.read_text(encoding="utf-8").splitlines() if rows.exists() else []
        rows.unlink(missing_ok=True)
        write_csv(folder / FOLDER / TABLE, COLUMNS, sorted(map(json.loads, lines), key=str))

    def _read(self, root: Path, source: ScanSource) -> Volume:
        if root not in self._pools:
            self._close()  # scans come folder by folder
            self._pools[root] = DecodePool(root, policy=self._package.card.read)
        (_, volume), *_ = self._pools[root].read([source])
        if isinstance(volume, ScanError):
            raise volume
        return volume

    def _close(self) -> None:
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()

    def _pictures(self, scored: ScoredScan, found: Explanation) -> Pictures:
        """The planes through the map's peak, of the scan and of the map."""
        evidence = self._upright.turn(found.prepared[np.newaxis])
        peak = None
        if evidence.array.max() > 0:
            place = np.unravel_index(int(evidence.array[0].argmax()), evidence.array.shape[1:])
            peak = [int(n) for n in place]
        shown = picture(planes(self._upright.turn(scored.array), peak))
        return Pictures(shown, map_picture(planes(evidence, peak), found) if peak else b"")


def shown_class(package: ModelPackage, row: Prediction) -> str:
    """The class that is explained: the predicted one; of several labels, or where there is none,
    the most probable.
    """
    if len(row.predicted) == 1 and not package.task.is_multi_label:
        return row.predicted[0]
    return package.task.class_names[int(np.argmax(row.probability))]


def map_picture(shown: Sequence[Plane], found: Explanation) -> bytes:
    """A map's planes as PNG of at most ``MAX_MAP_BYTES``: 16 colours, opaque where evidence is.

    Args:
        shown: Of the prepared map.
        found: The explanation, by which colours are scaled.
    """
    full = full_colour(found.method, found.prepared)
    images = [Image.fromarray((plane.values[0] / full).astype(np.float32)) for plane in shown]
    data = b""
    for edge in _EDGES:
        share = np.asarray(laid_out(images, [plane.size for plane in shown], edge)).clip(-1, 1)
        data = _png(share, found.method)
        if len(data) <= MAX_MAP_BYTES:
            break
    return data


def _png(share: np.ndarray, method: Method) -> bytes:
    """Evidence from -1 to 1 in the colours of its method; nothing is transparent."""
    low = -1.0 if is_signed(method) else 0.0
    # An odd number of levels has one for 0.
    steps = _LEVELS - 2 if is_signed(method) else _LEVELS - 1
    level = np.rint((share.clip(low, 1) - low) / (1 - low) * steps).astype(np.uint8)
    values = low + np.arange(steps + 1) / steps * (1 - low)
    colours = colour_map(method)((values - low) / (1 - low))[:, :3]
    image = Image.fromarray(level, mode="P")
    image.putpalette(np.rint(255 * colours).astype(np.uint8).tobytes())
    alpha = np.rint(255 * OPAQUE * np.abs(values)).astype(np.uint8).tobytes()
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=4, transparency=alpha, optimize=True)
    return buffer.getvalue()
