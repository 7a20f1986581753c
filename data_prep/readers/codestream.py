"""What a compressed frame says about itself, read before it is decoded.

A decoder takes the memory that the codestream asks for, and many decoders return a grey area in
place of an error where it is cut off. Both are found here, from the first and the last bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

_SOI: Final = b"\xff\xd8"  # JPEG and JPEG-LS (ITU T.81 table B.1, T.87)
_SOC_SIZ: Final = b"\xff\x4f\xff\x51"  # JPEG 2000 (ITU T.800 A.4.1, A.5.1)
_END: Final = b"\xff\xd9"  # EOI of the former, EOC of the latter
# The end marker may be followed by fill bytes; within entropy-coded data it cannot occur.
_TAIL_BYTES: Final = 64
_JP2: Final = b"\x00\x00\x00\x0cjP  "
# Frame headers: SOF0 to SOF15 but for DHT, JPG and DAC; SOF55 is JPEG-LS.
_FRAME_MARKERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_NO_LENGTH: Final = frozenset((0x01, *range(0xD0, 0xD9)))
_COD: Final = b"\xff\x52"  # coding style (T.800 A.6.1)
_WAVELET_AT: Final = 13  # its byte that names the wavelet; 0 is the 9-7 irreversible one (A.20)


@dataclass(frozen=True)
class FrameHeader:
    """Size of a codestream's image.

    Attributes:
        precision: Bits a sample.
        complete: The stream has its end marker.
    """

    rows: int
    columns: int
    samples: int
    precision: int
    complete: bool


def frame_header(data: bytes) -> FrameHeader | None:
    """Header of a JPEG, JPEG-LS or JPEG 2000 codestream, or None if there is none."""
    complete = _END in data[-_TAIL_BYTES:]
    try:
        if data.startswith(_SOI):
            return _jpeg(data, complete)
        start = data.find(_SOC_SIZ, 0, 4096) if data.startswith(_JP2) else 0
        if start >= 0 and data.startswith(_SOC_SIZ, start):
            return _jpeg_2000(data, start, complete)
    except (struct.error, IndexError):
        return None
    return None


def is_irreversible(data: bytes) -> bool:
    """True for a JPEG 2000 codestream (boxed or not) whose wavelet loses information."""
    position = data.find(_SOC_SIZ, 0, 4096) + 2
    try:
        while position >= 2 and data[position] == 0xFF:
            if data.startswith(_COD, position):
                return data[position + _WAVELET_AT] == 0
            position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    except (struct.error, IndexError):
        return False
    return False


def _jpeg(data: bytes, complete: bool) -> FrameHeader | None:
    position = 2
    while data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte (T.81 B.1.1.2)
            position += 1
            continue
        if marker in _FRAME_MARKERS:
            precision, rows, columns, samples = struct.unpack_from(">BHHB", data, position + 4)
            return FrameHeader(rows, columns, samples, precision, complete)
        if marker in _NO_LENGTH:
            position += 2
        else:
            position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    return None


def _jpeg_2000(data: bytes, start: int, complete: bool) -> FrameHeader:
    # Lsiz, Rsiz, Xsiz, Ysiz, XOsiz, YOsiz, four of tiles, Csiz, then Ssiz of the first component
    fields = struct.unpack_from(">HH8IHB", data, start + 4)
    columns, rows, left, top = fields[2:6]
    return FrameHeader(rows - top, columns - left, fields[10], (fields[11] & 0x7F) + 1, complete)
