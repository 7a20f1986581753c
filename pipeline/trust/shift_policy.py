"""What is done with a scan that does not look like the training scans."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from data_prep.config import Config

OnShift = Literal["flag", "abstain", "refuse"]


class ShiftPolicy(Config):
    """``shift:`` of a study's ``trust:``.

    Attributes:
        false_alarms: Share of scans like the training cohort's that may be called foreign.
        then: ``flag``: the answer is given, with a flag; ``abstain``: the row says that the model
            does not answer; ``refuse``: the scan goes to the quarantine.
    """

    false_alarms: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    then: OnShift = "flag"
