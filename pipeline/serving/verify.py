"""Does a model package still give the answers that it gave where it was made?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.serving.package import ModelPackage, PackageError, load_package
from pipeline.serving.self_test import self_test

# Machines and library versions differ in the last bits of float32 sums; an error in weights,
# preprocessing or arithmetic is far larger.
TOLERANCE: Final = 1e-4


@dataclass(frozen=True)
class Verification:
    """A package that passed.

    Attributes:
        package: It.
        difference: Largest difference of a self-test probability from the recorded one.
    """

    package: ModelPackage
    difference: float

    @property
    def bit_identical(self) -> bool:
        """True where this machine computes exactly what the package's maker computed."""
        return self.difference == 0


def verify(folder: Path) -> Verification:
    """Check a package's digests and compute its self-test again.

    Raises:
        PackageError: As ``load_package``, or ``package.self_test`` where this machine computes
            other probabilities.
    """
    package = load_package(folder)
    recorded = np.array(package.card.self_test)
    now = np.array(self_test(package.recipe, package.family))
    difference = float(np.abs(now - recorded).max())
    if not difference <= TOLERANCE:  # so that NaN fails
        versions = ", ".join(f"{k} {v}" for k, v in sorted(package.card.versions.items()))
        raise PackageError(
            "package.self_test",
            f"{folder}: whole, but its self-test gives probabilities that differ by "
            f"{difference:.2g} from the recorded ones (allowed: {TOLERANCE:g})",
            fix=f"use the versions that it was made with: {versions}",
        )
    return Verification(package, difference)
