"""Run a study: lay it out, compute the cells that are missing, say what was found."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.errors import nearest
from data_prep.progress import silent
from data_prep.stage import PROVENANCE, refuse_foreign, write_provenance
from data_prep.store import Store
from pipeline.families import check_files
from pipeline.study.compute import CHECKPOINTS, FEATURES, compute
from pipeline.study.config import StudyConfig
from pipeline.study.costs import estimate_costs
from pipeline.study.errors import StudyError
from pipeline.study.extension import write_extension
from pipeline.study.failures import failure_sentences
from pipeline.study.findings import Findings, find
from pipeline.study.grid import Plan, PlannedCell, curve_first
from pipeline.study.interim import INTERIM, InterimReports, shown_by_one, write_interim
from pipeline.study.jobs import Engine
from pipeline.study.journal import CELLS, Entry, Journal
from pipeline.study.plan import open_plan
from pipeline.study.probe_check import check_probes
from pipeline.study.record import holds_study, left_out, read_record, write_record
from pipeline.study.results_writer import write_results
from pipeline.study.usage import USAGE, sampled
from pipeline.study.watch import Watcher


@dataclass(frozen=True)
class StudyResult:
    """What a study did and found.

    Attributes:
        out: Its folder.
        cells: Cells of the grid.
        computed: Cells that this run computed; the others stood in the journal.
        pending: Cells that are still to be computed: it was told to compute some families only.
        failed: Cells that were computed and have no result.
        failures: Whose they are and why, in words; the results are without them.
        found: What the results were written from; None while cells are pending.
    """

    out: Path
    cells: int
    computed: int
    pending: int
    failed: int
    failures: tuple[str, ...]
    found: Findings | None

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, in words, most important first; none while cells are pending."""
        return self.found.sentences if self.found else ()


def run_study(
    config: StudyConfig,
    store_folder: Path,
    out: Path,
    *,
    workers: int = 1,
    only: Collection[str] = (),
    watcher: Watcher | None = None,
    cohort: str = "",
    engine: Engine | None = None,
    file: StudyConfig | None = None,
) -> StudyResult:
    """Run a study, or go on with one that was interrupted.

    While it runs, a report of what stands so far is written now and then (``interim/``).

    Args:
        config: What to vary.
        store_folder: What prep wrote.
        out: Folder of the study; cells that stand in its journal are not computed again.
        workers: Processes; the results do not depend on it.
        only: Families whose cells are computed now, by name; empty: all. The results are written
            when no cell is pending.
        watcher: Told what happens.
        cohort: Name of the cohort, for the record; else that of the store's parent folder.
        engine: What computes the cells; default: processes on this machine.
        file: The study as its file has it; what ``config`` has beyond it is remembered, for
            ``read_extension``.

    Raises:
        ConfigError: A family's config is missing or wrong.
        CohortError: A size does not fit the cohort.
        StageError: The store is missing or damaged, or ``out`` is not a study's folder.
        CheckpointError: A family's weights are not there, or not those meant.
        StudyError: Another process runs this study, no cell could be computed,
            ``study.unknown_family`` or ``study.unfit_probe``.
        StudyStoppedError: A signal stopped it; running it again goes on where it stopped.
        OSError: The disk is full, here or where a worker writes; likewise.
    """
    watcher = watcher or Watcher()
    plan, store = open_plan(config, store_folder)
    _refuse_unknown(only, plan)
    cohort = cohort or store_folder.resolve().parent.name
    with _locked(out):
        entries = _journaled(plan, Journal(out / CELLS), watcher)
        missing = curve_first(_missing(plan, entries, only))
        _check_families(plan, store, missing)
        if lost := left_out(out, read_record(out), plan):
            watcher.event(lost)
        (out / PROVENANCE).unlink(missing_ok=True)  # not complete from here on
        write_extension(out, file or config, config)
        write_record(out, cohort, plan)
        watcher.begin(plan, _asked(plan, only), set(entries))
        if entries:
            watcher.event(f"{len(entries)} of {len(plan.cells)} cells stand in the journal")
        with (
            sampled(out / USAGE) if missing else nullcontext(),
            InterimReports(config, store_folder, out, cohort) as reports,
        ):
            compute(plan, store, out, missing, entries, workers, watcher, reports, engine)
        ordered = [entries[planned.key] for planned in plan.cells if planned.key in entries]
        _refuse_all_failed(ordered)
        found = _written(plan, store, out, cohort, ordered)
    return StudyResult(
        out=out,
        cells=len(plan.cells),
        computed=len(missing),
        pending=len(plan.cells) - len(ordered),
        failed=sum(entry.failure is not None for entry in ordered),
        failures=tuple(failure_sentences(ordered)),
        found=found,
    )


