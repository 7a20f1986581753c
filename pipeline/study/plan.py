"""From a study's config and a store's folder to the plan, and one of its cells fitted again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from data_prep.config_faults import first_fault
from data_prep.errors import ConfigError
from data_prep.progress import Progress, silent
from data_prep.splits import check_leaks
from data_prep.store import Store
from pipeline.families import (
    FamilyConfig,
    FamilyVariant,
    build_family,
    choice_name,
    load_family_config,
)
from pipeline.families.base import Family
from pipeline.study.cell import Splits, arithmetic, fit_cell
from pipeline.study.config import StudyConfig
from pipeline.study.errors import StudyError
from pipeline.study.grid import Plan, PlannedCell, make_plan
from pipeline.study.journal import CELLS, CellResult, Floats, Journal


@dataclass(frozen=True, eq=False)
class Refit:
    """A cell of a study, fitted again.

    Attributes:
        planned: The cell and the scans that it was fitted on.
        family: Fitted.
        result: What it predicts.
        journaled: Its validation and test probabilities as the journal has them.
    """

    planned: PlannedCell
    family: Family[Any]
    result: CellResult
    journaled: tuple[Floats, Floats]

    @property
    def same(self) -> bool:
        """True where the probabilities are the journal's, bit for bit."""
        now = self.result.val, self.result.test
        pairs = zip(now, self.journaled, strict=True)
        return all(a.tobytes() == b.tobytes() for a, b in pairs)

    @property
    def difference(self) -> float:
        """The largest difference of a probability from the journal's."""
        now = self.result.val, self.result.test
        return max(float(np.abs(a - b).max()) for a, b in zip(now, self.journaled, strict=True))


def open_plan(config: StudyConfig, store_folder: Path) -> tuple[Plan, Store]:
    """Read the families and the store, every shard checked, and lay out the study for this machine.

    Raises:
        ConfigError: A family's config is missing or wrong.
        CohortError: A size does not fit the cohort, or ``split.patient_leak``.
        StageError: The store is missing or damaged.
    """
    families = read_families(config.families)
    config = config.model_copy(update={"families": tuple(families)})
    return lay_out(config, families, store_folder)


def refit(
    config: StudyConfig,
    families: Mapping[str, FamilyConfig],
    store_folder: Path,
    out: Path,
    key: str,
    progress: Progress = silent,
) -> Refit:
    """Fit one cell of a finished study again, as its engine did.

    Args:
        config: As the study's results record it.
        families: Likewise: the files in ``configs/family`` may have changed since.
        store_folder: What prep wrote.
        out: Folder of the study.
        key: The cell's key.
        progress: Told (epochs done, epochs in all).

    Raises:
        StudyError: ``study.no_cell`` if the study has no finished cell of that key here.
    """
    plan, store = lay_out(config, families, store_folder)
    journal = Journal(out / CELLS)
    planned = next((planned for planned in plan.cells if planned.key == key), None)
    entry = journal.read(key)
    if planned is None or entry is None or entry.failure is not None:
        raise StudyError(
            "study.no_cell",
            f"{out}: no finished cell {key[:12]} for this store, config, version and machine",
            fix="run the study again here: its cells are then computed by this machine",
        )
    return fit_again(plan, store, planned, journal.probabilities(entry), progress)


def fit_again(
    plan: Plan,
    store: Store,
    planned: PlannedCell,
    journaled: tuple[Floats, Floats],
    progress: Progress = silent,
) -> Refit:
    """Fit one cell of a plan; ``journaled`` are its probabilities of the first time.

    Args:
        plan: The study, laid out.
        store: What it ran on.
        planned: Which cell.
        journaled: (N, n_classes) on the validation scans and on the test scans.
        progress: Told (epochs done, epochs in all).

    Raises:
        MedcurveError: As the family's ``fit``.
    """
    raw = Splits.load(store)
    cell, threads = planned.cell, plan.config.threads
    family = build_family(plan.families[cell.family], store.task, raw.train.scan_shape, cell.seed)
    result = fit_cell(planned, family, raw.prepared_by(family, threads), threads, progress)
    return Refit(planned, family, result, journaled)


def recorded_study(results: Mapping[str, Any]) -> tuple[StudyConfig, dict[str, FamilyConfig]]:
    """What a study was told, from its ``results.json``.

    Raises:
        StudyError: ``study.foreign_results`` where another version wrote it, or a hand.
    """
    try:
        families = {n: FamilyConfig.model_validate(f) for n, f in results["families"].items()}
        return StudyConfig.model_validate(results["config"]), families
    except (ValidationError, AttributeError, KeyError, TypeError) as error:
        what = first_fault(error) if isinstance(error, ValidationError) else repr(error)
        raise StudyError(
            "study.foreign_results",
            f"the study's recorded settings are none of this version of medcurve: {what}",
            fix="run `medcurve study` again: it records them anew",
        ) from error


def lay_out(
    config: StudyConfig, families: Mapping[str, FamilyConfig], store_folder: Path
) -> tuple[Plan, Store]:
    """Lay out a study with these very families on a store, for this machine.

    Raises:
        CohortError, StageError: As ``open_plan``.
        ConfigError, TrustError: ``config.decision_rule``, ``trust.calibration_method``.
    """
    store = Store.open(store_folder)
    config.trust.check(store.task)
    check_leaks(store.index)  # whatever wrote the store: no score of a torn patient is ever made
    return make_plan(config, families, store, arithmetic(config.threads)), store


def read_families(chosen: Sequence[str | FamilyVariant]) -> dict[str, FamilyConfig]:
    """Config of each family by its name; a path is named by its file, so that none is recorded.

    Raises:
        ConfigError: ``config.duplicate_family``, ``config.same_family`` (its cells would be the
            other's), or as ``load_family_config``.
    """
    families: dict[str, FamilyConfig] = {}
    for one in chosen:
        label = choice_name(one)
        if label in families:
            raise ConfigError(
                "config.duplicate_family",
                f"families: two configs are called '{label}'",
                fix="name each only once; if they differ, rename one of the files",
            )
        config = one.load() if isinstance(one, FamilyVariant) else load_family_config(one)
        twin = next((other for other, known in families.items() if known == config), None)
        if twin is not None:
            raise ConfigError(
                "config.same_family",
                f"families: '{label}' and '{twin}' are the same family with the same parameters",
                fix="leave one out, or change a parameter",
            )
        families[label] = config
    return families
