"""The cohort's page stands by itself, tells what is there, and names nobody."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep.cohort import CohortConfig
from data_prep.config import parse_config
from data_prep.files import read_json, write_json, write_table
from data_prep.fingerprint import CohortFingerprint
from data_prep.ingest import ingest
from data_prep.manifest import MANIFEST, ScanReader, ScanRecord, load_manifest
from data_prep.stage import new_stage
from data_prep.survey import survey_cohort
from pipeline.cohort_page import facts, write_cohort_page

PATIENT, FOLDER, FILE = "MARKERpatient", "MARKERfolder", "MARKERfile"

Made = tuple[CohortFingerprint, Path]


def write_scans(
    root: Path, classes: Sequence[str], each: int, *, colour: bool = False, varied: bool = True
) -> None:
    """PNG images and their ``labels.csv``; the last file is damaged."""
    rng = np.random.default_rng(7)
    (root / FOLDER).mkdir(parents=True)
    lines = ["scan,patient_id,label"]
    for number in range(each * len(classes)):
        label = classes[number % len(classes)]
        shape = (30 + (number % 5) * varied, 40, *((3,) if colour else ()))
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        name = f"{FOLDER}/{FILE}{number:03d}.png"
        Image.fromarray(image).save(root / name)
        lines.append(f'{name},{PATIENT}{number // 2},"{label}"')
    broken = f"{FOLDER}/{FILE}-broken.png"
    (root / broken).write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    lines.append(f'{broken},{PATIENT}X,"{classes[0]}"')
    (root / "labels.csv").write_text("\n".join(lines) + "\n")


def make(place: Path, classes: Sequence[str] = ("benign", "malignant"), **kind: Any) -> Made:
    """Ingest and survey a cohort of PNG files; returns its fingerprint and its folder."""
    write_scans(place / "raw", classes, 12 // len(classes) or 1, **kind)
    content = {
        "name": "pages",
        "source": {"kind": "folder", "root": str(place / "raw")},
        "labels": {"kind": "table", "task": "binary" if len(classes) == 2 else "multi-class"},
        "prep": "x",
    }
    config = parse_config(content, CohortConfig, source="pages.yaml")
    ingest(config, place, place / "manifest")
    return survey(place), place


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Twelve grey images of two classes."""
    return make(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def changed(plain: Made, tmp_path: Path) -> Callable[..., Made]:
    """The plain cohort with other rows in its manifest, surveyed anew."""

    def change(rows: Callable[[list[ScanRecord]], list[ScanRecord]]) -> Made:
        shutil.copytree(plain[1], tmp_path / "changed")
        rewrite_manifest(tmp_path / "changed", rows)
        return survey(tmp_path / "changed"), tmp_path / "changed"

    return change


def survey(place: Path) -> CohortFingerprint:
    reader = ScanReader(place / "raw")
    return survey_cohort("pages", reader, place / "manifest", place / "survey")


def page(seen: CohortFingerprint, place: Path) -> str:
    """The page as text."""
    out = place / "cohort.html"
    assert write_cohort_page(seen, place / "manifest", place / "survey", out) == out
    return out.read_text()


def rewrite_manifest(place: Path, change: Callable[[list[ScanRecord]], list[ScanRecord]]) -> None:
    """Put other rows into the manifest."""
    records, task = load_manifest(place / "manifest")
    counts = read_json(place / "manifest" / "ingest.json")
    with new_stage(place / "manifest", "ingest", {}, "changed") as folder:
        write_table(folder / MANIFEST, ScanRecord, change(records))
        write_json(folder / "task.json", task.model_dump(mode="json"))
        write_json(folder / "ingest.json", counts)


def test_it_names_no_patient_and_no_file(plain: Made) -> None:
    seen, place = plain
    text = page(seen, place)
    assert "MARKER" not in text
    assert str(place) not in text
    for path in (place / "survey").rglob("*"):
        assert "MARKER" not in path.name
        assert path.is_dir() or b"MARKER" not in path.read_bytes()
    printed = json.dumps(facts(seen, read_json(place / "manifest" / "ingest.json")))
    assert "MARKER" not in printed


def test_it_needs_nothing_from_outside(plain: Made) -> None:
    text = page(*plain)
    assert "default-src 'none'" in text
    assert not re.search(r"<(script|link|iframe)\b", text)
    assert not re.search(r"\b(src|href)=\"(?!#|data:)", text)
    assert "url(http" not in text


def test_it_shows_classes_pictures_and_what_was_refused(plain: Made) -> None:
    seen, place = plain
    text = page(seen, place)
    assert "12 scans of 6 patients in 2 classes; each has 50 %." in text
    assert "1 scan could not be used" in text
    assert "raster.malformed" in text
    assert text.count("<img ") == 12
    for scan_id in (record.scan_id for record in load_manifest(place / "manifest")[0]):
        assert text.count(f">{scan_id}<") == 1
    assert "training_z_score" in text
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids)), "two figures share an id"


