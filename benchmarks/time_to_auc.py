"""BreastMNIST: time to the test AUC published for ResNet-18, against that network's plain training.

    MEDCURVE_DATA=... OMP_NUM_THREADS=2 python benchmarks/time_to_auc.py [FAMILY ...]

The reference is the plain loop of ``training_speed`` for the 100 epochs of the published training:
its epoch is timed over two, and multiplied. Ours is a family's whole fit with its default config
(features, training, choice on validation) and the probabilities of the test images, on the same
images in the same run. AUC is on test, of the model that validation chose; to be reached are 0.901
(ResNet-18 at 28 pixels, MedMNIST v2's official results page) in at most an eighth of the time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch
from training_speed import plain

from data_prep.published import published_scores
from data_prep.readers.medmnist_facts import find_npz
from data_prep.store import Store
from pipeline import stages
from pipeline.dataset import Scans, load_split
from pipeline.families import build_family, load_family_config
from pipeline.metrics import score
from pipeline.workspace import open_workspace

EPOCHS = 100
FAMILIES = ("filterbank", "random_features", "cnn_scratch", "resnet18")
SEED = 0


def prepared(runs: Path) -> Store:
    """BreastMNIST, prepared."""
    workspace = open_workspace(runs, "breastmnist")
    for stage in (stages.ingest_stage, stages.split_stage, stages.prep_stage):
        stage(workspace, 2)
    return Store.open(workspace.store)


def ours(name: str, store: Store, splits: dict[str, Scans]) -> tuple[float, float]:
    """Seconds of a fit with its test probabilities, and the test AUC."""
    started = time.monotonic()
    config = load_family_config(name)
    family = build_family(config, store.task, splits["train"].scan_shape, SEED)
    ready = {name: scans.with_x(family.prepare(scans.x)) for name, scans in splits.items()}
    family.fit(ready["train"], ready["val"])
    probability = family.predict_proba(ready["test"].x)
    seconds = time.monotonic() - started
    return seconds, score(store.task, ready["test"].target, probability)["auc"]


def main() -> int:
    """Print a Markdown table."""
    if find_npz("breastmnist") is None:
        print("left out: BreastMNIST is not here (set MEDCURVE_DATA)")
        return 0
    published = {one.method: one.auc for one in published_scores("breastmnist")}["resnet18_28"]
    with tempfile.TemporaryDirectory() as folder:
        store = prepared(Path(folder))
        splits = {name: load_split(store, name) for name in ("train", "val", "test")}
    reference = EPOCHS * plain(splits)
    print(f"\n{torch.get_num_threads()} threads, torch {torch.__version__}, seed {SEED}")
    print(f"reference: {EPOCHS} epochs of the plain loop, {reference:.0f} s\n")
    print(f"| family | test AUC | at least {published} | seconds | reference / ours |")
    print("|---|---|---|---|---|")
    for name in sys.argv[1:] or FAMILIES:
        seconds, auc = ours(name, store, splits)
        reached = "yes" if auc >= published else "no"
        shown = f"{auc:.3f} | {reached} | {seconds:.1f} | {reference / seconds:.0f}"
        print(f"| {name} | {shown} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
