"""How well scans that do not look like the training scans are found: tables for docs/shift.md.

    OMP_NUM_THREADS=1 MEDCURVE_DATA=... python benchmarks/shift_detection.py [FAMILY ...]

A family (default: linear and cnn_scratch) is fitted on phantoms of one scanner, MR or CT; then new
patients are changed as scanners, headers and people change scans. AUROC is of the shift score,
changed patients against other patients who are not changed. Then two MedMNIST sets, each shown to a
model of the other; they are left out where they cannot be found. False alarms are counted on test
scans, and over many divisions of validation and test into held-out scans and new ones.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from data_prep.config import CONFIG_ROOT, read_config
from data_prep.geometry import reorient
from data_prep.phantom import PhantomConfig, draw_patient
from data_prep.phantom_render import Anatomy, Ellipsoid, render
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.readers.medmnist import find_npz, image_volume, open_npz
from data_prep.scan_look import ScanLook, look_at
from data_prep.task import Task
from data_prep.volume import Volume
from pipeline.dataset import Scans
from pipeline.families import FamilyConfig, build_family
from pipeline.families.base import Family
from pipeline.shifting import misread
from pipeline.trust.shift_fit import fit_shift_reference
from pipeline.trust.shift_reference import ShiftReference, ShiftScore

FALSE_ALARMS: Final = 0.05
TRAIN, HELD_OUT, TEST = 240, 160, 200  # phantom patients, one scan each
MOST_IMAGES: Final = 500  # of a split of a MedMNIST set
DIVISIONS: Final = 100

FAMILIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "linear": {},
    "random_features": {"filters": 96, "sizes": (3, 5)},
    "cnn_scratch": {"widths": (8, 16, 32), "train": {"epochs": 6, "min_steps": 60}},
}
HEAD: Final = (
    Ellipsoid((0.0, 0.0, 0.0), (32.0, 37.0, 38.0), 1.5),
    Ellipsoid((0.0, 0.0, 0.0), (28.0, 33.0, 34.0), 1.0),
    Ellipsoid((6.0, 0.0, 4.0), (4.0, 12.0, 7.0), 0.7),
    Ellipsoid((-6.0, 0.0, 4.0), (4.0, 12.0, 7.0), 0.7),
)
Change = Callable[[Volume, np.random.Generator], Volume]


@dataclass(frozen=True, eq=False)
class Split:
    """Volumes with a class each."""

    volumes: Sequence[Volume]
    target: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Cohort:
    """Scans of one kind, divided."""

    name: str
    prep: PrepConfig
    train: Split
    val: Split
    test: Split


@dataclass(frozen=True, eq=False)
class Seen:
    """What predict hands to a reference."""

    looks: Sequence[ScanLook]
    features: NDArray[np.float32]

    def take(self, chosen: NDArray[np.intp]) -> Seen:
        """The scans at these positions."""
        return Seen([self.looks[n] for n in chosen], self.features[chosen])


@dataclass(frozen=True, eq=False)
class Model:
    """A fitted family with its recipe and what it holds of its cohort."""

    recipe: PrepRecipe
    family: Family[Any]

    def see(self, volumes: Sequence[Volume]) -> Seen:
        """Look at scans."""
        arrays = [self.recipe.apply(volume) for volume in volumes]
        looks = [look_at(v, a) for v, a in zip(volumes, arrays, strict=True)]
        return Seen(looks, self.family.features(self.family.prepare(_stack(arrays))))


def main() -> int:
    """Print the tables."""
    for family in sys.argv[1:] or ("linear", "cnn_scratch"):
        for modality in ("MR", "CT"):
            cohort, changed = phantoms(modality)
            rng = np.random.default_rng(5)
            shifted = {
                name: [change(volume, rng) for volume in changed]
                for name, change in changes(modality).items()
            }
            show(family, cohort, shifted)
        sets = [medmnist(name) for name in ("breastmnist", "pneumoniamnist_rebuilt")]
        for own, other in (sets, sets[::-1]):
            if own and other:
                show(family, own, {f"{other.name} scans": other.test.volumes})
    return 0


def show(family: str, cohort: Cohort, shifted: Mapping[str, Sequence[Volume]]) -> None:
    """One table: a model of ``cohort``, and scans that are shifted in several ways."""
    started = time.process_time()
    model = fitted(family, cohort)
    train, val, test = (model.see(s.volumes) for s in (cohort.train, cohort.val, cohort.test))
    reference = reference_of(train, val)
    normal = reference.score(test.looks, test.features)
    print(f"\n### {cohort.name}, model {family}\n")
    columns = ("changed", "AUROC", *(f"AUROC {part}" for part in reference.parts), "flagged")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for name, volumes in shifted.items():
        seen = model.see(volumes)
        found = reference.score(seen.looks, seen.features)
        areas = [auroc([s.score for s in normal], [s.score for s in found])] + [
            auroc([s.parts[part] for s in normal], [s.parts[part] for s in found])
            for part in reference.parts
        ]
        cells = [f"{area:.3f}" for area in areas]
        print(f"| {name} | {' | '.join(cells)} | {share(found):.1%} |", flush=True)
    alarms(reference, normal, train, val, test)
    size = sum(array.nbytes for array in reference.state().values())
    print(f"\n(arrays: {size / 1000:.0f} kB; {time.process_time() - started:.0f} s of CPU)")


def alarms(
    reference: ShiftReference, normal: Sequence[ShiftScore], train: Seen, val: Seen, test: Seen
) -> None:
    """False alarms on test scans, and over many divisions of what took no part in training."""
    flags = sum(score.flagged for score in normal)
    exact = stats.binomtest(flags, len(normal)).proportion_ci()
    low, high = reference.rate_interval
    print(
        f"\nFalse alarms, {reference.rate:.1%} stated ({low:.1%} to {high:.1%} for these "
        f"{len(val.looks)} held-out scans): {flags} of {len(normal)} test scans, "
        f"{flags / len(normal):.1%} ({exact.low:.1%} to {exact.high:.1%})."
    )
    both = Seen([*val.looks, *test.looks], np.vstack([val.features, test.features]))
    rates = []
    for seed in range(DIVISIONS):
        order = np.random.default_rng(seed).permutation(len(both.looks))
        held, new = both.take(order[: len(val.looks)]), both.take(order[len(val.looks) :])
        fresh = reference_of(train, held)
        rates.append(share(fresh.score(new.looks, new.features)))
    print(f"Over {DIVISIONS} divisions of validation and test: {np.mean(rates):.2%} on average.")


def share(scores: Sequence[ShiftScore]) -> float:
    """Of them that are flagged."""
    return float(np.mean([score.flagged for score in scores]))


def auroc(normal: Sequence[float], shifted: Sequence[float]) -> float:
    """Area under the curve of scores that ought to be higher for shifted scans."""
    truth = np.repeat([0, 1], (len(normal), len(shifted)))
    return float(roc_auc_score(truth, [*normal, *shifted]))


def reference_of(train: Seen, held: Seen) -> ShiftReference:
    """At the stated rate."""
    return fit_shift_reference(train.looks, train.features, held.looks, held.features, FALSE_ALARMS)


def fitted(family: str, cohort: Cohort) -> Model:
    """A family trained on a cohort's training scans."""
    recipe = PrepRecipe.fit(cohort.prep, cohort.train.volumes)
    task = Task(kind="binary", class_names=("no", "yes"))
    config = FamilyConfig.model_validate({"family": family, "params": FAMILIES[family]})
    model = build_family(config, task, recipe.scan_shape, 0)
    train, val = (
        Scans(
            model.prepare(_stack([recipe.apply(volume) for volume in split.volumes])),
            split.target,
            np.arange(len(split.target)).astype(str),
            np.arange(len(split.target)).astype(str),
        )
        for split in (cohort.train, cohort.val)
    )
    model.fit(train, val)
    return Model(recipe, model)


