"""Does an exported file give the answers of the model that it was made from?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.readers.sandbox import DecodePool
from pipeline.export.errors import ExportError
from pipeline.serving.answers import block_scans
from pipeline.serving.inputs import find_inputs
from pipeline.serving.package import ModelPackage
from pipeline.serving.prepared import PreparedScan, PrepareScan
from pipeline.serving.seen import NONE_SEEN
from pipeline.serving.self_test import made_up_scans
from pipeline.serving.twin import Compared

# Programs sum in another order; an error in weights or arithmetic is far larger.
TOLERANCE: Final = 1e-4
_MOST_SCANS: Final = 16

Values = NDArray[np.float64] | NDArray[np.float32]
Outputs = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]
Run = Callable[[NDArray[np.float32]], Outputs]


def scans_to_check(package: ModelPackage, given: Sequence[Path], out: Path) -> NDArray[np.float32]:
    """(N, C, I, J[, K]) prepared scans: the first 16 readable ones of ``given``.

    Without any, made-up ones as in the self-test, one more than a block holds.

    Raises:
        InputError: As ``find_inputs``.
        ExportError: ``export.no_scan`` where none of ``given`` can be read.
    """
    if not given:
        made_up = made_up_scans(package.recipe, package.card.scan_shape, block_scans(package) + 1)
        return np.stack([package.recipe.apply(volume) for volume in made_up])
    found = [
        array for array, _ in zip(_read(package, given, out), range(_MOST_SCANS), strict=False)
    ]
    if not found:
        raise ExportError(
            "export.no_scan",
            f"none of the scans under {', '.join(map(str, given))} can be read and prepared",
            fix="`medcurve predict` says why in quarantine.csv; or leave --scans out",
        )
    return np.stack(found)


def _read(package: ModelPackage, given: Sequence[Path], out: Path) -> Iterator[NDArray[np.float32]]:
    policy = package.card.read
    for folder in find_inputs(given, out, policy):
        with DecodePool(folder.root, 1, policy=policy) as pool:
            sources = [scan.source for scan in folder.scans]
            for _, result in pool.read(sources, PrepareScan(package.recipe, NONE_SEEN)):
                if isinstance(result, PreparedScan):
                    yield result.array


def check(
    package: ModelPackage, scans: NDArray[np.float32], made_up: bool, run: Run, name: str
) -> Compared:
    """Compare what a file gives with what the model gives.

    Args:
        package: The model.
        scans: (N, C, I, J[, K]) prepared.
        made_up: Whether they are no real ones.
        run: Runs the file.
        name: Of the file, for the error.

    Raises:
        ExportError: ``export.differs``.
    """
    raw, features = package.look(torch.from_numpy(scans))
    expected = package.calibrate(raw), raw, features
    found = run(scans)
    apart = [_apart(found[at], expected[at]) for at in range(3)]
    largest = float(np.abs(features).max()) if features.size else 0.0
    apart[2] /= max(largest, 1.0)
    worst = float(np.max(apart))  # NaN stays NaN
    if not worst <= TOLERANCE:  # so that NaN fails
        raise ExportError(
            "export.differs",
            f"{name}: its answers to {len(scans)} scans differ from the model's by {worst:.2g}; "
            f"allowed is {TOLERANCE:g}",
            fix="nothing was written; use the versions in constraints.txt, or report it with the "
            "family's config",
        )
    return Compared(
        scans=len(scans),
        made_up=made_up,
        probability=apart[0],
        raw=apart[1],
        features=apart[2],
        tolerance=TOLERANCE,
    )


def _apart(found: Values, expected: Values) -> float:
    if found.shape != expected.shape:
        return float("inf")
    return float(np.abs(found - expected).max()) if found.size else 0.0
