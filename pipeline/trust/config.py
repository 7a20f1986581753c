"""What a released model is to carry besides its weights: ``trust:`` of a study."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from data_prep.config import Config
from data_prep.task import Task
from pipeline.evaluation.decision import DecisionRule
from pipeline.trust.calibration import check_method
from pipeline.trust.calibration_maps import Method
from pipeline.trust.shift_policy import ShiftPolicy


class TrustConfig(Config):
    """How a model's answers are made trustworthy; all of it is fitted on validation patients.

    Attributes:
        calibration: Which map makes probabilities true; ``auto`` compares them by log loss.
        coverage: Share of scans whose prediction set is to hold the true class.
        decision: How a probability becomes a class.
        shift: What is done with scans that do not look like the training scans.
    """

    calibration: Method | Literal["auto"] = "auto"
    coverage: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    decision: DecisionRule = DecisionRule()
    shift: ShiftPolicy = ShiftPolicy()

    def check(self, task: Task) -> None:
        """Refuse what says nothing about a task, before anything is trained.

        Raises:
            ConfigError: ``config.decision_rule``.
            TrustError: ``trust.calibration_method``.
        """
        self.decision.check(task)
        if self.calibration != "auto":
            check_method(self.calibration, task)
