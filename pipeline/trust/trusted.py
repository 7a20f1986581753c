"""All that a released model carries besides its weights, fitted on held-out patients at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_prep.config import Config
from data_prep.task import Task
from pipeline.evaluation.decision import Decision, fit_decision
from pipeline.trust.calibration import Calibration
from pipeline.trust.calibration_fit import fit_calibration
from pipeline.trust.config import TrustConfig
from pipeline.trust.conformal import Conformal, fit_conformal
from pipeline.trust.shift_policy import OnShift
from pipeline.trust.shift_reference import ShiftFacts
from pipeline.weighted_metrics import Floats, Labels


class Trusted(Config):
    """How a family's probabilities become an answer.

    Attributes:
        calibration: What makes them true.
        decision: What makes a class of them.
        conformal: Which classes cannot be left out.
        shift: Numbers of the ``ShiftReference``; None where there were too few scans for one.
        on_shift: What is done with a scan that it flags.
        notes: What a user must know of all this, in sentences.
    """

    calibration: Calibration
    decision: Decision
    conformal: Conformal
    shift: ShiftFacts | None = None
    on_shift: OnShift = "flag"
    notes: tuple[str, ...] = ()


def fit_trusted(
    config: TrustConfig,
    task: Task,
    target: Labels,
    probability: Floats,
    patient_ids: NDArray[np.str_],
    seed: int,
) -> Trusted:
    """Calibrate, then decide and enclose by what is calibrated.

    Args:
        config: How.
        task: What is predicted.
        target: (N,) class indices, or (N, L) 0/1 for multi-label, of the held-out scans.
        probability: (N, n_classes) as the family gives them.
        patient_ids: (N,) patient of each scan.
        seed: Decides the folds of the calibration.

    Raises:
        TrustError, ConfigError, CohortError: As ``fit_calibration``, ``fit_decision`` and
            ``fit_conformal``.
    """
    calibration = fit_calibration(
        task, target, probability, patient_ids, method=config.calibration, seed=seed
    )
    calibrated = calibration.apply(task, probability)
    conformal = fit_conformal(task, target, calibrated, patient_ids, config.coverage)
    return Trusted(
        calibration=calibration,
        decision=fit_decision(config.decision, task, target, calibrated),
        conformal=conformal,
        on_shift=config.shift.then,
        notes=conformal.told(task),
    )
