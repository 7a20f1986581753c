"""One page to look through a batch: rows and pictures in one file, written as they are read.

A browser runs nothing on it but the page's own script, by its digest, and loads nothing: what a
hostile file name holds is text. Pictures stand behind the script in blocks that are cut up only
when they come into view, so that thousands of scans are there at once and few are drawn.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow.parquet as pq
from markupsafe import Markup

from data_prep.errors import SCAN_CODES
from data_prep.readers.source import SCAN_FLAGS
from data_prep.task import Task
from pipeline.gallery.pack import Pack, Pictures
from pipeline.page import render
from pipeline.serving.beside import EXTRA_FLAGS
from pipeline.serving.predictions import SHIFT_FLAGS, PredictionSummary
from pipeline.serving.seen import PATIENT_FLAGS, SEEN_FLAGS
from pipeline.trust.explain_methods import Method
from pipeline.trust.explain_picture import TITLES, is_signed
from pipeline.wording import counted

# Scans that a page has pictures of, at 4 kB each: beyond that a browser would have to hold more
# than 40 MB. Flagged scans come first, then the least sure.
MAX_PICTURES: Final = 10_000
# Pictures in a block: cut up at once, and so at most about 1 MB at a time.
_BLOCK: Final = 250
_ROWS_READ: Final = 1024
_SCRIPTS: Final = ("rows.js", "grid.js", "controls.js")
_CUT: Final = Markup("<!-- cut -->")
# What a map's colours mean, by whether it is signed.
_MEANS: Final = {
    False: "the brighter, the more it speaks for",
    True: "orange speaks for, violet against",
}
_FLAGS: Final = SCAN_FLAGS | SHIFT_FLAGS | SEEN_FLAGS | PATIENT_FLAGS | EXTRA_FLAGS


@dataclass(frozen=True, eq=False)
class Batch:
    """What a page is written of.

    Attributes:
        table: ``predictions.parquet``.
        task: Of the model.
        coverage: Of its prediction sets.
        summary: Of the table.
        packs: Pictures of the scored scans; of a scan that is in several the first one's.
        method: Of the maps that lie on pictures; None: there are none.
        notes: What a user must know of the model's answers.
    """

    table: Path
    task: Task
    coverage: float
    summary: PredictionSummary
    packs: Sequence[Pack]
    method: Method | None = None
    notes: Sequence[str] = ()

    def picture(self, scan: str) -> Pictures | None:
        """What there is to show of a scan."""
        return next((found for pack in self.packs if (found := pack.find(scan))), None)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """(scan, scored, predicted, probability, set, shift, flags, code, reason) of each row."""
        classes = [f"p_{name}" for name in self.task.class_names]
        with pq.ParquetFile(self.table) as rows:
            for batch in rows.iter_batches(batch_size=_ROWS_READ):
                cells = {name: batch.column(name).to_pylist() for name in batch.schema.names}
                probability = zip(*(cells[name] for name in classes), strict=True)
                for n, each in enumerate(probability):
                    ok = cells["status"][n] == "ok"
                    yield (
                        *(cells["scan"][n], int(ok), cells["predicted_class"][n]),
                        *(each if ok else (), cells["prediction_set"][n] or ()),
                        *(cells["shift_score"][n], cells["flags"][n]),
                        *(cells["code"][n], cells["reason"][n]),
                    )


def write_page(batch: Batch, out: Path) -> None:
    """Write the page of a batch; only its owner may read it."""
    wanted = _with_picture(batch)
    head, between, tail = _frame(batch, batch.summary.ok - sum(wanted))
    with out.open("wb") as file:
        out.chmod(0o600)
        file.write(head)
        _write_rows(file, batch, wanted)
        file.write(between)
        _write_pictures(file, batch, wanted)
        file.write(tail)
        file.flush()
        os.fsync(file.fileno())


def _frame(batch: Batch, unpictured: int) -> tuple[bytes, bytes, bytes]:
    """What stands before the rows, between rows and pictures, and after these."""
    here = files("pipeline.gallery")
    style = (here / "gallery.css").read_text(encoding="utf-8")
    script = "".join((here / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    summary = batch.summary
    page = render(
        "pipeline.gallery",
        "gallery.html.j2",
        {
            "scans": counted(summary.ok + summary.quarantined, "scan"),
            "model": summary.model,
            "counts": f"{counted(summary.ok, 'scan')} scored, {summary.quarantined:,} quarantined, "
            f"{counted(summary.skipped, 'file')} skipped.",
            "unpictured": f"Without a picture: {counted(unpictured, 'scan')}, of the surest."
            if unpictured
            else "",
            "notes": batch.notes,
            "multi_label": batch.task.is_multi_label,
            "style": Markup(style),  # noqa: S704 - our own files
            "script": Markup(script),  # noqa: S704
            "style_hash": _source_hash(style),
            "script_hash": _source_hash(script),
            "about": Markup(_json(_about(batch))),  # noqa: S704 - escaped
            "cut": _CUT,
        },
    )
    head, between, tail = page.split(_CUT.encode())
    return head, between, tail


def _about(batch: Batch) -> dict[str, Any]:
    """What the script must know beside the rows."""
    summary = batch.summary
    return {
        "classes": batch.task.class_names,
        "multi_label": batch.task.is_multi_label,
        "coverage": f"{batch.coverage:.0%}",
        "flags": {flag: _FLAGS.get(flag, "") for flag in summary.flagged},
        "codes": {code: SCAN_CODES.get(code, "") for code in summary.quarantined_by_code},
        "map": TITLES[batch.method] if batch.method else "",
        "map_means": "" if batch.method is None else _MEANS[is_signed(batch.method)],
        "block": _BLOCK,
    }


def _write_rows(file: BinaryIO, batch: Batch, wanted: Sequence[bool]) -> None:
    """Every row as a JSON list; its last item is the number of its picture, -1: it has none."""
    pictures = 0
    file.write(b"[")
    for number, (row, draw) in enumerate(zip(batch.rows(), wanted, strict=True)):
        found = draw and batch.picture(row[0]) is not None
        cells = (*row, pictures if found else -1)
        pictures += found
        file.write((",\n" if number else "").encode() + _json(cells).encode())
    file.write(b"]")


def _write_pictures(file: BinaryIO, batch: Batch, wanted: Sequence[bool]) -> None:
    """Pictures in the order of their numbers: a line each, a block for every ``_BLOCK``.

    A line is the picture, and of a scan that was explained a space and its map.
    """
    number = 0
    for row, draw in zip(batch.rows(), wanted, strict=True):
        if not draw or (found := batch.picture(row[0])) is None:
            continue
        if number % _BLOCK == 0:
            end = "</script>\n" if number else ""
            block = number // _BLOCK
            file.write(f'{end}<script type="text/plain" id="pictures-{block}">\n'.encode())
        parts = (found.scan,) if found.map is None else (found.scan, found.map)
        file.write(b" ".join(base64.b64encode(part) for part in parts) + b"\n")
        number += 1
    if number:
        file.write(b"</script>\n")


def _with_picture(batch: Batch) -> list[bool]:
    """Which rows' pictures go into the page: of more than it holds, those to be looked at."""
    urgency = array("d")  # from 0, none, to 1; a flag comes before any of that
    for _, ok, _, probability, _, _, flags, _, _ in batch.rows():
        if not ok:
            urgency.append(-1.0)
        elif batch.task.is_multi_label:
            urgency.append(bool(flags) + 1 - min(abs(2 * p - 1) for p in probability))
        else:
            urgency.append(bool(flags) + 1 - max(probability))
    found = np.array(urgency)
    wanted = np.zeros(len(found), dtype=bool)
    wanted[np.argsort(-found, kind="stable")[:MAX_PICTURES]] = True
    return list((wanted & (found >= 0)).tolist())


def _json(content: Any) -> str:
    """JSON that cannot end the script element which it stands in, nor begin a comment."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _source_hash(text: str) -> str:
    """What a content security policy calls an inline script or style by (CSP 3, 6.7.3.3)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
