"""The label table: ids stay text, and whatever is wrong is named by line and column."""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_prep.cohort import LabelRule, PatientFromColumn, PatientRule, TableLabels
from data_prep.errors import CohortError, nearest
from data_prep.task import Task


@dataclass(frozen=True)
class LabelRow:
    """One row of a label table.

    Attributes:
        scan: What the scan column holds: a POSIX path relative to the cohort's root, or a
            SeriesInstanceUID.
        patient_id: Text, exactly as written; "" where it comes from elsewhere.
        labels: Class names (one; any number for multi-label); () where the cell is empty.
        split: Official split, or "".
        bayes: True class probabilities of a phantom, or ().
        line: Line in the file, for messages.
        attributes: Values of the attributes that the rule names, "" where unknown.
    """

    scan: str
    patient_id: str
    labels: tuple[str, ...]
    split: str
    bayes: tuple[float, ...]
    line: int
    attributes: tuple[str, ...] = ()


# as a spreadsheet shows a whole number that it took for a float
_NUMBER = re.compile(r"^(\d+)\.0+$")
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_TRUE, _FALSE = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}
_SPLITS = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}


def read_labels(
    root: Path, rule: TableLabels, patient: PatientRule
) -> tuple[list[LabelRow], list[str]]:
    """Read the label table of the cohort under ``root``; ids stay text.

    Returns:
        The rows, without exact repetitions, and a note for each thing that was accepted.

    Raises:
        CohortError: ``labels.*`` naming file, line and column.
    """
    path = root / rule.file
    patient_column = patient.column if isinstance(patient, PatientFromColumn) else None
    wanted = [rule.scan, *rule.targets, *filter(None, [patient_column, rule.split])]
    wanted += rule.attributes
    header, lines = _read_csv(path, wanted)
    for column in wanted:
        if column not in header:
            raise CohortError(
                "labels.missing_column",
                f"{path}: no column '{column}'{nearest(column, header)}; found: "
                f"{', '.join(header)}",
                fix="name your columns in the data config: labels.scan, labels.targets, "
                "labels.split, labels.attributes, patient.column",
            )
    bayes = _bayes_columns(header, rule)
    roots = (root.absolute(), root.resolve())
    rows: dict[str, LabelRow] = {}
    notes: list[str] = []
    for number, cells in lines:
        if not cells[rule.scan]:
            raise CohortError(
                "labels.empty_cell", f"{path}:{number}: column '{rule.scan}' is empty"
            )
        row = LabelRow(
            scan=_relative(cells[rule.scan], roots),
            patient_id=cells[patient_column] if patient_column else "",
            labels=_labels(path, number, cells, rule),
            split=_split(path, number, cells[rule.split]) if rule.split else "",
            bayes=tuple(_share(path, number, column, cells[column]) for column in bayes),
            line=number,
            attributes=tuple(cells[column] for column in rule.attributes),
        )
        if patient_column and not row.patient_id:
            raise CohortError(
                "labels.empty_cell", f"{path}:{number}: column '{patient_column}' is empty"
            )
        first = rows.setdefault(row.scan, row)
        if first is not row:
            _same_or_stop(path, first, row)
            notes.append(f"line {number} repeats line {first.line}: used once")
    _check_ids(path, [row.patient_id for row in rows.values()])
    for position, column in enumerate(rule.attributes):
        values = sorted({row.attributes[position] for row in rows.values()})
        _check_words("labels.value_collision", f"{path}: column '{column}'", values)
    return list(rows.values()), notes


def infer_task(rule: LabelRule, labels: list[tuple[str, ...]], *, where: str) -> Task:
    """The task that a rule and the labels found define.

    Raises:
        CohortError: ``labels.class_count``, ``labels.class_collision`` or
            ``labels.unknown_class``.
    """
    if isinstance(rule, TableLabels) and rule.task == "multi-label":
        return Task(kind="multi-label", class_names=rule.targets)
    found = sorted({name for names in labels for name in names})
    if not rule.classes:
        _check_words("labels.class_collision", where, found)
    classes = rule.classes or tuple(found)
    if (rule.task == "binary" and len(classes) != 2) or len(classes) < 2:
        raise CohortError(
            "labels.class_count",
            f"{where}: a {rule.task} task, but {len(classes)} classes: {', '.join(classes[:10])}",
            fix="check labels.task and the label column",
        )
    task = Task(kind=rule.task, class_names=classes)
    for names in labels:
        if names:
            task.encode(names)
    return task


def _relative(name: str, roots: Sequence[Path]) -> str:
    """A scan's name as it is found under the root: ``.\\a//b/`` and ``/root/a/b`` are ``a/b``."""
    path = PurePosixPath(re.sub(r"[\\/]+", "/", name))
    for folder in roots:
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return path.as_posix()


