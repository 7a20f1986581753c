"""The evaluation page in a real browser: nothing runs over, nothing complains."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from browser import BROWSER, NO_BROWSER, WIDTHS, browse, probed

pytestmark = pytest.mark.skipif(BROWSER is None, reason=NO_BROWSER)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_no_wider_than_the_window(evaluated: Path, width: int, tmp_path: Path) -> None:
    told, _ = browse(probed((evaluated / "evaluation.html").read_text(), tmp_path), width)
    window, page, tables = map(int, told.split(","))
    assert window == width
    assert page <= window
    assert tables >= 5


@pytest.mark.parametrize("name", ["evaluation.html", "evaluation_without_scans.html"])
def test_the_console_is_silent(evaluated: Path, name: str, tmp_path: Path) -> None:
    page = shutil.copy(evaluated / name, tmp_path / "page.html")
    _, complaints = browse(Path(page), WIDTHS[0])
    assert complaints == []
