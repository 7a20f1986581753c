"""Training repeats its bits, keeps the epoch that validation prefers, and says when it diverged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from data_prep.task import Task, TaskKind
from pipeline import keeper, training
from pipeline.augment import AugmentConfig
from pipeline.dataset import Scans
from pipeline.device import seeded
from pipeline.keeper import TrainingError
from pipeline.losses import LossError, start_balanced
from pipeline.metrics import score
from pipeline.prediction import predict_network
from pipeline.train_config import TrainConfig
from pipeline.training import Trained, train_network

BINARY = Task(kind="binary", class_names=("a", "b"))
QUICK = TrainConfig(epochs=4, min_steps=40, batch_size=16, learning_rate=0.02, label_smoothing=0)
CPU = torch.device("cpu")


class SmallNet(nn.Module):
    """Convolution, batch norm, dropout: all that training must get right."""

    def __init__(self, n_classes: int = 2, ndim: int = 2) -> None:
        super().__init__()
        convolution, norm = (
            (nn.Conv2d, nn.BatchNorm2d) if ndim == 2 else (nn.Conv3d, nn.BatchNorm3d)
        )
        self.convolution = convolution(1, 4, 3)
        self.norm = norm(4)
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(4, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        places = functional.relu(self.norm(self.convolution(x))).flatten(2)
        logits: Tensor = self.classifier(self.dropout(places.mean(dim=2)))
        return logits


def net_of(seed: int = 0, n_classes: int = 2, ndim: int = 2) -> SmallNet:
    with seeded(seed, CPU):
        return SmallNet(n_classes, ndim)


def scans_of(n: int, seed: int, *, task: Task = BINARY, ndim: int = 2, share: float = 0.5) -> Scans:
    """Scans whose noise is stronger in class 1; ``share`` of them are of it."""
    rng = np.random.default_rng(seed)
    strong = np.arange(n) < share * n
    shape = (n, 1) + (8,) * ndim
    x = rng.normal(size=shape) * np.where(strong, 1.5, 0.7).reshape((n,) + (1,) * (ndim + 1))
    target = strong.astype(np.int64)
    if task.is_multi_label:
        target = np.stack([target, 1 - target], axis=1)
    ids = np.arange(n).astype(np.str_)
    return Scans(torch.from_numpy(x.astype(np.float32)), target, ids, ids)


def train(
    config: TrainConfig = QUICK, *, seed: int = 0, n: int = 48, net: nn.Module | None = None
) -> tuple[nn.Module, Trained]:
    net = net or net_of()
    trained = train_network(
        net,
        BINARY,
        scans_of(n, 1),
        scans_of(32, 2),
        config,
        seed=seed,
        augmentation=AugmentConfig(shift_px=1, noise=0.1),
    )
    return net, trained


def weights_of(net: nn.Module) -> NDArray[np.float32]:
    return torch.cat([value.flatten().float() for value in net.state_dict().values()]).numpy()


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("kind", ["binary", "multi-label"])
def test_it_learns(kind: TaskKind, ndim: int) -> None:
    task = Task(kind=kind, class_names=("a", "b"))
    net = net_of(ndim=ndim)
    train_network(
        net,
        task,
        scans_of(64, 1, task=task, ndim=ndim),
        scans_of(32, 2, task=task, ndim=ndim),
        TrainConfig(epochs=8, min_steps=160, batch_size=16, learning_rate=0.02),
        seed=0,
    )
    unseen = scans_of(64, 3, task=task, ndim=ndim)
    assert score(task, unseen.target, predict_network(net, unseen.x, task))["auc"] > 0.95


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_seed_decides_everything_random(precision: str) -> None:
    config = QUICK.model_copy(update={"precision": precision})
    torch.manual_seed(1)
    first = weights_of(train(config)[0])
    torch.manual_seed(2)
    torch.randn(5)
    again = weights_of(train(config)[0])
    assert np.array_equal(first, again)
    assert not np.array_equal(first, weights_of(train(config, seed=1)[0]))


def test_training_leaves_torchs_own_generator_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    train()
    assert torch.equal(torch.randn(3), expected)


def test_the_history_has_a_value_per_epoch_and_the_chosen_one_is_its_best() -> None:
    net, trained = train()
    losses = trained.history["val_log_loss"]
    assert [len(values) for values in trained.history.values()] == [4, 4, 4]
    assert trained.chosen["epoch"] == 1 + int(np.argmin(losses))
    val = scans_of(32, 2)
    found = score(BINARY, val.target, predict_network(net, val.x, BINARY))
    assert found["log_loss"] == pytest.approx(min(losses), abs=1e-9)


@pytest.mark.parametrize(("rule", "expected"), [("log_loss", 2), ("auc", 3), ("last", 4)])
def test_each_rule_keeps_its_epoch_and_of_equals_the_earlier(
    rule: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores an epoch: log loss is best in 2 and 4, AUC in 3 and 4."""
    told = iter([(0.9, 0.5), (0.2, 0.7), (0.5, 0.8), (0.2, 0.8)])

    def scripted(*_: object) -> dict[str, float]:
        log_loss, auc = next(told)
        return {"log_loss": log_loss, "auc": auc}

    monkeypatch.setattr(keeper, "score", scripted)
    _, trained = train(QUICK.model_copy(update={"choose_by": rule}))
    assert trained.chosen["epoch"] == expected


