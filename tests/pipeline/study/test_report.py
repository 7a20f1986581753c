"""The report says what the results say, by itself, of nobody, at any width."""

from __future__ import annotations

import base64
import csv
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from finished_study import write_toy_study
from toy_study import in_process, write_store

from data_prep.files import read_json, write_csv, write_json
from data_prep.task import Task
from pipeline.study import compute
from pipeline.study.config import StudyConfig
from pipeline.study.errors import StudyError
from pipeline.study.interim import INTERIM
from pipeline.study.report import FIGURES, write_report
from pipeline.study.run import run_study

VOID = {"meta", "br", "img", "link", "input", "hr"}
SECTIONS = (
    "Score against number of patients",
    "What limits each family?",
    "Is one family better than another?",
    "Do the probabilities mean what they say?",
    "What is taken for what?",
    "Score against cost",
    "Which scans are hard?",
    "The other metrics",
)
FILES = (
    *("curves.csv", "forecast.csv", "decomposition.csv", "verdicts.csv", "comparisons.csv"),
    *("reliability.csv", "confusion.csv", "difficulty.csv", "costs.csv"),
)
ENDS = ("value", "low", "high")


class Page(HTMLParser):
    """Checks that tags are balanced and collects text, addresses, tables and downloads."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str] = []
        self.downloads: dict[str, str] = {}
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [v or "" for name, v in attrs if name in ("src", "href", "xlink:href")]
        found = dict(attrs)
        if tag == "figure":
            self.labels.append(found.get("aria-label") or "")
        if "download" in found:
            self.downloads[found["download"] or ""] = found["href"] or ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [v or "" for name, v in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if "table" in self.open:
            self.cells.append(data.strip())


def page_of(out: Path, place: Path | None = None) -> tuple[Page, str]:
    source = write_report(out, place).read_text()
    page = Page()
    page.feed(source)
    assert page.open == []
    return page, re.sub(r"\s+", " ", " ".join(page.text))


def titles(text: str) -> list[str]:
    return [title for title in SECTIONS if title in text]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("family") / "strict $x_$.yaml"
    path.write_text("family: linear\nparams: {penalties: [1.0]}\n")
    return str(path)


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.TempPathFactory]:
    """Studies are computed in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute, "run_local", in_process)
        yield tmp_path_factory


@pytest.fixture(scope="module")
def study(computed: pytest.TempPathFactory, strict: str) -> Path:
    """Four sizes, so that there are laws and forecasts."""
    root = computed.mktemp("report")
    config = StudyConfig(
        families=("linear", strict, "prior", "knn"),
        sizes=(6, 10, 16, "all"),
        subsets=2,
        seeds=2,
        resamples=100,
        targets=(0.75,),
    )
    run_study(config, write_store(root / "store"), root / "out", cohort="liver <1>")
    return root / "out"


@pytest.fixture(scope="module")
def written(study: Path) -> tuple[Page, str]:
    """The study's page and its text."""
    return page_of(study)


@pytest.fixture(scope="module")
def little(computed: pytest.TempPathFactory) -> Path:
    """Two families and sizes: a page that is drawn quickly."""
    root = computed.mktemp("little")
    config = StudyConfig(families=("linear", "knn"), sizes=(6, "all"), subsets=2, resamples=100)
    run_study(config, write_store(root / "store"), root / "out", cohort="little")
    return root / "out"


