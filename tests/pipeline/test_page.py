"""Pages: every value is escaped and none may be missing; figures keep their ids to themselves."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib as mpl
import pytest
from jinja2 import UndefinedError
from matplotlib.figure import Figure

from pipeline.page import STYLE, render, svg


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with one template."""
    (tmp_path / "madepages").mkdir()
    (tmp_path / "madepages" / "__init__.py").write_text("")
    (tmp_path / "madepages" / "x.html.j2").write_text(
        '<style>{% include "style.css.j2" %}</style><p>{{ name }}</p>'
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "madepages"


def test_values_are_escaped_and_the_style_is_shared(package: str) -> None:
    text = render(package, "x.html.j2", {"name": "<script>alert(1)</script>"}).decode()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "--accent" in text


def test_a_missing_value_is_an_error(package: str) -> None:
    with pytest.raises(UndefinedError):
        render(package, "x.html.j2", {})


def drawn(name: str) -> str:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2, 2))
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1])
        axes.fill_between([0, 1], [0, 1])
        axes.bar(0, 1, color="#0072b2", hatch="//", edgecolor="white")
        axes.set_title("a$b_1$")
        return svg(figure, name)


def test_a_figure_is_the_same_bytes_and_refers_to_its_own_ids() -> None:
    assert drawn("one") == drawn("one")
    text = drawn("one")
    assert text.startswith("<svg")
    assert "a$b_1$" in text
    ids = set(re.findall(r' id="([^"]+)"', text))
    assert all(name.startswith("one-") for name in ids)
    used = set(re.findall(r'(?:href="#|\(#)([^")]+)', text))
    assert used <= ids
    assert 'fill="#0072b2"' in text  # a colour is not an id
    assert not ids & set(re.findall(r' id="([^"]+)"', drawn("two")))