def test_where_validation_has_one_class_log_loss_chooses_and_a_note_says_so() -> None:
    for rule, notes in (("log_loss", 0), ("auc", 1), ("last", 0)):
        config = QUICK.model_copy(update={"choose_by": rule})
        trained = train_network(
            net_of(), BINARY, scans_of(32, 1), scans_of(8, 2, share=0), config, seed=0
        )
        best = 1 + int(np.argmin(trained.history["val_log_loss"]))
        assert best > 1
        assert trained.chosen["epoch"] == (4 if rule == "last" else best)
        assert len(trained.notes) == notes
        assert all("chosen by log_loss" in note for note in trained.notes)


@pytest.mark.parametrize(("n", "steps"), [(4, 40), (160, 40), (320, 80)])
def test_small_training_sets_still_get_their_steps(n: int, steps: int) -> None:
    """4 epochs of 16 a batch: 320 scans have 80 steps of their own, fewer get min_steps."""
    net = net_of()
    count = 0

    def counted(module: nn.Module, *_: object) -> None:
        nonlocal count
        count += module is net and net.training  # its averaged copy carries this hook too

    net.register_forward_hook(counted)
    train(n=n, net=net)
    assert count == steps


def test_averaged_weights_come_with_their_own_statistics() -> None:
    """With averaging the kept network is another one than without, and no worse calibrated."""
    averaged, _ = train(QUICK.model_copy(update={"ema_decay": 0.9, "choose_by": "last"}))
    plain, _ = train(QUICK.model_copy(update={"ema_decay": 0.0, "choose_by": "last"}))
    means = [net.get_buffer("norm.running_var") for net in (averaged, plain)]
    assert not torch.equal(means[0], means[1])
    assert torch.allclose(means[0], means[1], rtol=0.5)
    assert not np.array_equal(weights_of(averaged), weights_of(plain))


def test_a_loss_that_is_not_finite_stops_with_advice() -> None:
    with pytest.raises(TrainingError, match="epoch 1") as caught:
        broken = net_of()
        nn.init.constant_(broken.classifier.weight, float("nan"))
        train(net=broken)
    assert caught.value.code == "training.diverged"
    assert "learning_rate" in caught.value.fix


@settings(max_examples=60, deadline=None)
@given(
    epochs=st.integers(1, 10),
    steps=st.integers(1, 10),
    warm_up=st.one_of(
        st.sampled_from([1 / n for n in range(2, 11)] + [0.01, 0.25, 0.99]),
        st.floats(0.001, 0.999),
    ),
)
@example(epochs=2, steps=2, warm_up=0.25)  # a rise of one step: 0 / 0 in OneCycleLR
@example(epochs=3, steps=1, warm_up=1 / 3)
def test_the_rate_is_between_zero_and_its_peak_for_any_number_of_steps(
    epochs: int, steps: int, warm_up: float
) -> None:
    config = TrainConfig(epochs=epochs, warm_up=warm_up, learning_rate=0.5)
    optimiser, schedule = training._optimiser(nn.Linear(2, 2), config, steps, {})
    rates = []
    for _ in range(epochs * steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert all(0 < rate <= 0.5 for rate in rates)
    peak = int(np.argmax(rates))
    assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)
    assert abs(peak - max(0.0, warm_up * epochs * steps - 1)) <= 1


