"""What a cohort is: where its scans lie, what their labels mean, and how it is to be split.

One YAML under ``configs/data/`` describes one cohort.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from data_prep.config import Config, config_name, relative_to_config
from data_prep.phantom import PhantomConfig
from data_prep.readers.dicom_attributes import HeaderAttribute
from data_prep.readers.policy import DEFAULT_POLICY, ReadPolicy
from data_prep.scene import SceneConfig
from data_prep.task import TaskKind


class FolderSource(Config):
    """Scans of any format under one folder, read-only.

    Attributes:
        root: The folder, from the config's own.
        dicom_attributes: Elements of DICOM headers to tell scores apart by, where there are such.
            An age becomes a band, a site (``InstitutionName``, only when named) a keyed pseudonym.
    """

    kind: Literal["folder"]
    root: Annotated[str, AfterValidator(relative_to_config)]
    dicom_attributes: tuple[HeaderAttribute, ...] = (
        *("PatientSex", "PatientAge", "Manufacturer", "ManufacturerModelName"),
    )


class MedMnistSource(Config):
    """A MedMNIST dataset, with its official splits."""

    kind: Literal["medmnist"]
    dataset: str
    size: Literal[28, 64, 128, 224] = 28


class PhantomSource(Config):
    """A synthetic cohort whose truth is known, written to disk as real scans."""

    kind: Literal["phantom"]
    phantom: PhantomConfig


class SceneSource(Config):
    """Small synthetic images whose Bayes error is exactly known, written to disk as PNG."""

    kind: Literal["scene"]
    scene: SceneConfig


Source = Annotated[
    FolderSource | MedMnistSource | PhantomSource | SceneSource, Field(discriminator="kind")
]


class PatientFromColumn(Config):
    """Patient ids stand in a column of the label table."""

    kind: Literal["column"] = "column"
    column: str = "patient_id"


class PatientFromDicom(Config):
    """Patient ids are keyed pseudonyms of DICOM's PatientID."""

    kind: Literal["dicom"]


class PatientFromPath(Config):
    """Patient ids are the first group of a pattern found in the scan's relative path."""

    kind: Literal["path"]
    pattern: str

    @field_validator("pattern")
    @classmethod
    def _one_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from error
        if groups != 1:
            raise ValueError(
                f"has {groups} groups; exactly one (...) must enclose the patient id, "
                r"for example '(P\d+)/'"
            )
        return pattern


PatientRule = Annotated[
    PatientFromColumn | PatientFromDicom | PatientFromPath, Field(discriminator="kind")
]


class TableLabels(Config):
    """Labels stand in a CSV table with one row a scan.

    Attributes:
        file: The table, relative to the cohort's root.
        scan: Column with the scan's file, its series folder, or its SeriesInstanceUID.
        targets: One column with a class name; for a multi-label task one 0/1 column per label.
        task: What is to be predicted.
        classes: Class names in order; required for an ordinal task, else sorted as found.
        split: Column with an official split (train | val | test), if there is one.
        attributes: Columns to tell scores apart by, such as sex, scanner, site or age.
    """

    kind: Literal["table"] = "table"
    file: str = "labels.csv"
    scan: str = "scan"
    targets: tuple[str, ...] = ("label",)
    task: TaskKind = "binary"
    classes: tuple[str, ...] | None = None
    split: str | None = None
    attributes: tuple[str, ...] = ()

    @field_validator("attributes")
    @classmethod
    def _once(cls, attributes: tuple[str, ...]) -> tuple[str, ...]:
        if twice := [name for name in attributes if attributes.count(name) > 1]:
            raise ValueError(f"names '{twice[0]}' twice")
        return attributes

    @model_validator(mode="after")
    def _check(self) -> TableLabels:
        if self.scan in self.attributes:
            raise ValueError(f"the attribute '{self.scan}' is the scan column: it names one scan")
        if self.task != "multi-label" and len(self.targets) != 1:
            raise ValueError(f"a {self.task} task has one target column, not {len(self.targets)}")
        if self.task == "ordinal" and self.classes is None:
            raise ValueError("an ordinal task needs 'classes' in order, lowest first")
        if self.task == "multi-label" and self.classes is not None:
            raise ValueError("a multi-label task takes its class names from 'targets'")
        return self


class FolderLabels(Config):
    """The class of a scan is the name of the top folder that it lies in."""

    kind: Literal["folders"]
    task: Literal["binary", "multi-class", "ordinal"] = "binary"
    classes: tuple[str, ...] | None = None


LabelRule = Annotated[TableLabels | FolderLabels, Field(discriminator="kind")]


class SplitConfig(Config):
    """How patients are divided where no official split is given, or none is wanted.

    Attributes:
        val: Share of the patients for validation.
        test: Share of the patients for the one final test.
        folds: Number of cross-validation folds among training and validation patients.
        seed: Decides the draw.
        accept_duplicates: Go on although identical images stand in two splits; recorded.
        redraw: Pool all scans of a cohort that brings its own split, and divide them anew. Patients
            with an identical image are then drawn together.
    """

    val: Annotated[float, Field(gt=0, lt=0.5)] = 0.15
    test: Annotated[float, Field(gt=0, lt=0.8)] = 0.25
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    seed: int = 0
    accept_duplicates: bool = False
    redraw: bool = False


class CohortConfig(Config):
    """One cohort: ``configs/data/<name>.yaml``.

    Attributes:
        name: Folder under ``runs/`` and experiment in MLflow.
        source: Where the scans come from.
        labels: Where the labels come from (MedMNIST brings its own).
        patient: Where patient ids come from (MedMNIST: each image counts as one patient).
        split: How patients are divided.
        prep: The prep config that suits this cohort: a name in ``configs/prep``, or the path of a
            YAML file relative to this one.
        read: What the readers may do with input that has no single right reading.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    source: Source
    labels: LabelRule = TableLabels()
    patient: PatientRule = PatientFromColumn()
    split: SplitConfig = SplitConfig()
    prep: Annotated[str, config_name("prep")]
    read: ReadPolicy = DEFAULT_POLICY

    @model_validator(mode="after")
    def _check(self) -> CohortConfig:
        if self.labels.kind == "folders" and self.patient.kind == "column":
            raise ValueError(
                "labels from folders have no patient column: set 'patient' to {kind: dicom} or "
                "{kind: path, pattern: ...}"
            )
        if isinstance(self.patient, PatientFromColumn) and self.patient.column in self.attributes:
            raise ValueError(
                f"labels.attributes names '{self.patient.column}', which identifies patients: "
                "take it out"
            )
        return self

    @property
    def attributes(self) -> tuple[str, ...]:
        """Columns of the label table to tell scores apart by."""
        return self.labels.attributes if isinstance(self.labels, TableLabels) else ()
