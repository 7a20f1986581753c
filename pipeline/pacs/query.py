"""What is asked of an archive, as the command line states it: ``KEY=VALUE``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
        PacsError: ``pacs.no_query`` where there is none, ``pacs.bad_query`` for one that is not of
            this form, an unknown key, or a key stated twice.
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
        target[key] = value
    if not studies:
        raise PacsError(
            "pacs.no_query", "no --query says which studies of the archive", fix=_EXAMPLE
        )
    return Query(studies, series)


_EXAMPLE: Final = "for example --query ModalitiesInStudy=CT --query StudyDate=20240101-20240131"
