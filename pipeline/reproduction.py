"""Does a run that MLflow shows come out the same again? ``medcurve rerun``."""

from __future__ import annotations

from pathlib import Path

from pipeline.console import progress, say, table


def rerun_stage(run_id: str, runs: Path, uri: str | None, tolerance: float) -> bool:
    """Fit the cell of an MLflow run again and say what is equal; True where its metrics are."""
    from pipeline import tracking
    from pipeline.study.rerun import find_store, find_study, rerun

    found = tracking.find_cell_run(run_id, uri or tracking.default_uri(runs))
    study = find_study(runs, found.cell, found.study)
    store = find_store(study)
    say(f"rerun: {found.name} of {study}, on {store}")
    with progress("fit", "epochs") as report:
        again = rerun(study, store, found.cell, found.metrics, report)
    for line in again.differs:
        say(f"  not as it was: {line}")
    table(
        ("metric", "then", "now", "difference"),
        [(name, f"{a:.6f}", f"{b:.6f}", f"{b - a:.1e}") for name, (a, b) in again.scores.items()],
    )
    if again.same_bits:
        say("probabilities: equal bit by bit")
    else:
        say(f"probabilities: they differ by up to {again.difference:.1e}")
    equal = again.reproduces(tolerance)
    if not again.unequal:
        say(f"metrics: all {len(again.scores)} are equal" if equal else "metrics: the run has none")
        return equal
    worst, off = max(again.unequal.items(), key=lambda pair: pair[1])
    within = f"within {tolerance:g}, as is to be expected of other arithmetic: " if equal else ""
    say(f"metrics: {within}{len(again.unequal)} are not equal, {worst} is off by {off:.1e}")
    return equal
