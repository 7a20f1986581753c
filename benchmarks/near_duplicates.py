"""What the search for near-duplicates finds, and what it takes for one: tables for docs/leaks.md.

    OMP_NUM_THREADS=1 MEDCURVE_DATA=... python benchmarks/near_duplicates.py [--speed]

Of each set 200 scans are copied in each of the ways below, and the copies are looked for among
1,000 of the set; then all scans of different patients are compared with each other. Sets that
cannot be found are left out. ``--speed`` searches 100,000 made-up images in place of that.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_prep.duplicates import near_duplicates
from data_prep.miniature import Planes, miniature
from data_prep.phantom import PhantomConfig, draw_patient
from data_prep.readers.medmnist import find_npz, image_volume, open_npz
from data_prep.volume import Volume

Array = NDArray[np.float64]
Change = Callable[[Array, Volume, np.random.Generator], Array]

COPIES = 200
AMONG = 1000


def gain(x: Array, _: Volume, rng: np.random.Generator) -> Array:
    """Another scanner gain and offset."""
    return x * rng.uniform(0.6, 1.6) + rng.uniform(-0.2, 0.2) * np.ptp(x)


def noise(share: float) -> Change:
    """Gaussian noise of a share of the range."""
    return lambda x, _, rng: x + rng.normal(0, share * np.ptp(x), x.shape)


def eight_bits(x: Array, _: Volume, rng: np.random.Generator) -> Array:
    """Whole grey levels, 80 to 255 of them."""
    return np.round((x - x.min()) / np.ptp(x) * rng.uniform(80, 255))


def jpeg(quality: int) -> Change:
    """Saved as JPEG, slice by slice."""

    def change(x: Array, _: Volume, __: np.random.Generator) -> Array:
        grey = ((x - x.min()) / np.ptp(x) * 255).astype(np.uint8)
        saved = []
        for image in grey.reshape(-1, *grey.shape[-2:]):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "JPEG", quality=quality)
            saved.append(np.asarray(Image.open(buffer), dtype=np.float64))
        return np.reshape(saved, x.shape)

    return change


def shift(along: str) -> Change:
    """Moved by one voxel, the edge repeated: in plane along one axis or both, or across slices."""

    def change(x: Array, volume: Volume, rng: np.random.Generator) -> Array:
        axes = 1 + np.argsort(volume.spacing_mm, kind="stable")
        chosen = {"one": [rng.choice(axes[:2])], "both": axes[:2], "slices": axes[2:]}[along]
        for axis in chosen:
            at = np.arange(x.shape[axis]) - rng.choice([-1, 1])
            x = np.take(x, np.clip(at, 0, x.shape[axis] - 1), axis=axis)
        return x

    return change


def all_of_it(x: Array, volume: Volume, rng: np.random.Generator) -> Array:
    """Gain, offset, shift by one pixel, 2 % noise and 8 bits."""
    for change in (gain, shift("one"), noise(0.02), eight_bits):
        x = change(x, volume, rng)
    return x


CHANGES: dict[str, Change] = {
    "gain, offset": gain,
    "8 bits": eight_bits,
    "noise 3 %": noise(0.03),
    "noise 5 %": noise(0.05),
    "JPEG 75": jpeg(75),
    "JPEG 40": jpeg(40),
    "1 px, one axis": shift("one"),
    "1 px, both axes": shift("both"),
    "1 slice": shift("slices"),
    "all together": all_of_it,
}


def phantoms(ndim: int, patients: int) -> list[Volume]:
    """The first scan of each patient."""
    config = PhantomConfig(ndim=2 if ndim == 2 else 3, n_patients=patients, seed=1)
    return [draw_patient(config, number).scans[0].volume for number in range(patients)]


def medmnist(name: str) -> list[Volume]:
    """All images of a MedMNIST set, each a patient of its own."""
    path = find_npz(name, 28)
    if path is None:
        return []
    images = open_npz(path, name).images
    return [image_volume(image) for array in images.values() for image in array]


def sets() -> Iterator[tuple[str, list[Volume]]]:
    """Name and scans of each set."""
    yield "phantom, 2D", phantoms(2, 1000)
    yield "phantom, 3D", phantoms(3, 400)
    for name in ("breastmnist", "pneumoniamnist_rebuilt", "adrenalmnist3d"):
        yield name, medmnist(name)


def found_copies(
    volumes: Sequence[Volume], planes: Sequence[Planes], change: Change, rng: np.random.Generator
) -> float:
    """Share of changed copies that are found among the scans."""
    changed = [change(v.array.astype(np.float64), v, rng) for v in volumes]
    copies = [
        miniature(Volume(array, volume.affine, volume.has_geometry))
        for array, volume in zip(changed, volumes, strict=True)
    ]
    found = near_duplicates([*planes, *copies], [0] * len(planes) + [1] * len(copies))
    return sum(pair.b == pair.a + len(planes) for pair in found.pairs) / len(copies)


def recall_row(volumes: Sequence[Volume], planes: Sequence[Planes]) -> str:
    """Cells of the first table."""
    rng = np.random.default_rng(1)
    cells = []
    for title, change in CHANGES.items():
        if title == "1 slice" and volumes[0].spatial_ndim == 2:
            cells.append("–")
            continue
        share = found_copies(volumes[:COPIES], planes[:AMONG], change, rng)
        cells.append(f"{100 * share:.1f} %")
    return " | ".join(cells)


def alarm_row(planes: Sequence[Planes]) -> str:
    """Cells of the second table."""
    started = time.monotonic()
    found = near_duplicates(planes, list(range(len(planes))))
    seconds = time.monotonic() - started
    identical = sum(np.array_equal(planes[p.a], planes[p.b]) for p in found.pairs)
    near = len(found.pairs) - identical
    total = len(planes) * (len(planes) - 1) // 2
    return (
        f"{len(planes)} | {total:,} | {found.least_correlation[0]:.4f} | {identical} | {near} | "
        f"{1e6 * near / total:.1f} | {seconds:.1f} s"
    )


def main() -> None:
    """Print both tables."""
    print(f"| set | {' | '.join(CHANGES)} |")
    print(f"|---|{'---:|' * len(CHANGES)}")
    alarms = []
    for name, scans in sets():
        if not scans:
            continue
        order = np.random.default_rng(0).permutation(len(scans))
        volumes = [scans[n] for n in order]
        planes = [miniature(volume) for volume in volumes]
        print(f"| {name} | {recall_row(volumes, planes)} |", flush=True)
        alarms.append(f"| {name} | {alarm_row(planes)} |")
    print("\n| set | scans | pairs | least correlation | identical | near | per million | time |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    print("\n".join(alarms))


def speed(count: int = 100_000) -> None:
    """Search made-up images: smooth noise, in three splits."""
    rng = np.random.default_rng(0)
    planes = rng.integers(0, 256, (count, 1, 32, 32), dtype=np.uint8).astype(np.uint16)
    planes = (planes + np.roll(planes, 1, -1) + np.roll(planes, 1, -2)) // 3
    started = time.monotonic()
    groups = rng.choice(3, count, p=(0.7, 0.1, 0.2)).tolist()
    near_duplicates(list(planes.astype(np.uint8)), groups)
    print(f"{count:,} images in three splits: {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    speed() if "--speed" in sys.argv else main()
