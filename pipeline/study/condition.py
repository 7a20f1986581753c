"""Conditions under which test scans are predicted once more: a shift, and what is done about it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from data_prep.intensity_rules import FittedRule, IntensityRule, rescale
from pipeline.shifting import shift_batch
from pipeline.shifts import Shift


class Condition(Shift):
    """A shift of prepared scans.

    Attributes:
        then: An intensity rule that looks at each scan alone, applied to the shifted scan: what a
            recipe does about a scanner's gain and offset. Left out: the scan stays as shifted.
    """

    then: IntensityRule | None = None

    @field_validator("then")
    @classmethod
    def _looks_at_one_scan(cls, rule: IntensityRule | None) -> IntensityRule | None:
        if isinstance(rule, FittedRule):
            raise ValueError(f"{rule.kind} is fitted on training scans; name a rule that is not")
        return rule

    @property
    def split(self) -> str:
        """What the test scans under this condition are called among the splits."""
        return f"test/{self}"

    def __str__(self) -> str:
        shift = super().__str__()
        return shift if self.then is None else f"{shift}, then {self.then.kind}"


def under(x: NDArray[np.float32], condition: Condition) -> NDArray[np.float32]:
    """Scans (N, C, I, J[, K]) under the condition; noise is of seed 0.

    Raises:
        ConfigError: ``shift.no_axis``, ``shift.out_of_scan``.
    """
    condition.check_fits(x.shape[2:])
    shifted = shift_batch(x, condition)
    if condition.then is None:
        return shifted
    return np.stack([rescale(condition.then, array, ()) for array in shifted])
