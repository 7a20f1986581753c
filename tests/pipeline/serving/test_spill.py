"""Rows come back sorted, all of them, however many are held in memory meanwhile."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.serving import spill as module
from pipeline.serving.spill import Spill

CELLS = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=4))
ROWS = st.lists(st.tuples(st.text(max_size=2), st.lists(st.text(max_size=2)), CELLS), max_size=40)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ROWS, st.integers(1, 10))
def test_rows_come_back_sorted_by_their_keys(tmp_path_factory, rows, held):
    folder = tmp_path_factory.mktemp("spill") / "rows"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROWS_HELD", held)
        with Spill(folder, keys=2) as spill:
            for row in rows:
                spill.add(row)
            expected = sorted(map(list, rows), key=lambda row: row[:2])
            assert list(spill.rows()) == expected
            assert list(spill.rows()) == expected  # again
    assert not folder.exists()


def test_what_is_no_number_is_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(ValueError, match="JSON"), Spill(tmp_path / "rows", keys=1) as spill:
        spill.add(("a", float("nan")))
        list(spill.rows())
    assert not (tmp_path / "rows").exists()
