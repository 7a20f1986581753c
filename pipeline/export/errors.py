"""What can go wrong when a model leaves medcurve."""

from __future__ import annotations

from data_prep.errors import MedcurveError


class ExportError(MedcurveError):
    """A model that cannot be exported, or whose exported file gives other answers."""