def test_its_pictures_are_the_scans(tmp_path: Path) -> None:
    seen, place = make(tmp_path, colour=True, varied=False)
    text = page(seen, place)
    first = min(load_manifest(place / "manifest")[0], key=lambda record: record.paths[0])
    shown = re.search(rf'base64,([^"]+)" alt="Central slice of scan {first.scan_id}"', text)
    assert shown
    picture = Image.open(io.BytesIO(base64.b64decode(shown[1])))
    assert np.array_equal(np.array(picture), np.array(Image.open(place / "raw" / first.paths[0])))
    assert "Every scan has 30 × 40 pixels, their size in mm is not known." in text
    assert "12 of 12 sampled scans are in colour" in text


def test_the_same_cohort_gives_the_same_page(plain: Made) -> None:
    seen, place = plain
    assert page(seen, place) == page(seen, place)


def test_many_classes_are_cut_short(tmp_path: Path) -> None:
    names = [f"class <{n:02d}> & more" for n in range(30)]
    text = page(*make(tmp_path, names))
    assert "And 6 more classes." in text
    assert "18 more classes are not shown." in text
    assert "class &lt;00&gt; &amp; more" in text
    assert "class <00>" not in text
    assert "all classes" not in text  # one line needs no legend
    assert "; and 17 more" in text


def test_one_scan_is_enough(changed: Callable[..., Made]) -> None:
    text = page(*changed(lambda records: records[:1]))
    assert "1 scan of 1 patient in 2 classes; the rarest, malignant, has 0 %." in text
    assert "Not in the sample." in text


def test_the_page_of_a_large_cohort_is_no_larger(plain: Made, changed: Callable[..., Made]) -> None:
    small = len(page(*plain))

    def many(records: list[ScanRecord]) -> list[ScanRecord]:
        return [
            replace(record, patient_id=f"{PATIENT}{record.patient_id}-{n}")
            for n in range(400)
            for record in records
        ]

    seen, place = changed(many)
    assert seen.scans == 4800
    assert len(page(seen, place)) < 6 * small
    assert seen.intensities.sampled == 64


def test_images_and_volumes_in_one_cohort_are_told_apart(changed: Callable[..., Made]) -> None:
    def deepen(records: list[ScanRecord]) -> list[ScanRecord]:
        volume = {"shape": (1, 9, 8, 7), "spacing_mm": (1.0, 2.0, 3.0), "orientation": "LPS"}
        return [replace(records[0], **volume), *records[1:]]

    text = page(*changed(deepen))
    assert "11 images (2D) and 1 volumes (3D)" in text
    assert "How to prepare them" not in text


def test_geometry_and_hounsfield_units_are_told(changed: Callable[..., Made]) -> None:
    def as_ct(records: list[ScanRecord]) -> list[ScanRecord]:
        known = {"spacing_mm": (0.5, 0.7), "orientation": "PL", "modality": "CT"}
        return [replace(r, minimum=-1024.0, flags=("lossy",), **known) for r in records]

    text = page(*changed(as_ct))
    assert "Intensities are Hounsfield units" in text
    assert "pixels of 0.5 × 0.7 mm at the median" in text
    assert "rows (to posterior)" in text
    assert "brought to PL" in text
    assert "compressed with loss" in text


def test_scales_of_scanners_are_told(changed: Callable[..., Made]) -> None:
    def widen(records: list[ScanRecord]) -> list[ScanRecord]:
        return [replace(r, dtype="uint16", maximum=1000.0 + 200 * n) for n, r in enumerate(records)]

    assert "scales differ 1.0-fold between scans" in page(*changed(widen))