@cache
def phantoms(modality: Any) -> tuple[Cohort, list[Volume]]:
    """Patients of one scanner, whose gain drifts by a tenth, and others to be changed."""
    n = TRAIN + HELD_OUT + 2 * TEST
    config = PhantomConfig(n_patients=n, modality=modality, gain=(0.9, 1.1), seed=11)
    patients = [draw_patient(config, number) for number in range(n)]
    volumes = [patient.scans[0].volume for patient in patients]
    malignant = config.law.class_names[-1]
    target = np.array([int(patient.label == malignant) for patient in patients])
    ends = np.cumsum([TRAIN, HELD_OUT, TEST])
    parts = [
        Split(volumes[start:end], target[start:end])
        for start, end in zip((0, *ends), ends, strict=False)
    ]
    prep = read_config(CONFIG_ROOT / "prep" / "phantom3d.yaml", PrepConfig)
    return Cohort(f"{modality} phantoms", prep, *parts), volumes[ends[-1] :]


@cache
def medmnist(name: str) -> Cohort | None:
    """A set as it comes divided, or None where it is not there."""
    path = find_npz(name, 28)
    if path is None:
        return None
    arrays = open_npz(path, name)
    parts = [
        Split(
            [image_volume(image) for image in arrays.images[split][:MOST_IMAGES]],
            arrays.labels[split][:MOST_IMAGES, 0].astype(np.int64),
        )
        for split in ("train", "val", "test")
    ]
    prep = read_config(CONFIG_ROOT / "prep" / "medmnist28.yaml", PrepConfig)
    return Cohort(name, prep, *parts)


