"""What becomes of every file that pydicom brings along: read, or refused with a code.

Writes docs/pydicom-test-files.md; tests/data_prep/readers/test_pydicom_files.py compares what is
read with pydicom's own pixels, and the page with what is found.

    python benchmarks/pydicom_outcomes.py docs/pydicom-test-files.md
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pydicom.data

from data_prep.errors import ScanError
from data_prep.readers import ScanSource, discover
from data_prep.readers.sandbox import DecodePool
from data_prep.volume import Volume

FOLDER = Path(pydicom.data.__file__).parent
NOT_DICOM = (".py", ".pyc", ".json", ".txt", ".dump", ".md", ".icc", ".gz")


@dataclass(frozen=True)
class Outcome:
    """What became of one file: ``read``, ``refused`` (with its code) or ``skipped``."""

    name: str
    status: str
    code: str
    detail: str


def dicom_files() -> list[Path]:
    """Every DICOM file in the installed pydicom, by name."""
    return sorted(
        path
        for path in FOLDER.rglob("*")
        if path.is_file() and path.suffix not in NOT_DICOM and not path.name.startswith("README")
    )


def outcomes(root: Path) -> list[Outcome]:
    """Read every file, each in a folder of its own: many of them share their UIDs."""
    found: dict[str, Outcome] = {}
    sources: list[tuple[str, ScanSource]] = []
    for number, path in enumerate(dicom_files()):
        name = path.relative_to(FOLDER).as_posix()
        (root / f"{number:03d}").mkdir()
        shutil.copy(path, root / f"{number:03d}" / path.name)
        one = discover(root, [Path(f"{number:03d}")])
        sources += [(name, source) for source in one.sources]
        for entry in one.rejected:
            found[name] = Outcome(name, "refused", entry.code, entry.reason.split("/", 1)[-1])
        for skipped in one.skipped:
            found[name] = Outcome(name, "skipped", "", skipped.reason)
    with DecodePool(root, workers=2) as pool:
        read = pool.read([source for _, source in sources])
        for (name, _), (_, result) in zip(sources, read, strict=True):
            found[name] = _outcome(name, result)
    return [found[name] for name in sorted(found)]


def _outcome(name: str, result: Volume | ScanError) -> Outcome:
    if isinstance(result, ScanError):
        return Outcome(name, "refused", result.code, result.message.split("/", 1)[-1])
    shape = " x ".join(map(str, result.array.shape))
    words = (f"({shape})", result.array.dtype.name, result.modality, ", ".join(result.flags))
    return Outcome(name, "read", "", " ".join(word for word in words if word))


def page(found: list[Outcome]) -> str:
    """The page, as Markdown."""
    counts = Counter(outcome.status for outcome in found)
    lines = [
        "# What becomes of pydicom's own test files",
        "",
        f"Written by `benchmarks/pydicom_outcomes.py` with pydicom {pydicom.__version__}: "
        f"{len(found)} files, {counts['read']} read, {counts['refused']} refused with a code, "
        f"{counts['skipped']} skipped because they hold no image. No file ends a process, and none "
        "raises anything but a coded error. `tests/data_prep/readers/test_pydicom_files.py` "
        "compares what is read with pydicom's own pixels, and this page with what is found.",
        "",
        "| file | outcome | code | detail |",
        "|---|---|---|---|",
    ]
    lines += [f"| {o.name} | {o.status} | {o.code} | {o.detail} |" for o in found]
    return "\n".join(lines) + "\n"


def main(target: Path) -> None:
    """Read every file and write the page."""
    with tempfile.TemporaryDirectory() as folder:
        found = outcomes(Path(folder))
    target.write_text(page(found), encoding="utf-8")
    print(dict(Counter(outcome.status for outcome in found)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
