"""Attributes go from the label table to the store, and none of them tells who a patient is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_prep.attributes import ATTRIBUTES, read_attributes, refuse_identifying
from data_prep.cohort import CohortConfig
from data_prep.config import parse_config
from data_prep.errors import CohortError, ConfigError, StageError
from data_prep.files import read_json, write_json
from data_prep.ingest import ingest
from data_prep.manifest import ScanReader, load_manifest
from data_prep.prep import prepare_store
from data_prep.preprocess import PrepConfig
from data_prep.splits import split_cohort
from data_prep.stage import PROVENANCE, stage_digest
from data_prep.store import Store

PATIENTS = 24
PREP = PrepConfig.model_validate({"shape": 8, "intensity": {"kind": "z_score"}})


def png(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 8)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


class Table:
    """A cohort of two scans a patient, whose label table a test may change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.header = "scan,patient_id,label,sex,age,mrn,born,note"
        self.rows = []
        for number in range(PATIENTS):
            sex, label = ("f", "m", "")[number % 3], ("well", "ill")[number % 2]
            own = f"{sex},{30 + number},{880000 + number},1961-03-{number + 1:02d},note {number}"
            for scan in range(2):
                png(root / f"{number}-{scan}.png", 2 * number + scan)
                self.rows.append(f"{number}-{scan}.png,P{number:02d},{label},{own}")

    def config(self, *attributes: str) -> CohortConfig:
        text = "\n".join([self.header, *self.rows]) + "\n"
        path = self.root / "labels.csv"
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
        content = {
            "name": "c",
            "source": {"kind": "folder", "root": str(self.root)},
            "labels": {"kind": "table", "attributes": list(attributes)},
            "prep": "x",
        }
        return parse_config(content, CohortConfig, source="c.yaml")

    def ingested(self, out: Path, *attributes: str) -> Path:
        ingest(self.config(*attributes), out.parent, out)
        return out

    def refused(self, out: Path, *attributes: str) -> CohortError:
        with pytest.raises(CohortError) as caught:
            self.ingested(out, *attributes)
        assert not out.exists()
        return caught.value


@pytest.fixture
def cohort(tmp_path: Path) -> Table:
    return Table(tmp_path / "raw")


def test_they_go_from_the_table_to_the_store(tmp_path: Path, cohort: Table) -> None:
    manifest = cohort.ingested(tmp_path / "manifest", "sex", "age")
    config = cohort.config("sex", "age")
    split_cohort(manifest, config.split, tmp_path / "splits")
    reader = ScanReader(cohort.root)
    prepare_store(reader, manifest, tmp_path / "splits", PREP, tmp_path / "store")
    path_of = {record.scan_id: record.paths[0] for record in load_manifest(manifest)[0]}
    rows = Store.open(tmp_path / "store").rows("test")
    found = read_attributes(tmp_path / "store", [row.scan_id for row in rows])
    numbers = [int(path_of[row.scan_id].partition("-")[0]) for row in rows]
    assert list(found) == ["sex", "age"]
    assert found["sex"].tolist() == [("f", "m", "")[number % 3] for number in numbers]
    assert found["age"].tolist() == [str(30 + number) for number in numbers]


def test_without_them_nothing_is_written_and_nothing_read_again(
    tmp_path: Path, cohort: Table
) -> None:
    plain = cohort.ingested(tmp_path / "plain")
    told = cohort.ingested(tmp_path / "told", "sex")
    assert not (plain / ATTRIBUTES).exists()
    assert read_attributes(plain, ["any"]) == {}
    record, other = read_json(plain / PROVENANCE), read_json(told / PROVENANCE)
    assert other["outputs"].keys() - record["outputs"].keys() == {ATTRIBUTES}
    assert "attributes" not in record["config"]["cohort"]["labels"]
    assert stage_digest(plain) != stage_digest(told)
    write_json(plain / PROVENANCE, record | {"mark": "kept"})
    assert "mark" in read_json(cohort.ingested(plain) / PROVENANCE)
    assert "mark" not in read_json(cohort.ingested(plain, "sex") / PROVENANCE)


