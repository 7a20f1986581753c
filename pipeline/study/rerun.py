"""Reproduce one fit of a study: find its folder and store by their digests, fit it, compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.errors import StageError
from data_prep.files import read_json
from data_prep.progress import Progress, silent
from data_prep.stage import PROVENANCE, medcurve_version, stage_digest
from data_prep.store import Store
from pipeline.dataset import targets
from pipeline.metrics import score
from pipeline.study.errors import StudyError
from pipeline.study.grid import Cell, Plan
from pipeline.study.journal import CELLS, CellResult, Journal
from pipeline.study.plan import fit_again, lay_out, recorded_study
from pipeline.study.results import RESULTS, read_results, study_identity


@dataclass(frozen=True)
class Rerun:
    """A cell that was fitted again.

    Attributes:
        cell: Which.
        differs: What of machine and versions is not as it was, in words; empty: nothing.
        scores: Name of a metric -> as it was recorded, and now.
        same_bits: True where every probability is the journal's, bit for bit.
        difference: The largest difference of a probability.
    """

    cell: Cell
    differs: tuple[str, ...]
    scores: Mapping[str, tuple[float, float]]
    same_bits: bool
    difference: float

    @property
    def unequal(self) -> dict[str, float]:
        """Metrics that are not what they were -> by how much."""
        return {name: abs(now - then) for name, (then, now) in self.scores.items() if now != then}

    def reproduces(self, tolerance: float) -> bool:
        """True where every metric is equal; ``tolerance`` holds where the arithmetic differs."""
        allowed = tolerance if self.differs else 0.0
        return bool(self.scores) and all(off <= allowed for off in self.unequal.values())


def find_study(runs: Path, key: str, study: str) -> Path:
    """The folder of a finished study under ``runs`` that holds a cell.

    Args:
        runs: Folder of all cohorts.
        key: The cell's.
        study: The study's identity (``study_identity``); it is taken first, for another may hold
            the same cell.

    Raises:
        StudyError: ``study.no_folder``.
    """
    holders = {}
    for path in sorted(runs.glob(f"*/*/{CELLS}/{key}.json")):
        folder = path.parents[1]
        if (folder / RESULTS).is_file():
            results = read_json(folder / RESULTS)
            if any(cell["key"] == key for cell in results["cells"]):
                holders[folder] = study_identity(folder, results)
    if not holders:
        raise StudyError(
            "study.no_folder",
            f"{runs}: no finished study there holds the cell {key[:12]} of this run",
            fix="give --runs the folder that the study was run in; if its folder is gone, run the "
            "study again: from the same scans and settings come the same cells",
        )
    return next((folder for folder in holders if holders[folder] == study), next(iter(holders)))


def find_store(folder: Path) -> Path:
    """The store that a study was run on, among the folders beside the study's.

    Raises:
        StudyError: ``study.no_store`` if none has the digest that the study recorded.
    """
    wanted = read_results(folder)["store"]
    found = dict(_stores(folder.parent))
    for store, digest in found.items():
        if digest == wanted:
            return store
    there = ", ".join(f"{store.name} is {digest[:12]}" for store, digest in found.items())
    raise StudyError(
        "study.no_store",
        f"{folder.parent}: the study was run on the store {wanted[:12]}, which is not there any "
        f"more ({there or 'there is no store'})",
        fix="prepare the same scans by the same configs again (`medcurve ingest`, `split`, "
        "`prep`): equal content has an equal digest",
    )


def rerun(
    folder: Path,
    store_folder: Path,
    key: str,
    recorded: Mapping[str, float],
    progress: Progress = silent,
) -> Rerun:
    """Fit a cell of a study again and compare it with its record.

    Args:
        folder: The study's.
        store_folder: What it was run on.
        key: The cell's, of whatever machine or version computed it.
        recorded: Its metrics by name, ``test_auc`` say; what is not a score is left out.
        progress: Told (epochs done, epochs in all).

    Raises:
        StudyError: ``study.no_cell``, or ``study.damaged_cell``.
        StageError: The store is damaged.
    """
    results = read_results(folder)
    plan, store = lay_out(*recorded_study(results), store_folder)
    journal = Journal(folder / CELLS)
    entry = journal.read(key)
    planned = next((one for one in plan.cells if entry and one.cell == entry.cell), None)
    if entry is None or planned is None or entry.failure is not None:
        why = f"it failed ({entry.failure.code})" if entry and entry.failure else "it is gone"
        raise StudyError(
            "study.no_cell",
            f"{folder}: the cell {key[:12]} has no result to compare with: {why}",
            fix="run the study again, or choose another cell's run",
        )
    again = fit_again(plan, store, planned, journal.probabilities(entry), progress)
    differs = tuple(_differences(folder, results, plan))
    if planned.key != key and not differs:
        differs = ("medcurve's code: this version gives its cells other keys",)
    now = _scores(store, again.result)
    return Rerun(
        cell=planned.cell,
        differs=differs,
        scores={name: (value, now[name]) for name, value in recorded.items() if name in now},
        same_bits=again.same,
        difference=again.difference,
    )


def _stores(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every store in a folder with its digest; what has no readable record is none."""
    for path in sorted(folder.glob(f"*/{PROVENANCE}")):
        with suppress(StageError):
            if read_json(path)["stage"] == "prep":
                yield path.parent, stage_digest(path.parent)


def _differences(folder: Path, results: Mapping[str, Any], plan: Plan) -> Iterator[str]:
    """What decides the last bits of a result and is not as it was when the study was run."""
    then = dict(results["arithmetic"])
    now = dict(plan.arithmetic)
    if (folder / PROVENANCE).is_file():
        then["medcurve"] = read_json(folder / PROVENANCE)["medcurve"]
        now["medcurve"] = medcurve_version()
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            yield f"{name}: {then.get(name, 'none')} then, {now.get(name, 'none')} now"


def _scores(store: Store, result: CellResult) -> dict[str, float]:
    found = {f"train_{name}": value for name, value in result.train.items()}
    for split, probability in (("val", result.val), ("test", result.test)):
        target = targets(store.task, [row.target for row in store.rows(split)])
        for name, value in score(store.task, target, probability).items():
            found[f"{split}_{name}"] = value
    return found
