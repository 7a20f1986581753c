"""A shift is what can be meant, and tables say it in words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from data_prep.errors import ConfigError
from pipeline.shifts import Kind, Shift, shift_name


def of(kind: Kind, amount: float, **more: Any) -> Shift:
    return Shift(kind=kind, amount=amount, **more)


@pytest.mark.parametrize(
    ("shift", "words"),
    [
        (of("shift", 4), "shift 4 px"),
        (of("shift", -4, axes=(0,)), "shift -4 px axis 0"),
        (of("shift", 2, beyond="wrap"), "shift 2 px, wrapped"),
        (of("gain", 2), "gain 2x"),
        (of("bias", 0.2), "bias 0.2 of the range"),
        (of("rotation", 90), "rotation 90 deg"),
        (of("flip", 1), "flip axis 1"),
        (of("flip", 1, axes=(0, 2)), "flip axis 0, 2"),
        (of("flip", 0), "flip none"),
        (of("orientation", 2), "orientation: first two axes reversed"),
        (of("orientation", 0), "orientation none"),
    ],
)
def test_names_are_the_words_of_tables(shift: Shift, words: str) -> None:
    assert shift_name(shift) == str(shift) == words


@pytest.mark.parametrize(
    "content",
    [
        {"kind": "gain", "amount": 0},
        {"kind": "scale", "amount": -1},
        {"kind": "noise", "amount": -0.1},
        {"kind": "bias", "amount": float("nan")},
        {"kind": "gain", "amount": float("inf")},
        {"kind": "flip", "amount": 2},
        {"kind": "orientation", "amount": 1.5},
        {"kind": "orientation", "amount": 9},
        {"kind": "gain", "amount": 2, "axes": (0,)},
        {"kind": "shift", "amount": 2, "axes": (0, 0)},
        {"kind": "rotation", "amount": 2, "axes": (0,)},
        {"kind": "warp", "amount": 2},
    ],
)
def test_what_cannot_be_meant_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Shift.model_validate(content)


def test_an_axis_that_the_scans_do_not_have_is_named() -> None:
    with pytest.raises(ConfigError, match="none is number 2") as found:
        of("shift", 1, axes=(0, 2)).axes_of(2)
    assert found.value.code == "shift.no_axis"


@pytest.mark.parametrize("amount", [5, -5, 7.5])
def test_a_shift_that_leaves_nothing_to_see_is_refused(amount: float) -> None:
    with pytest.raises(ConfigError, match="scans of 8 x 5 px") as found:
        of("shift", amount).check_fits((8, 5))
    assert found.value.code == "shift.out_of_scan"
    assert "below 5" in (found.value.fix or "")
    of("shift", amount, axes=(0,)).check_fits((8, 5))
    of("shift", amount, beyond="wrap").check_fits((8, 5))
    of("shift", 4.9).check_fits((8, 5))
