"""Preparing volumes: our recipe in decode children against the same recipe as a MONAI Compose.

    OMP_NUM_THREADS=1 python benchmarks/prep_speed.py

Sixteen int16 .nii.gz volumes of 256 x 256 x 160 voxels (made up: smooth, with noise) are read,
turned to RAS, resampled to 1.5 mm, resized to 96^3 and z-scored, by two processes either way; the
processes are started before the clock is. Five rounds of both in turn; the row shows the medians
and the median of the rounds' ratios, which is to stay above 3. MONAI does not smooth before it
shrinks, and we do: the last column is how far the outputs are apart, in standard deviations.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np
from monai.data import DataLoader, Dataset
from monai.transforms import (
    Compose,
    LoadImage,
    NormalizeIntensity,
    Orientation,
    Resize,
    Spacing,
)
from numpy.typing import NDArray

from data_prep.errors import ScanError
from data_prep.intensity_rules import ZScore
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.readers import discover, read_scan
from data_prep.readers.sandbox import DecodePool

VOLUMES = 16
ROUNDS = 5
WORKERS = 2
SHAPE = (256, 256, 160)
LABELS = (("L", "R"), ("P", "A"), ("I", "S"))

Prepared = list[NDArray[np.float32]]


def write_volumes(folder: Path) -> None:
    """Volumes as a head compresses: waves in the middle, noise everywhere."""
    rng = np.random.default_rng(0)
    x, y, z = (np.linspace(-1, 1, n) for n in SHAPE)
    inside = x[:, None, None] ** 2 + y[None, :, None] ** 2 + z[None, None, :] ** 2 < 0.8
    affine = np.diag([-1.0, -1.0, 1.2, 1.0])
    for number in range(VOLUMES):
        phase = rng.uniform(0, 6, size=3)
        waves = (
            np.sin(9 * x + phase[0])[:, None, None]
            + np.sin(11 * y + phase[1])[None, :, None]
            + np.sin(7 * z + phase[2])[None, None, :]
        )
        voxels = inside * (600 + 120 * waves) + rng.normal(0, 8, size=SHAPE)
        image = nib.Nifti1Image(voxels.astype(np.int16), affine)
        nib.save(image, folder / f"{number:02d}.nii.gz")


def by_us(root: Path) -> tuple[Callable[[], Prepared], DecodePool]:
    """One round of our recipe, and the pool to be closed."""
    sources = discover(root).sources
    config = PrepConfig(orientation="RAS", spacing_mm=1.5, shape=96, intensity=ZScore())
    recipe = PrepRecipe.fit(config, [read_scan(root, sources[0])])
    pool = DecodePool(root, WORKERS)

    def run() -> Prepared:
        results = []
        for source, result in pool.read(sources, recipe.apply):
            if isinstance(result, ScanError):
                raise SystemExit(f"{source.paths[0]}: {result}")
            results.append(result)
        return results

    return run, pool


def by_monai(root: Path) -> Callable[[], Prepared]:
    """One round of the same steps as a Compose in a DataLoader."""
    steps = Compose(
        [
            LoadImage(image_only=True, ensure_channel_first=True),
            Orientation(axcodes="RAS", labels=LABELS),
            Spacing(pixdim=(1.5, 1.5, 1.5), mode="bilinear"),
            Resize((96, 96, 96), mode="trilinear"),
            NormalizeIntensity(),
        ]
    )
    files = [str(path) for path in sorted(root.glob("*.nii.gz"))]
    loader = DataLoader(
        Dataset(files, steps), batch_size=1, num_workers=WORKERS, persistent_workers=True
    )

    def run() -> Prepared:
        return [batch[0].numpy() for batch in loader]

    return run


def rounds(
    ours: Callable[[], Prepared], theirs: Callable[[], Prepared]
) -> Iterator[tuple[float, float]]:
    """Seconds a volume of both, one after the other."""
    for _ in range(ROUNDS):
        start = time.monotonic()
        ours()
        middle = time.monotonic()
        theirs()
        yield (middle - start) / VOLUMES, (time.monotonic() - middle) / VOLUMES


def main() -> None:
    """Print one row of a Markdown table."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_volumes(root)
        ours, pool = by_us(root)
        theirs = by_monai(root)
        with pool:
            # The first round starts the processes.
            apart = [np.abs(a - b).mean() for a, b in zip(ours(), theirs(), strict=True)]
            seconds = list(rounds(ours, theirs))
    us, monai = median(s[0] for s in seconds), median(s[1] for s in seconds)
    ratio = median(b / a for a, b in seconds)
    print("| recipe on 256x256x160 .nii.gz | medcurve s/volume | MONAI s/volume | ratio | apart |")
    print("|---|---|---|---|---|")
    print(
        f"| RAS, 1.5 mm, 96^3, z-score, {WORKERS} processes "
        f"| {us:.3f} | {monai:.3f} | {ratio:.1f} | {np.mean(apart):.3f} |"
    )


if __name__ == "__main__":
    main()
