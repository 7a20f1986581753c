"""The scans that a finished model is judged by: a cohort's labelled test scans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from data_prep.errors import CohortError, ScanError
from data_prep.files import read_table
from data_prep.manifest import ScanRecord, load_manifest
from data_prep.splits import SPLIT_TABLE, SplitRow
from data_prep.stage import check_inputs, stage_digest
from pipeline.serving.package import ModelPackage

# Codes of scans that are as they should be, for another model.
_ANOTHER_KIND: Final = frozenset(
    ("volume.wrong_ndim", "volume.wrong_channels", "volume.wrong_plane")
)


def labelled_scans(package: ModelPackage, manifest: Path, splits: Path) -> list[ScanRecord]:
    """The test scans of a cohort, by whose labels a model is judged.

    Args:
        package: The model.
        manifest: What ``medcurve ingest`` wrote.
        splits: What ``medcurve split`` wrote.

    Raises:
        StageError: ``stage.missing``, ``stage.incomplete`` or ``stage.stale``, naming the command.
        CohortError: ``cohort.other_classes`` or ``cohort.no_test_scans``.
    """
    check_inputs(splits, {"manifest": stage_digest(manifest)}, "run `medcurve split` again")
    records, task = load_manifest(manifest)
    mine = package.task
    if task.kind != mine.kind or set(task.class_names) != set(mine.class_names):
        raise CohortError(
            "cohort.other_classes",
            f"{manifest}: a {task.kind} task of {', '.join(task.class_names)}; the model's is "
            f"{mine.kind} of {', '.join(mine.class_names)}",
            fix="give a cohort with the model's classes, or map its labels in the data config",
        )
    test = {
        row.scan_id for row in read_table(splits / SPLIT_TABLE, SplitRow) if row.split == "test"
    }
    if not (chosen := [record for record in records if record.scan_id in test]):
        raise CohortError(
            "cohort.no_test_scans",
            f"{splits}: no labelled scan is in the test split",
            fix="give the cohort a test split (split.test in its data config), and run "
            "`medcurve split` again",
        )
    return chosen


def nothing_answered(scans: int, first: ScanError) -> CohortError:
    """The error of a cohort none of whose test scans could be read and scored."""
    other_kind = first.code in _ANOTHER_KIND
    return CohortError(
        "cohort.nothing_answered",
        f"none of the {scans} test scans could be read and scored; the first: {first.message}",
        fix="these scans are of another kind than the model's: give a cohort of such as it was "
        "trained on, or another model"
        if other_kind
        else "see where the scans lie (source.root in the data config), and run "
        "`medcurve ingest` again",
    )


def seen(
    package: ModelPackage, records: Sequence[ScanRecord], pseudonym: Callable[[str], str]
) -> list[bool]:
    """Of each scan, whether the model was fitted on, or chosen by, it or a scan of its patient.

    Args:
        package: The model.
        records: Labelled scans.
        pseudonym: From their patient ids to names under the site's key.
    """
    flags = package.card.training.seen.flags
    return [bool(flags(one.pixel_sha256, pseudonym(one.patient_id))) for one in records]


def unseen(
    package: ModelPackage, records: Sequence[ScanRecord], pseudonym: Callable[[str], str]
) -> list[ScanRecord]:
    """The scans that are a test: the model has met neither them nor their patients; see ``seen``.

    Raises:
        CohortError: ``cohort.all_seen``.
    """
    met = seen(package, records, pseudonym)
    kept = [record for record, known in zip(records, met, strict=True) if not known]
    if not kept:
        raise CohortError(
            "cohort.all_seen",
            f"the model was fitted on, or chosen by, all {len(records)} test scans or their "
            "patients",
            fix="give a cohort of other patients, or train the model again on the splits that "
            "stand now",
        )
    return kept
