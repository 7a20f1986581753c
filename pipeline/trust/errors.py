"""Errors of calibration and prediction sets that a user can meet."""

from __future__ import annotations

from data_prep.errors import MedcurveError


class TrustError(MedcurveError):
    """What was fitted on validation cannot be used, or cannot be fitted as it is asked for."""
