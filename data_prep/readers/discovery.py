"""A folder -> the scans in it. Every file ends up as a source, rejected or skipped."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final

from data_prep.errors import ScanError
from data_prep.readers.access import read_bytes, read_head
from data_prep.readers.dicom_file import read_whole_dataset
from data_prep.readers.dicom_header import SliceHeader, read_headers
from data_prep.readers.dicom_series import group_files
from data_prep.readers.policy import ReadPolicy
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


def find_scans(root: Path, paths: Iterable[Path] | None, policy: ReadPolicy) -> Found:
    """See ``data_prep.readers.discover``."""
    sources: list[ScanSource] = []
    rejected: list[Rejected] = []
    skipped: list[Skipped] = []
    dicom: list[tuple[SliceHeader, ...]] = []
    pairs: dict[str, str] = {}
    images: list[str] = []
    for entry in walk(root, paths):
        if isinstance(entry, Rejected):
            rejected.append(entry)
            continue
        if isinstance(entry, Skipped):
            skipped.append(entry)
            continue
        try:
            head = read_head(root, entry, HEAD_BYTES)
            content = sniff(head)
            if PurePosixPath(entry).name.upper() == "DICOMDIR":
                skipped.append(Skipped(entry, "DICOMDIR: an index, never followed"))
            elif content == "dicom":
                dicom.append(read_headers(root, entry))
            elif content == "nifti_header":
                pairs[_stem(entry)] = entry
            elif content in ("nifti", "raster"):
                sources.append(ScanSource(content, (entry,)))
            elif _suffix(entry) == ".img":
                images.append(entry)
            else:
                _put_unknown(entry, head, rejected, skipped)
        except ScanError as error:
            rejected.append(Rejected((entry,), error.code, error.message))
    _pair(pairs, images, sources, rejected)
    grouped = group_files(
        dicom,
        policy,
        same_bytes=lambda a, b: _same(root, a, b, _file_digest),
        same_pixels=lambda a, b: _same(root, a, b, _pixel_digest),
    )
    sources += grouped.sources
    rejected += grouped.rejected
    skipped += grouped.skipped
    return Found(
        tuple(sorted(sources, key=lambda source: (source.paths[0], source.item))),
        tuple(sorted(rejected, key=lambda entry: entry.paths)),
        tuple(sorted(skipped, key=lambda entry: entry.path)),
    )


def _put_unknown(path: str, head: bytes, rejected: list[Rejected], skipped: list[Skipped]) -> None:
    suffix = _suffix(path)
    if not head:
        rejected.append(Rejected((path,), "file.empty", f"{path}: no bytes"))
    elif _NAMED_OTHERWISE.fullmatch(suffix) or (is_text(head) and suffix not in _SCAN_SUFFIXES):
        skipped.append(Skipped(path, f"not a scan: {suffix or 'text'}"))
    else:
        rejected.append(
            Rejected(
                (path,),
                "file.unknown_format",
                f"{path}: the content is not DICOM, NIfTI, PNG, JPEG or TIFF",
            )
        )


def _pair(
    headers: dict[str, str],
    images: list[str],
    sources: list[ScanSource],
    rejected: list[Rejected],
) -> None:
    """Join each .hdr with the .img of the same stem."""
    by_stem = {_stem(image): image for image in images}
    for stem, header in headers.items():
        image = by_stem.pop(stem, None)
        if image is None:
            reason = f"{header}: there is no .img file of that name"
            rejected.append(Rejected((header,), "nifti.missing_pair", reason))
        else:
            sources.append(ScanSource("nifti", (header, image)))
    for image in by_stem.values():
        reason = f"{image}: there is no NIfTI .hdr file of that name"
        rejected.append(Rejected((image,), "nifti.missing_pair", reason))


def _suffix(path: str) -> str:
    name = PurePosixPath(path).name.lower().removesuffix(".gz")
    return PurePosixPath(name).suffix


def _stem(path: str) -> str:
    lowered = path.lower()
    gz = 3 if lowered.endswith(".gz") else 0
    return path[: len(path) - gz - 4]


def _same(root: Path, first: str, second: str, digest: object) -> bool:
    assert callable(digest)
    return bool(digest(root, first) == digest(root, second))


def _file_digest(root: Path, path: str) -> str:
    return hashlib.sha256(read_bytes(root, path)).hexdigest()


def _pixel_digest(root: Path, path: str) -> str:
    dataset = read_whole_dataset(root, path)
    return hashlib.sha256(bytes(dataset.get("PixelData", b""))).hexdigest()
