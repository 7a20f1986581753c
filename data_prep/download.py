"""Downloading a file: resumed where it broke off, checked by a digest, never half there."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from data_prep.errors import MedcurveError
from data_prep.progress import Progress, silent

_BLOCK_BYTES: Final = 1 << 18
_TIMEOUT_S: Final = 60
_ATTEMPTS: Final = 3


class DownloadError(MedcurveError):
    """A file could not be fetched; the message says how to get it by other means."""


@dataclass(frozen=True)
class Checksum:
    """A published digest.

    Attributes:
        algorithm: Its name in messages: ``md5`` or ``sha256``.
        digest: Hexadecimal; its first digits only, where no more is published.
        of: Works it out for a file.
    """

    algorithm: str
    digest: str
    of: Callable[[Path], str]

    def fits(self, found: str) -> bool:
        """Whether a file of digest ``found`` is the published one."""
        return found.startswith(self.digest)


def download(
    url: str, path: Path, checksum: Checksum, *, by_hand: str, progress: Progress = silent
) -> None:
    """Fetch ``url`` into ``path``, whose folder is made if need be.

    A transfer that breaks off leaves ``<name>.part``, which the next attempt goes on with (HTTP
    Range, RFC 9110 14). The file gets its name only when its digest is right.

    Args:
        url: http or https.
        path: The file to be.
        checksum: What the content must be.
        by_hand: Advice for a machine that cannot fetch it.
        progress: Told (bytes done, bytes in all).

    Raises:
        DownloadError: ``download.failed``, ``download.wrong_md5`` or ``download.wrong_sha256``.
    """
    partial = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch_with_retries(url, partial, progress)
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise DownloadError("download.failed", f"{url}: {reason}", fix=by_hand) from error
    found = checksum.of(partial)
    if not checksum.fits(found):
        partial.unlink()
        raise DownloadError(
            f"download.wrong_{checksum.algorithm}",
            f"{url}: {checksum.algorithm} is {found}, published is {checksum.digest}; "
            "the file was thrown away",
            fix=by_hand,
        )
    partial.replace(path)


def _fetch_with_retries(url: str, partial: Path, progress: Progress) -> None:
    """Go on after a transfer that broke off, as long as each attempt brings something."""
    for attempt in range(_ATTEMPTS):
        before = partial.stat().st_size if partial.is_file() else 0
        try:
            _fetch(url, partial, progress)
            return
        except (OSError, http.client.HTTPException) as error:
            after = partial.stat().st_size if partial.is_file() else 0
            refused = isinstance(error, urllib.error.HTTPError)
            if refused or after <= before or attempt == _ATTEMPTS - 1:
                raise


def _fetch(url: str, partial: Path, progress: Progress) -> None:
    if not url.startswith(("http://", "https://")):
        raise OSError("only http and https addresses are fetched")
    done = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(url)  # noqa: S310 - the scheme is checked above
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        partial.unlink()  # longer than the file itself, or whole: its digest was not right
        return _fetch(url, partial, progress)
    with response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        done = done if resumed else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdecimal() else 0
        with partial.open("ab" if resumed else "wb") as file:
            while block := response.read(_BLOCK_BYTES):
                file.write(block)
                done += len(block)
                progress(done, max(total, done))
            file.flush()
            os.fsync(file.fileno())
    if total and done < total:
        raise http.client.IncompleteRead(b"", total - done)
    return None
