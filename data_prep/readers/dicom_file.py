"""A DICOM file -> pydicom data set, with limits and without trust.

pydicom reads on through damage and inflates without limit; both are stopped here, and its
warnings and logs, which can quote a patient's tags, are silenced.
"""

from __future__ import annotations

import functools
import io
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from data_prep.errors import ScanError
from data_prep.readers.access import open_regular, read_bytes, read_head
from data_prep.readers.dicom_plain import PlainDataset, plain_dataset, shared_tag
from data_prep.readers.quiet import quiet_pydicom

# An inflated data set larger than this is refused; PS3.5 A.5 sets no limit.
MAX_INFLATED_BYTES = 1 << 29
MAX_READS = 1_000_000
# What a file's first bytes should hold: the headers of most objects that are not multi-frame.
HEADER_BYTES: Final = 1 << 16
_LONG_VRS: Final = (b"OB", b"OW", b"OF", b"OD", b"OL", b"SQ", b"UC", b"UN", b"UR", b"UT")


class _Budgeted:
    """A file that serves a limited number of reads, none of them past its end.

    A header of a million elements, or one element that claims four gigabytes, would keep pydicom
    busy, or make it take memory, for nothing: a real header takes some hundred reads, that of an
    enhanced object with thousands of frames some hundred thousand.
    """

    name = ""  # pydicom quotes it in warnings

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._left = MAX_READS
        self.tell = file.tell
        self.seek = file.seek

    def read(self, count: int = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"more than {MAX_READS} reads")
        return self._file.read(min(count, self._size) if count >= 0 else -1)

    def close(self) -> None:
        self._file.close()


def read_header_dataset(
    root: Path, path: str, tags: tuple[str | int, ...], head: bytes = b""
) -> Dataset:
    """Read only ``tags`` (none of them pixels) of a file.

    Args:
        root: Folder that ``path`` is relative to.
        path: The file.
        tags: Of the elements that are wanted.
        head: The first ``HEADER_BYTES`` of it (all, if it has fewer), where they are at hand: the
            file is opened only if its header does not lie within them.

    Raises:
        ScanError: ``dicom.malformed``, ``dicom.no_transfer_syntax`` or ``file.*``.
    """
    head = head or read_head(root, path, HEADER_BYTES)
    quick = plain_dataset(head, _tag_set(tags), whole=len(head) < HEADER_BYTES)
    if quick is not None:
        return quick
    with os.fdopen(open_regular(root, path), "rb") as file:
        return _parse(file, os.fstat(file.fileno()).st_size, path, _tags(tags))


def read_whole_dataset(root: Path, path: str) -> Dataset:
    """Read a whole file, pixels included.

    Raises:
        ScanError: As ``read_header_dataset``.
    """
    data = read_bytes(root, path)
    quick = plain_dataset(data, None, whole=True)
    if quick is not None:
        return quick
    return _parse(io.BytesIO(data), len(data), path, None)


def lookup(dataset: Dataset, name: str | tuple[int, int]) -> Any:
    """Value of an element by keyword or (group, element), or None if it is absent or empty.

    As ``dataset.get``, but quick about elements that are absent, as most are, or that repeat from
    file to file. pydicom converts a value when it is first asked for, and raises any type of error
    if it cannot. The value is not to be changed.
    """
    tag = _tag(name)
    if isinstance(dataset, PlainDataset):
        value = dataset.value_of(tag)
    elif tag in dataset.keys():  # noqa: SIM118 - the data set's own __contains__ is slow
        value = dataset[tag].value
    else:
        return None
    return None if isinstance(value, str) and not value else value


def element(dataset: Dataset, name: str | tuple[int, int], path: str) -> Any:
    """As ``lookup``, for values without which the scan would be read wrong.

    Raises:
        ScanError: ``dicom.malformed`` if the value is damaged.
    """
    try:
        return lookup(dataset, name)
    except Exception as error:
        raise ScanError(
            "dicom.malformed", f"{path}: element {name} is damaged ({type(error).__name__})"
        ) from None


@functools.cache
def _tag(name: str | tuple[int, int]) -> BaseTag:
    return shared_tag(int(Tag(name)))


@functools.cache
def _tags(names: tuple[str | int, ...]) -> tuple[BaseTag, ...]:
    """Made once: pydicom would make them again for every file."""
    return tuple(Tag(name) for name in names)


@functools.cache
def _tag_set(names: tuple[str | int, ...]) -> frozenset[int]:
    return frozenset(_tags(names))


def _parse(file: BinaryIO, size: int, path: str, tags: Sequence[BaseTag] | None) -> Dataset:
    try:
        head = file.read(HEADER_BYTES)
        syntax, start = _file_meta(head)
        if syntax == DeflatedExplicitVRLittleEndian:
            _check_inflated_size(file, start, path)
        file.seek(0)
        with quiet_pydicom():
            dataset = pydicom.dcmread(
                _Budgeted(file, size),
                force=head[128:132] != b"DICM",
                specific_tags=None if tags is None else list(tags),
                stop_before_pixels=tags is not None,
            )
            stated = str(dataset.file_meta.get("TransferSyntaxUID") or "")
    except ScanError:
        raise
    except Exception as error:
        # pydicom raises a dozen types on damaged structure, and RecursionError on sequences that
        # are nested without end; all of them mean the same here
        raise ScanError(
            "dicom.malformed", f"{path}: not a well-formed data set ({type(error).__name__})"
        ) from error
    if stated != syntax:
        raise ScanError("dicom.malformed", f"{path}: the file meta information is damaged")
    if not syntax:
        raise ScanError(
            "dicom.no_transfer_syntax",
            f"{path}: the file meta information states no Transfer Syntax UID",
            fix="export the file again as DICOM Part 10",
        )
    return dataset


def _file_meta(head: bytes) -> tuple[str, int]:
    """Transfer Syntax UID ("" if not stated) and where the data set starts (PS3.10 7.1).

    File meta information is Explicit VR Little Endian, in every file.
    """
    syntax = ""
    position = 132 if head[128:132] == b"DICM" else 0
    while position + 8 <= len(head):
        group, element = struct.unpack_from("<HH", head, position)
        if group != 0x0002:
            break
        if head[position + 4 : position + 6] in _LONG_VRS:
            if position + 12 > len(head):
                break
            length, value = struct.unpack_from("<I", head, position + 8)[0], position + 12
        else:
            length, value = struct.unpack_from("<H", head, position + 6)[0], position + 8
        if element == 0x0010:
            syntax = head[value : value + length].rstrip(b"\0 ").decode("ascii", "replace")
        position = value + length
    return syntax, position


def _check_inflated_size(file: BinaryIO, start: int, path: str) -> None:
    """Inflate block by block, keeping nothing, before pydicom inflates without a limit."""
    file.seek(start)
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    total, rest = 0, b""
    while not stream.eof:
        block = rest or file.read(1 << 20)
        if not block:
            raise ScanError("dicom.malformed", f"{path}: the deflated data set is cut off")
        total += len(stream.decompress(block, 1 << 20))
        rest = stream.unconsumed_tail
        if total > MAX_INFLATED_BYTES:
            raise ScanError(
                "file.too_large",
                f"{path}: the deflated data set holds more than {MAX_INFLATED_BYTES} bytes",
            )
