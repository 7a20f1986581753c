"""On a linear network the smallest flipping change is known; the others keep to their bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from probed import TASK, cnn, holding, scans_of
from pydantic import ValidationError
from torch import Tensor, nn

from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.families.linear import Linear, LinearParams
from pipeline.probes.adversarial import Adversarial
from pipeline.probes.attack import Target, fgsm, noise, pgd, sweep
from pipeline.probes.base import ProbeError

SHAPE = (1, 6, 6)
LABELS = Task(kind="multi-label", class_names=("a", "b", "c"))


def linear_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 2))


def weights_of(net: nn.Sequential) -> Tensor:
    return net.get_parameter("1.weight")


def target_of(net: nn.Module, truth: Tensor, *, wide: float = 100.0) -> Target:
    """Attacks on the network as it is, by default in a range that is never reached."""
    return Target(
        answer=lambda x: net(x).double().log_softmax(dim=1),
        truth=truth,
        low=torch.full((1, 1, 1), -wide),
        high=torch.full((1, 1, 1), wide),
    )


def test_on_a_linear_network_the_smallest_flip_is_the_margin_over_the_weights() -> None:
    """Goodfellow et al. 2015, section 3: eta = epsilon sign(w) moves w x by epsilon |w|_1."""
    net, x = linear_net(), scans_of(SHAPE, count=8).x
    with torch.no_grad():
        logits = net(x)
        weights = weights_of(net)[1] - weights_of(net)[0]
        exact = (logits[:, 1] - logits[:, 0]).abs() / weights.abs().sum() / 200
    target = target_of(net, logits.argmax(dim=1))
    sizes = [float(exact.max()) * share for share in (0.25, 0.5, 1.01)]
    for attack in (fgsm(target), pgd(target, 10, seed=0)):
        found = sweep(target, attack, x, sizes)
        np.testing.assert_allclose(found.smallest, exact, atol=sizes[-1] / 64)
        assert bool((found.smallest >= exact * (1 - 1e-4)).all())
        standing = [float((exact >= size).double().mean()) for size in sizes]
        assert found.accuracies == pytest.approx(tuple(standing))
    random = sweep(target, noise(target, seed=0), x, sizes).smallest
    assert bool((random >= exact * (1 - 1e-4)).all())
    assert float(random.median()) > 3 * float(exact.median())


def test_changes_keep_to_their_size_and_the_range() -> None:
    net, x = linear_net(), scans_of(SHAPE, count=8).x.clamp(-1.5, 1.5)
    target = target_of(net, torch.zeros(8, dtype=torch.int64), wide=1.5)
    size = torch.linspace(0.01, 0.3, 8)
    for attack in (fgsm(target), pgd(target, 5, seed=0), noise(target, seed=0)):
        changed = attack(x, size)
        assert float(changed.abs().max()) <= 1.5
        change = (changed - x).abs().flatten(1).amax(dim=1)
        assert bool((change <= 3 * size + 1e-6).all())
        assert bool((change > 2.9 * size).all())
        assert torch.equal(changed, attack(x, size))


def patches(count: int) -> Scans:
    """Noise, with a bright patch somewhere in half of it."""
    scans = scans_of((1, 12, 12), count=count)
    draw = np.random.default_rng(count)
    x = 0.4 * scans.x
    for scan, ill in zip(x, scans.target, strict=True):
        row, column = draw.integers(1, 8, 2)
        scan[0, row : row + 3, column : column + 3] += 2.0 * float(ill)
    return scans.with_x(x)


def test_pgd_is_the_stronger_and_noise_the_weaker() -> None:
    family = cnn((1, 12, 12), head="max", train={"epochs": 12, "batch_size": 16})
    family.fit(patches(96), patches(48))
    probe = Adversarial(epsilons=(0.02, 0.05, 0.1), steps=5)
    found = probe.measure(family, patches(40), seed=0)
    assert found["accuracy"] > 0.9
    for epsilon in ("0.02", "0.05", "0.1"):
        # By chance a single step may flip a scan that several steps do not.
        assert found[f"pgd accuracy at {epsilon}"] <= found[f"fgsm accuracy at {epsilon}"] + 0.05
        assert found[f"fgsm accuracy at {epsilon}"] <= found[f"noise accuracy at {epsilon}"]
    assert found["pgd flip"] <= found["fgsm flip"] < 0.5 * found["noise flip"]


@pytest.mark.parametrize("task", [TASK, LABELS], ids=["binary", "multi-label"])
def test_what_is_attacked_is_what_predicts(task: Task) -> None:
    """Accuracy without a change, with views too, is that of the family."""
    views = {"flip_axes": (0,), "shift_px": 1}
    family = cnn((1, 12, 12), task, widths=(3,), augment=views, test_time=views)
    scans = scans_of((1, 12, 12), count=10, task=task)
    found = Adversarial(epsilons=(0.3,), steps=2).measure(family, scans, seed=0)
    probabilities = family.predict_proba(scans.x)
    told = probabilities > 0.5 if task.is_multi_label else probabilities.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(np.mean(told == scans.target))
    assert found["pgd accuracy at 0.3"] <= found["accuracy"]
    assert Adversarial(epsilons=(0.3,), steps=2).draw(family, scans, seed=0).axes


def test_where_nothing_is_right_there_is_nothing_to_flip() -> None:
    net, scans = linear_net(), scans_of(SHAPE)
    lost = replace(scans, target=1 - net(scans.x).argmax(dim=1).numpy())
    probe = Adversarial(epsilons=(0.01,), steps=1)
    found = probe.measure(holding(net, SHAPE), lost, seed=0)
    assert found["accuracy"] == found["pgd flip"] == found["noise flip"] == 0
    assert probe.draw(holding(net, SHAPE), lost, seed=0).axes


def test_a_constant_answer_is_never_flipped() -> None:
    net = linear_net()
    nn.init.zeros_(weights_of(net))
    found = Adversarial(epsilons=(0.01,), steps=1).measure(
        holding(net, SHAPE), scans_of(SHAPE), seed=0
    )
    assert found["pgd flip"] == found["fgsm flip"] == found["noise flip"] == 1


def test_a_network_that_is_sure_still_has_a_gradient() -> None:
    net, x = linear_net(), scans_of(SHAPE).x
    with torch.no_grad():
        weights_of(net).mul_(300)
    target = target_of(net, net(x).argmax(dim=1))
    assert float(target.answer(x).detach().exp().max()) == 1
    toward = weights_of(net)[1] - weights_of(net)[0]
    away = torch.where(target.truth == 0, 1.0, -1.0)
    expected = (away[:, None] * toward.sign()).view(x.shape)
    torch.testing.assert_close(target.ascent(x)[0], expected)


def test_families_without_a_gradient_and_sweeps_that_do_not_grow_are_refused() -> None:
    family = Linear(LinearParams(), TASK, SHAPE, seed=0)
    with pytest.raises(ProbeError) as raised:
        Adversarial().measure(family, scans_of(SHAPE), seed=0)
    assert raised.value.code == "probe.no_gradient"
    for epsilons in ((0.2, 0.1), (0.0, 0.1), (0.1, 1.2)):
        with pytest.raises(ValidationError, match="must grow"):
            Adversarial(epsilons=epsilons)
