"""Scans that are shifted are noticed; others are not, nor what exchanges classes only."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.families import FamilyConfig, build_family
from pipeline.families.base import Family
from pipeline.probes.base import ProbeError
from pipeline.probes.foreign import Foreign
from pipeline.shifts import Shift

TASK = Task(kind="binary", class_names=("across", "down"))
SHAPE = (1, 12, 12)


def stripes(n: int) -> Scans:
    """Stripes across or down the image, in noise: a quarter turn makes one class the other."""
    rng = np.random.default_rng(5)
    target = np.arange(n) % 2
    wave = np.sin(np.arange(12) * np.pi / 2 + rng.uniform(0, 6, (n, 1)))
    across = np.repeat(wave[:, None, :], 12, axis=1)
    x = np.where(target[:, None, None] == 0, across, across.transpose(0, 2, 1))
    x = x + 0.5 * rng.standard_normal(x.shape)
    names = np.array([f"p{i}" for i in range(n)])
    return Scans(torch.from_numpy(x[:, None].astype(np.float32)), target, names, names)


@pytest.fixture(scope="module")
def fitted() -> Family:  # type: ignore[type-arg]
    scans = stripes(40)
    family = build_family(FamilyConfig(family="linear", params={}), TASK, SHAPE, 0)
    family.fit(scans.with_x(family.prepare(scans.x)), scans.with_x(family.prepare(scans.x)))
    return family


def test_what_changes_scans_is_noticed_and_what_only_changes_classes_is_not(fitted) -> None:
    turn = Shift(kind="orientation", amount=4)
    probe = Foreign(shifts=(Shift(kind="bias", amount=1), turn))
    found = probe.measure(fitted, stripes(240), 0)
    assert found["p unshifted"] > 0.01
    assert found["p bias 1 of the range"] <= 0.01
    assert found["auroc bias 1 of the range"] > 0.95
    assert found[f"p {turn}"] > 0.01
    assert 0.3 < found[f"auroc {turn}"] < 0.7


def test_the_same_seed_gives_the_same_numbers_and_every_scan_is_drawn(fitted) -> None:
    probe = Foreign(scans=60)
    assert probe.measure(fitted, stripes(100), 3) == probe.measure(fitted, stripes(100), 3)
    with pytest.raises(ProbeError) as raised:
        probe.measure(fitted, stripes(30), 3)
    assert raised.value.code == "probe.few_scans"
    figure = probe.draw(fitted, stripes(100), 3)
    points = [one.get_offsets() for one in figure.axes[0].collections]
    assert [len(one) for one in points] == [15] * 5
