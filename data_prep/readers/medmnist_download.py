"""Downloading a MedMNIST file."""

from __future__ import annotations

from pathlib import Path

from data_prep.download import Checksum, download
from data_prep.progress import Progress, silent
from data_prep.readers.medmnist_facts import facts_of, file_of, md5_file


def download_npz(
    dataset: str,
    size: int,
    folder: Path,
    progress: Progress = silent,
    *,
    base_url: str | None = None,
) -> Path:
    """Fetch an official file into ``folder``, unless it is there already.

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
    by_hand = (
        f"on a machine with a connection, fetch {file.url} (md5 {file.md5}) "
        f"and put it at {path}, or into $MEDCURVE_DATA/medmnist"
    )
    download(url, path, Checksum("md5", file.md5, md5_file), by_hand=by_hand, progress=progress)
    return path
