"""Judging a finished model and its answers: ``evaluate``, ``audit``, ``explain``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from data_prep.config import find_config
from data_prep.errors import ConfigError
from data_prep.ingest import raw_root
from data_prep.labelling import patient_pseudonym
from data_prep.stage import new_stage, refuse_foreign, stage_digest
from pipeline.console import progress, say, say_quarantined
from pipeline.evaluation_stage import evaluate_package
from pipeline.model_address import is_address
from pipeline.model_stages import open_package, refuse_unusable
from pipeline.wording import counted
from pipeline.workspace import Workspace, open_workspace


def evaluate_stage(
    model: str, data: str | None, out: Path | None, processes: int, runs: Path, uri: str | None
) -> Path:
    """Write the evaluation page of a model, its card and all numbers.

    Args:
        model: Model package, by folder or MLflow address.
        data: Cohort whose labelled test scans it is judged by; None: that which the model was
            trained on.
        out: Folder for the results; None: beside the cohort's other results.
        processes: That read scans.
        runs: Where the cohort's manifest and splits lie.
        uri: MLflow store, for a model that is named by its address.
    """
    package = open_package(model, runs, uri)
    workspace = _cohort(runs, data, package.card.training.data)
    out = out or workspace.evaluation(_short_name(model))
    for sentence in evaluate_package(package, workspace, out, processes):
        say(f"• {sentence}")
    return out


def audit_stage(
    model: str,
    data: str | None,
    out: Path | None,
    metric: str,
    processes: int,
    runs: Path,
    uri: str | None,
) -> Path:
    """Shift the labelled test scans of a cohort in many ways; write what the model loses by each.

    Args:
        model: Model package, by folder or MLflow address.
        data: Cohort; None: that which the model was trained on.
        out: Folder for the results; None: beside the cohort's other results.
        metric: Of ``pipeline.metrics.METRICS``.
        processes: That read and shift.
        runs: Where the cohort's manifest and splits lie.
        uri: MLflow store, for a model that is named by its address.
    """
    from pipeline.metrics import higher_is_better

    higher_is_better(metric)  # refuses what is no metric, before any work
    package = open_package(model, runs, uri)
    from pipeline.audit.answers import ask
    from pipeline.audit.audit import judge
    from pipeline.audit.page import PAGE, write_audit
    from pipeline.audit.summary import sentences
    from pipeline.audit.sweep import sweep
    from pipeline.serving.labelled import labelled_scans, seen

    workspace = _cohort(runs, data, package.card.training.data)
    records = labelled_scans(package, workspace.manifest, workspace.splits)
    out = out or workspace.folder / f"audit-{_short_name(model)}"
    refuse_foreign(out, "audit")
    steps = sweep(package.card.scan_shape, stored=any(r.orientation for r in records))
    with progress("audit", "scans") as report:
        answers = ask(package, raw_root(workspace.cohort, runs), records, steps, processes, report)
    audit = judge(answers, package.task, metric)
    met = sum(seen(package, answers.records, patient_pseudonym(workspace.cohort, runs)))
    inputs = {
        "model": package.digest,
        "manifest": stage_digest(workspace.manifest),
        "splits": stage_digest(workspace.splits),
    }
    config = {
        "metric": metric,
        "resamples": audit.resamples,
        "level": audit.level,
        "steps": [str(step) for step in steps],
    }
    with new_stage(out, "audit", inputs, config) as folder:
        write_audit(audit, package.card, workspace.cohort.name, answers.refused, met, folder)
    say(
        f"audit: {counted(len(steps), 'shift')} of {counted(audit.scans, 'scan')}, "
        f"{len(answers.refused)} quarantined → {out / PAGE}"
    )
    for sentence in sentences(audit, met):
        say(f"• {sentence}")
    return out


def explain_stage(
    model: str,
    inputs: Sequence[Path],
    out: Path,
    method: str | None,
    target_class: str | None,
    processes: int,
    runs: Path,
    uri: str | None,
) -> None:
    """Write where in each scan a model's answer comes from: maps in the scans' own space, pictures.

    Args:
        model: Model package, by folder or MLflow address.
        inputs: Files and folders of scans.
        out: Folder for the results.
        method: One of ``METHODS``, ``all`` that the model has, or None: its default.
        target_class: For which class; None: the most probable one of each scan.
        processes: That read scans.
        runs: Where the MLflow store is.
        uri: MLflow store, for a model that is named by its address.
    """
    from pipeline.trust.explain_methods import parse_method

    refuse_unusable(model, inputs, out, "explain")
    methods = () if method == "all" else None if method is None else (parse_method(method),)
    from pipeline.serving.explained import TABLE, explain_scans

    package = open_package(model, runs, uri)
    with progress("explain", "scans") as report:
        found = explain_scans(
            package,
            inputs,
            out,
            methods=methods,
            target_class=target_class,
            workers=processes,
            progress=report,
        )
    say(
        f"explain: {counted(found.explained, 'scan')} by {', '.join(found.methods)}, "
        f"{found.quarantined} quarantined, {found.skipped} skipped → {out / TABLE}"
    )
    say_quarantined(found.quarantined_by_code)
    if found.empty:
        say(
            f"  note: in {counted(found.empty, 'map')} nothing speaks for the class, which the "
            "pictures say"
        )


def _cohort(runs: Path, asked: str | None, trained_on: str) -> Workspace:
    if asked is None:
        try:
            find_config("data", trained_on)
        except ConfigError as error:
            raise ConfigError(
                "cohort.not_configured",
                f"the model was trained on cohort '{trained_on}', of which there is no config in "
                "configs/data",
                fix="name a cohort, or the YAML file of one, with --data",
            ) from error
    return open_workspace(runs, asked or trained_on)


def _short_name(model: str) -> str:
    """``runs/x/model-demo`` -> ``demo``; ``models:/x@champion`` -> ``x-champion``."""
    if is_address(model):
        return re.sub(r"[^\w.-]+", "-", model.partition(":/")[2]).strip("-")
    return Path(model).resolve().name.removeprefix("model-")
