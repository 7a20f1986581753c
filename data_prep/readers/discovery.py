"""A folder -> the scans in it. Every file ends up as a source, rejected or skipped."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final

from data_prep.errors import ScanError
from data_prep.readers.access import read_bytes, read_head
from data_prep.readers.dicom_file import HEADER_BYTES, read_whole_dataset
from data_prep.readers.dicom_header import SliceHeader, read_headers
from data_prep.readers.dicom_series import group_files
from data_prep.readers.policy import ReadPolicy
from data_prep.readers.quiet import quiet_pydicom
from data_prep.readers.sniff import HEAD_BYTES, is_text, sniff
from data_prep.readers.source import Found, Rejected, ScanSource, Skipped
from data_prep.readers.walk import walk

# A file that is called a scan but is none is an error; any other unknown file is passed over.
_SCAN_SUFFIXES: Final = frozenset(
    (".dcm", ".dicom", ".ima", ".nii", ".hdr", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
)
_NAMED_OTHERWISE: Final = re.compile(
    r"\.(csv|tsv|json|txt|md|xml|html?|ya?ml|log|py|pdf|docx?|xlsx?|npz|npy|mat|parquet|bval|bvec|zip"
    r"|tar|ini|db)"
)


@dataclass
class _Sorted:
    """Files as they are sorted out, one by one."""

    sources: list[ScanSource] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    dicom: list[tuple[SliceHeader, ...]] = field(default_factory=list)
    headers: dict[str, list[str]] = field(default_factory=dict)  # stem -> .hdr files
    images: dict[str, list[str]] = field(default_factory=dict)  # stem -> .img files

    def reject(self, path: str, code: str, reason: str) -> None:
        self.rejected.append(Rejected((path,), code, f"{path}: {reason}"))


def find_scans(root: Path, paths: Iterable[Path] | None, policy: ReadPolicy) -> Found:
    """See ``data_prep.readers.discover``."""
    files = _Sorted()
    with quiet_pydicom():
        for entry in walk(root, paths):
            if isinstance(entry, Rejected):
                files.rejected.append(entry)
            elif isinstance(entry, Skipped):
                files.skipped.append(entry)
            else:
                _sort_file(root, entry, files)
        _pair(root, files)
        grouped = group_files(
            files.dicom, policy, _Comparison(root, _file_digest), _Comparison(root, _pixel_digest)
        )
    sources = files.sources + [_beside_rejected(s, files.rejected) for s in grouped.sources]
    return Found(
        tuple(sorted(sources, key=lambda source: (source.paths[0], source.item))),
        tuple(sorted(files.rejected + grouped.rejected, key=lambda entry: entry.paths)),
        tuple(sorted(files.skipped + grouped.skipped, key=lambda entry: entry.path)),
    )


def _sort_file(root: Path, path: str, files: _Sorted) -> None:
    # What an .img begins with are voxels, which can look like anything: its .hdr is asked first.
    if _suffix(path) == ".img":
        files.images.setdefault(_stem(path), []).append(path)
    else:
        _sort_by_content(root, path, files)


def _sort_by_content(root: Path, path: str, files: _Sorted) -> None:
    try:
        first = read_head(root, path, HEADER_BYTES)
        head = first[:HEAD_BYTES]
        content = sniff(head)
        if PurePosixPath(path).name.upper() == "DICOMDIR":
            files.skipped.append(Skipped(path, "DICOMDIR: an index, never followed"))
        elif content == "dicom":
            files.dicom.append(read_headers(root, path, first))
        elif content == "nifti_header":
            files.headers.setdefault(_stem(path), []).append(path)
        elif content in ("nifti", "raster"):
            files.sources.append(ScanSource(content, (path,)))
        elif _suffix(path) == ".img":
            files.reject(path, "nifti.missing_pair", "there is no NIfTI .hdr file of that name")
        else:
            _put_unknown(path, head, files)
    except ScanError as error:
        files.rejected.append(Rejected((path,), error.code, error.message))


def _put_unknown(path: str, head: bytes, files: _Sorted) -> None:
    suffix = _suffix(path)
    if not head:
        files.reject(path, "file.empty", "no bytes")
    elif _NAMED_OTHERWISE.fullmatch(suffix) or (is_text(head) and suffix not in _SCAN_SUFFIXES):
        files.skipped.append(Skipped(path, f"not a scan: {suffix or 'text'}"))
    else:
        files.reject(
            path, "file.unknown_format", "the content is not DICOM, NIfTI, PNG, JPEG or TIFF"
        )


def _pair(root: Path, files: _Sorted) -> None:
    """Join each .hdr with the .img of the same stem; other .img files are what they hold."""
    for stem, headers in files.headers.items():
        images = files.images.pop(stem, [])
        if len(headers) == len(images) == 1:
            files.sources.append(ScanSource("nifti", (*headers, *images)))
            continue
        found = f"{len(headers)} .hdr and {len(images)} .img files of one name"
        for path in (*headers, *images):
            reason = f"{found}; a pair is one of each" if images else "there is no .img of its name"
            files.reject(path, "nifti.missing_pair", reason)
    for path in (path for images in files.images.values() for path in images):
        _sort_by_content(root, path, files)


def _beside_rejected(source: ScanSource, rejected: list[Rejected]) -> ScanSource:
    """Flag a stack in whose folder a file was rejected: it may have been its first or last slice.

    A gap within the stack is found by its positions; a slice that is gone from an end is not.
    """
    if len(source.paths) < 2:
        return source
    folders = {PurePosixPath(path).parent for path in source.paths}
    suffixes = {_suffix(path) for path in source.paths}
    for entry in rejected:
        path = PurePosixPath(entry.paths[0])
        if path.parent in folders and _suffix(path.name) in suffixes:
            return replace(source, flags=(*source.flags, "beside_rejected"))
    return source


def _suffix(path: str) -> str:
    name = PurePosixPath(path).name.lower().removesuffix(".gz")
    return PurePosixPath(name).suffix


def _stem(path: str) -> str:
    return re.sub(r"\.(hdr|img)(\.gz)?$", "", path, flags=re.IGNORECASE)


@dataclass(frozen=True)
class _Comparison:
    """Whether two files have the same digest; a file that cannot be read is like no other."""

    root: Path
    digest: Callable[[Path, str], str]

    def __call__(self, first: str, second: str) -> bool:
        try:
            return self.digest(self.root, first) == self.digest(self.root, second)
        except ScanError:
            return False


def _file_digest(root: Path, path: str) -> str:
    return hashlib.sha256(read_bytes(root, path)).hexdigest()


def _pixel_digest(root: Path, path: str) -> str:
    dataset = read_whole_dataset(root, path)
    return hashlib.sha256(bytes(dataset.get("PixelData", b""))).hexdigest()
