"""What a decode child does with a volume before it hands it over.

Kept apart from the model: a child imports this file, and must not pay for torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data_prep.miniature import pixel_digest
from data_prep.preprocess import PrepRecipe
from data_prep.scan_look import ScanLook, look_at
from data_prep.volume import Volume
from pipeline.serving.seen import MaybeSeen


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """One scan as the model takes it.

    Attributes:
        array: (C, I, J[, K]) float32.
        flags: What was accepted while reading.
        pixel_sha256: Digest of the scan as it was read; "" where its look says that it is none that
            the model has seen.
        look: By what it can be told from the training scans.
    """

    array: NDArray[np.float32]
    flags: tuple[str, ...]
    pixel_sha256: str
    look: ScanLook

    def with_files_flags(self, flags: tuple[str, ...]) -> PreparedScan:
        """The scan with the oddities of its files before its own: as the manifest counts them."""
        every = tuple(dict.fromkeys((*flags, *self.flags)))
        return replace(self, flags=every, look=replace(self.look, flags=every))


@dataclass(frozen=True)
class PrepareScan:
    """Applies a recipe to a volume; picklable, so that it can run in a child.

    Attributes:
        recipe: How.
        maybe_seen: Which scans are to be digested.
    """

    recipe: PrepRecipe
    maybe_seen: MaybeSeen

    def __call__(self, volume: Volume) -> PreparedScan:
        """Prepare one scan.

        Raises:
            ScanError: As ``PrepRecipe.apply``.
        """
        array = self.recipe.apply(volume)
        look = look_at(volume, array)
        digest = pixel_digest(volume) if self.maybe_seen(look) else ""
        return PreparedScan(array, volume.flags, digest, look)
