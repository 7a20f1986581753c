"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from data_prep.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.extras import ExtraOptions

Data = Annotated[str, typer.Argument(help="Cohort: a name in configs/data, or a YAML file.")]
DataOption = Annotated[
    str, typer.Option("--data", help="Cohort: a name in configs/data, or a YAML file.")
]
StudyName = Annotated[str, typer.Argument(help="A name in configs/study, or a YAML file.")]
Model = Annotated[str, typer.Argument(help="Folder of a model package, or models:/NAME@ALIAS.")]
JudgedBy = Annotated[
    str | None,
    typer.Option("--data", help="Cohort; default: that which the model was trained on."),
]
Prep = Annotated[
    str | None,
    typer.Option(
        "--prep",
        help="A name in configs/prep, or a YAML file, in place of the cohort's own prep config.",
    ),
]
Runs = Annotated[Path, typer.Option("--runs", help="Folder that all results go to.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", min=1, help="Processes; default: one per core."),
]
RayWorkers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Processes; default: one per core, of all nodes with Ray.",
    ),
]
Uri = Annotated[
    str | None,
    typer.Option("--tracking-uri", help="MLflow store; default: RUNS/mlflow.db (SQLite)."),
]


class SplitName(StrEnum):
    """Whose scans."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class RuleChoice(StrEnum):
    """How validation scores choose the family to release."""

    BEST = "best"
    ONE_STANDARD_ERROR = "one_standard_error"


class ShiftAction(StrEnum):
    """What is done with a scan that does not look like the training scans."""

    FLAG = "flag"
    ABSTAIN = "abstain"
    REFUSE = "refuse"


class ExportFormat(StrEnum):
    """What a model is exported as."""

    ONNX = "onnx"
    TORCH_EXPORT = "torch-export"
    MONAI_BUNDLE = "monai-bundle"


class RuntimeName(StrEnum):
    """What carries scans through a model."""

    AUTO = "auto"
    TORCH = "torch"
    ONNX = "onnx"


class MapMethod(StrEnum):
    """How a map of what an answer rests on is made."""

    GRAD_CAM = "grad_cam"
    OCCLUSION = "occlusion"
    INTEGRATED_GRADIENTS = "integrated_gradients"


class ExplainedScans(StrEnum):
    """Which scans of a batch are explained."""

    ALL = "all"
    FLAGGED = "flagged"
    UNSURE = "unsure"


class EngineName(StrEnum):
    """Where work is done."""

    LOCAL = "local"
    RAY = "ray"


Explain = Annotated[
    MapMethod | None,
    typer.Option(
        "--explain",
        metavar="METHOD",
        help="Also write maps of what each answer rests on: grad_cam, occlusion or "
        "integrated_gradients.",
    ),
]
ExplainOnly = Annotated[
    ExplainedScans,
    typer.Option(
        "--explain-only", metavar="WHICH", help="Explain all scans, or those flagged or unsure."
    ),
]
Twin = Annotated[
    bool,
    typer.Option(
        "--twin/--no-twin",
        help="Also write the model as ONNX, and run it so where that is faster; needs the extra "
        "'onnx'.",
    ),
]
EngineOption = Annotated[
    EngineName, typer.Option("--engine", help="Work on this machine, or on a Ray cluster.")
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Ray cluster: local (start one here, the default), auto (the one this machine is "
        "a node of), HOST:PORT or ray://HOST:PORT.",
    ),
]

RUNS: Final = Path("runs")


def extra_options(
    explain: MapMethod | None, only: ExplainedScans, *, dicom: bool, gallery: bool
) -> ExtraOptions:
    """What is written beside the tables of a batch.

    Raises:
        ConfigError: ``config.explain_only`` where nothing is to be explained.
    """
    if explain is None and only is not ExplainedScans.ALL:
        raise ConfigError(
            "config.explain_only",
            f"--explain-only {only} says which scans are explained, and there is no --explain",
            fix="add --explain METHOD, or leave --explain-only out",
        )
    from pipeline.extras import ExtraOptions

    return ExtraOptions(dicom, gallery, explain.value if explain else None, only.value)


def refuse_unreadable(kind: str, *names: str) -> None:
    """Stop where a config is not there or is no YAML, before what judges it is imported (seconds).

    Raises:
        ConfigError: ``config.unknown_name``, or as ``read_yaml``.
    """
    from data_prep.config import find_config
    from data_prep.yaml_file import read_yaml

    for name in names:
        read_yaml(find_config(kind, name))


def ray_address(engine: EngineName, address: str | None) -> str | None:
    """The address of the Ray cluster to work on; None for processes of this machine.

    Raises:
        ConfigError: ``config.address_without_ray``.
    """
    if engine is EngineName.RAY:
        return address or "local"
    if address is not None:
        raise ConfigError(
            "config.address_without_ray",
            f"--address {address} is that of a Ray cluster, and the engine is '{engine}'",
            fix="add --engine ray, or leave --address out",
        )
    return None