def _delimiter(text: str, wanted: Sequence[str]) -> str:
    """The separator by which the first line gives most of the wanted columns, then most columns.

    Spreadsheets write semicolons where the comma is the decimal sign.
    """
    first = text.partition("\n")[0]

    def yields(delimiter: str) -> tuple[int, int]:
        header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
        return sum(name in header for name in wanted), len(header)

    return max(_DELIMITERS, key=yields)  # the comma, where there is nothing to choose


def _read_csv(
    path: Path, wanted: Sequence[str]
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CohortError(
            "labels.not_found",
            f"{path}: cannot be read ({error.strerror})",
            fix="write a labels.csv with the columns scan, patient_id, label; or set labels.file",
        ) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise CohortError(
            "labels.not_utf8", f"{path}:{line}: not UTF-8 text", fix="save the table as UTF-8"
        ) from error
    delimiter = _delimiter(text, wanted)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        body = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise CohortError("labels.bad_csv", f"{path}:{reader.line_num}: {error}") from error
    if not header or not body:
        raise CohortError("labels.empty", f"{path}: no {'rows' if header else 'header'}")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise CohortError("labels.duplicate_header", f"{path}:1: column '{twice[0]}' stands twice")
    lines = []
    for number, row in body:
        if len(row) != len(header):
            raise CohortError(
                "labels.bad_csv",
                f"{path}:{number}: {len(row)} cells, but the header has {len(header)}",
                fix=f"quote cells that hold a {_DELIMITERS[delimiter]}",
            )
        lines.append((number, {n: c.strip() for n, c in zip(header, row, strict=True)}))
    return header, lines


def _bayes_columns(header: list[str], rule: TableLabels) -> list[str]:
    columns = [name for name in header if name.startswith("bayes_")]
    if rule.task == "multi-label":
        return [f"bayes_{name}" for name in rule.targets if f"bayes_{name}" in columns]
    order = [f"bayes_{name}" for name in rule.classes] if rule.classes else sorted(columns)
    return [name for name in order if name in columns]


def _labels(path: Path, line: int, cells: Mapping[str, str], rule: TableLabels) -> tuple[str, ...]:
    if rule.task != "multi-label":
        name = cells[rule.targets[0]]
        if name and rule.classes and name not in rule.classes:
            raise CohortError(
                "labels.unknown_class",
                f"{path}:{line}: label '{name}'{nearest(name, list(rule.classes))}; "
                f"allowed: {', '.join(rule.classes)}",
            )
        return (name,) if name else ()
    present = []
    for column in rule.targets:
        value = cells[column].lower()
        if value not in _TRUE | _FALSE:
            raise CohortError(
                "labels.not_binary",
                f"{path}:{line}: column '{column}' = '{cells[column]}'; allowed: 0 or 1",
            )
        if value in _TRUE:
            present.append(column)
    return tuple(present)


def _share(path: Path, line: int, column: str, value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise CohortError(
            "labels.not_a_probability",
            f"{path}:{line}: column '{column}' = '{value}'; allowed: a number from 0 to 1",
            fix="columns that begin with bayes_ hold true class probabilities; rename others",
        )
    return share


def _split(path: Path, line: int, value: str) -> str:
    if value.lower() not in _SPLITS:
        raise CohortError(
            "labels.unknown_split",
            f"{path}:{line}: split '{value}'; allowed: train, val, test",
        )
    return _SPLITS[value.lower()]


def _same_or_stop(path: Path, first: LabelRow, again: LabelRow) -> None:
    for name in ("patient_id", "labels", "split", "attributes"):
        if getattr(first, name) != getattr(again, name):
            raise CohortError(
                "labels.conflict",
                f"{path}: lines {first.line} and {again.line} give one scan a different "
                f"{name.removesuffix('s')}",
                fix="keep the right one",
            )


def _check_ids(path: Path, ids: list[str]) -> None:
    """Stop where two ids are one, written in two ways: two patients would be made of one."""
    seen: dict[str, str] = {}
    for name in ids:
        folded = _NUMBER.sub(r"\1", _folded(name)).lstrip("0")
        if seen.setdefault(folded, name) != name:
            raise CohortError(
                "labels.id_collision",
                f"{path}: the patient ids '{seen[folded]}' and '{name}' differ only in case, "
                "leading zeros or the way that characters are encoded",
                fix="write each patient's id in one way (spreadsheets turn 007 into 7 or 7.0)",
            )


def _check_words(code: str, where: str, names: Sequence[str]) -> None:
    """Stop where two classes, or two values of an attribute, are one, written in two ways."""
    seen: dict[str, str] = {}
    for name in names:
        if seen.setdefault(_folded(name), name) != name:
            raise CohortError(
                code,
                f"{where}: '{seen[_folded(name)]}' and '{name}' differ only in case, "
                "white space or the way that characters are encoded",
                fix="write each of them in one way; classes may be listed as labels.classes",
            )


def _folded(name: str) -> str:
    """What two ways to write one name have in common."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
