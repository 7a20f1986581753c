"""From a finished study to a model package: what validation chose, and one test.

Which cell is decided by the rule that the study declared before it ran (``study.selection``); the
test split is looked at once, here, for the chosen model only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.attributes import read_attributes
from data_prep.errors import MedcurveError
from data_prep.files import read_json
from data_prep.prep import POLICY, RECIPE
from data_prep.preprocess import PrepRecipe
from data_prep.progress import Progress, silent
from data_prep.readers.policy import ReadPolicy
from data_prep.stage import stage_digest
from data_prep.store import IndexRow, Store
from pipeline.dataset import targets
from pipeline.evaluation.results import Evaluation
from pipeline.evaluation.scores import evaluate
from pipeline.serving.card import TrainingRecord
from pipeline.serving.fitted import Used, made_of_all, made_of_cell
from pipeline.serving.package import ModelPackage, save_package
from pipeline.serving.seen import SeenScans
from pipeline.study.config import RuleName, StudyConfig
from pipeline.study.grid import Cell
from pipeline.study.journal import Floats
from pipeline.study.plan import Refit, recorded_study, refit
from pipeline.study.results import read_results
from pipeline.trust.trusted import Trusted


class ReleaseError(MedcurveError):
    """A study from which no model can be released."""


def release(
    study: Path,
    store: Path,
    out: Path,
    *,
    rule: RuleName | None = None,
    with_validation: bool = False,
    pseudonym: Callable[[str], str] | None = None,
    progress: Progress = silent,
) -> ModelPackage:
    """Fit the chosen cell again, check that it is the same model, and package it.

    Or, if asked to, fit the chosen family with the chosen cell's seed on all training and
    validation patients, and package that (``pipeline.serving.refit``).

    Args:
        study: Folder of a finished study.
        store: The store that it ran on.
        out: Folder of the package; an earlier package there is replaced.
        rule: By which validation scores choose; None: the one that the study declared.
        with_validation: Whether the validation patients are fitted on as well.
        pseudonym: From the store's patient ids to keyed names, whose digests the package keeps;
            None keeps nothing of the patients.
        progress: Told (parts done, parts in all) while the model is fitted.

    Raises:
        ReleaseError: ``release.nothing_chosen``, ``release.rule_not_applied``,
            ``release.other_store`` or ``release.not_reproduced``.
        StageError: The study is not finished, or a folder is missing or damaged.
        StudyError: ``study.no_cell`` where versions or machine differ from the study's.
    """
    results = _results(study, store)
    config, families = recorded_study(results)
    choice = _choice(study, results, config, rule)
    if with_validation:
        made = made_of_all(config, families, store, Cell(**choice["cell"]), progress)
    else:
        fitted = refit(config, families, store, study, choice["key"], progress)
        _refuse_another_model(fitted)
        made = made_of_cell(config, store, fitted)
    opened = Store.open(store, verify=False)  # it has just been verified
    training = TrainingRecord(
        data=results["cohort"],
        store=results["store"],
        study=results["study"],
        cell=choice["key"],
        patients=len({row.patient_id for row in made.used.train}),
        scans=len(made.used.train),
        chosen=choice["reason"] + _not_as_declared(config, rule),
        refit=made.refit,
        seen=_seen(made.used, pseudonym),
    )
    test = _evaluate(opened, config, made.trust, made.test)
    policy = ReadPolicy.model_validate(read_json(store / POLICY))
    recipe = PrepRecipe.from_json(read_json(store / RECIPE))
    family = families[made.cell.family]
    return save_package(
        *(out, made.family, family, policy, recipe, training, made.trust, made.reference, test)
    )


def _results(study: Path, store: Path) -> dict[str, Any]:
    stage_digest(study)  # refuses what is not a whole study
    results = read_results(study)
    if (found := stage_digest(store)) != results["store"]:
        raise ReleaseError(
            "release.other_store",
            f"{store} has digest {found[:12]}; the study ran on {results['store'][:12]}",
            fix="name the store that the study ran on, or run the study again",
        )
    return results


def _choice(
    study: Path, results: Mapping[str, Any], config: StudyConfig, rule: RuleName | None
) -> dict[str, Any]:
    """The cell that a rule chose when the study ended, by validation scores."""
    if rule is None or rule == config.release.rule:
        found = results["release"]
    elif rule in results.get("choices", {}):
        found = results["choices"][rule]
    else:
        raise ReleaseError(
            "release.rule_not_applied",
            f"{study}: its results were written before rules other than the declared one, "
            f"'{config.release.rule}', were applied",
            fix="run `medcurve study` again: no cell is computed again, results are written anew",
        )
    if not found:
        raise ReleaseError(
            "release.nothing_chosen",
            f"{study}: no cell of the largest size has a validation score to choose by",
            fix="see the failed cells in the study's report",
        )
    chosen: dict[str, Any] = found
    return chosen


def _not_as_declared(config: StudyConfig, rule: RuleName | None) -> str:
    declared = config.release.rule
    if rule is None or rule == declared:
        return ""
    return f" Asked for at release: rule {rule}; the study had declared {declared}."


def _refuse_another_model(fitted: Refit) -> None:
    if not fitted.same:
        raise ReleaseError(
            "release.not_reproduced",
            f"{fitted.planned.cell}: fitted again, its probabilities differ from the journal's by "
            f"up to {fitted.difference:.2g}, so this is not the model that the study measured",
            fix="run the study again on this machine; if this stays, the family is not "
            "deterministic: report it",
        )


def _seen(used: Used, pseudonym: Callable[[str], str] | None) -> SeenScans:
    def pixels(rows: Sequence[IndexRow]) -> list[str]:
        return [used.as_read[row.scan_id].pixel_sha256 for row in rows]

    def looks(rows: Sequence[IndexRow]) -> Iterator[str]:
        return (used.as_read[row.scan_id].fingerprint for row in rows)

    def patients(rows: Sequence[IndexRow]) -> list[str]:
        return [pseudonym(name) for name in {row.patient_id for row in rows}] if pseudonym else []

    return SeenScans.of(
        pixels(used.train),
        pixels(used.val),
        patients(used.train),
        patients(used.val),
        looks([*used.train, *used.val]),
    )


def _evaluate(store: Store, config: StudyConfig, trust: Trusted, raw: Floats) -> Evaluation:
    rows = store.rows("test")
    return evaluate(
        store.task,
        targets(store.task, [row.target for row in rows]),
        trust.calibration.apply(store.task, raw),
        np.array([row.patient_id for row in rows], dtype=np.str_),
        trust.decision,
        subgroups=read_attributes(store.folder, [row.scan_id for row in rows]),
        seed=config.seed,
        level=config.level,
    )
