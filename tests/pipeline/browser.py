"""Pages in a real browser, as wide as a phone and as a desk: what they tell, and who complains."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
NO_BROWSER = "no chromium on this machine: install it to check pages in a browser"
WIDTHS = (390, 1100)
# Opens every fold, then tells: width of the window, of the page, number of tables.
PROBE = """<script>addEventListener("load", () => {
  document.querySelectorAll("details").forEach(fold => { fold.open = true; });
  const page = document.documentElement, tables = document.querySelectorAll("table");
  parent.postMessage([innerWidth, page.scrollWidth, tables.length].join(), "*");
});</script>"""
# A browser's own window cannot be as narrow as a phone; a frame in it can.
FRAME = """<script>addEventListener("message", told => {{ document.title = told.data; }});</script>
<title>nothing told</title><iframe src="{name}" width="{width}" height="2000" frameborder="0">
</iframe>"""


def browse(path: Path, width: int) -> tuple[str, list[str]]:
    """What the page tells of itself in a frame of that width, and what the console said."""
    assert BROWSER is not None
    frame = path.parent / "frame.html"
    frame.write_text(FRAME.format(name=path.name, width=width))
    profile = path.parent / "profile"
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--enable-logging=stderr", f"--user-data-dir={profile}"),
        *("--window-size=1300,2000", "--dump-dom", frame.as_uri()),
    ]
    done = subprocess.run(
        [BROWSER, *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "HOME": str(profile)},
    )
    found = re.search(r"<title>(.*)</title>", done.stdout)
    assert found
    return found[1], [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def probed(source: str, folder: Path) -> Path:
    """A copy of a page that measures itself; the policy that forbids scripts is lifted for it."""
    open_to_scripts, count = re.subn(r'<meta http-equiv="Content-Security[^>]*>', "", source)
    assert count == 1
    path = folder / "probed.html"
    path.write_text(open_to_scripts.replace("</body>", f"{PROBE}</body>"))
    return path
