"""The stages as a user runs them: config in, folder out, one line that says what came of it.

The command line and the demo both call these, so that they cannot differ.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.cohort import CohortConfig, MedMnistSource, PhantomSource
from data_prep.config import CONFIG_ROOT, find_config, read_config
from data_prep.errors import SCAN_CODES, ConfigError
from data_prep.files import read_json
from data_prep.fingerprint import CohortFingerprint
from data_prep.ingest import ingest, make_phantom, raw_root
from data_prep.labelling import find_pseudonym_key, patient_pseudonym, pseudonym
from data_prep.leaks import Leaks
from data_prep.manifest import ScanReader
from data_prep.plan import check_plan_name, flow, plan_prep, plan_yaml, write_plan
from data_prep.prep import prep_settings, prepare_store
from data_prep.preprocess import PrepConfig
from data_prep.readers.medmnist import find_npz
from data_prep.readers.medmnist_download import download_npz
from data_prep.splits import SPLIT_SUMMARY, SPLITS, split_cohort
from data_prep.stage import check_inputs, stage_digest
from data_prep.survey import survey_cohort
from pipeline.console import progress, say, table, warn
from pipeline.study.config import StudyConfig
from pipeline.study.errors import StudyError
from pipeline.study.extension import FORGET, Extension, extended, read_extension
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.study.jobs import Engine
    from pipeline.study.run import StudyResult

# Torch, MONAI and MLflow take seconds to import: a stage imports what it alone needs.


def workers(asked: int | None) -> int:
    """The number asked for, else one process for each core that this process may use."""
    return asked or len(os.sched_getaffinity(0))


def data_stage(workspace: Workspace) -> None:
    """Generate a phantom, download a public set, or check that a folder is there."""
    source = workspace.cohort.source
    if isinstance(source, PhantomSource):
        with progress("phantom", "patients") as report:
            folder = make_phantom(workspace.cohort, workspace.runs, report)
        say(f"phantom scans: {folder}")
    elif isinstance(source, MedMnistSource):
        path = find_npz(source.dataset, source.size)
        if path is None:
            home = Path.home() / ".medmnist"
            with progress("download", "bytes") as report:
                path = download_npz(source.dataset, source.size, home, report)
        say(f"{source.dataset}: {path}")
    else:
        say(f"scans: {raw_root(workspace.cohort, workspace.runs)}")


def ingest_stage(workspace: Workspace, processes: int) -> None:
    """Read every scan once; write the manifest."""
    with progress("ingest", "scans") as report:
        found = ingest(
            workspace.cohort, workspace.runs, workspace.manifest, workers=processes, progress=report
        )
    say(
        f"ingest: {found.scans} scans of {found.patients} patients, {found.quarantined} scans "
        f"quarantined ({found.quarantined_files} files), {found.skipped} files skipped → "
        f"{workspace.manifest}"
    )
    for note in found.notes:
        say(f"  note: {note}")


def plan_stage(
    workspace: Workspace,
    data: str,
    out: Path | None,
    voxels: int | None,
    overwrite: bool,
    processes: int,
) -> Path:
    """Propose a prep config from the cohort's fingerprint, and write it as a commented YAML."""
    out = out or workspace.folder / "plan.yaml"
    check_plan_name(out)
    seen = _survey(workspace, processes)
    plan = plan_prep(seen, voxels)
    place = [] if workspace.runs == Path("runs") else ["--runs", str(workspace.runs)]
    command = shlex.join(["medcurve", "prep", data, "--prep", str(out), *place])
    write_plan(out, plan_yaml(plan, seen, command), overwrite=overwrite)
    table(
        ("field", "value", "because"), [(d.field, flow(d.value), d.because) for d in plan.decisions]
    )
    for caution in plan.cautions:
        say(f"caution: {caution}")
    say(f"plan: {out}; use it with `{command}`")
    return out


def summary_stage(workspace: Workspace, processes: int) -> Path:
    """Show what a cohort's scans are like: a table here, and a page with pictures."""
    from pipeline.cohort_page import facts, write_cohort_page

    seen = _survey(workspace, processes)
    table(("cohort", seen.cohort), facts(seen, read_json(workspace.manifest / "ingest.json")))
    page = write_cohort_page(
        seen, workspace.manifest, workspace.survey, workspace.folder / "cohort.html"
    )
    say(f"summary: {page}")
    return page


