"""The leak gate names each kind of twin, the gravest first, and lets harmless ones pass."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from cohort_rows import image, row
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import CohortError
from data_prep.leaks import KINDS, Leaks, find_leaks, refuse
from data_prep.manifest import ScanRecord
from data_prep.miniature import Planes


def scan(number: int, patient: str, label: str, pixels: int) -> ScanRecord:
    return row(
        number,
        scan_id=f"s{number}",
        patient_id=patient,
        labels=(label,),
        pixel_sha256=f"{pixels:064x}",
        perceptual_hash="ff",
        **image(shape=(1, 8, 8)),
    )


def picture(seed: int) -> Planes:
    return np.random.default_rng(seed).integers(0, 256, (1, 32, 32)).astype(np.uint8)


def leaks_of(*scans: tuple[str, str, str, int]) -> Leaks:
    """Of scans given as (patient, split, label, pixels); the picture follows from the pixels."""
    records = [scan(n, who, label, pixels) for n, (who, _, label, pixels) in enumerate(scans)]
    split = {f"s{n}": where for n, (_, where, _, _) in enumerate(scans)}
    return find_leaks(records, split, [picture(r_pixels) for _, _, _, r_pixels in scans])


@pytest.mark.parametrize(
    ("twin", "kind"),
    [
        (("p2", "test", "ill", 1), "labels"),
        (("p1", "train", "ill", 1), "labels"),
        (("p2", "test", "well", 1), "splits"),
        (("p2", "train", "well", 1), "patients"),
        (("p1", "train", "well", 1), None),
        (("p2", "test", "well", 2), None),
    ],
)
def test_each_kind_of_twin(twin: tuple[str, str, str, int], kind: str | None) -> None:
    leaks = leaks_of(("p1", "train", "well", 1), twin, ("p9", "val", "ill", 9))
    assert [pair.kind for pair in leaks.pairs] == ([kind] if kind else [])
    assert leaks.repeats == (twin == ("p1", "train", "well", 1))
    assert leaks.compared == 3


def test_near_twins_count_across_splits_only() -> None:
    records = [scan(n, f"p{n}", "well", n) for n in range(4)]
    same = picture(0)
    split = {"s0": "train", "s1": "train", "s2": "test", "s3": "val"}
    leaks = find_leaks(records, split, [same, same, same, picture(3)])
    assert [(p.kind, p.a.scan_id, p.b.scan_id, p.split_b) for p in leaks.pairs] == [
        ("near", "s0", "s2", "test"),
        ("near", "s1", "s2", "test"),
    ]
    assert leaks.pairs[0].bits == 0
    assert leaks.pairs[0].correlation == pytest.approx(1)


def test_copies_within_a_split_are_compared_once() -> None:
    """Three copies in training and a near-copy in test are one near pair, not three."""
    records = [scan(n, "p1", "well", 1) for n in range(3)] + [scan(3, "p2", "well", 2)]
    split = {"s0": "train", "s1": "train", "s2": "train", "s3": "test"}
    leaks = find_leaks(records, split, [picture(0)] * 4)
    assert [(p.kind, p.a.scan_id, p.b.scan_id) for p in leaks.pairs] == [("near", "s0", "s3")]
    assert leaks.repeats == 2


def test_constant_scans_are_compared_for_identity_only() -> None:
    blank = [replace(scan(n, f"p{n}", "well", n % 2), perceptual_hash="") for n in range(3)]
    split = {"s0": "train", "s1": "test", "s2": "test"}
    leaks = find_leaks(blank, split, [np.zeros((0, 32, 32), np.uint8)] * 3)
    assert [(p.kind, p.a.scan_id, p.b.scan_id) for p in leaks.pairs] == [("splits", "s0", "s2")]
    assert (leaks.compared, leaks.constant) == (0, 3)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["p1", "p2", "p3"]), st.sampled_from(["x", "y"]), st.integers(0, 3)
        ),
        min_size=1,
        max_size=8,
    )
)
def test_nothing_is_found_exactly_where_equal_pixels_agree_in_all(
    scans: list[tuple[str, str, int]],
) -> None:
    where = {"p1": "train", "p2": "train", "p3": "test"}
    leaks = leaks_of(*((who, where[who], label, pixels) for who, label, pixels in scans))
    twins = [(a, b) for a, b in product(scans, scans) if a[2] == b[2]]
    assert (not leaks.pairs) == all(a[:2] == b[:2] for a, b in twins)
    assert any(p.kind == "labels" for p in leaks.pairs) == any(a[1] != b[1] for a, b in twins)
    assert [p.kind for p in leaks.pairs] == sorted((p.kind for p in leaks.pairs), key=KINDS.index)


@pytest.mark.parametrize(
    ("twin", "code"),
    [
        (("p2", "test", "ill", 1), "split.conflicting_labels"),
        (("p2", "test", "well", 1), "split.duplicates"),
        (("p2", "train", "well", 1), "split.shared_images"),
    ],
)
def test_the_gravest_kind_is_refused_by_its_code(
    twin: tuple[str, str, str, int], code: str
) -> None:
    leaks = leaks_of(("p1", "train", "well", 1), twin)
    with pytest.raises(CohortError) as caught:
        refuse(leaks, "runs/c/leaks.html")
    assert caught.value.code == code
    assert "1 pair of identical images" in caught.value.message
    assert "scans s0 (train, 'well') and s1" in caught.value.message
    assert caught.value.message.endswith("runs/c/leaks.html")
    with pytest.raises(CohortError) as caught:
        refuse(leaks, "")
    assert "pictures" not in caught.value.message


def test_nothing_is_refused_where_nothing_stands_twice() -> None:
    leaks = leaks_of(("p1", "train", "well", 1), ("p2", "test", "well", 2))
    refuse(leaks, "")
    assert leaks.counts == ()


def test_a_search_that_broke_off_says_or_more() -> None:
    leaks = leaks_of(("p1", "train", "well", 1), ("p2", "test", "well", 1))
    near = replace(leaks.pairs[0], kind="near")
    cut = replace(leaks, pairs=(leaks.pairs[0], near, near), complete=False)
    assert cut.counts == (
        "1 pair of identical images in different splits",
        "2 or more pairs of nearly identical images in different splits",
    )
