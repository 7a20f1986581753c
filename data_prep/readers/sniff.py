"""What a file is, by its first bytes; a name proves nothing.

Sources of the magic numbers: DICOM PS3.10 7.1; NIfTI-1 and NIfTI-2 headers (sizeof_hdr 348 and
540, magic at 344 and 4); PNG, JPEG (ITU T.81 B.1.1.3) and TIFF 6.0 specifications; RFC 1952 gzip.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final, Literal

Content = Literal["dicom", "nifti", "nifti_header", "raster", "other"]

HEAD_BYTES: Final = 2048
_NIFTI_HEADER_BYTES: Final = 540
_EXPLICIT_VRS: Final = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN "
    b"UR US UT UV".split()
)
_RASTER: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*")


def sniff(head: bytes) -> Content:
    """Kind of content, from at least the first ``HEAD_BYTES`` bytes (or all, if fewer).

    ``nifti_header`` is the .hdr half of a pair; ``other`` is anything that no reader reads.
    """
    # A DICOM preamble may hold a TIFF header (PS3.10 7.1, dual use), so DICOM is asked first.
    if head[128:132] == b"DICM" or _is_bare_dicom(head):
        return "dicom"
    if head[:2] == b"\x1f\x8b":
        return _sniff_nifti(_inflate_head(head))
    if head.startswith(_RASTER):
        return "raster"
    return _sniff_nifti(head)


def is_gzip(head: bytes) -> bool:
    """True for a gzip stream (RFC 1952: ID1, ID2 and the only method, deflate)."""
    return head[:3] == b"\x1f\x8b\x08"


def is_text(head: bytes) -> bool:
    """True for something that a person can read: UTF-8 (perhaps cut) or UTF-16."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    if any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return len(head) >= HEAD_BYTES and error.start >= len(head) - 3
    return True


def _inflate_head(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(data, _NIFTI_HEADER_BYTES)
    except zlib.error:
        return b""


def _sniff_nifti(head: bytes) -> Content:
    for order in "<>":
        if len(head) >= 348 and struct.unpack_from(order + "i", head)[0] == 348:
            if head[344:348] == b"n+1\x00":
                return "nifti"
            if head[344:348] == b"ni1\x00":
                return "nifti_header"
        if len(head) >= 12 and struct.unpack_from(order + "i", head)[0] == 540:
            if head[4:12] == b"n+2\x00\r\n\x1a\n":
                return "nifti"
            if head[4:12] == b"ni2\x00\r\n\x1a\n":
                return "nifti_header"
    return "other"


def _is_bare_dicom(head: bytes) -> bool:
    """A data set without preamble: it begins with group 0002 or 0008 and is well formed there."""
    if len(head) < 16:
        return False
    for order in "<>":
        group, element = struct.unpack_from(order + "HH", head)
        if group not in (0x0002, 0x0008) or element > 0x0100:
            continue
        if head[4:6] in _EXPLICIT_VRS:
            return True
        length = struct.unpack_from("<I", head, 4)[0]  # implicit VR is always little endian
        if order == "<" and length % 2 == 0 and length <= 256:
            return True
    return False
