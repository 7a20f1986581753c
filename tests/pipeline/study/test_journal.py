from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.study.errors import StudyError
from pipeline.study.grid import Cell
from pipeline.study.journal import CellResult, Failure, Journal

CELL = Cell("toy", 20, 1, 5)
KEY = "ab" * 32


def result(seed: int = 0) -> CellResult:
    rng = np.random.default_rng(seed)
    return CellResult(
        val=rng.dirichlet([1, 1], 7),
        test=rng.dirichlet([1, 1], 9),
        train={"auc": 1.0, "log_loss": float("nan")},
        history={"val_auc": [0.5, float("nan"), 0.7]},
        chosen={"epoch": 3.0, "penalty": float("inf")},
        seconds={"fit": 1.25, "predict": 0.5},
    )


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "cells")


def test_a_cell_is_read_back_bit_for_bit(journal: Journal) -> None:
    written = journal.write(CELL, KEY, result(), 1_000)
    entry = journal.read(KEY)

    assert entry == written
    assert entry is not None and entry.failure is None and entry.cell == CELL
    assert entry.train == {"auc": 1.0, "log_loss": None}
    assert entry.history == {"val_auc": [0.5, None, 0.7]}
    assert entry.chosen == {"epoch": 3.0, "penalty": None}
    assert entry.seconds == {"fit": 1.25, "predict": 0.5}
    val, test = journal.probabilities(entry)
    assert val.tobytes() == result().val.tobytes()
    assert test.tobytes() == result().test.tobytes()


def test_the_same_result_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Journal(tmp_path / name).write(CELL, KEY, result(), 1_000)

    for suffix in ("json", "safetensors"):
        one, two = ((tmp_path / name / f"{KEY}.{suffix}").read_bytes() for name in ("one", "two"))
        assert one == two


def test_a_failure_is_read_back(journal: Journal) -> None:
    failure = Failure("family.one_class", "all scans are of one class", passing=False)
    journal.write(CELL, KEY, failure, 1_000)
    entry = journal.read(KEY)

    assert entry is not None and entry.failure == failure
    assert not list(journal.folder.glob("*.safetensors"))


def test_a_cell_never_written_is_absent(journal: Journal) -> None:
    assert journal.read(KEY) is None


def test_probabilities_without_a_record_do_not_count(journal: Journal) -> None:
    journal.write(CELL, KEY, result(), 1_000)
    (journal.folder / f"{KEY}.json").unlink()  # killed before the record was written

    assert journal.read(KEY) is None
    journal.write(CELL, KEY, result(1), 1_000)
    assert journal.read(KEY) is not None


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(suffix=st.sampled_from(["json", "safetensors"]), place=st.integers(0, 10**9))
def test_every_flipped_bit_is_found(journal: Journal, suffix: str, place: int) -> None:
    journal.write(CELL, KEY, result(), 1_000)
    path = journal.folder / f"{KEY}.{suffix}"
    data = bytearray(path.read_bytes())
    byte, bit = divmod(place % (8 * len(data)), 8)
    data[byte] ^= 1 << bit
    path.write_bytes(data)

    try:
        entry = journal.read(KEY)
    except StudyError as error:
        assert error.code == "study.damaged_cell"
        assert KEY in error.message
    else:  # white space between JSON's words says nothing
        assert suffix == "json"
        assert entry == journal.write(CELL, KEY, result(), 1_000)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"seal": "x"}', "\xff\xfe"])
def test_a_record_that_is_none_is_damaged(journal: Journal, text: str) -> None:
    journal.write(CELL, KEY, result(), 1_000)
    (journal.folder / f"{KEY}.json").write_bytes(text.encode("latin-1"))

    with pytest.raises(StudyError, match="again") as caught:
        journal.read(KEY)
    assert caught.value.code == "study.damaged_cell"


def test_lost_probabilities_are_damage(journal: Journal) -> None:
    journal.write(CELL, KEY, result(), 1_000)
    (journal.folder / f"{KEY}.safetensors").unlink()

    with pytest.raises(StudyError, match="cannot be read"):
        journal.read(KEY)


def test_a_cell_goes_by_the_name_that_its_family_has_by_now(journal: Journal) -> None:
    journal.write(CELL, KEY, result(), 1_000)
    renamed = replace(CELL, family="other")
    (entry,) = journal.standing({KEY: renamed, "none": CELL}).values()
    assert entry.cell == renamed
