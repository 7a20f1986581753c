"""The ``medcurve`` command: one sub-command per stage, each with an example in its help."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from data_prep.errors import ConfigError, MedcurveError
from data_prep.stage import medcurve_version
from pipeline.console import fail, say

app = typer.Typer(
    name="medcurve",
    help="Which model, how much data, and can I trust it on my scans?",
    epilog="The stages in order: data, ingest, split, prep, study, release, predict. "
    "`medcurve demo` runs them all.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks print local variables: patient data
    rich_markup_mode="rich",
)

Data = Annotated[str, typer.Argument(help="Cohort: a name in configs/data, or a YAML file.")]
DataOption = Annotated[
    str, typer.Option("--data", help="Cohort: a name in configs/data, or a YAML file.")
]
StudyName = Annotated[str, typer.Argument(help="A name in configs/study, or a YAML file.")]
Prep = Annotated[
    str | None, typer.Option("--prep", help="Prep config in place of the cohort's own.")
]
Runs = Annotated[Path, typer.Option("--runs", help="Folder that all results go to.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes; default: one per core.")
]
StudyWorkers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, help="Cells at once; default: one per core, of all nodes with Ray."
    ),
]
Uri = Annotated[
    str | None,
    typer.Option("--tracking-uri", help="MLflow store; default: runs/mlflow.db (SQLite)."),
]

RUNS = Path("runs")


class EngineName(StrEnum):
    """What computes the cells of a study."""

    LOCAL = "local"
    RAY = "ray"


@app.command()
def data(name: Data, runs: Runs = RUNS) -> None:
    """Generate a phantom cohort or download a public one.

    Example: medcurve data breastmnist
    """
    from pipeline import stages
    from pipeline.workspace import open_workspace

    stages.data_stage(open_workspace(runs, name))


@app.command()
def ingest(name: Data, runs: Runs = RUNS, workers: Workers = None) -> None:
    """Read every scan once: a manifest of the good ones, a quarantine with reasons.

    Example: medcurve ingest phantom3d
    """
    from pipeline import stages
    from pipeline.workspace import open_workspace

    stages.ingest_stage(open_workspace(runs, name), stages.workers(workers))


@app.command()
def summary(name: Data, runs: Runs = RUNS, workers: Workers = None) -> None:
    """Show what the scans are like: a table, and a page with pictures.

    Example: medcurve summary phantom3d
    """
    from pipeline import stages
    from pipeline.workspace import open_workspace

    stages.summary_stage(open_workspace(runs, name), stages.workers(workers))


@app.command()
def plan(
    name: Data,
    out: Annotated[
        Path | None, typer.Option("--out", help="YAML file; default: RUNS/COHORT/plan.yaml.")
    ] = None,
    voxels: Annotated[
        int | None, typer.Option(min=1, help="Most voxels a prepared scan may have.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a plan that is there.")
    ] = False,
    runs: Runs = RUNS,
    workers: Workers = None,
) -> None:
    """Propose a prep config from what the scans are like, with a reason for each choice.

    Example: medcurve plan phantom3d --out my_prep.yaml
    """
    from pipeline import stages
    from pipeline.workspace import open_workspace

    workspace = open_workspace(runs, name)
    stages.plan_stage(workspace, name, out, voxels, overwrite, stages.workers(workers))


@app.command()
def split(
    name: Data,
    accept_duplicates: Annotated[
        bool,
        typer.Option(
            "--accept-duplicates", help="Go on although images stand twice; this is recorded."
        ),
    ] = False,
    runs: Runs = RUNS,
    workers: Workers = None,
) -> None:
    """Divide the patients into training, validation and test; stop where images stand twice.

    Example: medcurve split phantom3d
    """
    from pipeline import stages
    from pipeline.workspace import open_workspace

    workspace = open_workspace(runs, name)
    stages.split_stage(workspace, stages.workers(workers), accept_duplicates=accept_duplicates)


@app.command()
def prep(name: Data, prep: Prep = None, runs: Runs = RUNS, workers: Workers = None) -> None:
    """Fit the recipe on training scans and bring all scans to one geometry and scale.

    Example: medcurve prep phantom3d --prep phantom3d
    """
    from pipeline import stages
    from pipeline.workspace import open_workspace

    stages.prep_stage(open_workspace(runs, name, prep), stages.workers(workers))


@app.command()
def train(
    family: Annotated[str, typer.Argument(help="A name in configs/family, or a YAML file.")],
    data: DataOption,
    prep: Prep = None,
    seed: Annotated[int, typer.Option(help="Decides initial weights and batch order.")] = 0,
    runs: Runs = RUNS,
    tracking_uri: Uri = None,
) -> None:
    """Train one family on all training patients and package the model.

    Example: medcurve train random_features --data breastmnist
    """
    from pipeline import stages
    from pipeline.workspace import open_workspace

    stages.train_stage(open_workspace(runs, data, prep), family, seed, tracking_uri)


@app.command()
def inspect(
    family: Annotated[str, typer.Argument(help="A name in configs/family, or a YAML file.")],
    shape: Annotated[str, typer.Option("--shape", help="Of one scan: channels, then axes.")] = (
        "1,28,28"
    ),
    classes: Annotated[int, typer.Option("--classes", min=2, help="Classes to tell apart.")] = 2,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Drawing (.svg, .png or .pdf); default: RUNS/inspect-FAMILY.svg."
        ),
    ] = None,
    runs: Runs = RUNS,
) -> None:
    """Show what a family is made of: layers, sizes, costs and receptive fields.

    Example: medcurve inspect resnet18 --shape 1,28,28
    """
    from pipeline import network_stages

    network_stages.inspect_stage(family, shape, classes, out, runs)


@app.command()
def screen(
    families: Annotated[list[str], typer.Argument(help="Names in configs/family, or YAML files.")],
    data: DataOption,
    prep: Prep = None,
    seeds: Annotated[int, typer.Option(min=1, help="Random networks drawn of each.")] = 3,
    verify: Annotated[
        bool, typer.Option("--verify", help="Also train each, and compare the two rankings.")
    ] = False,
    runs: Runs = RUNS,
) -> None:
    """Rank network architectures in seconds each, by what they do with random weights.

    Example: medcurve screen cnn_scratch cnn_scratch_small resnet18 --data breastmnist
    """
    from pipeline import network_stages
    from pipeline.workspace import open_workspace

    network_stages.screen_stage(open_workspace(runs, data, prep), families, seeds, verify)


@app.command()
def study(
    name: StudyName,
    data: DataOption,
    prep: Prep = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many cells and how long; run nothing.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Compute this family's cells only; may be repeated."),
    ] = None,
    extend: Annotated[
        list[str] | None,
        typer.Option(
            "--extend",
            help="More in the grid: subsets=20, seeds=3, sizes=300,400 or families=knn; what is "
            "computed stays, and later runs keep it ('none': back to the study's file). May be "
            "repeated.",
        ),
    ] = None,
    engine: Annotated[
        EngineName, typer.Option("--engine", help="Compute on this machine, or on a Ray cluster.")
    ] = EngineName.LOCAL,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            help="Ray cluster: local (start one here, the default), auto (the one this machine is "
            "a node of), HOST:PORT or ray://HOST:PORT.",
        ),
    ] = None,
    runs: Runs = RUNS,
    workers: StudyWorkers = None,
    tracking_uri: Uri = None,
) -> None:
    """Run families x sizes x subsets x seeds; go on where a broken run stopped.

    Example: medcurve study demo --data phantom3d
    """
    from pipeline import stages
    from pipeline.workspace import open_workspace

    only, extend = only or [], extend or []
    ray = _ray_address(engine, address)
    workspace = open_workspace(runs, data, prep)
    if dry_run:
        stages.cost_stage(workspace, name, workers, only=only, extend=extend, ray=ray)
        return
    stages.study_stage(workspace, name, workers, tracking_uri, only=only, extend=extend, ray=ray)


def _ray_address(engine: EngineName, address: str | None) -> str | None:
    if engine is EngineName.RAY:
        return address or "local"
    if address is not None:
        raise ConfigError(
            "config.address_without_ray",
            f"--address {address} is that of a Ray cluster, and the engine is '{engine}'",
            fix="add --engine ray, or leave --address out",
        )
    return None


@app.command()
def leaderboard(
    data: Annotated[
        list[str] | None,
        typer.Argument(help="Cohorts; default: BreastMNIST, PneumoniaMNIST, AdrenalMNIST3D."),
    ] = None,
    study: Annotated[
        str, typer.Option("--study", help="A name in configs/study, or a YAML file.")
    ] = "leaderboard",
    runs: Runs = RUNS,
    workers: Workers = None,
    tracking_uri: Uri = None,
) -> None:
    """Train every family on whole cohorts; show them beside published scores.

    Example: medcurve leaderboard breastmnist
    """
    from pipeline.leaderboard import COHORTS, run_leaderboard

    run_leaderboard(data or COHORTS, study, runs, workers, tracking_uri)


@app.command()
def report(name: StudyName, data: DataOption, prep: Prep = None, runs: Runs = RUNS) -> None:
    """Write a study's report again from its journal; an interim one where cells are pending.

    Example: medcurve report demo --data phantom3d
    """
    from pipeline import stages
    from pipeline.workspace import open_workspace

    stages.report_stage(open_workspace(runs, data, prep), name)


@app.command()
def release(
    name: StudyName,
    data: DataOption,
    prep: Prep = None,
    runs: Runs = RUNS,
    tracking_uri: Uri = None,
) -> None:
    """Choose a model by the study's declared rule, package it and register it.

    Example: medcurve release demo --data phantom3d
    """
    from pipeline import stages
    from pipeline.workspace import open_workspace

    stages.release_stage(open_workspace(runs, data, prep), name, tracking_uri)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="Model package, or models:/NAME@ALIAS.")],
    inputs: Annotated[list[Path], typer.Argument(help="Files and folders of scans.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the predictions.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Scans in memory at once.")] = 64,
    runs: Runs = RUNS,
    workers: Workers = None,
    tracking_uri: Uri = None,
) -> None:
    """Run a model over folders of scans: one row for each, a bad scan never stops it.

    Example: medcurve predict runs/phantom3d/model-demo scans/ --out predictions
    """
    from pipeline import stages

    stages.predict_stage(
        model, inputs, out, batch_size, stages.workers(workers), runs, tracking_uri
    )


@app.command()
def sync(
    name: StudyName,
    data: DataOption,
    prep: Prep = None,
    runs: Runs = RUNS,
    tracking_uri: Uri = None,
) -> None:
    """Bring MLflow up to date with a study's journal; never doubles a run.

    Example: medcurve sync demo --data phantom3d
    """
    from pipeline import stages
    from pipeline.workspace import open_workspace

    stages.sync_stage(open_workspace(runs, data, prep), name, tracking_uri, strict=True)


@app.command()
def rerun(
    run_id: Annotated[str, typer.Argument(help="Run ID of a cell, from its page in MLflow.")],
    tolerance: Annotated[
        float,
        typer.Option(
            min=0.0, help="Most a metric may differ where machine or versions are others by now."
        ),
    ] = 1e-4,
    runs: Runs = RUNS,
    tracking_uri: Uri = None,
) -> None:
    """Fit a run of a study again, from its id alone; exit status 0 if its metrics are equal.

    Example: medcurve rerun 04ca41572c96454e82c2c592751fbf32
    """
    from pipeline.reproduction import rerun_stage

    if not rerun_stage(run_id, runs, tracking_uri, tolerance):
        raise typer.Exit(1)


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
    runs: Runs = RUNS,
    tracking_uri: Uri = None,
) -> None:
    """Open MLflow's UI on this machine only (loopback).

    Example: medcurve ui --port 5001
    """
    from pipeline import stages

    raise typer.Exit(stages.ui_stage(runs, tracking_uri, port))


@app.command()
def demo(
    data: Annotated[str, typer.Argument(help="phantom3d, or any other cohort.")] = "phantom3d",
    runs: Runs = RUNS,
    workers: Workers = None,
    tracking_uri: Uri = None,
) -> None:
    """Run the whole chain, from scans to predictions, and say what was found.

    Example: medcurve demo breastmnist
    """
    from pipeline.demo import run_demo

    run_demo(data, runs, workers, tracking_uri)


@app.command()
def verify(
    model: Annotated[Path, typer.Argument(help="Model package that a release wrote.")],
) -> None:
    """Check that a model package is whole and still gives the same probabilities.

    Example: medcurve verify runs/phantom3d/model-demo
    """
    from pipeline.stages import verify_stage

    verify_stage(model)


@app.command()
def check() -> None:
    """Load every file in configs/ and follow every name in it.

    Example: medcurve check
    """
    from pipeline.stages import check_configs

    say(f"{check_configs()} configs load, and every name in them exists")


def _version(asked: bool) -> None:
    if asked:
        say(f"medcurve {medcurve_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


_ADVICE = {
    errno.EACCES: "choose a folder that you may read and write, with --runs or --out",
    errno.EROFS: "choose a folder that can be written, with --runs or --out",
    errno.ENOSPC: "free some space and run the command again; what stood before is unchanged",
    errno.EDQUOT: "free some of your quota and run it again; what stood before is unchanged",
    errno.EFBIG: "a file would be larger than this process may write: raise `ulimit -f`",
    errno.ENOTDIR: "a part of this path is a file: choose another folder",
}


def run(command: Callable[[], object]) -> int:
    """Run a command; errors for the user become a message and an exit status.

    Returns:
        0, or 2 for an error that is explained, or 74 where the disk failed (EX_IOERR of
        sysexits.h). Ctrl-C exits with 130 and SIGTERM with 143, as shells have it (128 + signal).
    """
    try:
        command()
    except MedcurveError as error:
        fail(error)
        return error.exit_code
    except OSError as error:
        found = f"{error.filename or ''}: {error.strerror or error}"
        fail(MedcurveError("system.os_error", found, fix=_ADVICE.get(error.errno or 0, "")))
        return 74
    return 0


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


def main() -> None:
    """Entry point of the ``medcurve`` command."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(app))
