"""Each loss has its hand value, its limits and its order; balance and its correction cancel."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import FocalLoss
from torch import Tensor, nn
from torch.nn import functional

from data_prep.task import Task, TaskKind
from pipeline.losses import (
    LossError,
    LossName,
    cross_entropy,
    cumulative,
    earth_mover,
    focal,
    label_cross_entropy,
    label_focal,
    refuse_unfit,
    start_balanced,
    training_loss,
)

CPU = torch.device("cpu")
quick = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 10_000)
classes = st.integers(2, 6)
ORDERED: list[Callable[[Tensor, Tensor], Tensor]] = [cumulative, earth_mover]


def task_of(kind: TaskKind, k: int = 3) -> Task:
    return Task(kind=kind, class_names=tuple("abcdef"[:k]))


def logits_of(seed: int, k: int, n: int = 9, spread: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(n, k, generator=generator)).double()


def one_hot(seed: int, k: int, n: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 1)
    return torch.eye(k).double()[torch.randint(k, (n,), generator=generator)]


def loss_of(
    kind: TaskKind,
    target: np.ndarray,
    *,
    k: int = 3,
    name: LossName = "auto",
    gamma: float = 2.0,
    smoothing: float = 0.0,
    weighted: bool = False,
    shifted: bool = False,
) -> Callable[[Tensor, Tensor], Tensor]:
    return training_loss(
        task_of(kind, k),
        target,
        name=name,
        gamma=gamma,
        smoothing=smoothing,
        weighted=weighted,
        shifted=shifted,
        device=CPU,
    )


@quick
@given(seed=seeds, k=classes)
def test_focal_with_gamma_zero_is_cross_entropy(seed: int, k: int) -> None:
    logits, target = logits_of(seed, k), one_hot(seed, k)
    assert torch.equal(focal(logits, target, 0.0), cross_entropy(logits, target))
    assert torch.allclose(
        cross_entropy(logits, target), functional.cross_entropy(logits, target, reduction="none")
    )
    labels = (logits_of(seed + 2, k) > 0).double()
    assert torch.allclose(label_focal(logits, labels, 0.0), label_cross_entropy(logits, labels))


@quick
@given(seed=seeds, k=classes, gamma=st.floats(0, 5))
def test_focal_is_monais(seed: int, k: int, gamma: float) -> None:
    """MONAI takes the mean over classes too, where ours is the sum over them."""
    logits, target = logits_of(seed, k), one_hot(seed, k)
    theirs = FocalLoss(gamma=gamma, use_softmax=True)(logits, target)
    assert float(focal(logits, target, gamma).mean()) == pytest.approx(float(theirs) * k, rel=1e-4)
    labels = (logits_of(seed + 2, k) > 0).double()
    theirs = FocalLoss(gamma=gamma)(logits, labels)
    ours = float(label_focal(logits, labels, gamma).mean())
    assert ours == pytest.approx(float(theirs), rel=1e-4)


@quick
@given(seed=seeds, k=classes)
def test_focal_is_below_cross_entropy_and_falls_with_gamma(seed: int, k: int) -> None:
    logits, target = logits_of(seed, k), one_hot(seed, k)
    values = [focal(logits, target, gamma) for gamma in (0.0, 0.5, 1.0, 2.0, 5.0)]
    assert all((a >= b).all() for a, b in pairwise(values))


@pytest.mark.parametrize("gamma", [0.25, 1.0, 2.0])
def test_focal_has_a_slope_at_certainty(gamma: float) -> None:
    """A gap of 60 rounds a probability to 1 in float32: 0 to a power below 1 would give NaN."""
    logits = torch.tensor([[60.0, 0.0], [0.0, 60.0]], requires_grad=True)
    target = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    for form in (focal, label_focal):
        (slope,) = torch.autograd.grad(form(logits, target, gamma).sum(), logits)
        assert torch.isfinite(slope).all()


@pytest.mark.parametrize("loss", ORDERED, ids=["cumulative", "earth_mover"])
@pytest.mark.parametrize("k", [2, 3, 5])
def test_an_ordinal_loss_is_zero_at_certainty_and_grows_with_distance(
    loss: Callable[[Tensor, Tensor], Tensor], k: int
) -> None:
    target = torch.eye(k).double()[[0]].expand(k, k)
    values = loss(30 * torch.eye(k).double(), target)  # sure of class 0, 1, 2, ...
    assert float(values[0]) == pytest.approx(0, abs=1e-9)
    assert (values.diff() > 0.5).all()


@quick
@given(seed=seeds, k=classes)
def test_ordinal_losses_keep_their_hand_values(seed: int, k: int) -> None:
    logits, target = logits_of(seed, k), one_hot(seed, k)
    below, wanted = logits.softmax(1).cumsum(1)[:, :-1], target.cumsum(1)[:, :-1]
    assert torch.allclose(earth_mover(logits, target), ((below - wanted) ** 2).sum(1))
    entropy = -(wanted * below.log() + (1 - wanted) * (1 - below).log()).mean(1)
    assert torch.allclose(cumulative(logits, target), entropy, rtol=1e-6)
    backwards = [t.flip(1) for t in (logits, target)]  # the order may be read from either end
    for loss in ORDERED:
        assert torch.allclose(loss(logits, target), loss(backwards[0], backwards[1]))


@quick
@given(seed=seeds)
def test_with_two_classes_the_ordinal_losses_are_well_known_ones(seed: int) -> None:
    logits, target = logits_of(seed, 2), one_hot(seed, 2)
    assert torch.allclose(cumulative(logits, target), cross_entropy(logits, target))
    brier = ((logits.softmax(1) - target) ** 2).sum(1)
    assert torch.allclose(earth_mover(logits, target), brier / 2)


@pytest.mark.parametrize("loss", [cross_entropy, *ORDERED])
@quick
@given(seed=seeds, k=classes)
def test_proper_losses_are_least_at_the_true_probabilities(
    loss: Callable[[Tensor, Tensor], Tensor], seed: int, k: int
) -> None:
    truth = logits_of(seed, k, n=1, spread=1.0).softmax(1)
    every = torch.eye(k).double()

    def expected(logits: Tensor) -> Tensor:
        return (truth[0] * loss(logits.expand(k, k), every)).sum()

    best = truth.log().requires_grad_()
    (slope,) = torch.autograd.grad(expected(best), best)
    assert slope.abs().max() < 1e-9
    assert expected(best) < expected(best + logits_of(seed + 1, k, n=1))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["binary", "multi-class"])
def test_smoothed_cross_entropy_is_torchs(kind: TaskKind, smoothing: float) -> None:
    k = 2 if kind == "binary" else 4
    logits, wanted = logits_of(1, k), one_hot(1, k)
    loss = loss_of(kind, wanted.argmax(1).numpy(), k=k, smoothing=smoothing)
    theirs = functional.cross_entropy(logits, wanted.argmax(1), label_smoothing=smoothing)
    assert float(loss(logits, wanted)) == pytest.approx(float(theirs), abs=1e-6)


def test_smoothed_labels_keep_their_hand_values() -> None:
    target = np.array([[1, 0], [0, 0], [1, 1]])
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [0.0, -math.log(3)]])  # p 1/2, 3/4, 1/4
    half = math.log(2)
    entropies = [half, half, math.log(4), half, half, math.log(4)]
    loss = loss_of("multi-label", target, k=2)
    wanted = torch.from_numpy(target).float()
    assert float(loss(logits, wanted)) == pytest.approx(np.mean(entropies), abs=1e-6)
    # A tenth of each target is spread over yes and no: 0.95 and 0.05.
    third = math.log(4) * 0.95 + math.log(4 / 3) * 0.05
    smooth = loss_of("multi-label", target, k=2, smoothing=0.1)
    smoothed = [half, half, third, half, half, third]
    assert float(smooth(logits, wanted)) == pytest.approx(np.mean(smoothed), abs=1e-6)


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "cumulative", "earth_mover"])
def test_weights_are_one_where_classes_are_as_frequent(name: LossName) -> None:
    target = np.arange(12) % 3
    logits, wanted = logits_of(3, 3, n=12), torch.eye(3).double()[target]
    plain = loss_of("ordinal", target, name=name)(logits, wanted)
    weighted = loss_of("ordinal", target, name=name, weighted=True, shifted=True)(logits, wanted)
    assert float(weighted) == pytest.approx(float(plain), rel=1e-6)


def test_weights_of_classes_and_of_labels_keep_their_hand_values() -> None:
    target = np.array([0, 0, 0, 1])  # weights 1 / (0.75 * 2) and 1 / (0.25 * 2)
    logits, wanted = logits_of(4, 2, n=4), torch.eye(2).double()[target]
    each = cross_entropy(logits, wanted)
    loss = loss_of("binary", target, k=2, weighted=True)
    expected = (each * torch.tensor([2 / 3, 2 / 3, 2 / 3, 2])).mean()
    assert float(loss(logits, wanted)) == pytest.approx(float(expected), rel=1e-6)

    labels = np.array([[1, 1], [0, 1], [0, 1], [0, 0]])
    columns = torch.from_numpy(labels).double()
    each = label_cross_entropy(logits, columns)
    weights = torch.tensor([[2, 2 / 3], [2 / 3, 2 / 3], [2 / 3, 2 / 3], [2 / 3, 2]])
    loss = loss_of("multi-label", labels, k=2, weighted=True)
    assert float(loss(logits, columns)) == pytest.approx(float((each * weights).mean()), rel=1e-6)


@pytest.mark.parametrize("kind", ["multi-class", "multi-label"])
def test_weights_have_mean_one_where_a_class_has_no_scans(kind: TaskKind) -> None:
    columns = torch.eye(3).double()[[0, 0, 0, 1]]
    target = columns.numpy().astype(np.int64) if kind == "multi-label" else np.array([0, 0, 0, 1])
    loss = loss_of(kind, target, weighted=True)(torch.zeros(4, 3).double(), columns)
    doubt = math.log(2) if kind == "multi-label" else math.log(3)  # of each scan, whatever it is
    assert float(loss) == pytest.approx(doubt, rel=1e-6)


@pytest.mark.parametrize("name", ["cross_entropy", "cumulative", "earth_mover"])
@pytest.mark.parametrize("kind", ["ordinal", "multi-label"])
def test_a_balanced_loss_still_learns_the_training_frequencies(
    kind: TaskKind, name: LossName
) -> None:
    """Without any evidence, the probabilities of least loss are how often each class occurs."""
    rng = np.random.default_rng(0)
    if kind == "multi-label":
        target = (rng.random((40, 3)) < [0.1, 0.5, 0.8]).astype(np.int64)
        wanted, name = torch.from_numpy(target).float(), "auto"
    else:
        target = np.repeat([0, 1, 2], [28, 8, 4])
        wanted = torch.eye(3)[target]
    frequency = wanted.mean(dim=0)
    best = frequency.log() if kind == "ordinal" else torch.logit(frequency)
    best.requires_grad_()
    loss = loss_of(kind, target, name=name, weighted=True, shifted=True)
    (slope,) = torch.autograd.grad(loss(best.expand(40, 3), wanted), best)
    assert slope.abs().max() < 1e-6
    shown = loss_of(kind, target, name=name, weighted=True)  # not corrected, it would not
    (slope,) = torch.autograd.grad(shown(best.expand(40, 3), wanted), best)
    assert slope.abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["binary", "multi-class", "ordinal", "multi-label"])
def test_auto_takes_the_order_of_classes_where_there_is_one(kind: TaskKind) -> None:
    k = 2 if kind == "binary" else 3
    wanted = one_hot(1, k)
    target = wanted.numpy().astype(np.int64) if kind == "multi-label" else wanted.argmax(1).numpy()
    meant: LossName = "cumulative" if kind == "ordinal" else "cross_entropy"
    logits = logits_of(5, k)
    both = [float(loss_of(kind, target, k=k, name=n)(logits, wanted)) for n in ("auto", meant)]
    assert both[0] == both[1]


@pytest.mark.parametrize("loss", ["cumulative", "earth_mover"])
@pytest.mark.parametrize("kind", ["multi-class", "multi-label"])
def test_a_loss_of_ordered_classes_needs_an_order(kind: TaskKind, loss: LossName) -> None:
    with pytest.raises(LossError, match=f"train.loss is {loss}.*{kind}") as caught:
        refuse_unfit(task_of(kind), loss, "natural")
    assert caught.value.code == "training.loss_needs_order"
    refuse_unfit(task_of("ordinal"), loss, "balanced")
    refuse_unfit(task_of("binary", 2), loss, "balanced")
    refuse_unfit(task_of(kind), "focal", "natural")


def test_balanced_sampling_needs_one_class_a_scan() -> None:
    with pytest.raises(LossError, match="sampling is balanced") as caught:
        refuse_unfit(task_of("multi-label"), "auto", "balanced")
    assert caught.value.code == "training.sampling_needs_classes"


def test_a_balanced_start_shifts_the_last_layer_only() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 5))
    before = [layer.bias.detach().clone() for layer in net]
    start_balanced(net, task_of("multi-class"), np.array([0, 0, 1, 2]))
    moved = [layer.bias.detach() - old for layer, old in zip(net, before, strict=True)]
    assert torch.allclose(moved[1], torch.log(torch.tensor([1.5, 0.75, 0.75])), atol=1e-6)
    assert not moved[0].any()
    assert not moved[2].any()
