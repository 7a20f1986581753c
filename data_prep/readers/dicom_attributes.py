"""What a DICOM header says of patient, scanner and site that scores may be told apart by.

Only these elements are looked at, and what comes out is coarse: an age is a band, a sex one of
three letters. Who a patient is does not follow from them; a site's name is turned into a keyed
pseudonym before it is written (``data_prep.header_attributes``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, get_args

HeaderAttribute = Literal[
    "PatientSex", "PatientAge", "Manufacturer", "ManufacturerModelName", "InstitutionName"
]
ATTRIBUTE_TAGS: Final[tuple[HeaderAttribute, ...]] = get_args(HeaderAttribute)

_SEXES: Final = frozenset("FMO")  # PS3.3 C.7.1.1.1.1
# First years of bands. From 90 on an age tells who it is (45 CFR 164.514(b)(2)(i)(C)): it is in the
# last band.
_BANDS: Final = (0, 18, 40, 60, 80)
_AGE: Final = re.compile(r"(\d{3})([DWMY])")  # PS3.5 6.2, value representation AS
_YEARS: Final = {"Y": 1, "D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12}
_MOST_CHARACTERS: Final = 64  # of a long string, PS3.5 6.2


def header_attributes(texts: Mapping[str, str]) -> tuple[str, ...]:
    """Values in the order of ``ATTRIBUTE_TAGS``, "" where unknown or not as the standard has it.

    Args:
        texts: Tag -> the element as text.
    """
    sex = texts["PatientSex"].strip().upper()
    return (
        sex if sex in _SEXES else "",
        age_band(texts["PatientAge"]),
        _name(texts["Manufacturer"]).upper(),  # the same one writes itself in several ways
        _name(texts["ManufacturerModelName"]),
        _name(texts["InstitutionName"]),
    )


def age_band(text: str) -> str:
    """``063Y`` -> ``60 to 79``; "" for what is no age."""
    match = _AGE.fullmatch(text.strip())
    if match is None:
        return ""
    years = int(match[1]) * _YEARS[match[2]]
    band = sum(first <= years for first in _BANDS) - 1
    if band == len(_BANDS) - 1:
        return f"{_BANDS[-1]} and over"
    return f"{_BANDS[band]} to {_BANDS[band + 1] - 1}"


def _name(text: str) -> str:
    return " ".join(text.split())[:_MOST_CHARACTERS]