def _survey(workspace: Workspace, processes: int) -> CohortFingerprint:
    root = raw_root(workspace.cohort, workspace.runs)
    with progress("survey", "scans") as report:
        return survey_cohort(
            workspace.cohort.name,
            ScanReader(root, workspace.cohort.read, processes),
            workspace.manifest,
            workspace.survey,
            report,
        )


def split_stage(
    workspace: Workspace, processes: int = 1, *, accept_duplicates: bool = False
) -> None:
    """Divide the patients; write the splits, and a page of the images that stand twice."""
    from pipeline.leaks_page import write_leaks_page

    config = workspace.cohort.split
    if accept_duplicates:
        config = config.model_copy(update={"accept_duplicates": True})
    root = raw_root(workspace.cohort, workspace.runs)
    reader = ScanReader(root, workspace.cohort.read, processes)

    def publish(leaks: Leaks) -> str:
        return str(write_leaks_page(workspace.cohort.name, leaks, reader, workspace.leaks))

    with progress("compare", "pairs") as report:
        rows = split_cohort(
            workspace.manifest, config, workspace.splits, publish=publish, progress=report
        )
    counts = ", ".join(
        f"{name} {len({row.patient_id for row in rows if row.split == name})}" for name in SPLITS
    )
    say(f"split: patients {counts} → {workspace.splits}")
    if accepted := read_json(workspace.splits / SPLIT_SUMMARY)["accepted"]:
        say(f"  note: {', '.join(accepted)}; accepted, see {workspace.leaks}")


def prep_stage(workspace: Workspace, processes: int) -> None:
    """Fit the recipe on the training scans; write the store."""
    config = read_config(find_config("prep", workspace.prep), PrepConfig)
    root = raw_root(workspace.cohort, workspace.runs)
    with progress("prep", "reads") as report:
        done = prepare_store(
            ScanReader(root, workspace.cohort.read, processes),
            workspace.manifest,
            workspace.splits,
            config,
            workspace.store,
            progress=report,
        )
    kept = f", {done.kept_shards} shards kept from a broken run" if done.kept_shards else ""
    say(f"prep: {done.scans} scans, {done.quarantined} quarantined{kept} → {workspace.store}")


def scans_to_store(workspace: Workspace, processes: int) -> None:
    """Every stage up to the store: data, ingest, split and prep."""
    data_stage(workspace)
    ingest_stage(workspace, processes)
    split_stage(workspace, processes)
    prep_stage(workspace, processes)


def read_study(name: str) -> StudyConfig:
    """A study's config, and every family that it names.

    Raises:
        ConfigError: One of them is missing or wrong.
    """
    from pipeline.study.plan import read_families

    config = read_config(find_config("study", name), StudyConfig)
    read_families(config.families)
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


def study_stage(
    workspace: Workspace,
    name: str,
    processes: int | None,
    uri: str | None,
    *,
    only: Sequence[str] = (),
    extend: Sequence[str] = (),
    ray: str | None = None,
) -> StudyResult:
    """Run a study or go on with it, write its report and bring MLflow up to date.

    ``ray`` is the address of a Ray cluster; None: cells are computed by processes here.
    """
    file = read_study(name)
    config = _widened(file, workspace.study(name), extend)
    return _run_study(workspace, config, name, processes, uri, only, ray, file)


def cost_stage(
    workspace: Workspace,
    name: str,
    processes: int | None,
    *,
    only: Sequence[str] = (),
    extend: Sequence[str] = (),
    ray: str | None = None,
) -> None:
    """Say what a study would cost, without running it."""
    from pipeline.study.run import cost_of_study
    from pipeline.study_board import duration

    config = _widened(read_study(name), workspace.study(name), extend)
    refuse_stale(workspace)
    found = cost_of_study(config, workspace.store, workspace.study(name), only=only)
    table(
        ("family", "cells to compute", "time of one process"),
        [(name, str(cells), duration(s) if cells else "–") for name, cells, s in found.families],
    )
    standing = f", {found.standing} of them stand in the journal" if found.standing else ""
    if not any(cells for _, cells, _ in found.families):
        say(f"{found.cells} cells{standing}; nothing is to be computed (nothing was written)")
        return
    with _engine(ray, processes, config.threads) as (_, count):
        clock = found.on_the_clock(count)
    say(
        f"{found.cells} cells{standing}; about {duration(clock)} on {count} "
        f"{'process' if count == 1 else 'processes'} (nothing was written)"
    )


