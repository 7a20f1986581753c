"""Every file under a folder, once, in a stable order, without being led out of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from data_prep.readers.source import Rejected, Skipped

WalkEntry = str | Rejected | Skipped


def walk(root: Path, paths: Iterable[Path] | None = None) -> Iterator[WalkEntry]:
    """Yield each file's POSIX path relative to ``root``, or why it is not to be opened.

    Hidden files and folders are skipped. A link to a file inside ``root`` is that file; a link to
    a folder is never walked, so that no file is met twice and no loop is entered.

    Args:
        root: The input folder.
        paths: Only these files and folders, absolute or relative to ``root``; default: all.
    """
    real_root = root.resolve()
    if paths is None:
        yield from _walk_folder(root, real_root, PurePosixPath())
        return
    for path in paths:
        relative = _relative(root, path)
        if relative is None or ".." in relative.parts:
            shown = PurePosixPath(path).as_posix()
            yield Rejected((shown,), "file.link_outside", "leads out of the input folder")
        else:
            yield from _visit(root, real_root, relative)


def _relative(root: Path, path: Path) -> PurePosixPath | None:
    if not path.is_absolute():
        return PurePosixPath(path.as_posix())
    try:
        return PurePosixPath(path.relative_to(root).as_posix())
    except ValueError:
        return None


def _walk_folder(root: Path, real_root: Path, folder: PurePosixPath) -> Iterator[WalkEntry]:
    try:
        names = sorted(path.name for path in (root / folder).iterdir())
    except OSError as error:
        yield Rejected((folder.as_posix(),), "file.unreadable", f"folder: {error.strerror}")
        return
    for name in names:
        yield from _visit(root, real_root, folder / name)


def _visit(root: Path, real_root: Path, relative: PurePosixPath) -> Iterator[WalkEntry]:
    name = relative.as_posix()
    path = root / relative
    if relative.name.startswith("."):
        yield Skipped(name, "hidden")
        return
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            target = path.resolve(strict=True)
            if not target.is_relative_to(real_root):
                yield Rejected((name,), "file.link_outside", "a link out of the input folder")
                return
            mode = os.lstat(target).st_mode
            if stat.S_ISDIR(mode):
                yield Skipped(name, "a link to a folder, which is read under its own name")
                return
    except OSError as error:
        yield Rejected((name,), "file.unreadable", str(error.strerror))
        return
    except RuntimeError:  # a loop of links, before Python 3.13
        yield Rejected((name,), "file.unreadable", "a loop of links")
        return
    if stat.S_ISDIR(mode):
        yield from _walk_folder(root, real_root, relative)
    elif stat.S_ISREG(mode):
        yield name
    else:
        yield Rejected((name,), "file.not_regular", "a FIFO, socket or device; never opened")
