"""How a claim of the lecture is named on the command line."""

from __future__ import annotations

from typing import Final

from data_prep.config import is_path

FOLDER: Final = "lecture"


def study_name(claim: str) -> str:
    """A claim's study config: one of the lecture's, unless a folder or a file is named."""
    return claim if "/" in claim or is_path(claim) else f"{FOLDER}/{claim}"
