"""A study that is killed (kill -9) twenty times at random moments against one that is not.

    OMP_NUM_THREADS=1 python benchmarks/study_kills.py

A small phantom cohort; linear, random_features and mlp at four sizes with two seeds. The study runs
in a process of its own, which is killed with all its workers after a random time (seed 0), begun
again, and killed again; after the twentieth kill it may finish. Its results and tables are then
compared with those of a study that nothing disturbed, byte by byte.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

KILLS = 20
SECONDS = (0.2, 12.0)
STUDY = {
    "families": ["linear", "random_features", "mlp"],
    "sizes": [8, 16, 32, "all"],
    "subsets": 4,
    "seeds": 2,
    "resamples": 200,
}
COHORT = {
    "name": "killed",
    "source": {"kind": "phantom", "phantom": {"ndim": 2, "n_patients": 120, "seed": 1}},
    "prep": "phantom2d",
}


def run(*arguments: str) -> subprocess.Popen[bytes]:
    """Start ``medcurve`` in a process group of its own, quietly."""
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


def finish(*arguments: str) -> None:
    """Run ``medcurve`` to its end."""
    if run(*arguments).wait():
        raise SystemExit(f"medcurve {' '.join(arguments)} failed")


def main() -> int:
    """Say how many kills there were, how far each came, and whether the bytes are the same."""
    moments = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "killed.yaml").write_text(yaml.safe_dump(COHORT))
        (place / "study.yaml").write_text(yaml.safe_dump(STUDY))
        data, study = str(place / "killed.yaml"), str(place / "study.yaml")
        for name in ("undisturbed", "disturbed"):
            for stage in ("data", "ingest", "split", "prep"):
                finish(stage, data, "--runs", str(place / name))
        finish("study", study, "--data", data, "--runs", str(place / "undisturbed"))
        out = place / "disturbed" / "killed" / "study-study"
        cells = []
        for _ in range(KILLS):
            process = run("study", study, "--data", data, "--runs", str(place / "disturbed"))
            time.sleep(moments.uniform(*SECONDS))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            cells.append(len(list((out / "cells").glob("*.json"))))
        finish("study", study, "--data", data, "--runs", str(place / "disturbed"))
        whole = place / "undisturbed" / "killed" / "study-study"
        names = [p.name for p in whole.iterdir() if p.suffix in (".csv", ".json")]
        names = sorted({*names} - {"costs.csv", "system.csv", "provenance.json"})  # they hold times
        same = [name for name in names if (whole / name).read_bytes() == (out / name).read_bytes()]
    print(f"{KILLS} kills; cells in the journal after each: {cells}")
    print(f"byte-identical: {', '.join(same)} ({len(same)} of {len(names)} files)")
    return 0 if same == names else 1


if __name__ == "__main__":
    sys.exit(main())
