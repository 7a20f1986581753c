"""Random features of a study: every size and penalty against one size and one penalty.

    OMP_NUM_THREADS=1 python benchmarks/random_feature_study.py

The features are worked out once for a family and seed, and all penalties come from one
decomposition, so that a learning curve should cost little more than its last point: at most 1.5
times. Scans are noise in the numbers of BreastMNIST, PneumoniaMNIST and AdrenalMNIST3D (training,
validation and test; what they show does not matter to the cost). The whole curve has the sizes of
``configs/study/bias_variance.yaml``, each with the 13 penalties of the family; the reference is all
patients with one penalty. Processor time of one process and one thread; medians of the rounds.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import torch

from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.families.random_features import RandomFeatures, RandomFeaturesParams

COHORTS = {
    "BreastMNIST's numbers": ((1, 28, 28), (546, 78, 156)),
    "PneumoniaMNIST's numbers": ((1, 28, 28), (4708, 524, 624)),
    "AdrenalMNIST3D's numbers": ((1, 28, 28, 28), (1188, 98, 298)),
}
SIZES = (16, 32, 64, 128, 256)  # and all
ROUNDS = 3
TASK = Task(kind="binary", class_names=("a", "b"))


def noise(shape: tuple[int, ...], counts: tuple[int, int, int]) -> list[Scans]:
    """Training, validation and test scans with labels that alternate."""
    rng = np.random.default_rng(0)
    splits = []
    for n in counts:
        ids = np.arange(n).astype(np.str_)
        x = torch.from_numpy(rng.standard_normal((n, *shape), dtype=np.float32))
        splits.append(Scans(x, np.arange(n) % 2, ids, ids))
    return splits


def seconds(splits: list[Scans], sizes: list[int], penalties: tuple[float, ...]) -> float:
    """Processor time of one seed: features, then a fit and two predictions for each size."""
    started = time.process_time()
    params = RandomFeaturesParams(penalties=penalties)
    family = RandomFeatures(params, TASK, splits[0].scan_shape, seed=0)
    train, val, test = (scans.with_x(family.prepare(scans.x)) for scans in splits)
    for size in sizes:
        family.fit(train.take(np.arange(size)), val)
        for scans in (val, test):
            family.predict_proba(scans.x)
    return time.process_time() - started


def main() -> None:
    """Print a Markdown table."""
    torch.set_num_threads(1)
    every = RandomFeaturesParams().penalties
    print(f"torch {torch.__version__}, {RandomFeaturesParams().filters} filters\n")
    print("| cohort | sizes x penalties | all of them, s | one size, one penalty, s | ratio |")
    print("|---|---|---|---|---|")
    for name, (shape, counts) in COHORTS.items():
        splits = noise(shape, counts)
        sizes = [*SIZES, counts[0]]
        rows = [
            (seconds(splits, sizes, every), seconds(splits, sizes[-1:], every[3:4]))
            for _ in range(ROUNDS)
        ]
        whole, one = (median(side) for side in zip(*rows, strict=True))
        ratio = median(a / b for a, b in rows)
        print(
            f"| {name} | {len(sizes)} x {len(every)} | {whole:.1f} | {one:.1f} | {ratio:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
