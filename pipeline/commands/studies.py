"""Commands that measure families: studies, and what comes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import (
    RUNS,
    Address,
    DataOption,
    EngineName,
    EngineOption,
    Prep,
    RayWorkers,
    Runs,
    StudyName,
    Uri,
    Workers,
    ray_address,
    refuse_unreadable,
)


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
    to_fit: Annotated[
        bool,
        typer.Option(
            "--to-fit", help="All training patients in place of sizes that they are too few for."
        ),
    ] = False,
    engine: EngineOption = EngineName.LOCAL,
    address: Address = None,
    runs: Runs = RUNS,
    workers: RayWorkers = None,
    tracking_uri: Uri = None,
) -> None:
    """Run families x sizes x subsets x seeds; go on where a broken run stopped.

    Example: medcurve study demo --data phantom3d
    """
    from pipeline.workspace import open_workspace

    only, extend = only or [], extend or []
    ray = ray_address(engine, address)
    workspace = open_workspace(runs, data, prep)
    refuse_unreadable("study", name)
    from pipeline import study_stages

    if dry_run:
        study_stages.cost_stage(
            workspace, name, workers, only=only, extend=extend, ray=ray, to_fit=to_fit
        )
        return
    study_stages.study_stage(
        workspace, name, workers, tracking_uri, only=only, extend=extend, ray=ray, to_fit=to_fit
    )


def leaderboard(
    data: Annotated[
        list[str] | None,
        typer.Argument(
            help="Cohorts; default: breastmnist, pneumoniamnist_rebuilt and adrenalmnist3d."
        ),
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
    refuse_unreadable("study", study)
    refuse_unreadable("data", *(data or ()))
    from pipeline.leaderboard import COHORTS, run_leaderboard

    run_leaderboard(data or COHORTS, study, runs, workers, tracking_uri)


def lecture(
    claims: Annotated[
        list[str] | None,
        typer.Argument(help="Studies of configs/study/lecture; default: all of them."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Run them small; ask for directions only.")
    ] = False,
    flip: Annotated[
        bool, typer.Option("--flip", help="Undo the mechanism of each: it must then fail.")
    ] = False,
    real: Annotated[
        bool, typer.Option("--real", help="Run them on public scans too; this is only reported.")
    ] = False,
    docs: Annotated[
        Path | None, typer.Option("--docs", help="Write the claims' pages there as well.")
    ] = None,
    runs: Runs = RUNS,
    workers: Workers = None,
    tracking_uri: Uri = None,
) -> None:
    """Put the lecture's claims to the test: each says beforehand what must come out.

    Example: medcurve lecture translation
    """
    from pipeline.lecture.names import study_name

    named = [study_name(claim) for claim in claims or ()]
    refuse_unreadable("study", *named)
    from pipeline.lecture.mode import Mode
    from pipeline.lecture.run import claims as every_claim
    from pipeline.lecture.run import run_lecture

    names = named or every_claim()
    run_lecture(names, runs, workers, tracking_uri, Mode(quick, flip, real), docs)


def report(name: StudyName, data: DataOption, prep: Prep = None, runs: Runs = RUNS) -> None:
    """Write a study's report again from its journal; an interim one where cells are pending.

    Example: medcurve report demo --data phantom3d
    """
    from pipeline.study_folders import refuse_absent_study
    from pipeline.workspace import open_workspace

    workspace = open_workspace(runs, data, prep)
    refuse_absent_study(workspace, "report", name, data)
    from pipeline import study_stages

    study_stages.report_stage(workspace, name)


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
    from pipeline.study_folders import refuse_absent_study
    from pipeline.workspace import open_workspace

    workspace = open_workspace(runs, data, prep)
    refuse_absent_study(workspace, "sync", name, data)
    from pipeline import study_stages

    study_stages.sync_stage(workspace, name, tracking_uri, strict=True)


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
