"""The stages of a study: what it would cost, the study, its report, its runs in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from data_prep.config import find_config, read_config
from data_prep.store import Store
from pipeline.console import progress, say, table, warn
from pipeline.engines import study_engine
from pipeline.model_stages import release_stage
from pipeline.stages import refuse_stale
from pipeline.study.config import StudyConfig
from pipeline.study.errors import StudyError
from pipeline.study.extension import FORGET, Extension, extended, read_extension
from pipeline.wording import counted, listed
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.study.record import Standing
    from pipeline.study.run import StudyResult

# Torch, MONAI and MLflow take seconds to import: a stage imports what it alone needs.

_MOST_NAMED: Final = 5  # damaged cells that are named


def read_study(name: str) -> StudyConfig:
    """A study's config, and every family that it names.

    Raises:
        ConfigError: One of them is missing or wrong.
    """
    from pipeline.study.flipped import check_flip
    from pipeline.study.plan import read_families

    config = read_config(find_config("study", name), StudyConfig)
    read_families(config.families)
    check_flip(name, config)
    return config


def _widened(file: StudyConfig, out: Path, extend: Sequence[str]) -> StudyConfig:
    """A study with more in its grid: as earlier runs extended it, and as ``extend`` says."""
    from pipeline.study.plan import read_families

    before = Extension() if FORGET in extend else read_extension(out)
    config = extended(before.of(file), extend)
    read_families(config.families)
    if config != extended(file, extend):
        say(f"the study was extended before ({before}) and stays so; --extend {FORGET} ends that")
    return config


def _fitted(file: StudyConfig, workspace: Workspace) -> StudyConfig:
    """A study with 'all' in place of the sizes that the cohort cannot hold; that is said."""
    rows = Store.open(workspace.store, verify=False).rows("train")  # the study verifies it
    patients = len({row.patient_id for row in rows})
    held = tuple(size for size in file.sizes if size == "all" or size <= patients)
    if held == file.sizes:
        return file
    too_large = [str(size) for size in file.sizes if size not in held]
    say(
        f"  note: the cohort has {counted(patients, 'training patient')}: 'all' of them in place "
        f"of {listed(too_large)}"
    )
    sizes = held if "all" in held else (*held, "all")
    return file.model_copy(update={"sizes": sizes})


def study_stage(
    workspace: Workspace,
    name: str,
    processes: int | None,
    uri: str | None,
    *,
    only: Sequence[str] = (),
    extend: Sequence[str] = (),
    ray: str | None = None,
    to_fit: bool = False,
) -> StudyResult:
    """Run a study or go on with it, write its report and bring MLflow up to date.

    Args:
        workspace: The cohort's.
        name: The study's config.
        processes: That compute cells; None: one for each core.
        uri: MLflow store; None: that of the workspace.
        only: Families whose cells are computed now; empty: all.
        extend: ``FIELD=VALUE``, what the study is to have beyond its file.
        ray: Address of a Ray cluster; None: cells are computed by processes here.
        to_fit: Let sizes that the cohort cannot hold give way to all of its training patients.
    """
    file = read_study(name)
    if to_fit:
        file = _fitted(file, workspace)
    config = _widened(file, workspace.study(name), extend)
    return run_config(workspace, config, name, processes, uri, only, ray, file)


def cost_stage(
    workspace: Workspace,
    name: str,
    processes: int | None,
    *,
    only: Sequence[str] = (),
    extend: Sequence[str] = (),
    ray: str | None = None,
    to_fit: bool = False,
) -> None:
    """Say what a study would cost, without running it.

    Args:
        workspace, name, processes, only, extend, ray, to_fit: As in ``study_stage``.
    """
    from pipeline.study.run import cost_of_study
    from pipeline.study_board import duration, share

    file = read_study(name)
    refuse_stale(workspace)
    if to_fit:
        file = _fitted(file, workspace)
    config = _widened(file, workspace.study(name), extend)
    found = cost_of_study(config, workspace.store, workspace.study(name), only=only)
    table(
        ("family", "cells to compute", "time of one process"),
        [(name, str(cells), duration(s) if cells else "–") for name, cells, s in found.families],
    )
    cells = sum(count for _, count, _ in found.families)
    if not cells:
        say(
            f"{share(found.standing, found.cells)} stand in the journal; nothing is to be computed "
            "(nothing was written)"
        )
        return
    with study_engine(ray, processes, config.threads) as (_, count):
        clock = found.on_the_clock(count)
    standing = f" ({found.standing} stand in the journal)" if found.standing else ""
    say(
        f"{share(cells, found.cells)} to compute{standing}, about {duration(clock)} on "
        f"{counted(count, 'process', 'processes')} (nothing was written)"
    )


def train_stage(workspace: Workspace, family: str, seed: int, uri: str | None) -> Path:
    """Train one family on all training patients: a study of one cell, then its release."""
    from pipeline.study.plan import read_families

    config = StudyConfig(families=(family,), sizes=("all",), subsets=1, seeds=1, seed=seed)
    read_families(config.families)
    name = f"train-{Path(family).stem}"
    run_config(workspace, config, name, 1, uri)
    return release_stage(workspace, name, uri)


def run_config(
    workspace: Workspace,
    config: StudyConfig,
    name: str,
    processes: int | None,
    uri: str | None,
    only: Sequence[str] = (),
    ray: str | None = None,
    file: StudyConfig | None = None,
) -> StudyResult:
    """Run a study of this very config, write its report and bring MLflow up to date.

    Args:
        workspace, processes, uri, only, ray: As in ``study_stage``.
        config: The study's.
        name: Of its folder.
        file: The config before it was extended; None: it was not.
    """
    from pipeline.study.interim import INTERIM
    from pipeline.study.run import run_study
    from pipeline.study_board import Board

    refuse_stale(workspace)
    out = workspace.study(name)
    with study_engine(ray, processes, config.threads) as (engine, count), Board() as board:
        result = run_study(
            config,
            workspace.store,
            out,
            workers=count,
            only=only,
            watcher=board,
            cohort=workspace.cohort.name,
            engine=engine,
            file=file,
        )
    failed = f", {result.failed} failed" if result.failed else ""
    pending = f", {result.pending} pending" if result.pending else ""
    say(
        f"study: {counted(result.cells, 'cell')}, {result.computed} computed now{failed}{pending} "
        f"→ {out}"
    )
    for sentence in result.failures:
        warn(StudyError("study.failed_cells", sentence))
    if result.pending:
        say(f"interim report: {out / INTERIM / 'report.html'}; without --only the study goes on")
        return result
    report_stage(workspace, name)
    sync_stage(workspace, name, uri)
    return result


def report_stage(workspace: Workspace, name: str) -> None:
    """Write the report of a finished study, or of what stands of one that was stopped."""
    from pipeline.study.interim import report_so_far, shown_by_one
    from pipeline.study.record import read_standing
    from pipeline.study.report import write_report

    out = workspace.study(name)
    with shown_by_one(out):
        standing = read_standing(out)
        _warn_of_damaged(standing)
        if standing is None or standing.finished:
            say(f"report: {write_report(out)}")
            return
        say(f"study: {standing}")
        say(f"interim report: {report_so_far(out, workspace.store)}")


def _warn_of_damaged(standing: Standing | None) -> None:
    """Name the cells whose journal entry cannot be read, some of them where they are many."""
    if standing is None or not standing.damaged:
        return
    count, shown = len(standing.damaged), standing.damaged[:_MOST_NAMED]
    more = [f"and {count - len(shown)} more"] if count > len(shown) else []
    are = "cell of the journal is" if count == 1 else "cells of the journal are"
    warn(
        StudyError(
            "study.damaged_cell",
            f"{count} {are} damaged: {'; '.join([*shown, *more])}",
            fix="run `medcurve study` again: it computes them anew",
        )
    )


def held_stage(workspace: Workspace, name: str, uri: str | None, *, held: bool) -> None:
    """Tell MLflow whether the claim held that a study puts to the test; if not, nothing is lost."""
    from pipeline import tracking

    try:
        uri = uri or tracking.default_uri(workspace.runs)
        tracking.mark_held(workspace.study(name), uri, held=held)
    except tracking.TrackingError as error:
        warn(error)


def sync_stage(workspace: Workspace, name: str, uri: str | None, *, strict: bool = False) -> None:
    """Bring MLflow up to date with a study's journal.

    The journal is the truth and MLflow a view of it: a store that does not answer stops nothing,
    unless ``strict``.
    """
    from pipeline import tracking
    from pipeline.study.record import read_standing

    uri = uri or tracking.default_uri(workspace.runs)
    standing = read_standing(workspace.study(name))
    _warn_of_damaged(standing)
    if standing is not None and not standing.finished:
        say(f"study: {standing}, `medcurve report` shows what stands")
    try:
        with progress("mlflow", "runs") as report:
            done = tracking.sync_study(workspace.study(name), uri, progress=report)
    except tracking.TrackingError as error:
        if strict:
            raise
        warn(error)
        return
    removed = f", {done.removed} removed that the study no longer has" if done.removed else ""
    say(
        f"mlflow: {counted(done.created, 'run')} added, {done.unchanged} were there{removed} → "
        f"{tracking.public(uri)}"
    )
