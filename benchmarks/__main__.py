"""``make bench``: every measurement in turn, each against its reference in the same run.

    python -m benchmarks [NAME ...]

Each module here is a script that prints a markdown table and says in its docstring what it
measures. Those that read real data leave it out, saying so, where MEDCURVE_DATA is not set.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main() -> int:
    """Run the benchmarks named on the command line, else all of them."""
    known = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    unknown = [name for name in sys.argv[1:] if name not in known]
    if unknown:
        print(f"no benchmark '{unknown[0]}'; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    failed = []
    for name in sys.argv[1:] or known:
        print(f"\n## {name}\n", flush=True)
        started = time.monotonic()
        done = subprocess.run([sys.executable, FOLDER / f"{name}.py"], check=False)
        print(f"\n({time.monotonic() - started:.0f} s)", flush=True)
        if done.returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