def test_a_scan_that_has_none_is_named(tmp_path: Path, cohort: Table) -> None:
    manifest = cohort.ingested(tmp_path / "manifest", "sex")
    with pytest.raises(StageError, match=r"stage\.incomplete.* 1 scans .* first zz"):
        read_attributes(manifest, ["zz"])


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (["patient_id"], "'patient_id', which identifies patients"),
        (["scan"], "'scan' is the scan column"),
        (["sex", "age", "sex"], "names 'sex' twice"),
    ],
)
def test_a_config_that_names_a_patient_or_a_scan_is_refused(
    cohort: Table, attributes: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        cohort.config(*attributes)


def test_a_column_that_is_not_there_is_named(tmp_path: Path, cohort: Table) -> None:
    error = cohort.refused(tmp_path / "out", "sex", "sitee")
    assert error.code == "labels.missing_column"
    assert "no column 'sitee'" in error.message and "labels.attributes" in error.fix


@pytest.mark.parametrize("column", ["mrn", "born", "note"])
def test_a_column_that_tells_who_it_is_is_refused(
    tmp_path: Path, cohort: Table, column: str
) -> None:
    error = cohort.refused(tmp_path / "out", "age", column)
    assert error.code == "labels.identifying_column"
    assert f"'{column}' has 24 different values for 24 patients" in error.message
    assert "P0" not in error.message and "note 3" not in error.message


def test_one_value_in_two_ways_is_refused(tmp_path: Path, cohort: Table) -> None:
    cohort.rows[0] = cohort.rows[0].replace(",f,", ",F,")
    error = cohort.refused(tmp_path / "out", "sex")
    assert error.code == "labels.value_collision"
    assert "labels.csv: column 'sex': 'F' and 'f' differ only in case" in error.message


def test_rows_of_one_scan_that_differ_are_refused(tmp_path: Path, cohort: Table) -> None:
    cohort.rows.append(cohort.rows[0].replace(",f,", ",m,"))
    error = cohort.refused(tmp_path / "out", "sex")
    assert error.code == "labels.conflict"
    assert "lines 2 and 50 give one scan a different attribute" in error.message


def test_copies_of_a_scan_that_differ_are_refused(tmp_path: Path, cohort: Table) -> None:
    (cohort.root / "copy.png").write_bytes((cohort.root / "0-0.png").read_bytes())
    cohort.rows.append(cohort.rows[0].replace("0-0.png", "copy.png"))
    same = cohort.ingested(tmp_path / "same", "sex")
    assert len(load_manifest(same)[0]) == 2 * PATIENTS
    cohort.rows[-1] = cohort.rows[-1].replace(",f,", ",m,")
    error = cohort.refused(tmp_path / "out", "sex")
    assert error.code == "cohort.contradiction"
    assert "the same bytes under different attributes" in error.message


@given(st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=1, max_size=40))
def test_a_few_groups_are_never_refused(values: list[str]) -> None:
    ids = [f"P{number}" for number in range(len(values))]
    refuse_identifying("c", ["site"], ids, [(value,) for value in values])


@given(st.integers(10, 40), st.integers(0, 40), st.integers(1, 3))
def test_names_are_refused_however_many_are_unknown(named: int, unknown: int, scans: int) -> None:
    patients = [f"P{number}" for number in range(named + unknown)] * scans
    values = [(f"n{number}" if number < named else "",) for number in range(named + unknown)]
    with pytest.raises(CohortError, match=f"{named} different values for {named} patients"):
        refuse_identifying("c", ["name"], patients, values * scans)


@given(st.lists(st.floats(-9990, 9990), min_size=10, max_size=30, unique=True))
def test_measured_numbers_are_not_refused(numbers: list[float]) -> None:
    ids = [f"P{number}" for number in range(len(numbers))]
    refuse_identifying("c", ["age"], ids, [(f"{number:.2f}",) for number in numbers])
