"""A folder of scans -> maps of what a model's answers rest on: as NIfTI, as pictures, as a table.

Scans are found, read and prepared as ``inference.predict`` does it, and have the same names. A scan
that cannot be read or explained is quarantined and the batch goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from data_prep.errors import ScanError
from data_prep.files import write_bytes, write_csv
from data_prep.progress import Progress, silent
from data_prep.readers.child_process import ChildProcess
from data_prep.readers.sandbox import DecodePool, NewChild
from data_prep.stage import new_stage
from data_prep.volume import Volume
from pipeline.serving.answers import PROBABILITY_DECIMALS
from pipeline.serving.inputs import InputFolder, NamedScan, find_inputs, readable
from pipeline.serving.package import ModelPackage
from pipeline.trust.explain_files import file_stem, nifti_bytes
from pipeline.trust.explain_methods import Method
from pipeline.trust.explain_picture import overlay_png
from pipeline.trust.explain_scan import Explanation, check_method, class_index, explain, methods_of

TABLE: Final = "explanations.csv"
COLUMNS: Final = (
    *("scan", "class", "probability", "method"),
    *("peak_right_mm", "peak_anterior_mm", "peak_superior_mm"),
    *("peak_i", "peak_j", "peak_k", "map", "picture"),
)


@dataclass(frozen=True)
class ExplainSummary:
    """Counts of a batch.

    Attributes:
        explained: Scans that have maps.
        quarantined_by_code: Code -> scans that have none.
        skipped: Files that are not meant to be scans.
        empty: Maps in which nothing speaks for the class.
        methods: That were used.
    """

    explained: int
    quarantined_by_code: dict[str, int]
    skipped: int
    empty: int
    methods: tuple[Method, ...]

    @property
    def quarantined(self) -> int:
        """Scans that have no maps."""
        return sum(self.quarantined_by_code.values())


def explain_scans(
    package: ModelPackage,
    inputs: Sequence[Path],
    out: Path,
    *,
    methods: Sequence[Method] | None = None,
    target_class: str | None = None,
    workers: int = 1,
    new_child: NewChild = ChildProcess,
    progress: Progress = silent,
) -> ExplainSummary:
    """Explain every scan under ``inputs`` and write maps, pictures and tables into ``out``.

    Writes ``explanations.csv`` (a row for each scan and method), ``quarantine.csv`` and
    ``skipped.csv`` as ``predict`` does, and for each row ``STEM_METHOD.nii.gz`` and
    ``STEM_METHOD.png``, where STEM is ``explain_files.file_stem`` of the scan's name. The bytes
    depend on model and scans only.

    Args:
        package: The model.
        inputs: Files and folders; folders are searched through.
        out: Folder for the files; an earlier batch's is replaced.
        methods: None: the model's default; empty: all that it has.
        target_class: For which class; None: for each scan the most probable one.
        workers: Decode children.
        new_child: Starts one.
        progress: Told (scans done, scans in all).

    Raises:
        ExplainError: ``explain.no_such_map`` or ``explain.unknown_class``, before any scan is read.
        InputError: As ``inference.predict``.
        StageError: ``stage.not_ours`` if ``out`` holds something else.
    """
    chosen = _chosen(package, methods, target_class)
    folders = find_inputs(inputs, out, package.card.read)
    refused = [
        (folder.shown(path), item.rejected.code, readable(item.rejected.reason))
        for folder in folders
        for item in folder.rejected
        for path in item.rejected.paths
    ]
    skipped = sorted((f.shown(item.path), item.reason) for f in folders for item in f.skipped)
    codes = Counter(item.rejected.code for folder in folders for item in folder.rejected)
    done, total = codes.total(), codes.total() + sum(len(folder.scans) for folder in folders)
    rows: list[tuple[object, ...]] = []
    empty = 0
    config = {"methods": list(chosen), "class": target_class}
    with new_stage(out, "explain", {"model": package.digest}, config) as partial:
        partial.chmod(0o700)
        for folder, scan, read in _read(folders, package, workers, new_child):
            answer = _explained(package, read, chosen, target_class)
            if isinstance(answer, ScanError):
                codes[answer.code] += 1
                reason = readable(answer.message)
                refused += [(folder.shown(p), answer.code, reason) for p in scan.source.paths]
            else:
                volume, explanations = answer
                rows += [
                    write_explanation(partial, scan.name, volume, found) for found in explanations
                ]
                empty += sum(found.peak() is None for found in explanations)
            done += 1
            progress(done, total)
        write_csv(partial / TABLE, COLUMNS, sorted(rows, key=str))
        write_csv(partial / "quarantine.csv", ("path", "code", "reason"), sorted(refused))
        write_csv(partial / "skipped.csv", ("path", "reason"), skipped)
        for path in partial.iterdir():
            path.chmod(0o600)
    by_code = dict(sorted(codes.items()))
    return ExplainSummary(total - codes.total(), by_code, len(skipped), empty, chosen)


def _chosen(
    package: ModelPackage, methods: Sequence[Method] | None, target_class: str | None
) -> tuple[Method, ...]:
    """The methods to use, after refusing what the model does not have."""
    if target_class is not None:
        class_index(package.task, target_class)
    if methods is None:
        return methods_of(package.family)[:1]
    for method in methods:
        check_method(package.family, method)
    return tuple(methods) or methods_of(package.family)


def _read(
    folders: Iterable[InputFolder], package: ModelPackage, workers: int, new_child: NewChild
) -> Iterator[tuple[InputFolder, NamedScan, Volume | ScanError]]:
    for folder in folders:
        policy = package.card.read
        with DecodePool(folder.root, workers, policy=policy, new_child=new_child) as pool:
            read = pool.read([scan.source for scan in folder.scans])
            for scan, (_, volume) in zip(folder.scans, read, strict=True):
                yield folder, scan, volume


def _explained(
    package: ModelPackage,
    read: Volume | ScanError,
    methods: Sequence[Method],
    target_class: str | None,
) -> tuple[Volume, list[Explanation]] | ScanError:
    """The scan and all its maps, or why there are none."""
    if isinstance(read, ScanError):
        return read
    family, recipe = package.family, package.recipe
    try:
        return read, [explain(family, recipe, read, method, target_class) for method in methods]
    except ScanError as error:
        return error


def write_explanation(
    folder: Path, scan: str, volume: Volume, found: Explanation
) -> tuple[object, ...]:
    """Write a map and its picture under names that are our own.

    Args:
        folder: To write into.
        scan: The scan's name in the tables.
        volume: The scan as it was read.
        found: Of this scan.

    Returns:
        Its row of the table, as ``COLUMNS``.
    """
    name = f"{file_stem(scan)}_{found.method}"
    write_bytes(folder / f"{name}.nii.gz", nifti_bytes(found.map, volume))
    write_bytes(folder / f"{name}.png", overlay_png(found, volume, scan))
    peak, peak_mm = found.peak() or (), found.peak_mm(volume) or ()
    voxel = [*peak, "", "", ""][:3]
    place = [*(round(value, 2) for value in peak_mm), "", "", ""][:3]
    probability = f"{found.probability:.{PROBABILITY_DECIMALS}f}"
    made = (f"{name}.nii.gz", f"{name}.png")
    return (scan, found.class_name, probability, found.method, *place, *voxel, *made)
