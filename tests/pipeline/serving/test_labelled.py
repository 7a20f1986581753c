"""A model is judged by scans and patients that it has never met."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from data_prep.errors import CohortError, ScanError
from pipeline.serving.labelled import nothing_answered, seen, unseen
from pipeline.serving.seen import SeenScans


@dataclass(frozen=True)
class Row:
    pixel_sha256: str
    patient_id: str


def model(seen: SeenScans) -> Any:
    return SimpleNamespace(card=SimpleNamespace(training=SimpleNamespace(seen=seen)))


def test_seen_scans_and_other_scans_of_seen_patients_are_left_out() -> None:
    package = model(SeenScans.of(["pixels-1"], ["pixels-2"], ["key-Ann"], ["key-Bob"]))
    rows: list[Any] = [
        Row("pixels-1", "Zoe"),
        Row("pixels-2", "Zoe"),
        Row("pixels-3", "Ann"),
        Row("pixels-4", "Bob"),
        Row("pixels-5", "Zoe"),
    ]
    assert seen(package, rows, lambda name: f"key-{name}") == [True] * 4 + [False]
    assert unseen(package, rows, lambda name: f"key-{name}") == rows[4:]
    with pytest.raises(CohortError) as caught:
        unseen(package, rows[:4], lambda name: f"key-{name}")
    assert caught.value.code == "cohort.all_seen"


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("volume.wrong_ndim", "of another kind than the model's"),
        ("volume.wrong_channels", "of another kind than the model's"),
        ("file.unreadable", "`medcurve ingest` again"),
    ],
)
def test_the_advice_fits_why_no_scan_was_answered(code: str, advice: str) -> None:
    error = nothing_answered(3, ScanError(code, "the first"))
    assert advice in str(error)
    assert "none of the 3 test scans" in str(error)
