"""The listing of images that stand twice: a page with each pair side by side, and a table.

The page is the operator's own: pictures, scan ids, splits and labels, but no patient ids and no
paths. These stand in the table beside it, which only its owner may read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from data_prep.duplicates import MAX_BIT_SHARE
from data_prep.errors import ScanError
from data_prep.files import write_bytes, write_csv
from data_prep.glimpse import png, thumbnail
from data_prep.leaks import KINDS, LeakKind, LeakPair, Leaks
from data_prep.manifest import ScanReader, ScanRecord
from data_prep.splits import SPLITS
from pipeline.page import data_uri, render
from pipeline.wording import counted

# What an eye takes in, and a page can hold; the table has all pairs.
SHOWN: Final = 40

_TITLES: Final[Mapping[LeakKind, tuple[str, str]]] = {
    "labels": (
        "Identical images, different labels",
        "Of the two labels one is wrong. Find out which, and correct it in the label table.",
    ),
    "splits": (
        "Identical images in different splits",
        "The model would be tested on what it was trained on. Take one of them out, or give both "
        "the same patient id.",
    ),
    "patients": (
        "Identical images under two patients",
        "If they are one patient, give both the same id. If not, one image is not theirs.",
    ),
    "near": (
        "Nearly identical images in different splits",
        "The same image saved again, cropped by a pixel, rescaled or compressed, or two frames of "
        "one examination. If you see two patients, it is a false alarm.",
    ),
}


def write_leaks_page(cohort: str, leaks: Leaks, reader: ScanReader, out: Path) -> Path:
    """Write the page, and the table with all pairs beside it; return ``out``.

    Args:
        cohort: Name of the cohort.
        leaks: What the leak gate found.
        reader: Reads the scans that are shown once more, for their pictures.
        out: The HTML file; the table has its name and the suffix ``.csv``.
    """
    shown = {kind: leaks.of_kind(kind)[:SHOWN] for kind in KINDS}
    pictures = _pictures(reader, [pair for pairs in shown.values() for pair in pairs])
    table = out.with_suffix(".csv")
    values = {
        "cohort": cohort,
        "leaks": leaks,
        "sentences": _sentences(leaks),
        "kinds": [
            {
                "title": _TITLES[kind][0],
                "advice": _TITLES[kind][1],
                "pairs": [_card(pair, pictures) for pair in pairs],
                "more": len(leaks.of_kind(kind)) - len(pairs),
            }
            for kind, pairs in shown.items()
            if pairs
        ],
        "table": table.name,
        "most_bits": int(256 * MAX_BIT_SHARE),
        "least": " and ".join(f"{value:.3f}" for value in leaks.least_correlation),
    }
    _write_table(table, leaks.pairs)
    write_bytes(out, render("pipeline", "leaks.html.j2", values))
    return out


def _sentences(leaks: Leaks) -> list[str]:
    compared = f"{counted(leaks.compared, 'scan')} were compared"
    if not leaks.pairs:
        return [f"No image stands twice: {compared}."]
    counts = [f"{count[0].upper()}{count[1:]}." for count in leaks.counts]
    twins = {r.scan_id for p in leaks.pairs if p.split_a != p.split_b for r in (p.a, p.b)}
    return [*counts, f"{len(twins):,} scans have a twin in another split; {compared}."]


def _card(pair: LeakPair, pictures: Mapping[str, str]) -> dict[str, Any]:
    sides = sorted(
        ((pair.a, pair.split_a), (pair.b, pair.split_b)), key=lambda side: SPLITS.index(side[1])
    )
    scans = [
        {
            "id": record.scan_id,
            "split": split,
            "label": " + ".join(record.labels) or "(none)",
            "picture": pictures[record.scan_id],
        }
        for record, split in sides
    ]
    identical = "every pixel is the same"
    alike = f"{pair.bits} of 256 bits differ, correlation {pair.correlation:.3f}"
    return {
        "scans": scans,
        "distance": alike if pair.kind == "near" else identical,
        "labels_differ": set(pair.a.labels) != set(pair.b.labels),
    }


def _pictures(reader: ScanReader, pairs: Sequence[LeakPair]) -> dict[str, str]:
    """Data URI of each scan's picture; "" where it cannot be read any more."""
    records: dict[str, ScanRecord] = {r.scan_id: r for pair in pairs for r in (pair.a, pair.b)}
    read = reader.read(list(records.values()), thumbnail) if records else iter(())
    return {
        scan_id: "" if isinstance(picture, ScanError) else data_uri(png(picture))
        for scan_id, picture in zip(records, read, strict=True)
    }


def _write_table(path: Path, pairs: Sequence[LeakPair]) -> None:
    header = ["kind", "bits", "correlation"]
    header += [
        f"{name}_{side}"
        for side in "ab"
        for name in ("scan_id", "split", "label", "patient_id", "path")
    ]
    rows = [
        [
            pair.kind,
            pair.bits,
            f"{pair.correlation:.4f}",
            *_cells(pair.a, pair.split_a),
            *_cells(pair.b, pair.split_b),
        ]
        for pair in pairs
    ]
    write_csv(path, header, rows)
    path.chmod(0o600)


def _cells(record: ScanRecord, split: str) -> list[str]:
    path = f"{record.paths[0]}#{record.item}" if record.item else record.paths[0]
    return [record.scan_id, split, "+".join(record.labels), record.patient_id, path]
