"""Sex, age band, scanner and site come from DICOM headers, and nothing that tells who it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scan_files import write_ct

from data_prep.attributes import ATTRIBUTES, read_attributes
from data_prep.cohort import CohortConfig
from data_prep.config import parse_config
from data_prep.errors import ConfigError
from data_prep.ingest import ingest
from data_prep.manifest import load_manifest
from data_prep.readers.dicom_attributes import age_band

COUNT = 12


def headers(root: Path, **more: object) -> Path:
    """A folder of single slices, a patient each; ``more`` columns go into the label table."""
    lines = [",".join(("scan", "patient_id", "label", *more))]
    for number in range(COUNT):

        def state(ds, number=number):
            ds.PatientSex = "FMO"[number % 3] if number else "X"
            ds.PatientAge = f"{10 * number:03d}Y"
            ds.Manufacturer = ("Siemens", "SIEMENS ")[number % 2]
            ds.ManufacturerModelName = f"One of a kind {number}"
            ds.InstitutionName = ("St. Elsewhere", "Princeton")[number % 2]
            ds.StationName = "never read"
            ds.ImagePositionPatient = [0.0, 0.0, 50.0 * number]

        write_ct(root / f"{number}.dcm", number, state, series=str(number))
        lines.append(",".join((f"{number}.dcm", f"P{number}", "ab"[number % 2], *more.values())))
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def config(root: Path, source: dict[str, object], *columns: str) -> CohortConfig:
    content = {
        "name": "c",
        "source": {"kind": "folder", "root": str(root)} | source,
        "labels": {"kind": "table", "attributes": list(columns)},
        "prep": "x",
    }
    return parse_config(content, CohortConfig, source="c.yaml")


def told(manifest: Path) -> dict[str, np.ndarray]:
    records = sorted(load_manifest(manifest)[0], key=lambda one: int(one.patient_id[1:]))
    return read_attributes(manifest, [record.scan_id for record in records])


def test_they_stand_beside_the_manifest_and_identify_nobody(tmp_path: Path) -> None:
    root = headers(tmp_path / "raw")
    summary = ingest(config(root, {}), tmp_path, tmp_path / "out")
    found = told(tmp_path / "out")
    assert list(found) == ["PatientSex", "PatientAge", "Manufacturer"]
    assert found["PatientSex"].tolist() == ["", *"MOFMOFMOFMO"]
    assert found["PatientAge"].tolist() == [
        *["0 to 17"] * 2,
        *["18 to 39"] * 2,
        *["40 to 59"] * 2,
        *["60 to 79"] * 2,
        *["80 and over"] * 4,
    ]
    assert set(found["Manufacturer"]) == {"SIEMENS"}
    assert any("ManufacturerModelName" in note for note in summary.notes)


def test_a_site_is_read_when_named_and_becomes_a_pseudonym(tmp_path: Path) -> None:
    root = headers(tmp_path / "raw")
    ingest(config(root, {"dicom_attributes": ["InstitutionName"]}), tmp_path, tmp_path / "out")
    found = told(tmp_path / "out")["InstitutionName"]
    assert len(set(found)) == 2
    assert found[0] == found[2]
    assert all(site.startswith("site ") for site in found)
    for path in (tmp_path / "out").iterdir():
        assert not any(name in path.read_bytes() for name in (b"Elsewhere", b"Princeton"))


def test_a_column_of_the_label_table_goes_before_the_header(tmp_path: Path) -> None:
    root = headers(tmp_path / "raw", PatientSex="f")
    ingest(config(root, {}, "PatientSex"), tmp_path, tmp_path / "out")
    assert set(told(tmp_path / "out")["PatientSex"]) == {"f"}


def test_none_is_read_where_none_is_wanted_and_no_other_is_known(tmp_path: Path) -> None:
    root = headers(tmp_path / "raw")
    ingest(config(root, {"dicom_attributes": []}), tmp_path, tmp_path / "out")
    assert not (tmp_path / "out" / ATTRIBUTES).exists()
    with pytest.raises(ConfigError, match="StationName"):
        config(root, {"dicom_attributes": ["StationName"]})


@pytest.mark.parametrize(
    ("text", "band"),
    [
        ("017Y", "0 to 17"),
        ("018Y", "18 to 39"),
        (" 120Y", "80 and over"),
        ("999D", "0 to 17"),
        ("300M", "18 to 39"),
        ("52Y", ""),
        ("", ""),
        ("052Z", ""),
    ],
)
def test_an_age_is_a_band(text: str, band: str) -> None:
    assert age_band(text) == band


@given(st.text(max_size=6))
def test_whatever_an_age_says_it_is_one_of_five_bands(text: str) -> None:
    bands = ("", "0 to 17", "18 to 39", "40 to 59", "60 to 79", "80 and over")
    assert age_band(text) in bands
