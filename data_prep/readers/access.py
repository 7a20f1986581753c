"""Opening files of an input folder: only regular ones, only inside it, only while they stand still.

An input folder is not trusted: a name may be a link to /etc, a FIFO that blocks for ever, or a
file that a scanner is still writing.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from data_prep.errors import ScanError

MAX_FILE_BYTES = 8 << 30


def inside(root: Path, relative: str) -> str:
    """The real path of a file under ``root``.

    Raises:
        ScanError: ``file.link_outside`` for ``../`` or a link that leaves ``root``,
            ``file.unreadable`` for a missing file or a loop of links.
    """
    try:
        # os.path: this runs for every file, and pathlib takes a multiple of the time
        real = os.path.realpath(os.path.join(root, relative), strict=True)  # noqa: PTH118
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such name"
        raise ScanError("file.unreadable", f"{relative}: {reason}") from None
    # What begins with the root is under it, and so the root itself is no link: most often true.
    if real.startswith(f"{root}{os.sep}"):
        return real
    folder = os.path.realpath(root)
    if os.path.commonpath((folder, real)) != folder:
        raise ScanError("file.link_outside", f"{relative}: leads out of the input folder")
    return real


def open_regular(root: Path, relative: str) -> int:
    """Open a file under ``root`` for reading and return its descriptor.

    Raises:
        ScanError: As ``inside``; ``file.not_regular`` for a FIFO, socket, device or folder, which
            is never opened (O_NONBLOCK: were it swapped for a FIFO meanwhile, nothing waits).
    """
    real = inside(root, relative)
    try:
        if not stat.S_ISREG(os.lstat(real).st_mode):
            raise ScanError("file.not_regular", f"{relative}: not a regular file")
        descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        raise ScanError("file.unreadable", f"{relative}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ScanError("file.not_regular", f"{relative}: not a regular file")
    return descriptor


def read_head(root: Path, relative: str, count: int) -> bytes:
    """The first ``count`` bytes of a file (fewer if it is shorter).

    Raises:
        ScanError: As ``open_regular``.
    """
    descriptor = open_regular(root, relative)
    try:
        return os.read(descriptor, count)
    except OSError as error:
        raise ScanError("file.unreadable", f"{relative}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def read_bytes(root: Path, relative: str) -> bytes:
    """All bytes of a file.

    Raises:
        ScanError: As ``open_regular``; ``file.empty``, ``file.too_large``, or ``file.changed`` if
            its size or modification time is not the same before and after reading.
    """
    descriptor = open_regular(root, relative)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        before = os.fstat(descriptor)
        if before.st_size == 0:
            raise ScanError("file.empty", f"{relative}: no bytes")
        if before.st_size > MAX_FILE_BYTES:
            raise ScanError(
                "file.too_large", f"{relative}: {before.st_size} bytes; at most {MAX_FILE_BYTES}"
            )
        try:
            data = file.read()
        except OSError as error:
            raise ScanError("file.unreadable", f"{relative}: {error.strerror}") from None
        after = os.fstat(descriptor)
    stable = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    if not stable or len(data) != after.st_size:
        raise ScanError(
            "file.changed",
            f"{relative}: changed while it was read",
            fix="wait until the transfer has finished, then run again",
        )
    return data
