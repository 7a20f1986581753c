"""Every scan has its turn, every batch one size; balanced, every class its share."""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.task import Task
from pipeline.augment import AugmentConfig
from pipeline.batches import batches, draw_order
from pipeline.dataset import Scans

BINARY = Task(kind="binary", class_names=("a", "b"))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scans_of(n: int) -> Scans:
    """Scan i is full of i; every fourth is of class 1."""
    x = torch.arange(float(n)).view(n, 1, 1, 1).expand(n, 1, 3, 3)
    ids = np.arange(n).astype(np.str_)
    return Scans(x, (np.arange(n) % 4 == 3).astype(np.int64), ids, ids)


def test_every_batch_has_one_size_and_every_scan_its_turn() -> None:
    scans = scans_of(10)
    order = draw_order(scans.target, balanced=False, generator=generator())
    seen = list(islice(batches(BINARY, scans, order, 4, None, generator()), 5))  # two shuffles
    assert {len(x) for x, _ in seen} == {4}
    drawn = torch.cat([x[:, 0, 0, 0] for x, _ in seen])
    assert drawn.sort().values.tolist() == [float(i // 2) for i in range(20)]
    assert drawn[:10].tolist() != drawn[10:].tolist()
    columns = torch.cat([target for _, target in seen])
    assert torch.equal(columns[:, 1] == 1, drawn % 4 == 3)
    assert torch.equal(columns.sum(dim=1), torch.ones(20))


def test_a_batch_holds_no_more_scans_than_there_are() -> None:
    scans = scans_of(3)
    order = draw_order(scans.target, balanced=False, generator=generator())
    x, _ = next(batches(BINARY, scans, order, 64, None, generator()))
    assert sorted(x[:, 0, 0, 0].tolist()) == [0, 1, 2]


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.integers(0, 30), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_balanced_classes_take_turns_and_so_do_their_scans(counts: list[int], seed: int) -> None:
    counts[0] += 1  # some class is there
    target = np.repeat(np.arange(len(counts)), counts)
    there = sum(count > 0 for count in counts)
    rounds = 3 * max(counts)
    order = draw_order(target, balanced=True, generator=generator(seed))
    drawn = np.array(list(islice(order, there * rounds)))
    for turn in drawn.reshape(rounds, there):  # once each in every round
        assert len(set(target[turn])) == there
    for label in np.flatnonzero(counts):
        times = np.unique(drawn[target[drawn] == label], return_counts=True)[1]
        assert len(times) == counts[label]
        assert times.max() - times.min() <= 1


def test_the_generators_decide_order_and_changes() -> None:
    scans = scans_of(12)
    noisy = AugmentConfig(noise=0.5)

    def first(seed: int) -> torch.Tensor:
        order = draw_order(scans.target, balanced=True, generator=generator(seed))
        return next(batches(BINARY, scans, order, 6, noisy, generator(seed)))[0]

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
