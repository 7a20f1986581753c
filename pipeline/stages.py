"""The stages from files to a store as a user runs them: config in, folder out, a line that says it.

The command line and the demo both call these, so that they cannot differ.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

from data_prep.cohort import CohortConfig, MedMnistSource, PhantomSource, SceneSource
from data_prep.config import CONFIG_ROOT, find_config, read_config
from data_prep.errors import ConfigError
from data_prep.files import read_json, write_json
from data_prep.fingerprint import CohortFingerprint
from data_prep.ingest import ingest, make_phantom, raw_root, skipped_files
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
from pipeline.console import progress, say, table
from pipeline.engines import decoding
from pipeline.wording import counted, listed
from pipeline.workspace import Workspace

# So many skipped files are named on the screen; skipped.csv names all of them.
_FEW: Final = 5

# Torch, MONAI and MLflow take seconds to import: a stage imports what it alone needs.


def data_stage(workspace: Workspace) -> None:
    """Generate a phantom, download a public set, or check that a folder is there."""
    source = workspace.cohort.source
    if isinstance(source, PhantomSource | SceneSource):
        with progress(source.kind, "patients") as report:
            folder = make_phantom(workspace.cohort, workspace.runs, report)
        say(f"{source.kind} scans: {folder}")
    elif isinstance(source, MedMnistSource):
        path = find_npz(source.dataset, source.size)
        if path is None:
            home = Path.home() / ".medmnist"
            with progress("download", "bytes") as report:
                path = download_npz(source.dataset, source.size, home, report)
        say(f"{source.dataset}: {path}")
    else:
        say(f"scans: {raw_root(workspace.cohort, workspace.runs)}")


def ingest_stage(
    workspace: Workspace, processes: int | None = None, *, ray: str | None = None
) -> None:
    """Read every scan once; write the manifest.

    ``ray`` is the address of a Ray cluster; None: scans are read by processes here.
    """
    with decoding(ray, processes) as (new_child, count), progress("ingest", "scans") as report:
        found = ingest(
            workspace.cohort,
            workspace.runs,
            workspace.manifest,
            workers=count,
            new_child=new_child,
            progress=report,
        )
    say(
        f"ingest: {counted(found.scans, 'scan')} of {counted(found.patients, 'patient')}, "
        f"{counted(found.quarantined, 'scan')} quarantined "
        f"({counted(found.quarantined_files, 'file')}), "
        f"{counted(found.skipped, 'file')} skipped → {workspace.manifest}"
    )
    if 0 < found.skipped <= _FEW:
        say(f"  skipped: {listed(skipped_files(workspace.manifest))}")
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
    """Propose a prep config from the cohort's fingerprint, and write it as a commented YAML.

    Args:
        workspace: The cohort's.
        data: The cohort as the user named it, for the command that comes next.
        out: The YAML file; None: ``plan.yaml`` in the cohort's folder.
        voxels: The most of a prepared scan; None: the plan's own limit.
        overwrite: Whether a file may be replaced.
        processes: That read scans.
    """
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


def compare_stage(first: Workspace, second: Workspace, out: Path | None, processes: int) -> Path:
    """Show whether two cohorts' scans look alike: sentences and a table here, a page, numbers.

    Raises:
        ConfigError: ``compare.same_cohort``.
    """
    from pipeline.cohort_comparison.compare import compare_cohorts, load_side
    from pipeline.cohort_comparison.page import aspect_rows, sentences, to_json, write_comparison

    if first.cohort.name == second.cohort.name:
        raise ConfigError(
            "compare.same_cohort",
            f"both cohorts are '{first.cohort.name}'",
            fix="give two different cohorts; each needs a name of its own",
        )
    one, other = (load_side(_survey(w, processes), w.manifest, w.survey) for w in (first, second))
    found = compare_cohorts(one, other)
    for sentence in sentences((one, other), found):
        say(sentence)
    table(("aspect", "verdict", "p", "AUROC", "scans of patients"), aspect_rows(found))
    out = out or first.runs / f"compare-{one.name}-{other.name}.html"
    page = write_comparison((one, other), found, out)
    write_json(out.with_suffix(".json"), to_json((one, other), found))
    say(f"comparison: {page}")
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


def prep_stage(
    workspace: Workspace, processes: int | None = None, *, ray: str | None = None
) -> None:
    """Fit the recipe on the training scans; write the store.

    ``ray`` is the address of a Ray cluster; None: scans are read by processes here.
    """
    config = read_config(find_config("prep", workspace.prep), PrepConfig)
    root = raw_root(workspace.cohort, workspace.runs)
    with decoding(ray, processes) as (new_child, count), progress("prep", "reads") as report:
        done = prepare_store(
            ScanReader(root, workspace.cohort.read, count, new_child),
            workspace.manifest,
            workspace.splits,
            config,
            workspace.store,
            progress=report,
        )
    kept = ""
    if done.kept_shards:
        kept = f", {counted(done.kept_shards, 'shard')} kept from a broken run"
    say(
        f"prep: {counted(done.scans, 'scan')}, {done.quarantined} quarantined{kept} → "
        f"{workspace.store}"
    )


def scans_to_store(workspace: Workspace, processes: int) -> None:
    """Every stage up to the store: data, ingest, split and prep."""
    data_stage(workspace)
    ingest_stage(workspace, processes)
    split_stage(workspace, processes)
    prep_stage(workspace, processes)


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
    from pipeline.study.config import StudyConfig
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
