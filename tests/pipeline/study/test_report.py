from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from toy_study import in_process, write_store

from data_prep.files import read_json, write_json
from pipeline.study import compute
from pipeline.study.config import StudyConfig
from pipeline.study.errors import StudyError
from pipeline.study.figures import cost_against_score, learning_curves
from pipeline.study.report import write_report
from pipeline.study.run import run_study

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags are balanced and collects text and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [v or "" for name, v in attrs if name in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [v or "" for name, v in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page_of(out: Path) -> tuple[Page, str]:
    source = write_report(out).read_text()
    page = Page()
    page.feed(source)
    assert page.open == []
    return page, re.sub(r"\s+", " ", " ".join(page.text))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    strict = root / "strict $x_$.yaml"
    strict.write_text("family: linear\nparams: {penalties: [1.0]}\n")
    config = StudyConfig(
        families=("linear", str(strict)),
        sizes=(6, "all"),
        subsets=2,
        resamples=100,
        targets=(0.75,),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute, "run_local", in_process)
        run_study(config, write_store(root / "store"), root / "out", cohort="liver <1>")
    return root / "out"


def changed(study: Path, tmp_path: Path, **changes: Any) -> Path:
    """The finished study with other results."""
    (tmp_path / "out").mkdir()
    for name in ("results.json", "curves.csv", "cells"):
        (tmp_path / "out" / name).symlink_to(study / name)
    results = read_json(study / "results.json") | changes
    (tmp_path / "out" / "results.json").unlink()
    write_json(tmp_path / "out" / "results.json", results)
    return tmp_path / "out"


def test_the_answer_comes_first_and_agrees_with_the_results(study: Path) -> None:
    results = read_json(study / "results.json")
    page, text = page_of(study)

    places = [text.index(sentence) for sentence in results["sentences"]]
    assert places == sorted(places)
    assert places[-1] < text.index("Score against number of patients")
    assert all(caveat in text for caveat in results["caveats"])
    for point in results["points"]:
        if point["split"] == "test" and point["metric"] == "auc":
            assert f"{point['mean']:.3f}" in text
    assert page.text.count("linear") > 0


def test_the_page_stands_by_itself(study: Path) -> None:
    page, _ = page_of(study)
    source = (study / "report.html").read_text()

    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert "<script" not in source
    assert "http" not in re.sub(r'(xmlns(:\w+)?="[^"]*"|http-equiv)', "", source)
    assert "<svg" in source
    assert 'name="viewport"' in source
    assert len(page.ids) == len(set(page.ids)) > 10


def test_the_page_holds_no_patient_and_no_path(study: Path) -> None:
    source = (study / "report.html").read_text()
    assert "PATIENT^" not in source
    assert "train-000" not in source
    assert str(study.parent) not in source


def test_names_are_text_and_never_markup(study: Path) -> None:
    _, text = page_of(study)
    assert "liver <1>: which family" in text
    assert "strict $x_$" in text


def test_failed_cells_are_shown(study: Path, tmp_path: Path) -> None:
    cells = read_json(study / "results.json")["cells"]
    cells[0] = {
        **{name: cells[0][name] for name in ("family", "size", "subset", "seed", "key")},
        "status": "failed",
        "code": "family.one_class",
        "message": "all 3 training scans are of class <ill>",
    }
    _, text = page_of(changed(study, tmp_path, cells=cells))

    assert "1 of 6 cells failed" in text
    assert "family.one_class" in text
    assert "of class <ill>" in text


def test_what_is_undefined_is_a_dash(study: Path, tmp_path: Path) -> None:
    results = read_json(study / "results.json")
    for point in results["points"]:
        if point["family"] == "linear":
            point.update(mean=None, low=None, high=None)
    for pair in results["differences"]:
        pair.update(gain=None, low=None, high=None, winner="")
    out = changed(study, tmp_path, points=results["points"], differences=results["differences"])
    _, text = page_of(out)

    assert "not defined" in text
    assert "None" not in text and "nan" not in text


def test_an_unfinished_study_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="has not finished") as caught:
        write_report(tmp_path)
    assert caught.value.code == "study.no_results"


def test_curves_csv_has_a_row_for_every_point(study: Path) -> None:
    points = read_json(study / "results.json")["points"]
    with (study / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert len(rows) == len(points) == 2 * 2 * 3 * 5  # families, sizes, splits, metrics
    for row, point in zip(rows, points, strict=True):
        assert (row["family"], int(row["size"])) == (point["family"], point["size"])
        assert float(row["mean"]) == point["mean"]
        assert row["sd_seeds"] == ""  # one seed has no spread


def test_costs_csv_has_a_row_for_every_cell(study: Path) -> None:
    with (study / "costs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert all(float(row["fit_seconds"]) >= 0 for row in rows)


def point(family: str, size: int, mean: float) -> dict[str, Any]:
    return {
        "family": family,
        "size": size,
        "metric": "auc",
        "split": "test",
        "mean": mean,
        "low": mean - 0.1,
        "high": mean + 0.1,
    }


def test_direct_labels_do_not_overlap() -> None:
    families = [f"family{n}" for n in range(8)]  # more than there are colours
    points = [
        point(name, size, 0.8 + 0.001 * n) for n, name in enumerate(families) for size in (20, 40)
    ]
    svg = learning_curves(points, families, "auc")
    labels = [
        float(y)
        for y in re.findall(r'<text style="[^"]*" x="[\d.]+" y="([\d.]+)"[^>]*>family', svg)
    ] or [float(y) for y in re.findall(r"translate\([\d.]+ ([\d.]+)\)[^>]*>family\d", svg)]

    assert len(labels) == 8
    gaps = [abs(a - b) for a, b in pairwise(labels)]
    assert min(gaps) > 8  # points: a line of text


def test_figures_are_the_same_bytes_again() -> None:
    points = [point("linear", 20, 0.7), point("linear", 40, 0.8)]
    first, second = (learning_curves(points, ["linear"], "auc", [0.75]) for _ in range(2))
    assert first == second
    cost = cost_against_score({"linear": 0.0}, points[1:], ["linear", "absent"], "auc")
    assert "linear" in cost and "absent" not in cost


def test_results_hold_no_time(study: Path) -> None:
    text = json.dumps(read_json(study / "results.json"))
    assert "seconds" not in text and "_ms" not in text
