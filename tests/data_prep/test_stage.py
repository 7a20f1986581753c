"""A stage's folder stands whole, with provenance, or not at all."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from data_prep import stage
from data_prep.errors import StageError
from data_prep.files import read_json
from data_prep.stage import is_current, new_stage, stage_digest


def make(folder: Path, text: str = "1") -> None:
    with new_stage(folder, "count", {"scans": "abc"}, {"n": text}) as partial:
        (partial / "sub").mkdir()
        (partial / "sub" / "a.txt").write_text(text)


def test_provenance_tells_what_made_it(tmp_path: Path) -> None:
    make(tmp_path / "out")
    record = read_json(tmp_path / "out" / "provenance.json")
    assert record["stage"] == "count"
    assert record["inputs"] == {"scans": "abc"}
    assert record["config"] == {"n": "1"}
    assert list(record["outputs"]) == ["sub/a.txt"]
    assert record["packages"]["numpy"][0].isdigit()


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b")
    make(tmp_path / "c", "2")
    assert stage_digest(tmp_path / "a") == stage_digest(tmp_path / "b")
    assert stage_digest(tmp_path / "a") != stage_digest(tmp_path / "c")


def test_current_means_same_stage_inputs_config_and_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert not is_current(out, "count", {"scans": "abc"}, {"n": "1"})
    make(out)
    assert is_current(out, "count", {"scans": "abc"}, {"n": "1"})
    assert not is_current(out, "other", {"scans": "abc"}, {"n": "1"})
    assert not is_current(out, "count", {"scans": "abd"}, {"n": "1"})
    assert not is_current(out, "count", {"scans": "abc"}, {"n": "2"})
    (out / "sub" / "a.txt").unlink()
    assert not is_current(out, "count", {"scans": "abc"}, {"n": "1"})


def test_a_failure_leaves_the_old_folder(tmp_path: Path) -> None:
    make(tmp_path / "out")
    with (
        pytest.raises(RuntimeError),
        new_stage(tmp_path / "out", "count", {}, {}) as partial,
    ):
        (partial / "half").touch()
        raise RuntimeError
    assert (tmp_path / "out" / "sub" / "a.txt").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_failed_swap_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "out")
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError):
        make(tmp_path / "out", "2")
    assert (tmp_path / "out" / "sub" / "a.txt").read_text() == "1"


def test_a_new_run_replaces_the_old_folder(tmp_path: Path) -> None:
    make(tmp_path / "out")
    make(tmp_path / "out", "2")
    assert (tmp_path / "out" / "sub" / "a.txt").read_text() == "2"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_no_stage_wrote_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    make(tmp_path / "out")  # an empty folder is nobody's
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(StageError, match=r"stage\.not_ours"):
        make(tmp_path / "mine")
    with pytest.raises(StageError, match=r"stage\.not_ours"):
        make(tmp_path / "mine" / "thesis.txt")


def test_what_a_killed_run_left_is_cleared_up(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out)
    gone = subprocess.Popen(["true"])
    gone.wait()
    alive, other = tmp_path / f".out.{os.getppid()}.part", tmp_path / ".out.x.part"
    for left in (tmp_path / f".out.{gone.pid}.part", alive, other):
        left.mkdir()
    out.rename(tmp_path / f".out.{gone.pid}.old")  # killed between the two renames

    def fail() -> None:
        with new_stage(out, "count", {}, {}):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert {path.name for path in tmp_path.iterdir()} == {"out", alive.name, other.name}
    assert (out / "provenance.json").is_file()


def test_a_missing_or_broken_stage_says_what_to_run(tmp_path: Path) -> None:
    for folder, command in {"manifest": "ingest", "splits": "split", "store-mri": "prep"}.items():
        with pytest.raises(StageError, match=rf"stage\.missing.*\n.*`medcurve {command}`"):
            stage_digest(tmp_path / folder)
    with pytest.raises(StageError, match=r"stage\.incomplete"):
        stage_digest(tmp_path)


def test_outside_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_git(*_: object) -> str:
        raise FileNotFoundError("git")

    monkeypatch.setattr(stage, "_git", no_git)
    assert stage._git_commit() == ""
    monkeypatch.setattr(stage, "_git", lambda _, verb, *rest: "abc" if verb == "rev-parse" else "")
    assert stage._git_commit() == "abc"
    monkeypatch.setattr(stage, "_git", lambda *_: "abc")
    assert stage._git_commit() == "abc+changes"
