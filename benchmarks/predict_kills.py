"""A batch that is killed (kill -9) twenty times at random moments against one that is not.

    OMP_NUM_THREADS=1 python benchmarks/predict_kills.py [--scans 500] [--kills 20]

Volumes of 24 x 22 x 20 as .nii.gz are predicted by ``medcurve predict`` with its gallery. The
command runs in a process group of its own. From when it begins to write, beside where its output is
to stand, a random share (seed 0) of the time passes that an undisturbed run takes until its output
stands, and a tenth more; then it is killed with all its processes, and begun again. After each kill
the output folder must be absent or whole; where it is whole it is taken away. After the last kill
the batch may finish: its files are then compared with those of a run that nothing disturbed, byte
by byte, and nothing may be left beside them. Only ``provenance.json``, which names the commit of
the code, is not looked at. Leave the code alone while this runs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _batches import model, write_niftis

PREP = {
    "orientation": "RAS",
    "spacing_mm": None,
    "shape": (12, 12, 12),
    "intensity": {"kind": "z_score"},
    "channels": 1,
}


def start(place: Path, out: str) -> subprocess.Popen[bytes]:
    """Start ``medcurve predict`` in a process group of its own, quietly."""
    names = [str(place / name) for name in ("model", "scans")]
    command = [sys.executable, "-m", "pipeline", "predict", *names, "--out", str(place / out)]
    command += ["--runs", str(place / "runs"), "--workers", "2"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


def begin(place: Path, out: str) -> subprocess.Popen[bytes]:
    """Start a batch, and wait until it writes (``data_prep.stage.new_stage``)."""
    process = start(place, out)
    while process.poll() is None and not any(place.glob(f".{out}.{process.pid}.*")):
        time.sleep(0.005)
    return process


def content(folder: Path) -> dict[str, bytes]:
    """Files of a batch, provenance left out."""
    files = (path for path in folder.rglob("*") if path.name != "provenance.json")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files if p.is_file()}


def main() -> int:
    """Say how many kills there were, when, and whether the bytes are the same."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scans", type=int, default=500)
    parser.add_argument("--kills", type=int, default=20)
    asked = parser.parse_args()
    moments = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        model(place / "model", PREP, {"family": "linear", "params": {}})
        write_niftis(place / "scans", asked.scans, (24, 22, 20))
        undisturbed = begin(place, "undisturbed")
        began = time.monotonic()
        while undisturbed.poll() is None and not (place / "undisturbed").exists():
            time.sleep(0.005)
        seconds = time.monotonic() - began
        if undisturbed.wait():
            raise SystemExit("medcurve predict failed")
        whole = content(place / "undisturbed")
        out = place / "disturbed"
        finished = halves = writing = 0
        for _ in range(asked.kills):
            process = begin(place, "disturbed")
            time.sleep(moments.uniform(0.0, 1.1) * seconds)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            writing += any(place.glob(f".disturbed.{process.pid}.*"))
            if out.exists():
                finished += 1
                halves += content(out) != whole
                shutil.rmtree(out)
        if start(place, "disturbed").wait():
            raise SystemExit("medcurve predict failed")
        found = content(out)
        left = [path.name for path in place.glob(".disturbed*")]
    same = [name for name in whole if found.get(name) == whole[name]]
    print(f"{asked.scans} scans, written in {seconds:.1f} s; {asked.kills} kills")
    print(f"{writing} kills broke off what was being written")
    print(f"output after a kill: {finished} times whole, {halves} times half, else absent")
    print(f"byte-identical in the end: {', '.join(same)} ({len(same)} of {len(whole)} files)")
    print(f"left beside them: {', '.join(left) or 'nothing'}")
    return int(halves > 0 or found != whole or bool(left))


if __name__ == "__main__":
    sys.exit(main())
