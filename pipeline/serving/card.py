"""What ``model.json`` says: everything about a model but its weights."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from data_prep.config import Config
from data_prep.errors import MedcurveError
from data_prep.preprocess import PrepRecipe
from data_prep.readers.policy import ReadPolicy
from data_prep.task import Task
from pipeline.evaluation.decision import ABOVE_ALL
from pipeline.evaluation.results import Evaluation
from pipeline.families import FamilyConfig
from pipeline.serving.package_files import FORMAT, FORMAT_VERSION
from pipeline.serving.seen import SeenScans
from pipeline.trust.trusted import Trusted


class RefitRecord(Config):
    """How a model was fitted on its validation patients as well.

    Attributes:
        patients, scans: Of training and validation together, which it was fitted on.
        folds: Parts of them that were left out in turn, for what is learnt from held-out scans.
        chosen: What validation would choose: the median of what each fold chose.
    """

    patients: int
    scans: int
    folds: int
    chosen: dict[str, float]


class TrainingRecord(Config):
    """What the model was trained on and why it was chosen.

    Attributes:
        data: Name of the cohort.
        store: Digest of the store that it was trained from.
        study: Digest of the study's results; "" for a model that no study chose.
        cell: Key of the cell that was chosen and fitted again; "" for a model that no study chose.
        patients: Number of patients that it was fitted on.
        scans: Number of scans that it was fitted on.
        chosen: The rule that chose it, in words.
        refit: None for the very model that the study measured.
        seen: The scans that it was fitted on and chosen by, as digests.
    """

    data: str
    store: str
    study: str
    cell: str
    patients: int
    scans: int
    chosen: str
    refit: RefitRecord | None = None
    seen: SeenScans = SeenScans()


class ModelCard(Config):
    """Content of ``model.json``, but for its own seal."""

    format: Literal["medcurve-model"] = FORMAT
    format_version: Literal[2] = FORMAT_VERSION
    family: FamilyConfig
    task: Task
    read: ReadPolicy
    recipe: PrepRecipe
    scan_shape: tuple[int, ...]
    seed: int
    training: TrainingRecord
    trust: Trusted
    test: Evaluation
    self_test: tuple[tuple[float, ...], ...]
    versions: dict[str, str]
    weights_sha256: str
    reference_sha256: str = ""

    @model_validator(mode="after")
    def _check(self) -> ModelCard:
        if self.recipe.scan_shape != self.scan_shape:
            raise ValueError(
                f"the recipe gives scans of shape {self.recipe.scan_shape}, "
                f"the model takes {self.scan_shape}"
            )
        self._check_trust()
        if "medcurve" not in self.versions:
            raise ValueError("versions: does not say which medcurve wrote it")
        if bool(self.reference_sha256) != bool(self.trust.shift):
            raise ValueError("reference_sha256 and trust.shift: one is there without the other")
        return self

    def _check_trust(self) -> None:
        """Refuse numbers that are for another task."""
        task, trust = self.task, self.trust
        questions = task.n_classes if task.is_multi_label else int(task.kind == "binary")
        thresholds = trust.decision.thresholds
        if thresholds and len(thresholds) != questions:
            raise ValueError(f"trust.decision has {len(thresholds)} thresholds, not {questions}")
        if any(not 0 <= threshold <= ABOVE_ALL for threshold in thresholds):
            raise ValueError("trust.decision: a threshold is not between 0 and 1")
        answers = 2 * task.n_classes if task.is_multi_label else task.n_classes
        if len(trust.conformal.quantiles) != answers:
            raise ValueError(
                f"trust.conformal has {len(trust.conformal.quantiles)} quantiles, not {answers}"
            )
        try:
            trust.calibration.check_task(task)
        except MedcurveError as error:
            raise ValueError(f"trust.calibration: {error.message}") from error
