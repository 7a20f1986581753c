"""The report in a real browser, on a phone and on a desk: nothing runs over, nothing complains."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from browser import BROWSER, NO_BROWSER, WIDTHS, browse, probed
from toy_study import in_process, write_store

from data_prep.task import Task
from pipeline.study import compute
from pipeline.study.config import StudyConfig
from pipeline.study.report import write_report
from pipeline.study.run import run_study

pytestmark = pytest.mark.skipif(BROWSER is None, reason=NO_BROWSER)


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
