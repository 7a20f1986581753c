"""Silence for pydicom, whose warnings and logs can hold values of a patient's tags."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SILENT: Final = logging.CRITICAL + 1


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence pydicom's warnings and logs: they can hold values of a patient's tags."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    if level == _SILENT:  # setting a level is slow, and this is entered for every file
        yield
        return
    logger.setLevel(_SILENT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