def train_stage(workspace: Workspace, family: str, seed: int, uri: str | None) -> Path:
    """Train one family on all training patients: a study of one cell, then its release."""
    from pipeline.study.plan import read_families

    config = StudyConfig(families=(family,), sizes=("all",), subsets=1, seeds=1, seed=seed)
    read_families(config.families)
    name = f"train-{Path(family).stem}"
    _run_study(workspace, config, name, 1, uri)
    return release_stage(workspace, name, uri)


def _run_study(
    workspace: Workspace,
    config: StudyConfig,
    name: str,
    processes: int | None,
    uri: str | None,
    only: Sequence[str] = (),
    ray: str | None = None,
    file: StudyConfig | None = None,
) -> StudyResult:
    from pipeline.study.interim import INTERIM
    from pipeline.study.run import run_study
    from pipeline.study_board import Board

    refuse_stale(workspace)
    out = workspace.study(name)
    with _engine(ray, processes, config.threads) as (engine, count), Board() as board:
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
    say(f"study: {result.cells} cells, {result.computed} computed now{failed}{pending} → {out}")
    if result.pending:
        say(f"interim report: {out / INTERIM / 'report.html'}; without --only the study goes on")
        return result
    report_stage(workspace, name)
    sync_stage(workspace, name, uri)
    return result


@contextmanager
def _engine(
    ray: str | None, processes: int | None, threads: int
) -> Iterator[tuple[Engine | None, int]]:
    """What computes the cells of a study, and how many at once: all that there is room for, unless
    a number of processes is asked for.
    """
    if ray is None:
        yield None, workers(processes)
        return
    try:
        from pipeline.study.ray_engine import connect, run_ray, slots
    except ModuleNotFoundError as error:
        raise StudyError(
            "study.no_ray",
            f"--engine ray needs the Python package Ray, which is not installed ({error})",
            fix="install it with: pip install -c constraints.txt -e '.[ray]'",
        ) from error
    with connect(ray, workers(processes) * threads):
        yield partial(run_ray, say=say), processes or max(1, slots(threads))


def refuse_stale(workspace: Workspace) -> None:
    """Stop where the store is not of the manifest, splits and prep config that stand now."""
    inputs = {
        "manifest": stage_digest(workspace.manifest),
        "splits": stage_digest(workspace.splits),
    }
    config = read_config(find_config("prep", workspace.prep), PrepConfig)
    option = "" if workspace.prep == workspace.cohort.prep else f" --prep {workspace.prep}"
    check_inputs(
        workspace.store,
        inputs,
        f"run `medcurve prep` for this cohort again{option}",
        prep_settings(config, workspace.cohort.read),
    )


def report_stage(workspace: Workspace, name: str) -> None:
    """Write the report of a finished study, or of what stands of one that was stopped."""
    from pipeline.study.interim import report_so_far
    from pipeline.study.record import read_standing
    from pipeline.study.report import write_report

    out = workspace.study(name)
    standing = read_standing(out)
    if standing is None or standing.finished:
        say(f"report: {write_report(out)}")
        return
    say(f"study: {standing}")
    say(f"interim report: {report_so_far(out, workspace.store)}")


def sync_stage(workspace: Workspace, name: str, uri: str | None, *, strict: bool = False) -> None:
    """Bring MLflow up to date with a study's journal.

    The journal is the truth and MLflow a view of it: a store that does not answer stops nothing,
    unless ``strict``.
    """
    from pipeline import tracking
    from pipeline.study.record import read_standing

    uri = uri or tracking.default_uri(workspace.runs)
    standing = read_standing(workspace.study(name))
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
        f"mlflow: {done.created} runs added, {done.unchanged} were there{removed} → "
        f"{tracking.public(uri)}"
    )


