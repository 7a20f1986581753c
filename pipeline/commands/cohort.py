"""Commands that bring a cohort from files to a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import (
    RUNS,
    Address,
    Data,
    EngineName,
    EngineOption,
    Prep,
    RayWorkers,
    Runs,
    Workers,
    ray_address,
)


def data(name: Data, runs: Runs = RUNS) -> None:
    """Generate a phantom cohort or scenes, or download a public cohort.

    Example: medcurve data breastmnist
    """
    from pipeline import stages
    from pipeline.workspace import open_workspace

    stages.data_stage(open_workspace(runs, name))


def ingest(
    name: Data,
    engine: EngineOption = EngineName.LOCAL,
    address: Address = None,
    runs: Runs = RUNS,
    workers: RayWorkers = None,
) -> None:
    """Read every scan once: a manifest of the good ones, a quarantine with reasons.

    Example: medcurve ingest phantom3d
    """
    from pipeline import stages
    from pipeline.workspace import open_workspace

    ray = ray_address(engine, address)
    stages.ingest_stage(open_workspace(runs, name), workers, ray=ray)


def summary(name: Data, runs: Runs = RUNS, workers: Workers = None) -> None:
    """Show what the scans are like: a table, and a page with pictures.

    Example: medcurve summary phantom3d
    """
    from pipeline import engines, stages
    from pipeline.workspace import open_workspace

    stages.summary_stage(open_workspace(runs, name), engines.workers(workers))


def compare_cohorts(
    first: Annotated[str, typer.Argument(help="Cohort: a name in configs/data, or a YAML file.")],
    second: Annotated[str, typer.Argument(help="The cohort to compare it with.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="HTML file; default: RUNS/compare-FIRST-SECOND.html."),
    ] = None,
    runs: Runs = RUNS,
    workers: Workers = None,
) -> None:
    """Do the scans of two ingested cohorts look alike? A table, and a page with pictures.

    Example: medcurve compare-cohorts breastmnist pneumoniamnist_rebuilt
    """
    from pipeline import engines, stages
    from pipeline.workspace import open_workspace

    one, other = open_workspace(runs, first), open_workspace(runs, second)
    stages.compare_stage(one, other, out, engines.workers(workers))


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
    from pipeline import engines, stages
    from pipeline.workspace import open_workspace

    workspace = open_workspace(runs, name)
    stages.plan_stage(workspace, name, out, voxels, overwrite, engines.workers(workers))


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
    from pipeline import engines, stages
    from pipeline.workspace import open_workspace

    workspace = open_workspace(runs, name)
    stages.split_stage(workspace, engines.workers(workers), accept_duplicates=accept_duplicates)


def prep(
    name: Data,
    prep: Prep = None,
    engine: EngineOption = EngineName.LOCAL,
    address: Address = None,
    runs: Runs = RUNS,
    workers: RayWorkers = None,
) -> None:
    """Fit the recipe on training scans and bring all scans to one geometry and scale.

    Example: medcurve prep phantom3d --prep phantom3d
    """
    from pipeline import stages
    from pipeline.workspace import open_workspace

    ray = ray_address(engine, address)
    stages.prep_stage(open_workspace(runs, name, prep), workers, ray=ray)
