"""Pictures on disk while a batch runs: appended as scans come, in any order, found by scan.

Nothing of a scan stays in memory; what is kept to find them at the end is some bytes a scan.
"""

from __future__ import annotations

import hashlib
import os
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

# Digests of the scan's name and files, then the lengths of two pictures (of the map one more,
# and 0 where there is none), then these.
_RECORD: Final = struct.Struct("<16s16sII")
_WORDS: Final = struct.Struct("<QQ")


@dataclass(frozen=True)
class Pictures:
    """What is shown of one scan.

    Attributes:
        scan: The encoded picture.
        map: An encoded picture to lie upon it; empty where nothing speaks for the class, None
            where the scan was not explained.
    """

    scan: bytes
    map: bytes | None = None


def append(pack: Path, scan: str, files: Sequence[str], pictures: Pictures) -> None:
    """Add a scan's pictures to a pack, which begins with the first.

    Args:
        pack: The file.
        scan: Name that the tables have.
        files: The scan's; they tell scans apart that are shown by one name.
        pictures: Of the scan.
    """
    lengths = len(pictures.scan), 0 if pictures.map is None else 1 + len(pictures.map)
    head = _RECORD.pack(_digest(scan), _digest("\0".join(files)), *lengths)
    with pack.open("ab") as file:
        file.write(head + pictures.scan + (pictures.map or b""))


class Pack:
    """The pictures in a pack, by scan; a context manager.

    Of each record five numbers are held: digests of name and files as they stand in it, cut into
    words of 64 bits, and where it begins.
    """

    def __init__(self, pack: Path) -> None:
        self._file = pack.open("rb")
        held = array("Q")
        while head := self._file.read(_RECORD.size):
            start = self._file.tell() - len(head)
            name, files, length, map_length = _RECORD.unpack(head)
            held.extend((*_WORDS.unpack(name), *_WORDS.unpack(files), start))
            self._file.seek(length + max(0, map_length - 1), os.SEEK_CUR)
        records = np.frombuffer(held, dtype=np.uint64).reshape(-1, 5)
        self._records = records[np.argsort(records[:, 0], kind="stable")]

    def __enter__(self) -> Pack:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def find(self, scan: str) -> Pictures | None:
        """A scan's pictures; None where there are none, or several scans are shown by its name."""
        name = np.array(_WORDS.unpack(_digest(scan)), dtype=np.uint64)
        first = int(np.searchsorted(self._records[:, 0], name[0]))
        last = int(np.searchsorted(self._records[:, 0], name[0], side="right"))
        found = [record for record in self._records[first:last] if record[1] == name[1]]
        if len({tuple(record[2:4].tolist()) for record in found}) != 1:
            return None
        self._file.seek(int(found[0][4]))
        _, _, length, map_length = _RECORD.unpack(self._file.read(_RECORD.size))
        shown = self._file.read(length)
        return Pictures(shown, self._file.read(map_length - 1) if map_length else None)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
