"""The page of twins shows each pair, and neither patients nor paths; the table has both."""

from __future__ import annotations

import base64
import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import medcurve
from PIL import Image

from data_prep.files import read_json
from pipeline import leaks_page

CONFIG = """
name: twins
source: {{kind: folder, root: {root}}}
labels: {{kind: table, split: split}}
prep: mri
"""


def pixels(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(24, 20))
    for _ in range(4):
        noise = noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1)
    return np.round(255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Images in three splits; n/3 is n/0 pixel by pixel, n/4 is n/1 in 16 bits and brighter."""
    root = tmp_path / "raw"
    (root / "SECRET_FOLDER").mkdir(parents=True)
    rows = ["scan,patient_id,label,split"]
    splits = ["train", "val", "test", "test", "test", "train", "val", "test"]
    for number, split in enumerate(splits):
        name = f"SECRET_FOLDER/{number}.png"
        image = pixels(number - 3 if number in (3, 4) else number)
        if number == 4:
            Image.fromarray(image.astype(np.uint16) * 100 + 7).save(root / name)
        else:
            Image.fromarray(image).save(root / name, compress_level=number)
        rows.append(f"{name},PATIENT{number},{'ill' if number in (1, 2, 4, 5) else 'well'},{split}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    config = tmp_path / "twins.yaml"
    config.write_text(CONFIG.format(root=root))
    return config


def test_a_leak_stops_and_names_the_page(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    assert medcurve("ingest", cohort, "--runs", runs, "--workers", 1) == 0
    status = medcurve("split", cohort, "--runs", runs, "--workers", 1)
    page = runs / "twins" / "leaks.html"
    message = capsys.readouterr().err
    assert status == 2
    assert "split.duplicates" in message
    assert str(page) in message
    assert not (runs / "twins" / "splits").exists()

    text = page.read_text()
    assert text.count('<figure class="twins">') == 2
    assert "Identical images in different splits" in text
    assert "Nearly identical images in different splits" in text
    assert not re.search(r"PATIENT|SECRET|/raw", text)
    assert "http:" not in text
    assert "https:" not in text
    images = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))))
        for uri in re.findall(r"data:image/png;base64,([^\"]+)", text)
    ]
    assert len(images) == 4
    assert np.array_equal(images[0], images[1])
    assert np.abs(images[2].astype(int) - images[3]).max() <= 1

    table = page.with_suffix(".csv")
    assert table.stat().st_mode & 0o777 == 0o600
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["kind"], r["path_a"], r["path_b"], r["patient_id_b"]) for r in rows] == [
        ("splits", "SECRET_FOLDER/0.png", "SECRET_FOLDER/3.png", "PATIENT3"),
        ("near", "SECRET_FOLDER/1.png", "SECRET_FOLDER/4.png", "PATIENT4"),
    ]


def test_accepting_on_the_command_line_is_recorded(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    medcurve("ingest", cohort, "--runs", runs, "--workers", 1)
    assert medcurve("split", cohort, "--accept-duplicates", "--runs", runs, "--workers", 1) == 0
    assert "1 pair of identical images in different splits" in capsys.readouterr().out
    splits = runs / "twins" / "splits"
    assert read_json(splits / "provenance.json")["config"]["accept_duplicates"] is True
    assert len(read_json(splits / "splits.json")["duplicates"]["near"]) == 1


def test_a_cohort_without_twins_gets_a_page_too(cohort: Path, tmp_path: Path) -> None:
    labels = tmp_path / "raw" / "labels.csv"
    rows = labels.read_text().splitlines()
    labels.write_text("\n".join(rows[:4] + rows[6:]) + "\n")
    runs = tmp_path / "runs"
    medcurve("ingest", cohort, "--runs", runs, "--workers", 1)
    assert medcurve("split", cohort, "--runs", runs, "--workers", 1) == 0
    text = (runs / "twins" / "leaks.html").read_text()
    assert "No image stands twice: 6 scans were compared." in text
    assert "<figure" not in text


def test_more_pairs_than_fit_are_counted(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaks_page, "SHOWN", 1)
    root = tmp_path / "raw"
    for number in (8, 9):
        Image.fromarray(pixels(5) // 2 + number).save(root / f"{number}.png")
    with (root / "labels.csv").open("a") as file:
        file.write("8.png,P8,ill,val\n9.png,P9,ill,test\n")
    runs = tmp_path / "runs"
    medcurve("ingest", cohort, "--runs", runs, "--workers", 1)
    medcurve("split", cohort, "--accept-duplicates", "--runs", runs, "--workers", 1)
    text = (runs / "twins" / "leaks.html").read_text()
    assert text.count('<figure class="twins">') == 2
    assert re.search(r"And 3 more, in <code>leaks.csv</code>", text)
