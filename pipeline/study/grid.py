"""From a study's config to its cells: which patients each cell is trained on, and its key.

Subsets of one replicate are nested (``nested_subsets``), so that a learning curve is paired with
itself; replicates are independent orders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np

from data_prep.errors import CohortError
from data_prep.files import digest
from data_prep.stage import medcurve_version
from data_prep.store import IndexRow, Store
from data_prep.task import Task
from pipeline.families import FamilyConfig
from pipeline.study.config import StudyConfig
from pipeline.study.nested_subsets import (
    Patients,
    Positions,
    nested_order,
    patients_of,
    refuse_small,
)

# To be raised whenever the same cell would give other numbers: old journals are then recomputed.
RESULT_VERSION: Final = 3


@dataclass(frozen=True, order=True)
class Cell:
    """One point of the grid.

    Attributes:
        family: Name of the family's config.
        size: Number of training patients.
        subset: Replicate: which draw of patients.
        seed: The family's seed.
    """

    family: str
    size: int
    subset: int
    seed: int

    def __str__(self) -> str:
        return f"{self.family}, {self.size} patients, subset {self.subset}, seed {self.seed}"


@dataclass(frozen=True, eq=False)
class PlannedCell:
    """A cell with the scans that it is trained and chosen on.

    Attributes:
        cell: The point of the grid.
        key: Digest of everything that decides the result.
        train: Positions in the store's train split, ascending.
        val: Positions in its val split, ascending.
    """

    cell: Cell
    key: str
    train: Positions
    val: Positions


@dataclass(frozen=True, eq=False)
class Plan:
    """A study laid out on one store.

    Attributes:
        config: What was asked.
        families: Config of each family, by name, in the study's order.
        task: What is predicted.
        store_digest: Digest of the store.
        sizes: Numbers of training patients, ascending, ``all`` resolved.
        train_patients: Training patients that there are.
        arithmetic: Versions and instructions that decide the last bits of a result.
        cells: Every cell: small sizes first, families in the study's order.
    """

    config: StudyConfig
    families: Mapping[str, FamilyConfig]
    task: Task
    store_digest: str
    sizes: tuple[int, ...]
    train_patients: int
    arithmetic: Mapping[str, str]
    cells: tuple[PlannedCell, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that the families get."""
        return tuple(self.config.seed + repeat for repeat in range(self.config.seeds))

    @property
    def by_key(self) -> dict[str, Cell]:
        """Every cell by its key, in their order."""
        return {planned.key: planned.cell for planned in self.cells}

    @property
    def digest(self) -> str:
        """Identity of the study: its settings and the keys of its cells."""
        return digest([self.config.model_dump(mode="json"), sorted(c.key for c in self.cells)])


def make_plan(
    config: StudyConfig,
    families: Mapping[str, FamilyConfig],
    store: Store,
    arithmetic: Mapping[str, str],
) -> Plan:
    """Lay out every cell of a study.

    At the size that takes every patient there is nothing to draw: it has one subset, and only the
    seeds vary.

    Raises:
        CohortError: ``study.size_too_large``, ``study.size_too_small`` or ``study.small_class``.
    """
    rows = {name: store.rows(name) for name in ("train", "val")}
    train, val = (patients_of(store.task, split) for split in rows.values())
    sizes = _sizes(config, train.count)
    draws: dict[tuple[int, int], _Draw] = {}
    for subset in range(config.subsets):
        order, at_least = nested_order(train.labels, [config.seed, subset])
        refuse_small(sizes[0], at_least, train.labels, store.task)
        for size in sizes:
            if size < train.count or subset == 0:
                chosen = train.scans_of(order[:size])
                choosing = _validation(config, val, size / train.count, subset)
                draws[size, subset] = _Draw.of(rows["train"], rows["val"], chosen, choosing)
    common: dict[str, object] = {
        "version": RESULT_VERSION,
        "medcurve": medcurve_version(),
        "store": store.digest,
        "arithmetic": dict(arithmetic),
    }
    if config.conditions:
        common["conditions"] = [shift.model_dump(mode="json") for shift in config.conditions]
    return Plan(
        config=config,
        families=dict(families),
        task=store.task,
        store_digest=store.digest,
        sizes=sizes,
        train_patients=train.count,
        arithmetic=dict(arithmetic),
        cells=tuple(_cells(config, families, draws, common)),
    )


@dataclass(frozen=True, eq=False)
class _Draw:
    """The scans of one size and subset, and the digest of their ids."""

    train: Positions
    val: Positions
    digest: str

    @classmethod
    def of(
        cls,
        train_rows: Sequence[IndexRow],
        val_rows: Sequence[IndexRow],
        train: Positions,
        val: Positions,
    ) -> _Draw:
        pairs = ((train_rows, train), (val_rows, val))
        return cls(train, val, digest([[rows[n].scan_id for n in at] for rows, at in pairs]))


def _cells(
    config: StudyConfig,
    families: Mapping[str, FamilyConfig],
    draws: Mapping[tuple[int, int], _Draw],
    common: Mapping[str, object],
) -> Iterator[PlannedCell]:
    """Size by size, family by family in the study's order, which is from cheap to dear."""
    settings = {name: family.model_dump(mode="json") for name, family in families.items()}
    for size, family in product(sorted({size for size, _ in draws}), families):
        for subset, repeat in product(range(config.subsets), range(config.seeds)):
            if (size, subset) in draws:
                draw, seed = draws[size, subset], config.seed + repeat
                content = {"family": settings[family], "seed": seed, "scans": draw.digest}
                if probes := config.probes.get(family):
                    content["probes"] = [probe.model_dump(mode="json") for probe in probes]
                yield PlannedCell(
                    cell=Cell(family, size, subset, seed),
                    key=digest({**common, **content}),
                    train=draw.train,
                    val=draw.val,
                )


def curve_first(cells: Iterable[PlannedCell]) -> list[PlannedCell]:
    """The order in which cells are best computed: one whole curve of each family, then the next.

    So a first curve over all sizes is there early, from cheap to dear families, and replicates
    narrow its intervals.
    """
    return sorted(cells, key=lambda planned: (planned.cell.subset, planned.cell.seed))


def _sizes(config: StudyConfig, available: int) -> tuple[int, ...]:
    sizes = sorted({available if size == "all" else size for size in config.sizes})
    if sizes[-1] > available:
        raise CohortError(
            "study.size_too_large",
            f"size {sizes[-1]}: the store has {available} training patients",
            fix="`medcurve study --to-fit` takes all of them in place of what is larger; or copy "
            f"the study's YAML, use sizes up to {available} or 'all', and give its path (`medcurve "
            "demo`: as --study)",
        )
    return tuple(sizes)


def _validation(config: StudyConfig, val: Patients, share: float, subset: int) -> Positions:
    """Scans to choose on: all of them, or a nested draw of the same share as the training set."""
    if config.validation == "all":
        return np.arange(len(val.of_scan))
    order, at_least = nested_order(val.labels, [config.seed, subset, 1])
    return val.scans_of(order[: max(at_least, round(share * val.count))])
