"""Every prefix of an order of patients is stratified, and drawn by its seed alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.task import Task, TaskKind
from pipeline.study.nested_subsets import _patient_labels, nested_order


def one_hot(classes: list[int], n_classes: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.eye(n_classes, dtype=bool)[classes]


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(2, 40), min_size=2, max_size=4),
    seed=st.integers(0, 1000),
)
def test_each_prefix_is_stratified_and_holds_two_of_each_class(
    counts: list[int], seed: int
) -> None:
    classes = [k for k, count in enumerate(counts) for _ in range(count)]
    labels = one_hot(classes, len(counts))
    order, front = nested_order(labels, [seed])

    assert sorted(order.tolist()) == list(range(len(classes)))
    assert front == 2 * len(counts)
    for size in range(front, len(classes) + 1):
        having = labels[order[:size]].sum(axis=0)
        assert (having >= 2).all()
        # The front may hold up to two too many of a class, which displaces as many of others.
        share = size * np.array(counts) / len(classes)
        assert (np.abs(having - share) <= 1 + 2 * (len(counts) - 1)).all()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), size=st.integers(8, 60))
def test_balanced_classes_stay_balanced_at_every_size(seed: int, size: int) -> None:
    labels = one_hot([n % 2 for n in range(60)], 2)
    order, _ = nested_order(labels, [seed])

    first, second = labels[order[:size]].sum(axis=0)
    assert abs(int(first) - int(second)) <= 1


def test_every_patient_is_equally_likely_to_be_drawn() -> None:
    labels = one_hot([0] * 30 + [1] * 10, 2)
    drawn = np.zeros(40)
    for replicate in range(2000):
        order, _ = nested_order(labels, [7, replicate])
        drawn[order[:20]] += 1

    assert drawn.mean() == 1000
    assert np.abs(drawn / 1000 - 1).max() < 0.1  # five standard deviations


def test_multi_label_subsets_hold_two_with_and_without_each_label() -> None:
    rng = np.random.default_rng(3)
    labels = rng.random((200, 4)) < np.array([0.5, 0.1, 0.9, 0.0])
    labels[[3, 77], 3] = True
    for seed in range(20):
        order, front = nested_order(labels, [seed])
        having = labels[order[:front]].sum(axis=0)
        assert (having >= 2).all()
        assert (front - having >= 2).all()


@pytest.mark.parametrize(
    ("kind", "counts", "label"),
    [
        ("binary", [3, 1], [False, True]),  # ill if any scan is
        ("binary", [2, 0], [True, False]),
        ("multi-class", [1, 3, 1], [False, True, False]),  # the commonest
        ("ordinal", [2, 0, 2], [False, False, True]),  # of equals the higher grade
        ("multi-label", [1, 0, 4], [True, False, True]),  # whatever any scan has
    ],
)
def test_a_patient_has_the_class_of_its_scans(
    kind: TaskKind, counts: list[int], label: list[bool]
) -> None:
    task = Task(kind=kind, class_names=("a", "b", "c")[: len(counts)])
    assert _patient_labels(task, np.array([counts], float)).tolist() == [label]
