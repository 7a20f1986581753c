"""The page on reading names what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from data_prep.errors import SCAN_CODES
from data_prep.readers.source import SCAN_FLAGS

PAGE = (Path(__file__).parents[3] / "docs" / "geometry.md").read_text(encoding="utf-8")


def test_every_flag_is_documented() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE, re.MULTILINE))
    assert rows == SCAN_FLAGS


def test_every_code_that_is_named_exists() -> None:
    named = re.findall(r"`((?:file|volume|dicom|nifti|raster|npz)\.\w+)`", PAGE)
    assert named
    assert set(named) <= set(SCAN_CODES)
