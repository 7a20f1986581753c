"""The builders of the serving tests, which make the models and scans that are answered here."""

from __future__ import annotations

from serving.conftest import make_package, write

__all__ = ["make_package", "write"]
