"""What the gallery of a batch costs: processor time for a scan, bytes of the page, memory.

    OMP_NUM_THREADS=1 python benchmarks/gallery_page.py [SCANS] [--keep FOLDER]

Prepared scans of three kinds (2D 224 x 224 and 3D 64 x 64 x 64, smooth structures under noise; and
96 x 96 of nothing but noise, which no codec makes small) go through ``Gallery.scan`` as ``predict``
hands them over, and a page is written of each kind: at most 4,000 bytes a scan, so 20 MB for 5,000.
Memory is the process's peak after the first tenth of the scans and at the end. ``--keep`` leaves
the pages, to be opened in a browser.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.readers.source import ScanSource
from data_prep.task import Task
from pipeline.gallery.beside import Gallery
from pipeline.gallery.pack import Pack
from pipeline.gallery.page import Batch, write_page
from pipeline.serving.beside import ScoredScan
from pipeline.serving.predictions import Prediction, Tally, write_predictions
from pipeline.serving.spill import Spill

TASK = Task(kind="multi-class", class_names=("normal", "benign", "malignant"))
MODEL = {"digest": "0" * 64, "family": "cnn_scratch", "data": "synthetic", "medcurve": "0"}
SHAPES = {"2D 224x224": (224, 224), "3D 64x64x64": (64, 64, 64), "noise 96x96": (96, 96)}


def scans(shape: tuple[int, ...], count: int, *, noise: bool) -> Iterator[NDArray[np.float32]]:
    """Prepared scans (1, I, J[, K]); 20 structures in turn, each time under other noise."""
    rng = np.random.default_rng(0)
    coarse = [rng.standard_normal([n // 8 for n in shape]) for _ in range(20)]
    smooth = [zoom(c, 8, order=1).astype(np.float32) for c in coarse]
    for number in range(count):
        grain = rng.standard_normal(shape, dtype=np.float32)
        yield (grain if noise else smooth[number % 20] + 0.15 * grain)[np.newaxis]


def row(number: int, rng: np.random.Generator) -> Prediction:
    """A row as ``predict`` writes it; every 50th scan is quarantined."""
    name = f"hospital-{number % 7}/patient-{number // 3:05}/scan-{number:06}.nii.gz"
    if number % 50 == 49:
        return Prediction(
            name, (name,), "quarantined", code="nifti.truncated", reason="the stream ends early"
        )
    p = np.round(rng.dirichlet(np.full(3, 0.6)), 6)
    order = [TASK.class_names[i] for i in np.argsort(-p)]
    flags = ("unlike_training",) if number % 11 == 0 else ()
    within = tuple(order[: 1 + (p.max() < 0.8)])
    shift = round(float(rng.gamma(2)), 3)
    return Prediction(name, (name,), "ok", (order[0],), tuple(p.tolist()), within, shift, flags)


def peak_mb() -> float:
    """The process's peak so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(kind: str, count: int, folder: Path) -> None:
    """Print a row of the table; the page stays in ``folder``."""
    shape = SHAPES[kind]
    config = PrepConfig.model_validate(
        {"shape": shape, "orientation": "RAS" if len(shape) == 3 else "as stored"}
    )
    recipe = PrepRecipe(config=config, spatial_ndim=3 if len(shape) == 3 else 2, channels=1)
    gallery, rng = Gallery(recipe), np.random.default_rng(1)
    spent, first = 0.0, 0.0
    with Spill(folder / ".rows", keys=2) as spill:
        tally = Tally(spill)
        for number, array in enumerate(scans(shape, count, noise=kind.startswith("noise"))):
            one = row(number, rng)
            tally.add(one)
            if one.status == "ok":
                scored = ScoredScan(one, folder, ScanSource("nifti", one.files), array)
                start = time.process_time()
                gallery.scan(folder, scored)
                spent += time.process_time() - start
            if number == count // 10:
                first = peak_mb()
        summary = tally.summary([], TASK, MODEL, None, 0.0)
        write_predictions(folder, TASK, tally, [], summary)
    start, page = time.process_time(), folder / "gallery.html"
    with Pack(folder / "gallery.pack") as pack:
        write_page(Batch(folder / "predictions.parquet", TASK, 0.9, summary, [pack]), page)
    written = time.process_time() - start
    size = page.stat().st_size
    print(
        f"{kind:12} {1e3 * spent / summary.ok:8.2f} ms/scan {written:6.2f} s page "
        f"{size / 1e6:7.2f} MB {size / count:6.0f} B/scan   peak {first:.0f} -> {peak_mb():.0f} MB"
    )


def main() -> None:
    """Measure every kind."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scans", type=int, nargs="?", default=5000)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for kind in SHAPES:
            folder = (arguments.keep or Path(scratch)) / kind.replace(" ", "-")
            folder.mkdir(parents=True)
            measure(kind, arguments.scans, folder)


if __name__ == "__main__":
    main()
