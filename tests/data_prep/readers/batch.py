"""A folder with good scans and one case beside them, read as ingest reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scan_files import write_nifti, write_series

from data_prep.errors import ScanError
from data_prep.readers import DEFAULT_POLICY, ReadPolicy, discover, read_scan
from data_prep.readers.source import SCAN_FLAGS, Found, ScanSource
from data_prep.volume import Volume

CASE = "case"


@dataclass(frozen=True)
class Outcome:
    """What became of the case's files."""

    found: Found
    volumes: list[Volume]
    codes: list[str]
    good_ones_read: bool

    @property
    def volume(self) -> Volume:
        """The one volume of the case."""
        assert not self.codes, self.codes
        (volume,) = self.volumes
        return volume

    @property
    def skipped(self) -> list[str]:
        """Why files of the case were skipped."""
        return [entry.reason for entry in self.found.skipped if entry.path.startswith(CASE)]


def read_batch(
    root: Path, case: Callable[[Path], object], policy: ReadPolicy = DEFAULT_POLICY
) -> Outcome:
    """Write good scans and the case under ``root`` and read everything."""
    write_series(root / "good", 3, series="good")
    write_nifti(root / "good" / "good.nii.gz")
    Image.fromarray(np.full((5, 7), 9, np.uint8)).save(root / "good" / "good.png")
    (root / CASE).mkdir()
    case(root / CASE)
    found = discover(root, policy=policy)
    good, volumes = 0, []
    codes = [entry.code for entry in found.rejected if entry.paths[0].startswith(CASE)]
    for source in found.sources:
        result = _read(root, source, policy)
        if source.paths[0].startswith("good"):
            good += isinstance(result, Volume)
        elif isinstance(result, Volume):
            volumes.append(result)
        else:
            codes.append(result.code)
    return Outcome(found, volumes, codes, good == 3)


def _read(root: Path, source: ScanSource, policy: ReadPolicy) -> Volume | ScanError:
    try:
        volume = read_scan(root, source, policy)
        assert set(volume.flags) <= set(SCAN_FLAGS), volume.flags
        return volume
    except ScanError as error:
        return error
