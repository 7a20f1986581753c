"""The two-sample test keeps its rate, keeps patients whole, and finds what differs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from looked_scans import looked

from pipeline.trust.shift_fit import fit_shift_reference
from pipeline.trust.two_sample import MAX_SCANS, batch_test, two_sample


def names(prefix: str, n: int, each: int = 1) -> list[str]:
    return [f"{prefix}{i // each}" for i in range(n)]


def rows(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (n, 3))


@pytest.mark.parametrize("each", [1, 4])
def test_of_scans_drawn_alike_few_have_a_small_p_value(each: int) -> None:
    # Scans of one patient are nearly the same: counted singly they would be far too many.
    found = []
    for trial in range(200):
        first, second = (
            np.repeat(rows(20 // each * 2, 2 * trial + k), each, axis=0)[:20] for k in (0, 1)
        )
        test = two_sample(
            {"a": first, "b": first**2},
            {"a": second, "b": second**2},
            names("p", 20, each),
            names("q", 20, each),
            permutations=99,
        )
        found.append([test.p_value, test.p_values["a"], test.p_values["b"]])
    # 95 % of binomial counts of 200 at 0.1 lie within 0.06 to 0.14.
    rates = np.mean(np.array(found) <= 0.1, axis=0)
    assert (rates >= 0.04).all()
    assert (rates <= 0.16).all()


def test_a_side_that_differs_is_found_and_named() -> None:
    first = {"same": rows(40, 1), "other": rows(40, 2)}
    second = {"same": rows(30, 3), "other": rows(30, 4, shift=2)}
    test = two_sample(first, second, names("p", 40, 2), names("q", 30))
    assert test.p_values["other"] == 0.001
    assert test.p_values["same"] > 0.01
    assert test.p_value <= 2 * 0.001 + 1e-12
    assert (test.scans, test.groups) == ((40, 30), (20, 30))


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31))
def test_p_values_are_shares_and_repeat(n: int, m: int, seed: int) -> None:
    tests = [
        two_sample(
            {"a": rows(n, seed)},
            {"a": rows(m, seed + 1)},
            names("p", n),
            names("q", m),
            permutations=49,
        )
        for _ in range(2)
    ]
    assert tests[0] == tests[1]
    assert 1 / 50 <= tests[0].p_value <= 1
    assert tests[0].p_value == pytest.approx(tests[0].p_values["a"])


def test_scans_that_are_all_alike_differ_in_nothing() -> None:
    same = {"a": np.ones((8, 2))}
    assert two_sample(same, same, names("p", 8), names("q", 8)).p_value == 1


def test_a_patient_name_in_both_groups_is_two_patients() -> None:
    test = two_sample({"a": rows(6, 1)}, {"a": rows(6, 2)}, names("p", 6), names("p", 6))
    assert test.groups == (6, 6)


def test_of_many_scans_some_are_compared() -> None:
    n = MAX_SCANS + 50
    test = two_sample(
        {"a": rows(n, 1)}, {"a": rows(20, 2)}, names("p", n), names("q", 20), permutations=9
    )
    assert test.scans == (MAX_SCANS, 20)


def test_a_batch_is_tested_against_the_held_out_scans() -> None:
    reference = fit_shift_reference(*looked(80, 1), *looked(50, 2))
    alike = batch_test(reference, *looked(40, 3))
    assert alike.p_value > 0.01
    looks, features = looked(40, 4, bright=15.0)
    # Each scan may pass for one of the cohort: together they do not.
    assert np.mean([s.flagged for s in reference.score(looks, features)]) < 0.7
    foreign = batch_test(reference, looks, features, names("p", 40, 2))
    assert foreign.p_values["histogram"] == 0.001
    assert foreign.p_value < 0.01
    assert foreign.groups == (50, 20)


def test_patients_with_several_scans_raise_no_more_false_alarms() -> None:
    p_values = []
    for trial in range(40):
        rng = np.random.default_rng(trial)
        train, held, new = (clustered(rng, n, each) for n, each in ((30, 1), (12, 5), (40, 1)))
        reference = fit_shift_reference(
            train[0], train[1], held[0], held[1], held_out_patients=held[2]
        )
        assert len(reference.held) == 12
        p_values.append(batch_test(reference, new[0], new[1], new[2]).p_value)
    # 2 are expected, and 7 or more come once in 150; counting each scan there were 30.
    assert np.sum(np.array(p_values) <= 0.05) <= 6


def clustered(
    rng: np.random.Generator, patients: int, each: int
) -> tuple[list, np.ndarray, list[str]]:
    """Scans of which those of one patient are nearly alike."""
    looks, features = looked(patients * each, int(rng.integers(1 << 30)))
    whose = np.repeat(np.arange(patients), each)
    level = rng.normal(0, 20, patients)
    looks = [
        replace(
            looks[n - n % each],
            raw=looks[n - n % each].raw + level[whose[n]],
        )
        for n in range(len(looks))
    ]
    return looks, features[np.arange(len(looks)) // each * each], [f"p{n}" for n in whose]
