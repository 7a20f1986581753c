"""The parts of a ``multipart/related`` answer as they come, with limits (RFC 2046 5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from pipeline.pacs.arrival import PacsError
from pipeline.pacs.transport import bad_answer

_BOUNDARY: Final = re.compile(r'boundary="?([^";,]{1,70})"?', re.IGNORECASE)
_MOST_HEADER_BYTES: Final = 1 << 14


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type states.

    Raises:
        PacsError: ``pacs.bad_answer`` if it is not a multipart answer.
    """
    match = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/related") or match is None:
        kind = content_type.split(";")[0][:60] or "no Content-Type"
        raise bad_answer(f"it answers with {kind!r} where multipart/related is due")
    return match[1].strip().encode("latin-1", "replace")


def parts(blocks: Iterable[bytes], boundary: bytes, most_bytes: int) -> Iterator[bytes]:
    """The body of each part; at most one is held in memory.

    Args:
        blocks: The answer's bytes.
        boundary: Between the parts.
        most_bytes: That a part may have.

    Raises:
        PacsError: ``pacs.bad_answer`` if the answer ends too early or is not multipart,
            ``pacs.too_large`` if a part is larger.
    """
    delimiter = b"\r\n--" + boundary
    buffer = bytearray(b"\r\n")  # so that the first delimiter looks like the others
    searched, inside, ended = 0, False, False
    for block in blocks:
        if ended:
            continue  # the epilogue
        buffer += block
        while not ended:
            found = buffer.find(delimiter, searched)
            # two more bytes say whether it was the last one
            if found < 0 or found + len(delimiter) + 2 > len(buffer):
                searched = max(0, len(buffer) - len(delimiter) - 2) if found < 0 else found
                break
            if inside:
                yield _body(bytes(buffer[:found]))
            after = found + len(delimiter)
            ended = buffer[after : after + 2] == b"--"
            del buffer[:after]
            searched, inside = 0, True
        if len(buffer) > most_bytes + _MOST_HEADER_BYTES:
            raise PacsError(
                "pacs.too_large",
                f"an object of the archive has more than {most_bytes} bytes",
                fix="leave its series out with another --query",
            )
    if not ended:
        raise bad_answer("its answer ends in the middle")


def joined(bodies: Sequence[bytes], boundary: bytes) -> bytes:
    """Objects as one ``multipart/related; type="application/dicom"`` body."""
    head = b"--" + boundary + b"\r\nContent-Type: application/dicom\r\n\r\n"
    return b"".join(head + body + b"\r\n" for body in bodies) + b"--" + boundary + b"--\r\n"


def _body(part: bytes) -> bytes:
    """A part without its header fields."""
    end = part.find(b"\r\n\r\n", 0, _MOST_HEADER_BYTES)
    if end < 0:
        raise bad_answer("a part of its answer has no header")
    return part[end + 4 :]
