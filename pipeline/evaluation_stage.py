"""A finished model judged by the labelled test scans of a cohort: page, card and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from data_prep.attributes import read_attributes
from data_prep.ingest import raw_root
from data_prep.labelling import patient_pseudonym
from data_prep.stage import new_stage, refuse_foreign, stage_digest
from pipeline.console import progress, say
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.serving.package import ModelPackage

# Torch and matplotlib take seconds to import: a stage imports what it alone needs.

# A process takes about as long to start as these take to read.
_SCANS_A_PROCESS: Final = 64


def evaluate_package(
    package: ModelPackage, workspace: Workspace, out: Path, processes: int
) -> list[str]:
    """Let a model answer a cohort's labelled test scans; write what the answers are worth.

    Args:
        package: The model.
        workspace: Of the cohort.
        out: Folder for the results.
        processes: That read scans, at most.

    Returns:
        The answer, in sentences.

    Raises:
        CohortError: ``cohort.other_classes``, ``cohort.no_test_scans``, ``cohort.all_seen`` or
            ``cohort.nothing_answered``.
        StageError: As ``labelled_scans``; ``stage.not_ours`` if ``out`` holds something else.
    """
    from pipeline.model_page.gather import gather
    from pipeline.model_page.judged import RESAMPLES, judge_model, split_counts
    from pipeline.model_page.page import PAGE, write_evaluation
    from pipeline.model_page.pictures import examples
    from pipeline.model_page.sensitivities import find_audit
    from pipeline.model_page.summary import sentences
    from pipeline.serving.labelled import labelled_scans, unseen

    found = labelled_scans(package, workspace.manifest, workspace.splits)
    records = unseen(package, found, patient_pseudonym(workspace.cohort, workspace.runs))
    refuse_foreign(out, "evaluate")
    root = raw_root(workspace.cohort, workspace.runs)
    needed = min(processes, 1 + len(records) // _SCANS_A_PROCESS)
    with progress("evaluate", "scans") as report:
        tested = gather(package, root, records, needed, report)
    judged = judge_model(
        package,
        tested,
        workspace.cohort.name,
        split_counts(workspace.manifest, workspace.splits),
        len(found) - len(records),
        find_audit(workspace.folder, package.digest),
        read_attributes(workspace.manifest, [record.scan_id for record in tested.records]),
    )
    inputs = {
        "model": package.digest,
        "manifest": stage_digest(workspace.manifest),
        "splits": stage_digest(workspace.splits),
    }
    with new_stage(out, "evaluate", inputs, {"resamples": RESAMPLES}) as folder:
        folder.chmod(0o700)
        write_evaluation(package, tested, judged, examples(package, tested, root), folder)
    say(
        f"evaluate: {judged.evaluation.scans} test scans of {judged.cohort}, {judged.refused} "
        f"quarantined → {out / PAGE}"
    )
    return sentences(judged, package.card)
