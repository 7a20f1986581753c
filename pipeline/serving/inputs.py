"""What a user asks to have scored -> scans with names, each exactly once.

Files, folders, the manifest of a cohort, or a list of files and folders.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_prep.errors import MedcurveError
from data_prep.manifest import MANIFEST, load_manifest, source_of
from data_prep.readers import discover
from data_prep.readers.policy import ReadPolicy
from data_prep.readers.source import Found, Rejected, ScanSource, Skipped


class InputError(MedcurveError):
    """The files and folders given cannot be used as a batch."""


@dataclass(frozen=True)
class ListedPath:
    """A path from a list, and on which line (or at which place) it stands there."""

    path: Path
    line: int


@dataclass(frozen=True, slots=True)
class NamedScan:
    """A scan that can be tried: its name in the output, and where it lies under the root."""

    name: str
    source: ScanSource


@dataclass(frozen=True)
class NamedRejected:
    """What could not become a scan, with its name in the output."""

    name: str
    rejected: Rejected


@dataclass(frozen=True)
class InputFolder:
    """One folder to read from.

    Attributes:
        root: What the sources' paths are relative to.
        prefix: Put before every path in the output, so that two folders' paths differ; "" where
            there is one folder only.
        scans: To be read, sorted by name.
        rejected: Not scans, with the reason.
        skipped: Not meant to be scans.
    """

    root: Path
    prefix: str
    scans: tuple[NamedScan, ...]
    rejected: tuple[NamedRejected, ...]
    skipped: tuple[Skipped, ...]

    def shown(self, path: str) -> str:
        """A path under the root as the output shows it."""
        return readable(self.prefix + path)


def read_list(content: bytes) -> list[ListedPath]:
    """The paths of a list: one a line, or separated by NUL (``find -print0``).

    A path may hold any byte that the file system allows; with NUL between them also a line feed.
    """
    if b"\0" in content:
        lines = content.split(b"\0")
    else:
        lines = [line.removesuffix(b"\r") for line in content.split(b"\n")]
    return [
        ListedPath(Path(os.fsdecode(line)), number)
        for number, line in enumerate(lines, start=1)
        if line
    ]


def find_inputs(
    inputs: Sequence[Path], out: Path, policy: ReadPolicy, listed: Sequence[ListedPath] = ()
) -> list[InputFolder]:
    """Find every scan under the given files and folders.

    A folder inside another, or a file given twice, counts once.

    Args:
        inputs: Files and folders, which are searched through; or one manifest: the folder that
            ``medcurve ingest`` wrote, or the ``manifest.parquet`` in it.
        out: Where the output is to stand.
        policy: How the model's training scans were read.
        listed: More files and folders. One that does not exist is rejected, naming its line.

    Raises:
        InputError: ``predict.not_found`` for a path that does not exist, ``predict.out_in_input``
            if ``out`` lies where scans are looked for or holds them, ``predict.manifest_alone`` for
            a manifest among other inputs, ``predict.no_scans`` if there is nothing to score.
        StageError: The manifest cannot be read.
    """
    missing = [item for item in listed if not os.path.lexists(item.path)]
    asked = [*inputs, *(item.path for item in listed if os.path.lexists(item.path))]
    manifests = [path for path in asked if _is_manifest(path)]
    if manifests:
        if len(asked) + len(missing) > 1:
            raise InputError(
                "predict.manifest_alone",
                f"{manifests[0]} is a manifest, and there are other inputs beside it",
                fix="give a manifest alone, and other scans in a batch of their own",
            )
        return [_scans_of_manifest(manifests[0], out)]
    requests = _requests(asked, out)
    found = [discover(root, files, policy) for root, files in requests]
    roots = [root for root, _ in requests]
    prefixes = _prefixes(roots, 1 + any(map(_is_series, found)))
    folders = list(map(_name_all, roots, prefixes, found))
    if missing:
        folders.append(_not_there(missing))
    if not any(folder.scans or folder.rejected for folder in folders):
        skipped = Counter(item.reason for folder in folders for item in folder.skipped)
        seen = ", ".join(f"{count} x {reason}" for reason, count in skipped.most_common(3))
        raise InputError(
            "predict.no_scans",
            f"no scans under {', '.join(str(path) for path in inputs) or 'the paths of the list'}"
            + (f"; skipped: {seen}" if seen else ": there are no files at all"),
            fix="give a folder with DICOM, NIfTI, PNG, JPEG or TIFF files",
        )
    return folders


def check_inputs(inputs: Sequence[Path], out: Path) -> None:
    """Stop where ``find_inputs`` would without looking for scans: before anything slow is begun.

    Raises:
        InputError: ``predict.not_found`` or ``predict.out_in_input``.
    """
    _requests([path for path in inputs if not _is_manifest(path)], out)


def _refuse_overlap(root: Path, files: Sequence[Path] | None, out: Path) -> None:
    """Refuse an output in a folder that is searched, or above anything that is read."""
    target = out.resolve()
    above = {root} if files is None else {file.parent for file in files}
    if files is None and target.is_relative_to(root):
        found = root
    elif inside := [folder for folder in above if folder.is_relative_to(target)]:
        found = min(inside)
    else:
        return
    raise InputError(
        "predict.out_in_input",
        f"--out {out} and the input {found} lie in each other: inputs would be replaced by "
        "outputs, or outputs would be inputs next time",
        fix="choose an output folder apart from the inputs",
    )


def _is_manifest(path: Path) -> bool:
    return path.name == MANIFEST or (path / MANIFEST).is_file()


def _scans_of_manifest(path: Path, out: Path) -> InputFolder:
    """The scans of a cohort; what ingest quarantined or skipped is not in its manifest."""
    # Ingest imports what few batches need, and a batch is to begin soon.
    from data_prep.ingest import manifest_root

    folder = path.parent if path.name == MANIFEST else path
    root = manifest_root(folder)
    _refuse_overlap(root.resolve(), None, out)
    found = Found(tuple(source_of(record) for record in load_manifest(folder)[0]))
    if not found.sources:
        raise InputError("predict.no_scans", f"{folder}: no scan is in the manifest")
    return _name_all(root, "", found)


def _not_there(missing: Sequence[ListedPath]) -> InputFolder:
    """What a list names and is not there, each path once."""
    first = {item.path: item.line for item in reversed(missing)}
    rejected = []
    for path, line in sorted(first.items()):
        reason = f"{path}: does not exist (line {line} of the list)"
        lost = Rejected((path.as_posix(),), "file.unreadable", reason)
        rejected.append(NamedRejected(readable(path.as_posix()), lost))
    return InputFolder(Path.cwd(), "", (), tuple(rejected), ())


def readable(path: str) -> str:
    r"""A path as valid UTF-8: bytes that are not are shown as ``\xff``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _requests(inputs: Sequence[Path], out: Path) -> list[tuple[Path, list[Path] | None]]:
    """(root, None) for a folder; (folder, files) for files, together where they lie together.

    Each of them is there, and apart from the output.
    """
    for path in inputs:
        if not os.path.lexists(path):
            raise InputError(
                "predict.not_found", f"{path} does not exist", fix="check the path of the scans"
            )
    folders = sorted({path.resolve() for path in inputs if path.is_dir()})
    # sorted: a folder stands before everything inside it
    tops: list[Path] = []
    for folder in folders:
        if not any(folder.is_relative_to(top) for top in tops):
            tops.append(folder)
    files: set[Path] = set()
    for path in inputs:
        # The folder is resolved, the file is not: whether a link may be followed is for discover.
        parent = path.parent.resolve()
        if not path.is_dir() and not any(parent.is_relative_to(top) for top in tops):
            files.add(parent / path.name)
    chosen: list[tuple[Path, list[Path] | None]] = [(top, None) for top in tops]
    if files:
        root = Path(os.path.commonpath([file.parent for file in files]))
        chosen.append((root, sorted(files)))
    for root, within in chosen:
        _refuse_overlap(root, within, out)
    return sorted(chosen, key=lambda request: request[0])


