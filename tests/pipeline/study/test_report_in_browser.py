"""The report in a real browser, on a phone and on a desk: nothing runs over, nothing complains."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from toy_study import in_process, write_store

from data_prep.task import Task
from pipeline.study import compute
from pipeline.study.config import StudyConfig
from pipeline.study.report import write_report
from pipeline.study.run import run_study

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
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

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium on this machine: install it to check pages in a browser"
)


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


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine families with long names, five sizes, five classes."""
    root = tmp_path_factory.mktemp("browser")
    families = []
    for number in range(9):
        path = root / f"family_with_a_long_name_{number}.yaml"
        path.write_text(f"family: linear\nparams: {{penalties: [{number + 1}.0]}}\n")
        families.append(str(path))
    names = tuple(f"a class with a name that goes on and on {n}" for n in range(5))
    config = StudyConfig(
        families=tuple(families),
        sizes=(10, 15, 20, 30, "all"),
        subsets=2,
        resamples=100,
        targets=(0.75,),
    )
    task = Task(kind="multi-class", class_names=names)
    store = write_store(root / "store", patients=(40, 10, 20), task=task)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute, "run_local", in_process)
        run_study(config, store, root / "out", cohort="a cohort with a name")
    return write_report(root / "out")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_no_wider_than_the_window_with_every_fold_open(
    report: Path, width: int, tmp_path: Path
) -> None:
    told, _ = browse(probed(report.read_text(), tmp_path), width)
    window, page, tables = map(int, told.split(","))
    assert window == width
    assert page <= window
    assert tables >= 10


@pytest.mark.parametrize("width", WIDTHS)
def test_the_console_is_silent(report: Path, width: int, tmp_path: Path) -> None:
    page = shutil.copy(report, tmp_path / "report.html")
    _, complaints = browse(Path(page), width)
    assert complaints == []


def test_the_check_would_see_a_page_that_runs_over_or_complains(tmp_path: Path) -> None:
    policy = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
    body = '<body><div style="width:900px">x</div>{}</body>'
    forbidden = '<img src="https://example.invalid/x.png">'
    page = tmp_path / "wide.html"
    page.write_text(f"<html><head>{policy}</head>{body.format(forbidden)}</html>")
    assert browse(page, WIDTHS[0])[1]
    page.write_text(f"<html><head>{policy}</head>{body.format('')}</html>")
    told, _ = browse(probed(page.read_text(), tmp_path), WIDTHS[0])
    window, wide, _ = map(int, told.split(","))
    assert wide >= 900 > window
