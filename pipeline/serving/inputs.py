"""What a user asks to have scored: files and folders -> scans with names, each exactly once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_prep.errors import MedcurveError
from data_prep.readers import discover
from data_prep.readers.policy import ReadPolicy
from data_prep.readers.source import Found, Rejected, ScanSource, Skipped


class InputError(MedcurveError):
    """The files and folders given cannot be used as a batch."""


@dataclass(frozen=True)
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


def find_inputs(inputs: Sequence[Path], out: Path, policy: ReadPolicy) -> list[InputFolder]:
    """Find every scan under the given files and folders.

    A folder inside another, or a file given twice, counts once.

    Args:
        inputs: Files and folders; folders are searched through.
        out: Where the output is to stand.
        policy: How the model's training scans were read.

    Raises:
        InputError: ``predict.not_found`` for a path that does not exist, ``predict.out_in_input``
            if ``out`` lies where scans are looked for or holds them, ``predict.no_scans`` if there
            is nothing to score.
    """
    requests = _requests(inputs)
    target = out.resolve()
    for root, files in requests:
        if (files is None and target.is_relative_to(root)) or root.is_relative_to(target):
            raise InputError(
                "predict.out_in_input",
                f"--out {out} and the input {root} lie in each other: inputs would be replaced by "
                "outputs, or outputs would be inputs next time",
                fix="choose an output folder apart from the inputs",
            )
    prefixes = _prefixes([root for root, _ in requests])
    folders = [
        _name_all(root, prefix, discover(root, files, policy))
        for (root, files), prefix in zip(requests, prefixes, strict=True)
    ]
    if not any(folder.scans or folder.rejected for folder in folders):
        skipped = Counter(item.reason for folder in folders for item in folder.skipped)
        seen = ", ".join(f"{count} x {reason}" for reason, count in skipped.most_common(3))
        raise InputError(
            "predict.no_scans",
            f"no scans under {', '.join(str(path) for path in inputs)}"
            + (f"; skipped: {seen}" if seen else ": there are no files at all"),
            fix="give a folder with DICOM, NIfTI, PNG, JPEG or TIFF files",
        )
    return folders


def readable(path: str) -> str:
    r"""A path as valid UTF-8: bytes that are not are shown as ``\xff``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _requests(inputs: Sequence[Path]) -> list[tuple[Path, list[Path] | None]]:
    """(root, None) for a folder; (folder, files) for files, together where they lie together."""
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
    files: dict[Path, set[Path]] = {}
    for path in inputs:
        # The folder is resolved, the file is not: whether a link may be followed is for discover.
        parent = path.parent.resolve()
        if not path.is_dir() and not any(parent.is_relative_to(top) for top in tops):
            files.setdefault(parent, set()).add(parent / path.name)
    chosen: list[tuple[Path, list[Path] | None]] = [(top, None) for top in tops]
    chosen += [(parent, sorted(names)) for parent, names in files.items()]
    return sorted(chosen, key=lambda request: request[0])


def _prefixes(roots: Sequence[Path]) -> list[str]:
    if len(roots) == 1:
        return [""]
    common = Path(os.path.commonpath(roots))
    relative = [root.relative_to(common).as_posix() for root in roots]
    return ["" if prefix == "." else f"{prefix}/" for prefix in relative]


def _name_all(root: Path, prefix: str, found: Found) -> InputFolder:
    groups = [source.paths for source in found.sources if source.format == "dicom"]
    groups += [rejected.paths for rejected in found.rejected]
    alone = _folders_of_one(groups)

    def name(paths: tuple[str, ...], item: str, *, series: bool) -> str:
        folder = PurePosixPath(paths[0]).parent
        if series and folder in alone:
            # a series that lies in the input folder itself has that folder's name
            first = root.name if folder == PurePosixPath() else folder.as_posix()
        else:
            first = paths[0]
        return readable(prefix + first + (f"#{item}" if item else ""))

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
