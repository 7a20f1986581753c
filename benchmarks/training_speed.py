"""Training ResNet-18 at 28 px in batches of 128: our loop against a plain one, images a second.

    OMP_NUM_THREADS=2 python benchmarks/training_speed.py

The plain loop is what a first script does: float32 in NCHW, each image normalised and shifted by
itself in a ``DataLoader``, and an evaluation of the training, validation and test images after each
epoch. Ours holds the scans on the device, changes them a batch at a time, computes in channels_last
and in bf16 where the processor does, and evaluates validation alone. Architecture and images (made
up, in BreastMNIST's numbers: 546, 78, 156) are the same. Each row is two epochs of both, one
after the other; the last is the median. It is to reach 4, and does not: ``docs/benchmarks.md`` has
the figures, and why.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from data_prep.task import Task
from pipeline.augment import AugmentConfig
from pipeline.dataset import Scans
from pipeline.device import best_device
from pipeline.families.monai_nets import build_monai_net
from pipeline.train_config import TrainConfig
from pipeline.training import train_network

COUNTS = {"train": 546, "val": 78, "test": 156}
BATCH = 128
ROUNDS = 3
EPOCHS = 2
TASK = Task(kind="binary", class_names=("a", "b"))


def images() -> dict[str, Scans]:
    """Noise in the sizes of BreastMNIST's splits."""
    rng = np.random.default_rng(0)
    made = {}
    for name, n in COUNTS.items():
        ids = np.array([f"{name}{i}" for i in range(n)])
        x = torch.from_numpy(rng.normal(size=(n, 1, 28, 28)).astype(np.float32))
        made[name] = Scans(x, np.arange(n) % 2, ids, ids)
    return made


class OneByOne(Dataset[tuple[Tensor, int]]):
    """Each image read, scaled and shifted by itself."""

    def __init__(self, scans: Scans, *, change: bool) -> None:
        self.scans, self.change = scans, change

    def __len__(self) -> int:
        return len(self.scans)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        x = (self.scans.x[i] - 0.5) / 0.5
        if self.change:
            shift = torch.randint(-2, 3, (2,)).tolist()
            x = torch.roll(functional.pad(x, (2, 2, 2, 2)), shift, (1, 2))[:, 2:-2, 2:-2]
        return x, int(self.scans.target[i])


def plain(splits: dict[str, Scans]) -> float:
    """Seconds an epoch of the plain loop."""
    device = best_device()
    net = build_monai_net("resnet18", (1, 28, 28), 2).to(device)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    loaders = {
        name: DataLoader(OneByOne(scans, change=name == "train"), BATCH, shuffle=name == "train")
        for name, scans in splits.items()
    }
    started = time.monotonic()
    for _ in range(EPOCHS):
        net.train()
        for x, target in loaders["train"]:
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x.to(device)), target.to(device)).backward()
            optimiser.step()
        net.eval()
        with torch.no_grad():
            for loader in loaders.values():
                for x, _target in loader:
                    net(x.to(device)).softmax(dim=1).cpu()
    return (time.monotonic() - started) / EPOCHS


def ours(splits: dict[str, Scans]) -> float:
    """Seconds an epoch of ``train_network``, which rounds an epoch up to whole batches."""
    net = build_monai_net("resnet18", (1, 28, 28), 2)
    config = TrainConfig(epochs=EPOCHS, min_steps=1, batch_size=BATCH, learning_rate=1e-3)
    shifts = AugmentConfig(shift_px=2)
    started = time.monotonic()
    train_network(net, TASK, splits["train"], splits["val"], config, seed=0, augmentation=shifts)
    seconds = (time.monotonic() - started) / EPOCHS
    steps = -(-COUNTS["train"] // BATCH)
    return seconds * COUNTS["train"] / (steps * BATCH)


def main() -> None:
    """Print a Markdown table."""
    splits = images()
    rows = [(plain(splits), ours(splits)) for _ in range(ROUNDS)]
    print(f"device {best_device()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| round | plain loop, images/s | medcurve, images/s | ratio |\n|---|---|---|---|")
    n = COUNTS["train"]
    for number, (a, b) in enumerate(rows, 1):
        print(f"| {number} | {n / a:.1f} | {n / b:.1f} | {a / b:.2f} |")
    a, b = (median(side) for side in zip(*rows, strict=True))
    print(f"| median | {n / a:.1f} | {n / b:.1f} | {median(x / y for x, y in rows):.2f} |")


if __name__ == "__main__":
    main()
