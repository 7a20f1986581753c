"""Does ``predict``'s memory stay flat? Batches of many small scans against a batch of few.

    OMP_NUM_THREADS=1 python benchmarks/predict_memory.py [--few 1000] [--many 20000]

PNG files of 12 x 12 pixels, one in twenty of them damaged, are predicted with two decode processes
by a process of its own for each batch. What counts is the largest resident set that the kernel has
seen of it (VmHWM of proc(5)) once the tables stand.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from _batches import model
from PIL import Image

BAD_EVERY = 20
PER_FOLDER = 500
PREP = {
    "orientation": "as stored",
    "spacing_mm": None,
    "shape": (12, 12),
    "intensity": {"kind": "z_score"},
    "channels": 1,
}


def write_files(root: Path, count: int) -> None:
    """Images of noise; every twentieth is cut off."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = root / f"{number // PER_FOLDER:03d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 12)).astype(np.uint8)).save(path)
        if number % BAD_EVERY == BAD_EVERY - 1:
            path.write_bytes(path.read_bytes()[:60])


def run(package: Path, scans: Path, out: Path) -> None:
    """Predict one batch in this process, and print what it took."""
    from pipeline.serving.inference import predict
    from pipeline.serving.package import load_package

    found = predict(load_package(package), [scans], out, workers=2)
    status = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(found.ok, found.quarantined, peak, f"{found.scans_per_second:.0f}")


def main() -> int:
    """Write the files, predict them, print a row for each batch and the growth."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--few", type=int, default=1_000)
    parser.add_argument("--many", type=int, default=20_000)
    asked = parser.parse_args()
    print("| scans | ok | quarantined | scans/s | peak MB |")
    print("|---|---|---|---|---|")
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        model(place / "model", PREP, {"family": "linear", "params": {}})
        for count in (asked.few, asked.many):
            write_files(place / f"{count}", count)
            names = [str(place / name) for name in ("model", f"{count}", f"out {count}")]
            command = [sys.executable, __file__, "--run", *names]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            ok, bad, peak, rate = done.stdout.split()
            peaks.append(int(peak))
            row = (count, ok, bad, rate, f"{int(peak) / 1024:.1f}")
            print(f"| {' | '.join(map(str, row))} |", flush=True)
    growth = peaks[1] / peaks[0] - 1
    print(f"\ngrowth: {growth:.2%}")
    return int(growth > 0.05)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run(*map(Path, sys.argv[2:5]))
    else:
        sys.exit(main())
