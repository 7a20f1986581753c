"""A quick way through plain DICOM files, which most are; pydicom reads all others.

Plain is: a preamble, file meta information that begins with its length, and a data set in
Explicit VR Little Endian (PS3.5 7.1.2) whose elements stand in order, each with a VR that is known
and a length that is stated and lies within the file. Such a file is cut into the raw elements that
pydicom would cut it into; what they mean is still pydicom's to say. Of any other file nothing is
said here, and pydicom decides what is wrong with it, if anything is.
"""

from __future__ import annotations

import functools
import struct
from typing import Any, Final, NamedTuple

from pydicom import uid
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import RawDataElement, convert_raw_data_element, empty_value_for_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

_META_START: Final = 132  # after preamble and prefix (PS3.10 7.1)
_META_GROUP: Final = 0x0002
_META_LENGTH: Final = BaseTag(0x00020000)
_TRANSFER_SYNTAX: Final = BaseTag(0x00020010)
_CHARACTER_SET: Final = BaseTag(0x00080005)
_PIXELS: Final = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_ITEMS: Final = 0xFFFE
_UNDEFINED: Final = 0xFFFFFFFF
# A data set of more elements is left to pydicom, whose reading is limited.
_MOST_ELEMENTS: Final = 4096
_OTHERWISE_ENCODED: Final = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
_SYNTAXES: Final = frozenset(
    str(syntax).encode("ascii")
    for syntax in uid.AllTransferSyntaxes
    if syntax not in _OTHERWISE_ENCODED
)
# VR as bytes -> as text, and whether its length takes four bytes
_VRS: Final = {
    str(vr).encode("ascii"): (str(vr), vr in EXPLICIT_VR_LENGTH_32)
    for vr in EXPLICIT_VR_LENGTH_16 | EXPLICIT_VR_LENGTH_32
}
_HEAD: Final = struct.Struct("<HH2sH")
_LONG: Final = struct.Struct("<I")

# Their values are short, and the same in file after file: matrix, spacing, modality, class.
_REPEATED_VRS: Final = frozenset(("AS", "CS", "DA", "DS", "IS", "LO", "SH", "TM", "UI", "US"))
_REPEATED_BYTES: Final = 64

Elements = dict[BaseTag, RawDataElement]


class _Run(NamedTuple):
    """Elements one after the other, and where what follows them begins."""

    elements: Elements
    end: int


class PlainDataset(Dataset):
    """A data set whose raw elements are at hand: pydicom takes longer to find one than to read it.

    Attributes:
        raw: Of its elements, as they stand in the file.
        encodings: Of its text, as pydicom names them.
    """

    def __init__(self, elements: Elements, encodings: str | list[str]) -> None:
        super().__init__(dict(elements))
        self.raw = elements
        self.encodings = encodings if isinstance(encodings, str) else tuple(encodings)
        self.set_original_encoding(False, True, encodings)

    def value_of(self, tag: BaseTag) -> Any:
        """``self[tag].value``, not to be changed; None where there is no such element.

        Short values that repeat from file to file are converted once. Raises whatever pydicom
        raises where a value cannot be converted.
        """
        raw = self.raw.get(tag)
        if raw is None:
            return None
        if raw.VR in _REPEATED_VRS and raw.value and len(raw.value) <= _REPEATED_BYTES:
            return _converted(tag, raw.VR, raw.value, self.encodings)
        return self[tag].value


def plain_dataset(data: bytes, tags: frozenset[int] | None, *, whole: bool) -> PlainDataset | None:
    """What ``pydicom.dcmread`` gives for a plain file; None for any other.

    Args:
        data: The file, or what it begins with.
        tags: Only these elements, and none behind the first that holds pixels; None: all.
        whole: ``data`` is the file to its end.
    """
    if data[_META_START - 4 : _META_START] != b"DICM":
        return None
    meta = _run(data, _META_START, None, in_meta=True, whole=whole)
    if meta is None or meta.end == len(data) or not _is_plain(meta.elements):
        return None
    body = _run(data, meta.end, tags, in_meta=False, whole=whole)
    if body is None:
        return None
    try:
        dataset = PlainDataset(body.elements, _encodings(body.elements))
    except Exception:  # whatever a damaged value raises, pydicom raises it again
        return None
    file_meta = FileMetaDataset(dict(meta.elements))
    file_meta.set_original_encoding(False, True, default_encoding)
    dataset.file_meta, dataset.preamble = file_meta, data[:128]
    return dataset


@functools.lru_cache(maxsize=4096)
def shared_tag(number: int) -> BaseTag:
    """One object for a tag: a dictionary asks whether keys are the same before it compares them."""
    return BaseTag(number)


@functools.lru_cache(maxsize=4096)
def _converted(tag: BaseTag, vr: str, value: bytes, encodings: str | tuple[str, ...]) -> Any:
    raw = RawDataElement(tag, vr, len(value), value, 0, False, True)
    named = encodings if isinstance(encodings, str) else list(encodings)
    return convert_raw_data_element(raw, encoding=named).value


def _run(
    data: bytes, start: int, tags: frozenset[int] | None, *, in_meta: bool, whole: bool
) -> _Run | None:
    """Raw elements from ``start`` on; None where they are not plain, or go on behind ``data``."""
    found: Elements = {}
    position, end, before = start, len(data), -1
    for _ in range(_MOST_ELEMENTS):
        if position == end and whole:
            return _Run(found, position)
        if position + 8 > end:
            return None
        group, number, code, length = _HEAD.unpack_from(data, position)
        if in_meta and group != _META_GROUP:
            return _Run(found, position)
        tag = group << 16 | number
        known = _VRS.get(code)
        if known is None or tag <= before or group == _ITEMS or (group <= 2) is not in_meta:
            return None
        vr, is_long = known
        value = position + 8
        if is_long:
            if value + 4 > end:
                return None
            (length,) = _LONG.unpack_from(data, value)
            value += 4
        if tags is not None and tag in _PIXELS:
            return _Run(found, position)
        position, before = value + length, tag
        if length == _UNDEFINED or position > end:
            return None
        if tags is None or tag in tags or tag == _CHARACTER_SET:
            content: Any = data[value:position] if length else empty_value_for_VR(vr, raw=True)
            key = shared_tag(tag)
            found[key] = RawDataElement(key, vr, length, content, value, False, True)
    return None


def _is_plain(meta: Elements) -> bool:
    """Whether file meta information begins with its length, and names a syntax of ours."""
    first = next(iter(meta.values()), None)
    if first is None or (first.tag, first.VR, first.length) != (_META_LENGTH, "UL", 4):
        return False
    syntax = meta.get(_TRANSFER_SYNTAX)
    if syntax is None or syntax.VR != "UI" or not syntax.value:
        return False
    return syntax.value.removesuffix(b"\0") in _SYNTAXES


def _encodings(elements: Elements) -> str | list[str]:
    """The encodings of a data set's text, as pydicom names them."""
    stated = elements.get(_CHARACTER_SET)
    named = convert_raw_data_element(stated).value if stated is not None else None
    return convert_encodings(named) if named else default_encoding
