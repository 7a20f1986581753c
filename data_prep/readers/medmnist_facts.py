"""What is known about the 18 MedMNIST datasets, and where their files lie.

The table is ``data_prep/medmnist_facts.json``: tasks, classes, counts, licences, addresses and
md5 sums of MedMNIST v2 and v2+ (Yang et al., Scientific Data 2023, doi:10.1038/s41597-022-01721-8).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from data_prep.errors import ConfigError, nearest
from data_prep.task import TaskKind

SPLITS: Final = ("train", "val", "test")
_TABLE: Final = Path(__file__).resolve().parent.parent / "medmnist_facts.json"
_KINDS: Final[dict[str, TaskKind]] = {
    "multi-class": "multi-class",
    "binary-class": "binary",
    "multi-label, binary-class": "multi-label",
    "ordinal-regression": "ordinal",
}
# A file with the official counts of another dataset, but not its bytes.
_REBUILT: Final = "_rebuilt"


@dataclass(frozen=True)
class MedMnistFile:
    """Where one official file comes from, and the md5 of its bytes."""

    url: str
    md5: str


@dataclass(frozen=True)
class MedMnistFacts:
    """One dataset.

    Attributes:
        name: As in the file name ("breastmnist").
        title: For people; says "rebuilt" where the file is not the official one.
        task: Kind of task.
        class_names: One a class or label, by its number in the file.
        channels: 1 (grey) or 3 (RGB).
        spatial_ndim: 2 or 3.
        n_samples: Split -> number of scans.
        licence: Of the data.
        files: Size in pixels -> official file; empty for a rebuilt dataset.
    """

    name: str
    title: str
    task: TaskKind
    class_names: tuple[str, ...]
    channels: int
    spatial_ndim: int
    n_samples: Mapping[str, int]
    licence: str
    files: Mapping[int, MedMnistFile]

    def file_name(self, size: int) -> str:
        """Official file name: the size is left out for 28."""
        return f"{self.name}.npz" if size == 28 else f"{self.name}_{size}.npz"


def facts_of(dataset: str) -> MedMnistFacts:
    """Facts of a dataset by its name.

    Raises:
        ConfigError: ``medmnist.unknown_dataset`` with the nearest name.
    """
    if dataset not in FACTS:
        raise ConfigError(
            "medmnist.unknown_dataset",
            f"there is no MedMNIST dataset '{dataset}'{nearest(dataset, list(FACTS))}",
            fix=f"use one of {', '.join(FACTS)}",
        )
    return FACTS[dataset]


def file_of(dataset: str, size: int) -> MedMnistFile:
    """The official file of a dataset at a size.

    Raises:
        ConfigError: ``medmnist.unknown_dataset``, ``medmnist.unknown_size`` with the sizes there
            are, or ``medmnist.not_official`` for a rebuilt dataset.
    """
    facts = facts_of(dataset)
    if not facts.files:
        raise ConfigError(
            "medmnist.not_official",
            f"'{dataset}' is a rebuilt file with no download address",
            fix=f"put {facts.file_name(size)} into ~/.medmnist yourself",
        )
    if size not in facts.files:
        raise ConfigError(
            "medmnist.unknown_size",
            f"{dataset} has no size {size}",
            fix=f"use one of {', '.join(map(str, facts.files))}",
        )
    return facts.files[size]


def folders() -> tuple[Path, ...]:
    """Where files are looked for: ``$MEDCURVE_DATA/medmnist``, then ``~/.medmnist``."""
    named = os.environ.get("MEDCURVE_DATA")
    home = Path.home() / ".medmnist"
    return (Path(named) / "medmnist", home) if named else (home,)


def official_name(dataset: str) -> str:
    """The official dataset that a rebuilt one goes back to; of any other, its own name."""
    return dataset.removesuffix(_REBUILT)


def find_npz(dataset: str, size: int = 28) -> Path | None:
    """The first file of this dataset and size in ``folders()``, or None.

    Raises:
        ConfigError: ``medmnist.unknown_dataset`` or ``medmnist.unknown_size``.
    """
    facts = facts_of(dataset)
    if facts.files:
        file_of(dataset, size)
    for folder in folders():
        path = folder / facts.file_name(size)
        if path.is_file():
            return path
    return None


def is_official(path: Path, dataset: str, size: int = 28) -> bool:
    """True where the file's md5 is the published one; False does not mean that it is unusable."""
    facts = facts_of(dataset)
    return size in facts.files and md5_file(path) == facts.files[size].md5


def md5_file(path: Path) -> str:
    """MD5 of a file, the sum that MedMNIST publishes (against damage, not against forgery)."""
    with path.open("rb") as file:
        return hashlib.file_digest(
            file,
            lambda: hashlib.md5(usedforsecurity=False),
        ).hexdigest()


def _facts(name: str, row: Mapping[str, Any], of: str, title: str) -> MedMnistFacts:
    return MedMnistFacts(
        name=name,
        title=title,
        task=_KINDS[row["task"]],
        class_names=tuple(row["labels"].values()),
        channels=row["channels"],
        spatial_ndim=3 if of.endswith("3d") else 2,
        n_samples=dict(row["n_samples"]),
        licence=row["licence"],
        files={
            int(size): MedMnistFile(file["url"], file["md5"])
            for size, file in (row["files"].items() if name == of else ())
        },
    )


def _read_table() -> dict[str, MedMnistFacts]:
    rows: dict[str, dict[str, Any]] = json.loads(_TABLE.read_text(encoding="utf-8"))
    table = {name: _facts(name, row, name, _title(name)) for name, row in rows.items()}
    rebuilt = f"pneumoniamnist{_REBUILT}"
    table[rebuilt] = _facts(
        rebuilt,
        rows["pneumoniamnist"],
        "pneumoniamnist",
        f"{_title('pneumoniamnist')} (rebuilt: official counts, order and bytes not official)",
    )
    return table


def _title(name: str) -> str:
    stem = name.removesuffix("3d").removesuffix("mnist")
    return f"{stem.capitalize()}MNIST" + ("3D" if name.endswith("3d") else "")


FACTS: Final[Mapping[str, MedMnistFacts]] = _read_table()