def small_study(computed: pytest.TempPathFactory, task: Task, **fields: Any) -> Path:
    root = computed.mktemp("small")
    settings = {"families": ["linear"], "sizes": ["all"], "subsets": 1, "resamples": 100} | fields
    each = (task.n_classes * n for n in (max(2, 24 // task.n_classes), 1, 2))
    store = write_store(root / "store", patients=tuple(each), task=task, bayes=bool(fields))
    run_study(StudyConfig.model_validate(settings), store, root / "out", cohort="small")
    return root / "out"


def changed(study: Path, tmp_path: Path, **changes: Any) -> Path:
    """The finished study with other results."""
    out = tmp_path / "out"
    out.mkdir()
    for path in [*study.glob("*.csv"), study / "cells"]:
        (out / path.name).symlink_to(path)
    write_json(out / "results.json", read_json(study / "results.json") | changes)
    return out


def test_the_answer_comes_first_and_agrees_with_the_results(
    study: Path, written: tuple[Page, str]
) -> None:
    results = read_json(study / "results.json")
    _, text = written

    places = [text.index(sentence) for sentence in results["sentences"]]
    assert places == sorted(places)
    assert places[-1] < text.index("Score against number of patients")
    assert f"{len(results['sentences']) - 6} more findings" in text
    assert all(caveat in text for caveat in results["caveats"])
    assert titles(text) == list(SECTIONS)


def test_every_number_of_a_figure_is_in_a_table(study: Path, written: tuple[Page, str]) -> None:
    results = read_json(study / "results.json")
    cells = set(written[0].cells)

    def shown(row: dict[str, Any], value: str, sign: str = "") -> bool:
        if row[value] is None:
            return True
        known = row["low"] is not None
        ends = f"[{row['low']:{sign}.3f}, {row['high']:{sign}.3f}]" if known else ""
        return f"{row[value]:{sign}.3f}" in cells and (not known or ends in cells)

    test = [p for p in results["points"] if p["split"] == "test" and p["low"] is not None]
    assert len(test) == 4 * 4 * 5
    assert all(shown(point, "mean") for point in test)
    squared = [
        c for c in results["decomposition"] if c["loss"] == "squared" and not c["class_name"]
    ]
    told = ("bias2", "variance_data", "variance_seed", "total")
    assert all(shown(c, "value") for c in squared if c["term"] in told)
    assert {one["limit"] for one in results["verdicts"]} <= cells
    assert all(shown(one, "observed") for one in results["reliability"])
    assert all(f"{one['predicted']:.3f}" in cells for one in results["reliability"])
    released = results["release"]["cell"]["family"]
    assert all(shown(c, "share") for c in results["confusion"] if c["family"] == released)
    assert all(str(d[k]) in cells for d in results["difficulty"] for k in ("right", "wrong"))
    assert all(shown(one, "value") for one in results["ahead"])
    assert all(shown(pair, "gain", "+") for pair in results["differences"])
    assert all(shown(trend, "gain", "+") for trend in results["trends"])


def test_two_intervals_of_the_brier_score_are_explained_where_they_differ(
    study: Path, written: tuple[Page, str]
) -> None:
    """The one is for other patients than these, the other knows few subsets only roughly."""
    results = read_json(study / "results.json")
    at = {
        (p["family"], p["size"]): p
        for p in results["points"]
        if (p["split"], p["metric"]) == ("test", "brier")
    }
    totals = [
        c
        for c in results["decomposition"]
        if (c["loss"], c["class_name"], c["term"]) == ("squared", "", "total")
    ]
    assert len(totals) == len(at) == 16
    more = []
    for total in totals:
        point = at[total["family"], total["size"]]
        assert total["value"] == pytest.approx(point["mean"])
        more.append((total["high"] - total["low"]) - (point["high"] - point["low"]))
    assert max(more) > 0.01 and min(more) < -0.01
    text = written[1]
    assert "The sum is the mean Brier score, which other tables of this page have as well" in text
    assert "is also for other training patients than these 24" in text
    assert "for other draws from these 24, wider by Student's t where subsets" in text


def test_every_figure_has_a_name_and_a_file_and_every_table_a_download(
    study: Path, written: tuple[Page, str]
) -> None:
    page, _ = written
    assert len(page.labels) == 8 and all(page.labels)
    assert set(page.downloads) == set(FILES)
    for name, address in page.downloads.items():
        content = base64.b64decode(address.removeprefix("data:text/csv;base64,"))
        assert content == (study / name).read_bytes()
    drawn = sorted(path.stem for path in (study / FIGURES).iterdir())
    assert drawn == [
        *("agreement", "bias-variance", "confusion", "cost", "learning-curves"),
        *("learning-curves-by-family", "learning-curves-other-metrics", "reliability"),
    ]
    for path in (study / FIGURES).iterdir():
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_the_page_stands_by_itself(study: Path, written: tuple[Page, str]) -> None:
    page, _ = written
    source = (study / "report.html").read_text()

    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert "<script" not in source
    assert "http" not in re.sub(r'(xmlns(:\w+)?="[^"]*"|http-equiv)', "", source)
    assert "<svg" in source
    assert 'name="viewport"' in source
    assert len(page.ids) == len(set(page.ids)) > 10
    local = {address[1:] for address in page.addresses if address.startswith("#")}
    assert local <= set(page.ids)


@pytest.mark.usefixtures("written")
def test_the_page_and_its_figures_hold_no_patient_no_scan_and_no_path(study: Path) -> None:
    named = {row["scan_id"] for row in csv.DictReader((study / "hardest_scans.csv").open())}
    assert named
    for path in [study / "report.html", *(study / FIGURES).iterdir()]:
        source = path.read_text()
        decoded = b"".join(
            base64.b64decode(part) for part in re.findall(r"base64,([\w+/=]+)", source)
        ).decode()
        for text in (source, decoded):
            assert "PATIENT^" not in text
            assert "train-000" not in text
            assert not any(scan in text for scan in named)
            assert str(study.parent) not in text
    page = (study / "report.html").read_text()
    assert "hardest_scans.csv" in page and "contested.png" in page  # where to look, in words
    assert "data:image" not in page


def test_names_are_text_and_never_markup(study: Path, written: tuple[Page, str]) -> None:
    _, text = written
    assert "liver <1>: which family" in text
    assert "strict $x_$" in text
    assert "liver <1>" not in (study / "report.html").read_text()


def test_failed_cells_are_shown(little: Path, tmp_path: Path) -> None:
    cells = read_json(little / "results.json")["cells"]
    cells[0] = {
        **{name: cells[0][name] for name in ("family", "size", "subset", "seed", "key")},
        "status": "failed",
        "code": "family.one_class",
        "message": "all 3 training scans are of class <ill>",
    }
    _, text = page_of(changed(little, tmp_path, cells=cells))

    assert f"1 of {len(cells)} cells failed" in text
    assert "family.one_class" in text
    assert "of class <ill>" in text
    assert "compared on the draws and seeds for which both families have a cell" in text


def test_what_is_undefined_is_a_dash(little: Path, tmp_path: Path) -> None:
    results = read_json(little / "results.json")
    for point in results["points"]:
        if point["family"] == "linear":
            point.update(mean=None, low=None, high=None)
    for pair in results["differences"]:
        pair.update(gain=None, low=None, high=None, p_holm=None, winner="")
    for name in ("laws", "forecasts", "ahead", "backtest", "crossings"):
        results[name] = []
    keys = ("points", "differences", "laws", "forecasts", "ahead", "backtest")
    _, text = page_of(changed(little, tmp_path, **{key: results[key] for key in keys}))

    assert "not defined" in text
    assert "None" not in text and "nan" not in text
    assert "fitted law" not in text


def test_where_nothing_is_known_at_the_largest_size_sections_are_left_out(
    little: Path, tmp_path: Path
) -> None:
    lists = ("reliability", "calibration", "confusion", "difficulty", "decomposition", "verdicts")
    nothing: dict[str, Any] = {name: [] for name in lists}
    _, text = page_of(changed(little, tmp_path, **nothing, release=None, differences=[]))
    assert titles(text) == [SECTIONS[0], SECTIONS[5], SECTIONS[7]]


def test_a_difference_beyond_noise_is_told_the_better_first(little: Path, tmp_path: Path) -> None:
    pairs = read_json(little / "results.json")["differences"]
    won = next(p for p in pairs if p["size"] == 24)
    won.update(gain=-0.2, low=-0.3, high=-0.1, p_holm=0.0004, winner=won["second"])
    page, text = page_of(changed(little, tmp_path, differences=pairs))
    at = page.cells.index("Better")
    shown = [cell for cell in page.cells[at:] if cell][4:]
    assert shown[: len([won["second"], won["first"]])] == [won["second"], won["first"]]
    assert "+0.200" in text and "[+0.100, +0.300]" in text and "< 0.001" in text


@pytest.mark.parametrize(("missed", "verb"), [(0, "are"), (1, "is"), (2, "are")])
def test_missed_scans_are_counted_in_words(
    little: Path, tmp_path: Path, missed: int, verb: str
) -> None:
    _, text = page_of(changed(little, tmp_path, missed_by_all=missed))
    assert f" test scans {verb} missed by most fits of every family" in text


def test_an_unfinished_study_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="has not finished") as caught:
        write_report(tmp_path)
    assert caught.value.code == "study.no_results"


@pytest.mark.parametrize(
    "content", [{"format": "medcurve-study", "version": 1}, {"format": "x", "version": 99}, [1]]
)
def test_results_of_another_version_are_refused_with_advice(
    tmp_path: Path, content: object
) -> None:
    write_json(tmp_path / "results.json", content)
    with pytest.raises(StudyError, match="format and version are") as caught:
        write_report(tmp_path)
    assert caught.value.code == "study.foreign_results"
    assert "run `medcurve study` again" in (caught.value.fix or "")


def test_a_figure_that_is_no_longer_drawn_is_removed(little: Path) -> None:
    write_report(little)
    before = {path.name: path.read_bytes() for path in (little / FIGURES).iterdir()}
    (little / FIGURES / "of-an-earlier-report.svg").write_text("<svg/>")
    write_report(little)
    assert {path.name: path.read_bytes() for path in (little / FIGURES).iterdir()} == before


def test_an_interim_page_says_so_and_lies_beside_its_results(
    computed: pytest.TempPathFactory,
) -> None:
    root = computed.mktemp("interim")
    config = StudyConfig(families=("linear", "prior"), sizes=(6, "all"), subsets=2, resamples=100)
    run_study(config, write_store(root / "store"), root / "out", only=("prior",))
    page, text = page_of(root / "out", root / "out" / INTERIM)
    assert "Interim report: 3 of 6 cells" in text
    assert "–" in page.cells
    assert (root / "out" / INTERIM / FIGURES / "bias-variance.svg").is_file()
    assert titles(text) == list(SECTIONS)


def test_one_family_size_and_subset(computed: pytest.TempPathFactory) -> None:
    task = Task(kind="binary", class_names=("healthy", "ill"))
    _, text = page_of(small_study(computed, task))
    assert "Score at 24 patients" in text
    assert titles(text) == [SECTIONS[1], *SECTIONS[3:7]]
    assert "which one subset cannot tell apart" in text
    assert "1 family of classifiers" in text


@pytest.mark.parametrize("classes", [3, 13])
def test_several_classes(computed: pytest.TempPathFactory, classes: int) -> None:
    names = tuple(f"class {n} with quite a long name" for n in range(classes))
    task = Task(kind="multi-class", class_names=names)
    page, text = page_of(small_study(computed, task, metric="log_loss", targets=[0.4]))
    assert "how often the most probable class is right" in text
    assert set(names) <= set(page.cells)  # whole in the table, shortened in the figure
    assert "noise is a term of its own" in text
    assert "either can be the wider one" in text
    confusion = page.cells[page.cells.index("Predicted class") :]
    assert len([cell for cell in confusion if cell in names]) >= 2 * classes**2


def test_several_labels(computed: pytest.TempPathFactory) -> None:
    task = Task(kind="multi-label", class_names=("mass", "fluid"))
    page, text = page_of(small_study(computed, task, sizes=[6, "all"], subsets=2))
    assert "sensitivity" in text and "specificity" in text
    assert "labels of test scans are missed" in text
    assert {"Has it", "yes", "no"} <= set(page.cells)


def test_forecast_csv_has_no_number_that_the_words_deny(study: Path) -> None:
    with (study / "forecast.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    open_ = [row for row in rows if row["status"] == "not identifiable"]
    assert {row["kind"] for row in open_} >= {"target"}
    assert all(row["value"] == row["high"] == "" for row in open_)
    told = [row[end] for row in rows if row["kind"] in ("target", "crossing") for end in ENDS]
    assert all(float(number) >= 6 for number in told if number)
    scores = [row[end] for row in rows if row["kind"] in ("size", "band") for end in ENDS]
    assert all(0 <= float(number) <= 1 for number in scores if number)


def test_curves_csv_has_a_row_for_every_point(study: Path) -> None:
    points = read_json(study / "results.json")["points"]
    with (study / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert len(rows) == len(points) == 4 * 4 * 3 * 5  # families, sizes, splits, metrics
    for row, point in zip(rows, points, strict=True):
        assert (row["family"], int(row["size"])) == (point["family"], point["size"])
        assert (float(row["mean"]) if row["mean"] else None) == point["mean"]


def test_costs_csv_has_a_row_for_every_cell(study: Path) -> None:
    with (study / "costs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * (3 * 4 + 2)
    assert all(float(row["fit_seconds"]) >= 0 for row in rows)


def test_the_cost_that_is_shown_is_the_median_of_the_fits(little: Path, tmp_path: Path) -> None:
    out = changed(little, tmp_path)
    (out / "costs.csv").unlink()
    rows = [("linear", 24, 0, n, seconds, 0.1) for n, seconds in enumerate((1.5, 2.5, 80))]
    header = ("family", "size", "subset", "seed", "fit_seconds", "predict_seconds")
    write_csv(out / "costs.csv", header, [*rows, ("linear", 6, 0, 0, 900, 0.1)])
    page, _ = page_of(out)
    assert "2.5 s" in page.cells
    assert "–" in page.cells  # no fit of the others


def test_results_hold_no_time(study: Path) -> None:
    text = json.dumps(read_json(study / "results.json"))
    assert "seconds" not in text and "_ms" not in text


def test_two_runs_of_a_study_differ_in_times_alone(tmp_path: Path) -> None:
    """docs/studies.md names what holds them; of the page it is the section on cost."""
    places = [tmp_path / name for name in ("first", "second")]
    for place in places:
        place.mkdir()
    first, second = map(write_toy_study, places)
    differ = {
        str(path.relative_to(first))
        for path in first.rglob("*")
        if path.is_file()
        and path.parent.name != "cells"
        and path.read_bytes() != (second / path.relative_to(first)).read_bytes()
    }
    assert "costs.csv" in differ
    timed = {"costs.csv", "system.csv", "provenance.json", "report.html", "figures/cost.svg"}
    assert differ <= timed
    pages = [re.split("<section>", (out / "report.html").read_text()) for out in (first, second)]
    parts = [a for a, b in zip(*pages, strict=True) if a != b]
    assert all("Score against cost" in part for part in parts)