def changes(modality: str) -> dict[str, Change]:
    """Name -> what happens to a scan."""
    air = -1000.0 if modality == "CT" else 0.0
    return {
        "gain x 1.5": lambda v, _: _with(v, (v.array - air) * 1.5 + air),
        "gain x 0.67": lambda v, _: _with(v, (v.array - air) * 0.67 + air),
        "wrong orientation: one axis reversed": _one_axis_reversed,
        "wrong orientation: left and right exchanged": _left_is_right,
        "wrong orientation: two axes exchanged": lambda v, _: _with(v, misread(v.array, 1)),
        "wrong orientation: quarter turn": lambda v, _: _with(v, misread(v.array, 4)),
        "missing rescale": _not_rescaled,
        "other anatomy (a head)": _head,
    }


def _with(volume: Volume, array: NDArray[Any]) -> Volume:
    return replace(volume, array=np.ascontiguousarray(array))


def _one_axis_reversed(volume: Volume, rng: np.random.Generator) -> Volume:
    """The header says of one axis that it runs the other way."""
    return _with(volume, np.flip(volume.array, 1 + int(rng.integers(3))))


def _left_is_right(volume: Volume, _: np.random.Generator) -> Volume:
    axis = next(n for n, letter in enumerate(volume.orientation) if letter in "LR")
    return _with(volume, np.flip(volume.array, 1 + axis))


def _not_rescaled(volume: Volume, _: np.random.Generator) -> Volume:
    """Stored values: of CT 1024 above Hounsfield units, of MR the full range of 12 bits."""
    if volume.modality == "CT" or volume.array.min() < -500:
        return _with(volume, volume.array + 1024)
    low, high = float(volume.array.min()), float(volume.array.max())
    return _with(volume, np.rint((volume.array - low) * (4095 / (high - low))))


def _head(volume: Volume, rng: np.random.Generator) -> Volume:
    """Another part of the body under the same scanner, field of view and noise."""
    upright = reorient(volume, "RAS")
    axes = [
        upright.affine[n, 3] + np.arange(edge) * upright.affine[n, n]
        for n, edge in enumerate(upright.array.shape[1:])
    ]
    size = 1 + 0.06 * rng.normal(size=3)
    organs = tuple(
        Ellipsoid(
            tuple(np.array(organ.center_mm) * size),
            tuple(np.array(organ.semi_axes_mm) * size),
            organ.intensity,
        )
        for organ in HEAD
    )
    image = render(Anatomy(organs, (), np.array([[0.2, 0.1, 0.1, 0.0]]), 0.03), axes)
    image += 0.03 * rng.normal(size=image.shape)
    low, soft = np.quantile(upright.array, 0.02), np.quantile(upright.array, 0.8)
    drawn = replace(upright, array=(low + (soft - low) * image)[np.newaxis])
    return reorient(drawn, volume.orientation)


def _stack(arrays: Sequence[NDArray[np.float32]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays))


if __name__ == "__main__":
    sys.exit(main())
