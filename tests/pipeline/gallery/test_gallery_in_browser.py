"""The gallery in headless Chromium: clicked, typed in, scrolled; by mouse and by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from batches import MAP, bad, ok, write_batch
from browser import BROWSER, NO_BROWSER
from devtools import Page, browser_page

from data_prep.task import Task

HOSTILE = "evil\u202egnp/<img src=x onerror=document.title='owned'>\n.png"
MANY = 1500
ROWS = [
    ok("a/sure.png", 0.99),
    ok("b/unsure.png", 0.55, "unlike_training", shift=9.0),
    ok("c/healthy.png", 0.05, "lossy"),
    ok("d/open.png", 0.7, "lossy", "unlike_training"),
    bad("e/empty.png"),
    ok(HOSTILE, 0.3),
]
NAMES = [row.scan for row in ROWS]

pytestmark = pytest.mark.skipif(BROWSER is None, reason=NO_BROWSER)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two pages: of the six scans above, and of many."""
    folder = tmp_path_factory.mktemp("galleries")
    many = [
        ok(f"{n:05}.png", (n % 100) / 100) if n % 50 else bad(f"{n:05}.png") for n in range(MANY)
    ]
    maps = {NAMES[0]: MAP, NAMES[1]: b""}
    return write_batch(folder / "few", ROWS, maps=maps), write_batch(folder / "many", many)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser_page(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def few(browser: Page, written: tuple[Path, Path]) -> Iterator[Page]:
    """The page of six scans, which must not complain of anything, whatever is done to it."""
    browser.open(written[0])
    yield browser
    assert browser.complaints() == []
    assert browser.run("document.title").startswith("Gallery: 6 scans")


def shown(page: Page) -> list[str]:
    """Names of the scans that the grid shows, in its order."""
    return page.run("shown.map(row => row.scan)")


def in_use(page: Page) -> str:
    """What a screen reader says of the scan that has the focus."""
    return page.run("document.activeElement.getAttribute('aria-label') ?? ''")


def told(page: Page) -> str:
    return page.run("document.getElementById('told').textContent")


def test_what_is_not_certain_is_not_shown_as_if_it_were(few: Page) -> None:
    given = [0.999955, 1.0, 0.9994, 0.0004, 0.0]
    told = [few.run(f"shownP({p})") for p in given]
    assert told == [">0.999", "1.000", "0.999", "<0.001", "0.000"]
    assert few.run("shownP(0.99999, 4)") == ">0.9999"


def test_scans_are_drawn_with_picture_bar_and_flags(few: Page) -> None:
    assert shown(few) == NAMES
    few.wait("[...document.images].length === 6 && [...document.images].every(i => i.complete)")
    assert few.run("[...document.images].every(i => i.naturalWidth > 0)")
    tile = "document.querySelector('[data-place=\"1\"]')"
    assert few.run(f"{tile}.querySelector('.bar i').style.width") == "55%"
    assert "unlike training" in few.run(f"{tile}.textContent")
    assert "file.empty" in few.run("document.querySelector('[data-place=\"4\"]').textContent")
    widths = few.run("[document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1]


def test_tiles_are_wide_enough_for_class_names(browser: Page, tmp_path: Path) -> None:
    task = Task(kind="binary", class_names=("benign finding", "malignant finding"))
    row = replace(
        ok("a.png", 0.99), predicted=("malignant finding",), within=("malignant finding",)
    )
    browser.open(write_batch(tmp_path / "page", [row], task), width=1000)
    cut = "[...document.querySelectorAll('.answer b')].map(b => b.scrollWidth - b.clientWidth)"
    assert browser.run(cut) == [0]


@pytest.mark.parametrize(
    ("field", "value", "left"),
    [
        ("#status", "quarantined", [4]),
        ("#status", "ok", [0, 1, 2, 3, 5]),
        ("#class", "lesion", [0, 1, 3]),
        ("#set", "one", [0, 2]),
        ("#set", "many", [1, 3, 5]),
        ("#flag", "+", [1, 2, 3]),
        ("#flag", "-", [0, 4, 5]),
        ("#flag", "lossy", [2, 3]),
    ],
)
def test_filters_leave_what_they_name(few: Page, field: str, value: str, left: list[int]) -> None:
    few.click("#filters summary")
    few.choose(field, value)
    assert shown(few) == [NAMES[n] for n in left]
    assert told(few) == f"{len(left)} of 6 scans"
    assert few.run("document.querySelector('#filters summary').textContent") == "Filter (1)"
    few.click("#clear")
    few.wait("shown.length === 6")


@pytest.mark.parametrize(
    ("order", "first"),
    [
        ("unsure", [1, 3, 5]),
        ("sure", [0, 2, 3]),
        ("high", [0, 2, 3]),
        ("low", [1, 3, 5]),
        ("shift", [1, 0, 2]),
    ],
)
def test_orders(few: Page, order: str, first: list[int]) -> None:
    few.choose("#sort", order)
    # Of two that are alike (0.7 and 0.3 are as sure as each other) the order of names decides.
    assert shown(few)[: len(first)] == [NAMES[n] for n in first]
    assert shown(few)[-1] == NAMES[4]  # quarantined: there is nothing to put in order


def test_a_range_of_the_probability_of_a_class(few: Page) -> None:
    few.click("#filters summary")
    few.choose("#of", "1")
    few.click("#from")
    few.type("0.3")
    few.click("#to")
    few.type("0.7")
    assert shown(few) == [NAMES[n] for n in (1, 3, 5)]


def test_search_by_key_finds_names_flags_and_reasons(few: Page) -> None:
    few.press("/")
    few.type("LOSSY open")
    assert shown(few) == [NAMES[3]]
    few.press("Escape")
    assert in_use(few).startswith("d/open.png")
    few.press("/")
    few.type(" nowhere")
    assert few.run("!document.getElementById('empty').hidden")
    few.click("#clear-too")
    few.wait("shown.length === 6")


def test_keys_walk_enlarge_and_come_back(few: Page) -> None:
    few.run("document.querySelector('[data-place=\"0\"]').focus()")
    few.press("ArrowRight")
    assert in_use(few).startswith("b/unsure.png: lesion, probability of lesion 0.550")
    few.press("Enter")
    assert few.run("detail.open")
    content = "detail.textContent"
    assert few.run("document.getElementById('detail-name').textContent") == "b/unsure.png"
    assert "do not rely on the answer" in few.run(content)
    assert "2 of 6" in few.run(content)
    few.press("ArrowRight", 3)
    assert "file.empty" in few.run(content) and "5 of 6" in few.run(content)
    few.click("#detail [aria-label='next scan']")
    assert "6 of 6" in few.run(content)
    few.press("Escape")
    assert not few.run("detail.open")
    few.wait("document.activeElement.dataset.place === '5'")
    few.press("Home")
    assert in_use(few).startswith("a/sure.png")
    few.press("?")
    assert few.run("document.getElementById('keys').open")
    few.press("Escape")
    assert not few.run("document.getElementById('keys').open")


def test_maps_lie_on_their_scans_until_they_are_hidden(few: Page) -> None:
    seen = "getComputedStyle(document.querySelector('#grid .over')).display !== 'none'"
    assert few.run("document.querySelectorAll('#grid .over').length") == 1
    assert few.run("document.querySelector('#grid .over').closest('.scan').dataset.place") == "0"
    assert few.run(seen)
    few.press("o")
    assert not few.run(seen)
    assert few.run("document.getElementById('map').getAttribute('aria-pressed')") == "false"
    few.click("#map")
    assert few.run(seen)
    few.click('[data-place="0"]')
    assert "orange speaks for, violet against lesion" in few.run("detail.textContent")
    few.press("o")  # also while a scan is enlarged
    assert not few.run(seen)
    few.press("ArrowRight")
    assert "nothing in this scan speaks for lesion" in few.run("detail.textContent")
    few.press("ArrowRight")
    assert "Occlusion" not in few.run("detail.textContent")


def test_a_hostile_name_is_shown_as_it_is_written(few: Page) -> None:
    few.click('[data-place="5"]')
    name = few.run("document.getElementById('detail-name').textContent")
    assert name == HOSTILE.replace("\u202e", "\\u202e").replace("\n", "\\u000a")
    assert few.run("document.querySelectorAll('[src=x]').length") == 0
    few.click("#detail [aria-label=close]")
    assert not few.run("detail.open")


def test_only_what_is_in_view_is_in_the_document(browser: Page, written: tuple[Path, Path]) -> None:
    browser.open(written[1])
    assert told(browser) == f"{MANY:,} scans"
    assert browser.run("document.querySelectorAll('.scan').length") < 80
    browser.run("document.querySelector('[data-place=\"0\"]').focus()")
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="End", modifiers=2, code="End")
    assert in_use(browser).startswith(f"{MANY - 1:05}.png")
    # The last block of pictures is cut up when it is needed.
    browser.wait("cellAt(active).querySelector('img').naturalWidth > 0")
    assert browser.run("document.querySelectorAll('.scan').length") < 100
    assert browser.run("grid.scrollTop > 0")
    browser.choose("#sort", "low")
    assert in_use(browser).startswith(f"{MANY - 1:05}.png")  # the same scan keeps the focus
    browser.press("PageDown")
    assert browser.run("Number(space.getAttribute('aria-rowcount'))") > 100
    assert browser.complaints() == []


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone(browser: Page, written: tuple[Path, Path], *, dark: bool) -> None:
    browser.open(written[0], 400, 800, dark=dark)
    assert browser.run("columns") == 2
    assert browser.run("document.documentElement.scrollWidth") <= 400
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(21, 21, 23)" if dark else "rgb(255, 255, 255)")
    browser.click('[data-place="0"]')
    assert browser.run("detail.getBoundingClientRect().right") <= 400
    assert browser.run("detail.scrollWidth <= detail.clientWidth")
    assert browser.complaints() == []
