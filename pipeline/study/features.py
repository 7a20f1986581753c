"""Features that do not depend on the training set: worked out once per family, or family and seed.

They are kept on disk while a study runs, so that every worker and every resumed run shares them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from data_prep.errors import StageError
from data_prep.files import digest, read_json, sha256_bytes, sha256_file, write_bytes, write_json
from data_prep.stage import medcurve_version
from pipeline.families import FAMILIES, FamilyConfig
from pipeline.study.cell import Inputs
from pipeline.study.condition import Condition
from pipeline.study.grid import RESULT_VERSION


@dataclass(frozen=True)
class Preparation:
    """The work of ``Family.prepare`` for one family and seed.

    Attributes:
        family: Name of the family's config.
        seed: Its seed; 0 where the features are the same for all.
        key: Digest of everything that decides the features.
    """

    family: str
    seed: int
    key: str

    def save(self, folder: Path, inputs: Inputs) -> None:
        """Keep the prepared ``x`` of each split; their digests are written last."""
        folder.mkdir(parents=True, exist_ok=True)
        digests = {}
        for split, features in inputs.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(features), allow_pickle=False)
            data = buffer.getvalue()
            write_bytes(self._features(folder, split), data)
            digests[split] = sha256_bytes(data)
        write_json(self._record(folder), digests)

    def load(self, folder: Path) -> Inputs | None:
        """Prepared ``x`` of each split, mapped into memory; None where absent or damaged."""
        if not self._record(folder).is_file():
            return None
        try:
            digests = dict(read_json(self._record(folder)))
        except (StageError, TypeError, ValueError):
            return None
        loaded = {}
        for split, expected in digests.items():
            path = self._features(folder, split)
            if not path.is_file() or sha256_file(path) != expected:
                return None
            # Mode "c": torch wants memory that may be written; what is written stays private.
            loaded[split] = np.load(path, mmap_mode="c", allow_pickle=False)
        return loaded

    def _features(self, folder: Path, split: str) -> Path:
        return folder / f"{self.key}-{quote(split, safe='')}.npy"

    def _record(self, folder: Path) -> Path:
        return folder / f"{self.key}.json"


def seed_of_features(config: FamilyConfig, seed: int) -> int:
    """The seed that decides a family's features; 0 where the same ones serve every seed."""
    return seed if FAMILIES[config.family].seeded_prepare else 0


def preparation(
    name: str,
    config: FamilyConfig,
    seed: int,
    store_digest: str,
    arithmetic: Mapping[str, str],
    conditions: Sequence[Condition] = (),
) -> Preparation | None:
    """The preparation that a family with this seed needs; None where it takes raw scans.

    Args:
        name: The family's config, by name.
        config: What it says.
        seed: The family's; it counts where ``seeded_prepare`` does.
        store_digest: Of the scans.
        arithmetic: Versions and instructions that decide the last bits.
        conditions: Changes of the test scans, which are prepared as well.
    """
    if not FAMILIES[config.family].prepares(config.params):
        return None
    seed = seed_of_features(config, seed)
    content = {
        "version": RESULT_VERSION,
        "medcurve": medcurve_version(),
        "family": config.model_dump(mode="json"),
        "seed": seed,
        "store": store_digest,
        "arithmetic": dict(arithmetic),
        "conditions": [shift.model_dump(mode="json") for shift in conditions],
    }
    return Preparation(name, seed, digest(content))
