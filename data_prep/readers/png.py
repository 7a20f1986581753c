"""PNG streams: every chunk checked, and the pixel data inflated with ISA-L.

Pillow neither checks all chunks nor inflates fast: zlib takes more than half of its time. Here the
pixel data are inflated by ISA-L and handed to Pillow in a stream that only says "as they are"
(RFC 1951, 3.2.4). All that a PNG can mean (filters, palette, transparency, EXIF data) stays
Pillow's to say.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any, Final

from isal import igzip_lib, isal_zlib

from data_prep.errors import ScanError

MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_InflateError: Any = igzip_lib.IsalError
# Samples a pixel of each colour type, and the bit depths (PNG, table 11.1).
_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS: Final = (1, 2, 4, 8, 16)
# Larger images are inflated by Pillow, row by row: the copies made here would take memory.
_MAX_BYTES: Final = 1 << 26


@dataclass(frozen=True)
class _Chunk:
    """Where a chunk lies: from its length to behind its CRC (PNG, 5.3)."""

    kind: bytes
    start: int
    end: int


def readable_png(data: bytes, path: str) -> bytes:
    """Check a PNG stream, and give an equal one that Pillow decodes in less time.

    Args:
        data: A file that begins with ``MAGIC``.
        path: What to call it.

    Raises:
        ScanError: ``raster.malformed`` where a chunk is damaged or missing,
            ``raster.unsupported_mode`` for 16-bit colour, which Pillow would cut to 8 bits.
    """
    chunks = _checked_chunks(data, path)
    pixels = [at for at, chunk in enumerate(chunks) if chunk.kind == b"IDAT"]
    size = _inflated_size(data, chunks[0])
    # Image data in several places, and whatever else is not as it should be, is Pillow's to refuse.
    if not pixels or pixels[-1] - pixels[0] != len(pixels) - 1 or not 0 < size <= _MAX_BYTES:
        return data
    stream = b"".join(data[chunks[at].start + 8 : chunks[at].end - 4] for at in pixels)
    inflater = isal_zlib.decompressobj()
    try:
        rows = inflater.decompress(stream, size)
    except _InflateError:
        return data
    if len(rows) != size or not inflater.eof:
        return data
    stored = zlib.compress(rows, 0)
    crc = isal_zlib.crc32(stored, isal_zlib.crc32(b"IDAT"))
    return b"".join(
        (
            data[: chunks[pixels[0]].start],
            struct.pack(">I4s", len(stored), b"IDAT"),
            stored,
            crc.to_bytes(4, "big"),
            data[chunks[pixels[-1]].end :],
        )
    )


def _checked_chunks(data: bytes, path: str) -> list[_Chunk]:
    """Check every chunk's CRC-32 and the end chunk, which Pillow does not (PNG, 5.3 and 11.2.5)."""
    position, kind = len(MAGIC), b""
    chunks = []
    while kind != b"IEND":
        if position + 12 > len(data):
            raise ScanError("raster.malformed", f"{path}: the PNG stream ends before IEND")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise ScanError("raster.malformed", f"{path}: chunk {kind!r} is cut off")
        stated = int.from_bytes(data[end - 4 : end], "big")
        if isal_zlib.crc32(memoryview(data)[position + 4 : end - 4]) != stated:
            raise ScanError("raster.malformed", f"{path}: chunk {kind!r} fails its CRC")
        if kind == b"IHDR" and length == 13 and data[position + 16] == 16:
            colour = data[position + 17]
            if colour != 0:  # 0 is greyscale (PNG, 11.2.2)
                raise ScanError(
                    "raster.unsupported_mode",
                    f"{path}: PNG with 16 bits a colour sample; allowed: 16-bit grey, 8-bit colour",
                    fix="convert it to 8 bits a sample",
                )
        chunks.append(_Chunk(kind, position, end))
        position = end
    return chunks


def _inflated_size(data: bytes, header: _Chunk) -> int:
    """Bytes of the filtered rows (PNG, 7.2), or 0 where the header is unusual or interlaced."""
    if header.kind != b"IHDR" or header.end - header.start != 12 + 13:
        return 0
    columns, rows, depth, colour, _, _, interlaced = struct.unpack_from(
        ">IIBBBBB", data, header.start + 8
    )
    if interlaced or colour not in _SAMPLES or depth not in _DEPTHS:
        return 0
    return int(rows * (1 + -(-columns * _SAMPLES[colour] * depth // 8)))
