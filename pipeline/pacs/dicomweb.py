"""A DICOMweb archive: what it holds (QIDO-RS), its objects (WADO-RS), and our own (STOW-RS).

PS3.18. The archive is not trusted: its answers are bounded in size and time, what it names is
checked before it is used, and it cannot send the request, and the credentials with it, elsewhere.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import requests

from data_prep.progress import Progress, silent
from pipeline.dicom_out.source import is_uid
from pipeline.pacs.arrival import ArrivalError, ObjectKeys, PacsError, take_in
from pipeline.pacs.limits import DEFAULT_LIMITS, Fetched, Limits, SeriesKey
from pipeline.pacs.multipart import boundary_of, joined, parts
from pipeline.pacs.query import Query
from pipeline.pacs.transport import (
    ATTEMPTS,
    BACKOFF_S,
    BLOCK,
    Transport,
    bad_answer,
    too_slow,
)

_PAGE: Final = 100
_STORE_BYTES: Final = 16 << 20
# Series of these hold no scan (PS3.3 C.7.3.1.1.1): not even asked for.
_NO_IMAGES: Final = frozenset(
    ("SR", "PR", "KO", "SEG", "REG", "DOC", "RTSTRUCT", "RTPLAN", "RTRECORD", "AU", "ECG", "PLAN")
)
_STUDY, _SERIES, _MODALITY = "0020000D", "0020000E", "00080060"
_STORED: Final = "00081199"


class Archive:
    """One DICOMweb service.

    Args:
        url: That under which ``/studies`` lies.
        limits: What is taken at most.
        plain_http: Accept a URL without TLS on another machine.

    Raises:
        PacsError: ``pacs.bad_url``, ``pacs.credentials_in_url``, ``pacs.not_encrypted`` or
            ``pacs.bad_token``.
    """

    def __init__(
        self, url: str, limits: Limits = DEFAULT_LIMITS, *, plain_http: bool = False
    ) -> None:
        self._limits = limits
        self._transport = Transport(url, plain_http=plain_http)

    @property
    def is_safe(self) -> bool:
        """Whether what travels is encrypted, or stays on this machine."""
        return self._transport.is_safe

    def find(self, query: Query) -> list[SeriesKey]:
        """The series that a query names, but for those that hold no images.

        Raises:
            PacsError: ``pacs.too_many``, ``pacs.unreachable``, ``pacs.refused``,
                ``pacs.too_slow`` or ``pacs.bad_answer``.
        """
        found: list[SeriesKey] = []
        for study in self._studies(query):
            found += self._series(study, query)
        return found

    def fetch(self, wanted: SeriesKey, folder: Path, counts: Fetched) -> None:
        """Fetch the objects of one series into ``folder/STUDY/SERIES``, and count them.

        A transfer that breaks off is begun again.

        Raises:
            PacsError: As ``find``; ``pacs.too_large``.
            OSError: They cannot be written.
        """
        for attempt in range(1, ATTEMPTS + 1):
            now = Fetched(size=counts.size, received=counts.received)
            try:
                self._fetch_once(wanted, folder, now)
                break
            except requests.RequestException as error:
                shutil.rmtree(folder / wanted.study / wanted.series, ignore_errors=True)
                if attempt == ATTEMPTS:
                    raise self._transport.unreachable(error) from None
                time.sleep(BACKOFF_S * 2**attempt)
        counts.series += 1
        counts.objects += now.objects
        counts.ours += now.ours
        counts.size, counts.received = now.size, now.received
        for code, count in now.refused.items():
            counts.refused[code] = counts.refused.get(code, 0) + count

    def _fetch_once(self, wanted: SeriesKey, folder: Path, counts: Fetched) -> None:
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        path = f"/studies/{wanted.study}/series/{wanted.series}"
        with self._transport.get(path, {}, accept) as answer:
            boundary = boundary_of(answer.headers.get("Content-Type", ""))
            blocks = self._blocks(answer, self._limits.total_bytes - counts.size)
            for data in parts(blocks, boundary, self._limits.object_bytes):
                if counts.received >= self._limits.objects:
                    raise PacsError(
                        "pacs.too_many",
                        f"the query finds more than {self._limits.objects} objects",
                        fix="narrow it with another --query",
                    )
                _count(folder, data, wanted, counts)

    def store(self, paths: Sequence[Path]) -> None:
        """Store objects in the archive, each whole or not at all.

        Raises:
            PacsError: ``pacs.not_stored`` with the number of those that were refused, or as
                ``find``.
        """
        refused = sum(self._post(batch) for batch in _batches(paths))
        if refused:
            raise PacsError(
                "pacs.not_stored",
                f"the archive refused {refused} of {len(paths)} objects",
                fix="see the archive's log; the objects lie in the folder dicom/ of --out",
            )

    def _post(self, batch: Sequence[bytes]) -> int:
        """How many of these objects were refused (PS3.18 10.5.3: 202 and 409 list them)."""
        boundary = os.urandom(16).hex().encode()
        kind = f'multipart/related; type="application/dicom"; boundary={boundary.decode()}'
        headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
        with self._transport.answer(
            "POST", "/studies", headers, data=joined(batch, boundary)
        ) as answer:
            if answer.status_code not in (200, 202, 409):
                raise self._transport.refused(answer)
            found = self._transport.json(answer)
        first = found[0] if isinstance(found, list) and found else found
        listed = first.get(_STORED, {}) if isinstance(first, dict) else None
        stored = listed.get("Value", []) if isinstance(listed, dict) else None
        if not isinstance(stored, list):
            raise bad_answer("what it stored is not said")
        return len(batch) - min(len(stored), len(batch))

    def _studies(self, query: Query) -> list[str]:
        most = self._limits.studies
        found: list[str] = []
        for item in self._pages("/studies", query.studies, "", _STUDY):
            found.append(_uid(item, _STUDY))
            if len(found) > most:
                raise PacsError(
                    "pacs.too_many",
                    f"the query finds more than {most} studies",
                    fix="narrow it with another --query, or raise --most",
                )
        return found

    def _series(self, study: str, query: Query) -> list[SeriesKey]:
        """Of one study, but for those that hold no images."""
        path, most = f"/studies/{study}/series", self._limits.series
        found = []
        for count, item in enumerate(self._pages(path, query.series, _MODALITY, _SERIES)):
            if count >= most:
                raise PacsError(
                    "pacs.too_many",
                    f"a study has more than {most} series",
                    fix="narrow the query with keys of series, such as --query Modality=CT",
                )
            if _value(item, _MODALITY) not in _NO_IMAGES:
                found.append(SeriesKey(study, _uid(item, _SERIES)))
        return found

    def _pages(
        self, path: str, keys: dict[str, str], also: str, unique: str
    ) -> Iterator[dict[str, Any]]:
        """The items of a QIDO-RS search, page by page, each once; with the element ``also``."""
        seen: set[str] = set()
        while True:
            page = {"limit": str(_PAGE), "offset": str(len(seen))}
            fields = {"includefield": also} if also else {}
            with self._transport.get(
                path, keys | page | fields, "application/dicom+json"
            ) as answer:
                items = [] if answer.status_code == 204 else self._transport.json(answer)
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise bad_answer("a list of studies or series is not a list of objects")
            fresh = [item for item in items if _uid(item, unique) not in seen]
            yield from fresh
            seen.update(_uid(item, unique) for item in fresh)
            if len(items) < _PAGE or not fresh:
                return

    def _blocks(self, answer: requests.Response, most_bytes: int) -> Iterator[bytes]:
        began, size = time.monotonic(), 0
        for block in answer.iter_content(BLOCK):
            size += len(block)
            if size > most_bytes:
                raise PacsError(
                    "pacs.too_large",
                    f"what the query finds has more than {self._limits.total_bytes} bytes",
                    fix="narrow it with another --query, or raise --max-gb",
                )
            if time.monotonic() - began > self._limits.series_s:
                raise too_slow(f"a series takes more than {self._limits.series_s:.0f} s")
            yield block


@contextmanager
def fetched(
    archive: Archive, query: Query, progress: Progress = silent
) -> Iterator[tuple[Path, Fetched]]:
    """Fetch what a query finds into a folder that only this user can read, and remove it after.

    The folder lies where temporary files do (``TMPDIR``).

    Raises:
        PacsError: ``pacs.nothing_found``, or as ``Archive.find`` and ``Archive.fetch``.
        OSError: There is no room, or no temporary folder at all.
    """
    keys = archive.find(query)
    counts = Fetched()
    with tempfile.TemporaryDirectory(prefix="medcurve-") as name:
        folder = Path(name)
        for key in keys:
            with _saying_where(folder):
                archive.fetch(key, folder, counts)
            progress(counts.series, len(keys))
        if not counts.objects:
            found = f"{len(keys)} series, {sum(counts.refused.values())} objects refused, "
            raise PacsError(
                "pacs.nothing_found",
                f"the query finds no images to score ({found}{counts.ours} made by medcurve)",
                fix="search with another --query",
            )
        yield folder, counts


@contextmanager
def _saying_where(folder: Path) -> Iterator[None]:
    """Name the folder where something cannot be written: a write's own error names no file."""
    try:
        yield
    except OSError as error:
        why = f"{error.strerror or error} (scans are fetched to there; TMPDIR says where)"
        raise OSError(error.errno, why, str(folder)) from error


def _count(folder: Path, data: bytes, wanted: SeriesKey, counts: Fetched) -> None:
    """Take an object in, if it is of the series that was asked for."""

    def check(keys: ObjectKeys) -> None:
        if (keys.study, keys.series) != (wanted.study, wanted.series):
            raise ArrivalError("pacs.other_series", "an object of another series was sent")

    counts.received += 1
    try:
        arrival = take_in(folder, data, check)
    except ArrivalError as error:
        counts.refused[error.code] = counts.refused.get(error.code, 0) + 1
        return
    counts.ours += arrival.keys.ours
    counts.objects += bool(arrival.size)
    counts.size += arrival.size


def _value(item: dict[str, Any], tag: str) -> str:
    found = item.get(tag)
    values = found.get("Value") if isinstance(found, dict) else None
    return str(values[0]) if isinstance(values, list) and values else ""


def _uid(item: dict[str, Any], tag: str) -> str:
    value = _value(item, tag)
    if not is_uid(value):
        raise bad_answer("a study or series has no valid UID")
    return value


def _batches(paths: Sequence[Path]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for path in paths:
        data = path.read_bytes()
        if batch and size + len(data) > _STORE_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(data)
        size += len(data)
    if batch:
        yield batch
