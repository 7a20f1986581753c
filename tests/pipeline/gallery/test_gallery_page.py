"""The page holds every row as text, pictures of those that count, and nothing that could run."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import stat
from pathlib import Path

import pytest
from batches import BINARY, bad, ok, write_batch

from data_prep.task import Task
from pipeline.gallery import page as page_module
from pipeline.serving.predictions import Prediction

HOSTILE = '</script><script>alert(1)</script><!--<b>"&amp;'


def element(source: str, name: str) -> str:
    found = re.search(rf'<script type="[a-z/]+" id="{name}">(.*?)</script>', source, re.DOTALL)
    assert found, name
    return found[1]


def rows_of(path: Path) -> list[list]:
    return json.loads(element(path.read_text(), "rows"))


def test_every_row_is_there_as_the_tables_have_it(tmp_path):
    rows = [ok("b.png", 0.9, "lossy", shift=2.5), bad("a.png"), ok("c.png", 0.4, shift=None)]
    path = write_batch(tmp_path / "out", rows, skipped=2)
    first, second, third = rows_of(path)
    assert first == ["a.png", 0, "", [], [], None, [], "file.empty", "a.png is empty", -1]
    assert second[:-1] == ["b.png", 1, "lesion", [0.1, 0.9], ["lesion"], 2.5, ["lossy"], "", ""]
    assert third[:-1] == [
        *("c.png", 1, "healthy", [0.6, 0.4], ["healthy", "lesion"], None, [], "", "")
    ]
    source = path.read_text()
    assert "2 scans scored, 1 quarantined, 2 files skipped." in source
    about = json.loads(element(source, "about"))
    assert about["classes"] == list(BINARY.class_names)
    assert set(about["flags"]) == {"lossy"}
    assert about["codes"]["file.empty"]
    pictures = element(source, "pictures-0").split()
    assert [second[-1], third[-1]] == [0, 1]
    assert all(base64.b64decode(each).startswith(b"\xff\xd8") for each in pictures)
    assert pictures[0] != pictures[1]


def test_hostile_names_are_text(tmp_path):
    task = Task(kind="binary", class_names=("healthy", HOSTILE))
    row = Prediction(HOSTILE, (HOSTILE,), "ok", (HOSTILE,), (0.2, 0.8), (HOSTILE,), 0.0, ("lossy",))
    path = write_batch(tmp_path / "out", [row, bad(f"{HOSTILE}2")], task)
    source = path.read_text()
    assert "alert(1)</script>" not in source
    assert "<!--" not in source.replace("<!doctype", "")
    assert rows_of(path)[0][0] == HOSTILE
    assert rows_of(path)[1][8] == f"{HOSTILE}2 is empty"


def test_nothing_but_the_page_s_own_script_may_run_and_nothing_is_fetched(tmp_path):
    source = write_batch(tmp_path / "out", [ok("a.png", 0.9)]).read_text()
    found = re.search(r'Content-Security-Policy" content="([^"]+)"', source)
    assert found
    policy = html.unescape(found[1])
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    script = re.search(r"<script>(.*?)</script>", source, re.DOTALL)
    style = re.search(r"<style>(.*?)</style>", source, re.DOTALL)
    assert script and style
    for text, kind in ((script[1], "script-src"), (style[1], "style-src")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert not re.search(r"(https?:)?//[a-z]", source.split("<script>")[0])
    assert "style=" not in source.split('id="rows"')[0]


def test_only_the_owner_may_read_it(tmp_path):
    path = write_batch(tmp_path / "out", [ok("a.png", 0.9)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_beyond_what_a_page_can_hold_those_to_be_looked_at_have_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "MAX_PICTURES", 3)
    monkeypatch.setattr(page_module, "_BLOCK", 2)
    rows = [ok("1", 0.99, "lossy"), ok("2", 0.98), ok("3", 0.45), bad("4"), ok("5", 0.6)]
    path = write_batch(tmp_path / "out", rows)
    assert {row[0]: row[-1] for row in rows_of(path)} == {"1": 0, "2": -1, "3": 1, "4": -1, "5": 2}
    assert len(element(path.read_text(), "pictures-0").split()) == 2
    assert len(element(path.read_text(), "pictures-1").split()) == 1
    assert "Without a picture: 1 scan," in path.read_text()


def test_a_batch_without_scored_scans_has_a_page(tmp_path):
    path = write_batch(tmp_path / "out", [bad("a.png")])
    assert rows_of(path)[0][-1] == -1
    assert "pictures-0" not in path.read_text()


@pytest.mark.parametrize("sure", [True, False])
def test_the_least_sure_of_many_labels_come_first(tmp_path, monkeypatch, sure):
    monkeypatch.setattr(page_module, "MAX_PICTURES", 1)
    task = Task(kind="multi-label", class_names=("mass", "nodule"))
    p = {"a": (0.99, 0.01) if sure else (0.99, 0.5), "b": (0.9, 0.1)}
    rows = [Prediction(name, (name,), "ok", ("mass",), p[name], ("mass",)) for name in p]
    path = write_batch(tmp_path / "out", rows, task)
    assert [row[-1] for row in rows_of(path)] == ([-1, 0] if sure else [0, -1])


def test_what_a_user_must_know_of_the_model_is_told(tmp_path):
    note = "'healthy' is in every set: <few> validation patients"
    told = write_batch(tmp_path / "told", [ok("a.png", 0.9)], notes=(note,)).read_text()
    silent = write_batch(tmp_path / "silent", [ok("a.png", 0.9)]).read_text()
    assert f"<li>{html.escape(note, quote=True)}</li>".replace("&#x27;", "&#39;") in told
    assert "What to know" in told and "What to know" not in silent
