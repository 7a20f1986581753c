"""Whose a folder is, and a record of the study that is damaged or gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from finished_study import same_results

from data_prep.errors import ConfigError, StageError
from pipeline.study.config import StudyConfig
from pipeline.study.extension import Extension, read_extension
from pipeline.study.record import holds_study, read_record
from pipeline.study.run import run_study

KEY = "0123456789abcdef" * 4


def made(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return folder


@pytest.mark.parametrize(
    ("names", "ours"),
    [
        ((), True),
        (("study.json", "anything"), True),
        ((".study.json.12.part", "extension.json", ".extension.json.12.part"), True),
        ((f"cells/{KEY}.json", "results.json", "figures/x.svg"), True),
        ((f"cells/.{KEY}.safetensors.12.part", f"cells/{KEY}.safetensors"), True),
        (("cells/mine.json",), False),
        ((f"cells/{KEY}.json", "cells/mine.txt"), False),
        (("extension.json", "thesis.tex"), False),
        ((".other.json.12.part",), False),
        ((f"cells/{KEY}.json", "provenance.json"), False),
    ],
)
def test_whose_a_folder_is(tmp_path: Path, names: tuple[str, ...], ours: bool) -> None:
    (tmp_path / "out").mkdir()
    assert holds_study(made(tmp_path / "out", *names)) is ours


def test_a_kill_before_the_record_leaves_no_folder_that_is_refused(
    here: None, config: StudyConfig, store: Path, unbroken: Path, tmp_path: Path
) -> None:
    out = made(tmp_path / "out", "extension.json", ".study.json.12.part")
    (out / "cells").mkdir()
    run_study(config, store, out)
    assert same_results(out, unbroken)


@pytest.mark.parametrize("record", ["{", "[]", "{}", "\xff", None])
def test_a_damaged_record_is_written_anew(
    config: StudyConfig, store: Path, unbroken: Path, tmp_path: Path, record: str | None
) -> None:
    out = tmp_path / "out"
    shutil.copytree(unbroken, out)
    (out / "provenance.json").unlink()  # it has not finished
    (out / "study.json").unlink()
    if record is not None:
        (out / "study.json").write_bytes(record.encode("latin-1"))
    assert read_record(out) is None
    assert run_study(config, store, out).computed == 0
    assert (out / "study.json").read_bytes() == (unbroken / "study.json").read_bytes()


def test_a_record_of_cells_that_cannot_be_read_is_none(unbroken: Path) -> None:
    text = (unbroken / "study.json").read_text()
    (unbroken / "study.json").write_text(text.replace('"subset"', '"subsets"'))
    assert read_record(unbroken) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"subset": 3}'])
def test_of_a_damaged_extension_the_way_out_is_told(tmp_path: Path, text: str) -> None:
    assert read_extension(tmp_path) == Extension()
    (tmp_path / "extension.json").write_text(text)
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        read_extension(tmp_path)
    assert caught.value.code == "study.damaged_extension"
    assert "--extend none" in caught.value.fix


def test_another_stages_folder_stays_what_it_is(
    here: None, config: StudyConfig, store: Path
) -> None:
    with pytest.raises(StageError, match="output of stage 'prep'"):
        run_study(config, store, store)
