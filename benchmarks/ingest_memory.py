"""Does ingest's memory stay flat? Many small files, one in twenty of them damaged.

    OMP_NUM_THREADS=1 python benchmarks/ingest_memory.py [--files 20000] [--after 1000]

PNG files of 12 x 12 pixels are written and ingested with two decode children. What this process
holds (resident set, as /proc states it) is read after every scan; the growth is that of the
largest value after ``--after`` scans, to the end of the stage, over the value then.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.cohort import CohortConfig
from data_prep.ingest import ingest

BAD_EVERY = 20
PER_FOLDER = 500


def write_files(root: Path, count: int) -> None:
    """Images of two classes, each a patient; every twentieth is cut off."""
    rows = ["scan,patient_id,label"]
    rng = np.random.default_rng(0)
    for number in range(count):
        name = f"{number // PER_FOLDER:03d}/{number:06d}.png"
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 12)).astype(np.uint8)).save(path)
        if number % BAD_EVERY == BAD_EVERY - 1:
            path.write_bytes(path.read_bytes()[:60])
        rows.append(f"{name},P{number:06d},{'ill' if number % 2 else 'well'}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")


def resident_bytes() -> int:
    """Resident set of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def open_files() -> int:
    """File handles of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def main() -> None:
    """Write the files, ingest them, print what was held."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--after", type=int, default=1_000)
    asked = parser.parse_args()
    held: list[int] = []
    handles: list[int] = []

    def watch(done: int, _: int) -> None:
        held.append(resident_bytes())
        if done == asked.after:
            handles.append(open_files())

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_files(place / "raw", asked.files)
        config = CohortConfig.model_validate(
            {
                "name": "many",
                "source": {"kind": "folder", "root": str(place / "raw")},
                "prep": "x",
            }
        )
        started = time.monotonic()
        found = ingest(config, place, place / "out", workers=2, progress=watch)
        seconds = time.monotonic() - started
        held.append(resident_bytes())
    then, most = held[asked.after - 1], max(held[asked.after - 1 :])
    total = found.scans + found.quarantined
    print(f"{found.scans} scans + {found.quarantined} quarantined = {total} files")
    print(f"{seconds:.1f} s, {total / seconds:.0f} files/s")
    print(f"held at {asked.after}: {then / 1e6:.1f} MB, at most after it: {most / 1e6:.1f} MB")
    print(f"growth: {100 * (most / then - 1):.2f} %")
    print(f"open files: {handles[0]} at {asked.after}, {open_files()} at the end")


if __name__ == "__main__":
    main()