def test_one_epoch_of_four_steps_trains() -> None:
    """The default warm-up of a quarter is one step here."""
    _, trained = train(TrainConfig(epochs=1, min_steps=4, batch_size=16))
    assert np.isfinite(trained.history["train_loss"]).all()


def test_a_loss_that_does_not_fit_the_task_is_refused_before_training() -> None:
    with pytest.raises(LossError, match=r"train\.loss is cumulative"):
        train_network(
            net_of(),
            Task(kind="multi-class", class_names=("a", "b")),
            scans_of(8, 1),
            scans_of(8, 2),
            QUICK.model_copy(update={"loss": "cumulative"}),
            seed=0,
        )


@pytest.mark.parametrize(
    "changes",
    [{"class_weights": "balanced"}, {"sampling": "balanced"}, {"loss": "focal"}],
    ids=str,
)
def test_each_way_to_handle_rare_classes_learns_and_knows_that_they_are_rare(
    changes: dict[str, str],
) -> None:
    net = net_of()
    config = QUICK.model_copy(update={"epochs": 6, "min_steps": 120, **changes})
    rare = [scans_of(n, n, share=0.2) for n in (60, 40, 400)]
    if config.balances:
        start_balanced(net, BINARY, rare[0].target)
    train_network(net, BINARY, rare[0], rare[1], config, seed=0)
    rows = predict_network(net, rare[2].x, BINARY)
    assert score(BINARY, rare[2].target, rows)["auc"] > 0.95
    if "loss" not in changes:  # focal draws probabilities together
        assert abs(rows[:, 1].mean() - 0.2) < 0.06


def test_predictions_are_in_evaluation_mode_whatever_the_batch() -> None:
    net, _ = train()
    net.train()
    x = scans_of(300, 4).x  # more than one batch
    rows = predict_network(net, x, BINARY)
    assert net.training
    assert np.array_equal(rows, predict_network(net, x, BINARY))  # no dropout
    alone = np.concatenate([predict_network(net, row[None], BINARY) for row in x])
    assert np.allclose(rows, alone, rtol=0, atol=1e-6)
    assert np.allclose(rows.sum(axis=1), 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("edge", [8, 4])
def test_bf16_is_used_only_where_its_gradients_can_be_trusted(
    edge: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second convolution of 5 sees edge - 2 voxels: 6 are enough, 2 are not."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 5, padding=2))
    x = torch.zeros(1, 1, edge, edge)
    monkeypatch.setattr(training, "computes_bf16", lambda device: True)
    assert training._uses_bf16("auto", net, x) == (edge == 8)
    assert not training._uses_bf16("fp32", net, x)
    if edge == 8:
        assert training._uses_bf16("bf16", net, x)
    else:
        with pytest.raises(TrainingError, match="kernel longer than its input") as caught:
            training._uses_bf16("bf16", net, x)
        assert caught.value.code == "training.unsafe_bf16"
    monkeypatch.setattr(training, "computes_bf16", lambda device: False)
    assert not training._uses_bf16("auto", net, x)


def test_compile_trains_the_same_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch.compile returns is trained, and its weights are the network's."""
    compiled: list[nn.Module] = []

    def compile_(net: nn.Module) -> nn.Module:
        compiled.append(net)
        return net

    monkeypatch.setattr(torch, "compile", compile_)
    plain, _ = train()
    assert not compiled
    fused, _ = train(QUICK.model_copy(update={"compile": True}))
    assert compiled == [fused]
    assert np.array_equal(weights_of(plain), weights_of(fused))


def test_rates_slow_parameters_down_and_frozen_ones_stay() -> None:
    def moved(rates: dict[str, float]) -> dict[str, float]:
        net = net_of()
        net.norm.requires_grad_(False)
        before = {name: value.detach().clone() for name, value in net.named_parameters()}
        still = QUICK.model_copy(update={"epochs": 1, "min_steps": 2, "ema_decay": 0.0})
        train_network(net, BINARY, scans_of(48, 1), scans_of(32, 2), still, seed=0, rates=rates)
        return {n: float((v.detach() - before[n]).abs().max()) for n, v in net.named_parameters()}

    plain, slowed = moved({}), moved({"convolution.weight": 0.01})
    assert plain["norm.weight"] == slowed["norm.bias"] == 0
    assert slowed["convolution.weight"] == pytest.approx(
        0.01 * plain["convolution.weight"], rel=0.3
    )
    assert slowed["classifier.weight"] > 0.3 * plain["classifier.weight"]
