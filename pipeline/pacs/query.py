"""What is asked of an archive, as the command line states it: ``KEY=VALUE``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from data_prep.errors import nearest
from pipeline.pacs.arrival import PacsError

# PS3.18 tables 10.6.1-5 and what archives commonly match beside.
STUDY_KEYS: Final = (
    *("StudyDate", "StudyTime", "AccessionNumber", "ModalitiesInStudy", "ReferringPhysicianName"),
    *("PatientName", "PatientID", "StudyInstanceUID", "StudyID", "StudyDescription"),
    *("PatientBirthDate", "PatientSex", "InstitutionName"),
)
SERIES_KEYS: Final = (
    *("Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription"),
    *("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
    *("BodyPartExamined", "ProtocolName", "StationName"),
)


@dataclass(frozen=True)
class Query:
    """Keys to match.

    Attributes:
        studies: Of studies.
        series: Of series within them.
    """

    studies: dict[str, str]
    series: dict[str, str]


def parse_query(texts: Sequence[str]) -> Query:
    """Read ``KEY=VALUE`` texts.

    Raises:
        PacsError: ``pacs.no_query`` where there is none of studies, ``pacs.bad_query`` for one that
            is not of this form, an unknown key, a key stated twice, or what is no date.
    """
    studies: dict[str, str] = {}
    series: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        target = studies if key in STUDY_KEYS else series
        if not equals or not value or key in target:
            why = "is stated twice" if key in target else "is not of the form KEY=VALUE"
            raise PacsError("pacs.bad_query", f"--query {text}: it {why}", fix=_EXAMPLE)
        if key not in (*STUDY_KEYS, *SERIES_KEYS):
            known = [*STUDY_KEYS, *SERIES_KEYS]
            raise PacsError(
                "pacs.bad_query",
                f"--query {text}: '{key}' is not a key to search by{nearest(key, known)}",
                fix=f"studies are found by {', '.join(STUDY_KEYS)}; series by "
                f"{', '.join(SERIES_KEYS)}",
            )
        if key in _DATES and not _is_date(value):
            raise PacsError(
                "pacs.bad_query",
                f"--query {text}: '{value}' is neither a date nor a range of dates",
                fix=f"write {key}=YYYYMMDD, or YYYYMMDD-YYYYMMDD, of which either end may lack",
            )
        target[key] = value
    if not studies:
        raise _no_studies(series)
    return Query(studies, series)


def _is_date(value: str) -> bool:
    """Whether it is what PS3.4 C.2.2.2 has for dates: one, a range, or any."""
    ends = value.split("-")
    return value == "*" or (len(ends) <= 2 and any(ends) and all(not e or _is_day(e) for e in ends))


def _is_day(text: str) -> bool:
    try:
        return bool(_DAY.fullmatch(text) and datetime.strptime(text, "%Y%m%d"))
    except ValueError:
        return False


def _no_studies(series: Mapping[str, str]) -> PacsError:
    """What is said where nothing tells which studies: keys of series choose within these only."""
    if not series:
        return PacsError(
            "pacs.no_query", "no --query says which studies of the archive", fix=_EXAMPLE
        )
    key = next(iter(series))
    instead = f" such as ModalitiesInStudy={series[key]}" if key == "Modality" else ""
    return PacsError(
        "pacs.no_query",
        f"--query {key}={series[key]}: {key} chooses among the series of studies, and no --query "
        "says which studies",
        fix=f"add a key of studies{instead or ' such as StudyDate=20240101-20240131'}",
    )


_DATES: Final = ("StudyDate", "PatientBirthDate", "PerformedProcedureStepStartDate")
_DAY: Final = re.compile(r"[0-9]{8}")
_EXAMPLE: Final = "for example --query ModalitiesInStudy=CT --query StudyDate=20240101-20240131"