def release_stage(workspace: Workspace, name: str, uri: str | None) -> Path:
    """Package the model that the study's rule chooses, and register it as champion."""
    from pipeline import tracking
    from pipeline.serving.release import release

    refuse_stale(workspace)
    out = workspace.model(name)
    with progress("release", "steps") as report:
        package = release(
            workspace.study(name),
            workspace.store,
            out,
            pseudonym=patient_pseudonym(workspace.cohort, workspace.runs),
            progress=report,
        )
    test = package.card.test
    scores = ", ".join(
        f"{metric} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
        for metric, found in test.metrics.items()
        if metric in ("auc", "accuracy")
    )
    say(f"release: {package.card.training.chosen}")
    say(f"release: test {scores} → {out}")
    uri = uri or tracking.default_uri(workspace.runs)
    try:
        version = tracking.register_package(
            out, workspace.cohort.name, "champion", uri, package.card.training.cell
        )
    except tracking.TrackingError as error:
        warn(error)
        return out
    say(f"mlflow: models:/{workspace.cohort.name}@champion is version {version.version}")
    return out


def predict_stage(
    model: str,
    inputs: Sequence[Path],
    out: Path,
    batch_size: int,
    processes: int,
    runs: Path,
    uri: str | None,
) -> None:
    """Run a model package, by folder or MLflow address, over files and folders of scans."""
    from pipeline import tracking
    from pipeline.serving.inference import predict
    from pipeline.serving.package import load_package
    from pipeline.serving.seen import PATIENT_FLAGS, SEEN_FLAGS

    uri = uri or tracking.default_uri(runs)
    by_address = model.startswith(("models:/", "runs:/"))
    package = load_package(tracking.download_model(model, uri) if by_address else Path(model))
    key = find_pseudonym_key(runs)
    with progress("predict", "scans") as report:
        found = predict(
            package,
            inputs,
            out,
            batch_size=batch_size,
            workers=processes,
            pseudonym=partial(pseudonym, key=key) if key else None,
            progress=report,
        )
    say(
        f"predict: {found.inputs} inputs = {found.ok} scored + {found.quarantined} quarantined + "
        f"{found.skipped} skipped → {out / 'predictions.csv'}"
    )
    if not found.ok:
        say("  note: no scan was scored; quarantine.csv says why for each")
    for code, count in found.quarantined_by_code.items():
        say(f"  quarantined: {count} × {code} ({SCAN_CODES[code]})")
    for flag, meaning in (SEEN_FLAGS | PATIENT_FLAGS).items():
        if seen := found.flagged.get(flag):
            say(f"  flagged: {seen} × {flag} ({meaning})")
    try:
        tracking.log_predictions(asdict(found), uri, model=package.digest)
    except tracking.TrackingError as error:
        warn(error)


def verify_stage(model: Path) -> None:
    """Check a package's digests and run its self-test."""
    from pipeline.serving.verify import verify

    found = verify(model)
    same = "bit by bit" if found.bit_identical else f"to {found.difference:.1e}"
    say(f"{model}: whole, and it gives the probabilities it was packaged with ({same})")


def ui_stage(runs: Path, uri: str | None, port: int) -> int:
    """Serve MLflow's UI until it is stopped."""
    from pipeline import tracking

    return tracking.serve_ui(uri or tracking.default_uri(runs), port, say)


def check_configs() -> int:
    """Load every config and follow every name in it; returns how many there are.

    Raises:
        ConfigError: The first that is wrong, or names what does not exist.
        CheckpointError: Weights that a family names are not there, or not those meant.
    """
    from pipeline.augment import AugmentConfig
    from pipeline.families import check_files, load_family_config
    from pipeline.study.plan import read_families

    count = 0
    for path in sorted(CONFIG_ROOT.rglob("*.yaml")):
        match path.relative_to(CONFIG_ROOT).parts[0]:
            case "data":
                read_config(path, CohortConfig)
            case "prep":
                read_config(path, PrepConfig)
            case "augment":
                read_config(path, AugmentConfig)
            case "family":
                check_files(path.stem, load_family_config(str(path)))
            case "study":
                read_families(read_config(path, StudyConfig).families)
            case kind:
                raise ConfigError(
                    "config.unknown_kind",
                    f"{path}: no stage reads configs/{kind}",
                    fix="put it under configs/data, prep, augment, family or study",
                )
        count += 1
    return count
