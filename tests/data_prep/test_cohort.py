"""The label table: ids stay text, and whatever is wrong is named by line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.cohort import (
    CohortConfig,
    FolderLabels,
    PatientFromColumn,
    PatientFromDicom,
    TableLabels,
)
from data_prep.config import parse_config
from data_prep.errors import CohortError, ConfigError
from data_prep.labels import LabelRow, infer_task, read_labels

HEADER = "scan,patient_id,label\n"
FOLDER = {"name": "c", "source": {"kind": "folder", "root": "/x"}, "prep": "mri"}


def read(
    tmp_path: Path, text: str | bytes, rule: TableLabels | None = None
) -> tuple[list[LabelRow], list[str]]:
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_labels(tmp_path, rule or TableLabels(), PatientFromColumn())


def error_of(tmp_path: Path, text: str | bytes, rule: TableLabels | None = None) -> CohortError:
    with pytest.raises(CohortError) as caught:
        read(tmp_path, text, rule)
    return caught.value


def test_ids_stay_text_and_space_is_stripped(tmp_path: Path) -> None:
    rows, notes = read(tmp_path, "\ufeffscan , patient_id,label\n ./a.nii.gz , 007 , sick \n\n")
    assert rows == [LabelRow("a.nii.gz", "007", ("sick",), "", (), 2)]
    assert notes == []


def test_a_repeated_row_is_used_once_and_noted(tmp_path: Path) -> None:
    rows, notes = read(tmp_path, HEADER + "a,1,x\nb,2,y\na,1,x\n")
    assert [row.scan for row in rows] == ["a", "b"]
    assert notes == ["line 4 repeats line 2: used once"]


def test_an_empty_label_is_kept_as_no_label(tmp_path: Path) -> None:
    assert read(tmp_path, HEADER + "a,1,\n")[0][0].labels == ()


def test_multi_label_and_split_and_bayes_columns(tmp_path: Path) -> None:
    rule = TableLabels(task="multi-label", targets=("mass", "fluid"), split="set")
    rows, _ = read(
        tmp_path, "scan,patient_id,set,mass,fluid\na,1,Train,1,0\nb,2,validation,yes,TRUE\n", rule
    )
    assert [row.labels for row in rows] == [("mass",), ("mass", "fluid")]
    assert [row.split for row in rows] == ["train", "val"]
    rows, _ = read(tmp_path, "scan,patient_id,label,bayes_b,bayes_a\nx,1,a,0.25,0.75\n")
    assert rows[0].bayes == (0.75, 0.25)  # in the order of the classes: a, b


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("", "labels.empty", "no header"),
        (HEADER, "labels.empty", "no rows"),
        ("scan,label,label\na,b,c\n", "labels.duplicate_header", "'label' stands twice"),
        ("scn,patient_id,label\na,1,x\n", "labels.missing_column", "did you mean 'scn'"),
        (HEADER + "a,1\n", "labels.bad_csv", "labels.csv:2: 2 cells, but the header has 3"),
        (HEADER + 'a,1,"x\n', "labels.bad_csv", "labels.csv"),
        (HEADER + "a,1,x\n,2,y\n", "labels.empty_cell", "labels.csv:3: column 'scan'"),
        (HEADER + "a,,x\n", "labels.empty_cell", "labels.csv:2: column 'patient_id'"),
        (
            HEADER + "a,1,x\na,1,y\n",
            "labels.conflict",
            "lines 2 and 3 give one scan a different label",
        ),
        (HEADER + "a,1,x\na,2,x\n", "labels.conflict", "different patient_id"),
        (HEADER + "a,007,x\nb,7,y\n", "labels.id_collision", "'007' and '7'"),
        (HEADER + "a,P1,x\nb,p1,y\n", "labels.id_collision", "'P1' and 'p1'"),
        (HEADER.encode() + b"a,1,\xe9\n", "labels.not_utf8", "labels.csv:2"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, text: str | bytes, code: str, expected: str) -> None:
    error = error_of(tmp_path, text)
    assert error.code == code
    assert expected in str(error)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_header_tells_the_delimiter(tmp_path: Path, delimiter: str) -> None:
    lines = [("scan", "patient_id", "label"), ('"a;x,1\ty.nii"', "7", "sick"), ("b", "8", "well")]
    rows, _ = read(tmp_path, "".join(f"{delimiter.join(cells)}\n" for cells in lines))
    assert [(row.scan, row.patient_id, row.labels) for row in rows] == [
        ("a;x,1\ty.nii", "7", ("sick",)),
        ("b", "8", ("well",)),
    ]


def test_a_semicolon_table_is_answered_as_one(tmp_path: Path) -> None:
    error = error_of(tmp_path, "scan;patient;label\na;1;x\n")
    assert "no column 'patient_id'; did you mean 'patient'?; found: scan, patient, label" in str(
        error
    )
    error = error_of(tmp_path, "scan;patient_id;label\na;1;x;y\n")
    assert (error.code, "quote cells that hold a semicolon" in str(error)) == (
        "labels.bad_csv",
        True,
    )


@pytest.mark.parametrize(
    "written",
    [
        *("a/b.png", "./a/b.png", "a//b.png", "a/./b.png", ".\\a\\b.png", "a/b.png/"),
        *("{}/a/b.png", "{}//a/b.png", "/{}/./a/b.png"),
    ],
)
def test_one_file_may_be_named_in_many_ways(tmp_path: Path, written: str) -> None:
    rows, _ = read(tmp_path, f"{HEADER}{written.format(tmp_path)},1,x\n")
    assert rows[0].scan == "a/b.png"


def test_a_path_elsewhere_stays_as_it_is(tmp_path: Path) -> None:
    for name in ("/elsewhere/a.png", "../a.png", "1.2.840.1"):
        assert read(tmp_path, f"{HEADER}{name},1,x\n")[0][0].scan == name


@pytest.mark.parametrize("value", ["", "much", "nan", "1.5", "-0.1", "inf"])
def test_a_true_probability_is_a_number_from_0_to_1(tmp_path: Path, value: str) -> None:
    table = f"scan,patient_id,label,bayes_b,bayes_a\nx,1,a,0.25,{value}\n"
    error = error_of(tmp_path, table)
    assert error.code == "labels.not_a_probability"
    assert f"labels.csv:2: column 'bayes_a' = '{value}'" in error.message


def test_classes_that_are_listed_may_differ_in_case_only() -> None:
    listed = TableLabels(classes=("a", "A"))
    assert infer_task(listed, [("a",), ("A",)], where="").class_names == ("a", "A")
    with pytest.raises(CohortError, match=r"labels\.class_collision"):
        infer_task(TableLabels(), [("a",), ("A",)], where="")


def test_unknown_classes_splits_and_flags_are_named(tmp_path: Path) -> None:
    rule = TableLabels(classes=("benign", "malignant"))
    error = error_of(tmp_path, HEADER + "a,1,benign\nb,2,malignat\n", rule)
    assert (error.code, "did you mean 'malignant'" in str(error)) == ("labels.unknown_class", True)
    error = error_of(tmp_path, "scan,patient_id,label,s\na,1,x,holdout\n", TableLabels(split="s"))
    assert error.code == "labels.unknown_split"
    rule = TableLabels(task="multi-label", targets=("mass",))
    error = error_of(tmp_path, "scan,patient_id,mass\na,1,2\n", rule)
    assert error.code == "labels.not_binary"


def test_a_missing_table_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"labels\.not_found.*\n.*write a labels\.csv"):
        read_labels(tmp_path, TableLabels(), PatientFromColumn())


def test_without_a_patient_column_ids_come_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("scan,label\na,x\n")
    rows, _ = read_labels(tmp_path, TableLabels(), PatientFromDicom(kind="dicom"))
    assert rows[0].patient_id == ""


def test_the_task_follows_rule_and_labels() -> None:
    task = infer_task(TableLabels(), [("b",), ("a",), ("b",)], where="here")
    assert (task.kind, task.class_names) == ("binary", ("a", "b"))
    ordinal = TableLabels(task="ordinal", classes=("low", "mid", "high"))
    assert infer_task(ordinal, [("mid",)], where="").class_names == ("low", "mid", "high")
    several = TableLabels(task="multi-label", targets=("mass", "fluid"))
    assert infer_task(several, [()], where="").class_names == ("mass", "fluid")
    with pytest.raises(CohortError, match=r"here: a binary task, but 3 classes"):
        infer_task(TableLabels(), [("a",), ("b",), ("c",)], where="here")
    with pytest.raises(CohortError, match=r"labels\.class_count"):
        infer_task(FolderLabels(kind="folders", task="multi-class"), [("a",)], where="")
    with pytest.raises(CohortError, match=r"cohort\.unknown_class"):
        infer_task(TableLabels(classes=("a", "b")), [("z",)], where="")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"labels": {"kind": "table", "task": "ordinal"}}, "needs 'classes' in order"),
        ({"labels": {"kind": "table", "targets": ["a", "b"]}}, "one target column, not 2"),
        (
            {
                "labels": {
                    "kind": "table",
                    "task": "multi-label",
                    "targets": ["a"],
                    "classes": ["a"],
                }
            },
            "takes its class names from 'targets'",
        ),
        ({"labels": {"kind": "folders"}}, "have no patient column"),
        ({"patient": {"kind": "path", "pattern": "("}}, "not a regular expression"),
        ({"patient": {"kind": "path", "pattern": "a"}}, "has 0 groups"),
        ({"split": {"val": 0}}, "split.val"),
        ({"name": "../x"}, "name"),
    ],
)
def test_a_cohort_config_that_contradicts_itself_is_refused(
    change: dict[str, object], expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(FOLDER | change, CohortConfig, source="c.yaml")
    assert expected in str(caught.value)
