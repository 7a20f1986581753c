"""Downloading a MedMNIST file: resumed where it broke off, checked by md5, never half there."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from data_prep.errors import MedcurveError
from data_prep.progress import Progress, silent
from data_prep.readers.medmnist_facts import MedMnistFile, facts_of, file_of, md5_file

_BLOCK_BYTES: Final = 1 << 18
_TIMEOUT_S: Final = 60
_ATTEMPTS: Final = 3


class DownloadError(MedcurveError):
    """A file could not be fetched; the message says how to get it by other means."""


def download_npz(
    dataset: str,
    size: int,
    folder: Path,
    progress: Progress = silent,
    *,
    base_url: str | None = None,
) -> Path:
    """Fetch an official file into ``folder``, unless it is there already.

    A transfer that breaks off leaves ``<name>.part``, which the next attempt goes on with (HTTP
    Range, RFC 9110 14). The file gets its name only when its md5 is right.

    Args:
        dataset: Name of the dataset.
        size: 28, 64, 128 or 224.
        folder: Where the file is to lie; made if need be.
        progress: Told (bytes done, bytes in all).
        base_url: Fetch ``<base_url>/<file name>`` in place of the published address (a mirror).

    Raises:
        ConfigError: As ``file_of``.
        DownloadError: ``download.failed`` or ``download.wrong_md5``.
    """
    file = file_of(dataset, size)
    path = folder / facts_of(dataset).file_name(size)
    if path.is_file() and md5_file(path) == file.md5:
        return path
    url = file.url if base_url is None else f"{base_url.rstrip('/')}/{path.name}"
    partial = path.with_name(f"{path.name}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _fetch_with_retries(url, partial, progress)
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise DownloadError(
            "download.failed", f"{url}: {reason}", fix=_by_hand(file, path)
        ) from error
    found = md5_file(partial)
    if found != file.md5:
        partial.unlink()
        raise DownloadError(
            "download.wrong_md5",
            f"{url}: md5 is {found}, published is {file.md5}; the file was thrown away",
            fix=_by_hand(file, path),
        )
    partial.replace(path)
    return path


def _by_hand(file: MedMnistFile, path: Path) -> str:
    return (
        f"on a machine with a connection, fetch {file.url} (md5 {file.md5}) "
        f"and put it at {path}, or into $MEDCURVE_DATA/medmnist"
    )


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
        partial.unlink()  # longer than the file itself, or whole: its md5 was not right
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
