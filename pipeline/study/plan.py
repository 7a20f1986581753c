"""From a study's config and a store's folder to the plan, and one of its cells fitted again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.errors import ConfigError
from data_prep.store import Store
from pipeline.families import FamilyConfig, build_family, load_family_config
from pipeline.families.base import Family
from pipeline.study.cell import Splits, arithmetic, fit_cell
from pipeline.study.config import StudyConfig
from pipeline.study.errors import StudyError
from pipeline.study.grid import Plan, make_plan
from pipeline.study.journal import CELLS, CellResult, Journal


def open_plan(config: StudyConfig, store_folder: Path) -> tuple[Plan, Store]:
    """Read the families and the store, every shard checked, and lay out the study for this machine.

    Raises:
        ConfigError: A family's config is missing or wrong.
        CohortError: A size does not fit the cohort.
        StageError: The store is missing or damaged.
    """
    families = _families(config)
    config = config.model_copy(update={"families": tuple(families)})
    store = Store.open(store_folder)
    return make_plan(config, families, store, arithmetic(config.threads)), store


def refit(
    config: StudyConfig, store_folder: Path, out: Path, key: str
) -> tuple[Family[Any], CellResult, bool]:
    """Fit one cell of a finished study again, as its engine did.

    Returns:
        The fitted family, what it predicts, and whether these are the journal's probabilities bit
        for bit.

    Raises:
        StudyError: ``study.no_cell`` if the study has no finished cell of that key here.
    """
    plan, store = open_plan(config, store_folder)
    journal = Journal(out / CELLS)
    planned = next((planned for planned in plan.cells if planned.key == key), None)
    entry = journal.read(key)
    if planned is None or entry is None or entry.failure is not None:
        raise StudyError(
            "study.no_cell",
            f"{out}: no finished cell {key[:12]} for this store, config, version and machine",
            fix="run the study again here: its cells are then computed by this machine",
        )
    raw = Splits.load(store)
    cell = planned.cell
    family = build_family(plan.families[cell.family], store.task, raw.train.scan_shape, cell.seed)
    result = fit_cell(planned, family, raw.prepared_by(family, config.threads), config.threads)
    val, test = journal.probabilities(entry)
    same = result.val.tobytes() == val.tobytes() and result.test.tobytes() == test.tobytes()
    return family, result, same


def _families(config: StudyConfig) -> dict[str, FamilyConfig]:
    """Config of each family by its name; a path is named by its file, so that none is recorded."""
    families: dict[str, FamilyConfig] = {}
    for name in config.families:
        label = Path(name).stem if "/" in name or name.endswith((".yaml", ".yml")) else name
        if label in families:
            raise ConfigError(
                "config.duplicate_family",
                f"field 'families': two configs are called '{label}'",
                fix="rename one of the files",
            )
        families[label] = load_family_config(name)
    return families
