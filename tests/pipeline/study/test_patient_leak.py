"""A study refuses a store in which a patient stands in two splits, whatever wrote it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from toy_study import write_store

from data_prep.errors import CohortError
from data_prep.files import read_table, write_table
from data_prep.store import IndexRow
from pipeline.study.config import StudyConfig
from pipeline.study.plan import refit
from pipeline.study.run import run_study

CONFIG = StudyConfig(families=("linear",), sizes=("all",), subsets=1, seeds=1, resamples=100)


@pytest.mark.parametrize("pair", [("train", "test"), ("train", "val"), ("val", "test")])
def test_a_patient_in_two_splits_is_refused_before_any_cell(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    store = write_store(tmp_path / "store")
    rows = read_table(store / "index.parquet", IndexRow)
    first = next(row for row in rows if row.split == pair[0])
    torn = next(n for n, row in enumerate(rows) if row.split == pair[1])
    rows[torn] = replace(rows[torn], patient_id=first.patient_id)
    write_table(store / "index.parquet", IndexRow, rows)
    with pytest.raises(CohortError, match=r"split\.patient_leak\] 1 patients stand in more"):
        run_study(CONFIG, store, tmp_path / "study")
    assert not (tmp_path / "study").exists()
    with pytest.raises(CohortError, match=r"split\.patient_leak"):
        refit(CONFIG, {}, store, tmp_path / "study", "key")
