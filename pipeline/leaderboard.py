"""Every family on several cohorts, beside what others have published for them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pipeline import engines, stages, study_stages
from pipeline.console import heading, say, table
from pipeline.standings import Standings, read_standings, rows, sentence, write_standings
from pipeline.workspace import open_workspace

COHORTS: Final = ("breastmnist", "pneumoniamnist_rebuilt", "adrenalmnist3d")


def run_leaderboard(
    cohorts: Sequence[str], study: str, runs: Path, workers: int | None, tracking_uri: str | None
) -> Path:
    """Run ``study`` on each cohort, or go on with what is there; write and print the table.

    The family of each cohort is chosen on validation. Every config is read before any work, and
    the table is written anew after each cohort.

    Raises:
        MedcurveError: As the stages do.
    """
    started = time.monotonic()
    count = engines.workers(workers)
    study_stages.read_study(study)
    workspaces = [open_workspace(runs, name) for name in cohorts]
    done: list[Standings] = []
    for workspace in workspaces:
        heading(workspace.cohort.name)
        stages.scans_to_store(workspace, count)
        study_stages.study_stage(workspace, study, count, tracking_uri)
        done.append(read_standings(workspace.cohort, workspace.study(study)))
        written = write_standings(runs / "leaderboard", done)
    for one in done:
        heading(one.title)
        table(("method", one.validated_by, "test AUC", "test accuracy"), rows(one))
        say(sentence(one))
    say("")
    say(f"leaderboard: {written}, and as leaderboard.csv beside it")
    say(f"done in {(time.monotonic() - started) / 60:.1f} min")
    return written