def _written(
    plan: Plan, store: Store, out: Path, cohort: str, ordered: Sequence[Entry]
) -> Findings | None:
    """What was found, written out; None while cells are pending: then a report says what stands."""
    with shown_by_one(out):
        if len(ordered) < len(plan.cells):
            write_interim(plan, store, out, cohort, {entry.key: entry for entry in ordered})
            return None
        found = find(plan, store, Journal(out / CELLS), ordered, silent)
        write_results(out, cohort, plan, store, ordered, found)
        for passing in (FEATURES, CHECKPOINTS, INTERIM):
            shutil.rmtree(out / passing, ignore_errors=True)
        write_provenance(out, "study", {"store": plan.store_digest}, _settings(plan))
    return found


@dataclass(frozen=True)
class StudyCost:
    """What a study will cost.

    Attributes:
        cells: Of the grid.
        standing: Of these, in the journal.
        families: Name, cells to compute, and the seconds that they take one process.
        besides: Seconds besides, however many processes there are: their start, results and report.
    """

    cells: int
    standing: int
    families: tuple[tuple[str, int, float], ...]
    besides: float

    def on_the_clock(self, workers: int) -> float:
        """Seconds that so many processes take; 0 where there is nothing to be computed."""
        cells = sum(count for _, count, _ in self.families)
        work = sum(seconds for _, _, seconds in self.families)
        return work / min(workers, cells) + self.besides if cells else 0.0


def cost_of_study(
    config: StudyConfig, store_folder: Path, out: Path, *, only: Collection[str] = ()
) -> StudyCost:
    """What ``run_study`` would cost; nothing is written.

    Raises:
        MedcurveError: As ``run_study`` before its first cell.
    """
    plan, store = open_plan(config, store_folder)
    _refuse_unknown(only, plan)
    entries = _journaled(plan, Journal(out / CELLS), Watcher())
    missing = _missing(plan, entries, only)
    _check_families(plan, store, missing)
    families = [name for name in plan.families if not only or name in only]
    if not missing:
        return StudyCost(len(plan.cells), len(entries), tuple((f, 0, 0.0) for f in families), 0.0)
    costs = estimate_costs(plan, store, entries, missing)
    rows = []
    for family in families:
        of_family = [planned for planned in missing if planned.cell.family == family]
        rows.append((family, len(of_family), costs.left(of_family)))
    return StudyCost(len(plan.cells), len(entries), tuple(rows), costs.start + costs.results)


def _missing(plan: Plan, entries: Collection[str], only: Collection[str]) -> list[PlannedCell]:
    return [planned for planned in _asked(plan, only) if planned.key not in entries]


def _asked(plan: Plan, only: Collection[str]) -> list[PlannedCell]:
    """The cells of these families; of all where none is named."""
    return [planned for planned in plan.cells if not only or planned.cell.family in only]


def _check_families(plan: Plan, store: Store, missing: Sequence[PlannedCell]) -> None:
    """Look at the families that are still to be trained, before the first of them."""
    families = list(dict.fromkeys(planned.cell.family for planned in missing))
    for name in families:
        check_files(name, plan.families[name])
    check_probes(plan, store, families)


def _refuse_unknown(only: Collection[str], plan: Plan) -> None:
    for name in only:
        if name not in plan.families:
            raise StudyError(
                "study.unknown_family",
                f"--only {name}: the study has no such family{nearest(name, list(plan.families))}",
                fix=f"name some of {', '.join(plan.families)}",
            )


def _settings(plan: Plan) -> dict[str, Any]:
    return {
        "study": plan.config.model_dump(mode="json"),
        "families": {name: f.model_dump(mode="json") for name, f in plan.families.items()},
    }


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the study's folder for this process alone.

    What is in it is looked at under the lock: another process may be making it a study's now.
    """
    if out.is_file():
        refuse_foreign(out, "study")
    out.mkdir(parents=True, exist_ok=True)
    handle = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StudyError(
                "study.locked",
                f"{out}: another process is running this study",
                fix="wait until it has finished, or choose another --runs",
            ) from error
        if not holds_study(out):
            refuse_foreign(out, "study")
        yield
    finally:
        os.close(handle)


def _journaled(plan: Plan, journal: Journal, watcher: Watcher) -> dict[str, Entry]:
    """Entries that stand; of what is damaged, that is said."""
    cells = plan.by_key
    return journal.standing(
        cells,
        lambda key, error: watcher.event(f"{cells[key]}: {error.message}; it is computed again"),
    )


def _refuse_all_failed(entries: list[Entry]) -> None:
    if all(entry.failure is not None for entry in entries):
        failure = entries[0].failure
        assert failure is not None
        raise StudyError(
            "study.all_failed",
            f"all {len(entries)} cells failed, first: [{failure.code}] {failure.message}",
            fix="mend the cause and run the study again",
        )