def _prefixes(roots: Sequence[Path], depth: int) -> list[str]:
    """What sets the scans of several folders apart: ``depth`` names of folders, the last its own.

    Where that is the same of two, more of those above, of all of them equally many: no folder
    lies in another, so that no two scans then have one name.
    """
    if len(roots) <= 1:
        return [""] * len(roots)
    parts = [root.parts[1:] for root in roots]
    while len({each[-depth:] for each in parts}) < len(parts):
        depth += 1
    return ["".join(f"{part}/" for part in each[-depth:]) for each in parts]


def _is_series(found: Found) -> bool:
    """Whether a folder is a DICOM series itself: its own name is the scan's, not the patient's."""
    groups = [source.paths for source in found.sources if source.format == "dicom"]
    return any(len(paths) > 1 and "/" not in paths[0] for paths in groups)


def _name_all(root: Path, prefix: str, found: Found) -> InputFolder:
    groups = [source.paths for source in found.sources if source.format == "dicom"]
    groups += [rejected.paths for rejected in found.rejected]
    alone = _folders_of_one(groups)

    def name(paths: tuple[str, ...], item: str, *, series: bool) -> str:
        folder = PurePosixPath(paths[0]).parent
        if series and folder in alone:
            # a series that lies in the input folder itself has that folder's name
            itself = prefix.removesuffix("/") or root.name
            first = itself if folder == PurePosixPath() else prefix + folder.as_posix()
        else:
            first = prefix + paths[0]
        return readable(first + (f"#{item}" if item else ""))

    scans = [
        NamedScan(name(s.paths, s.item, series=s.format == "dicom" and len(s.paths) > 1), s)
        for s in found.sources
    ]
    rejected = [
        NamedRejected(name(r.paths, "", series=len(r.paths) > 1), r) for r in found.rejected
    ]
    return InputFolder(
        root=root,
        prefix=prefix,
        scans=tuple(sorted(scans, key=lambda scan: scan.name)),
        rejected=tuple(rejected),
        skipped=found.skipped,
    )


def _folders_of_one(groups: Iterable[tuple[str, ...]]) -> set[PurePosixPath]:
    """Folders that hold exactly one group of several files, and all of its files."""
    holds: Counter[PurePosixPath] = Counter()
    scattered: set[PurePosixPath] = set()
    for paths in groups:
        parents = {PurePosixPath(path).parent for path in paths}
        if len(paths) > 1:
            holds.update(parents)
        if len(parents) > 1:
            scattered |= parents
    return {folder for folder, count in holds.items() if count == 1} - scattered
