"""Training of a network on scans that lie in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from data_prep.files import digest
from data_prep.progress import Progress, silent
from data_prep.stage import medcurve_version
from data_prep.task import Task
from pipeline.augment import AugmentConfig
from pipeline.batches import batches, draw_order, skip
from pipeline.checkpoint import Checkpointing, Checkpoints, TrainingState, weights_digest
from pipeline.dataset import Scans
from pipeline.device import best_device, bf16_is_safe, computes_bf16, deterministic, seeded
from pipeline.keeper import Keeper, TrainingError
from pipeline.losses import Loss, refuse_unfit, training_loss
from pipeline.prediction import memory_format, put_channels_last
from pipeline.train_config import TrainConfig


@dataclass(frozen=True)
class Trained:
    """What training did.

    Attributes:
        history: ``train_loss``, ``val_log_loss``, ``val_auc``: one value an epoch.
        chosen: ``epoch`` that was kept, counted from 1.
        seconds_before: Time that epochs out of a checkpoint had taken.
        notes: What became of checkpoints, and of the choice of an epoch, in words.
    """

    history: Mapping[str, list[float]]
    chosen: Mapping[str, float]
    seconds_before: float = 0.0
    notes: tuple[str, ...] = ()


def train_network(
    net: nn.Module,
    task: Task,
    train: Scans,
    val: Scans | int,
    config: TrainConfig,
    *,
    seed: int,
    augmentation: AugmentConfig | None = None,
    rates: Mapping[str, float] | None = None,
    progress: Progress = silent,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Train ``net`` in place and leave in it the weights that validation chose.

    The scans stay on the device; batches are drawn and changed there. Batch norm's running
    statistics are averaged with the weights, so that the averaged network is whole. Everything
    random follows from ``seed``.

    Args:
        net: (N, C, I, J[, K]) float32 -> (N, n_classes) logits.
        task: Softmax over classes or sigmoid for each label, and what ``loss: auto`` means.
        train: To learn from.
        val: To choose the epoch by; or the epoch at which to stop, counted from 1, which then
            looks at no other scans. The schedule is that of all epochs.
        config: How.
        seed: Decides batches, augmentation and dropout.
        augmentation: Random changes of training scans, or None.
        rates: Parameter's name -> factor on its learning rate; 1 for those that are not named.
            Parameters that need no gradient stay as they are.
        progress: Told (epochs done, epochs in all).
        checkpoints: Where to keep the way back; a checkpoint of this very training that lies there
            is gone on from, to the same bits.

    Raises:
        TrainingError: ``training.diverged`` if the loss or a probability is not finite;
            ``training.unsafe_bf16`` if bf16 is demanded where its gradients are wrong.
        LossError: If the loss or the sampling does not fit the task.
    """
    refuse_unfit(task, config.loss, config.sampling)
    device = best_device()
    with seeded(seed, device), deterministic(device):
        put_channels_last(net.to(device), train.x.ndim)
        steps = config.steps_per_epoch(len(train))
        order = draw_order(
            train.target,
            balanced=config.sampling == "balanced",
            generator=torch.Generator().manual_seed(seed),
        )
        changes = torch.Generator(device).manual_seed(seed)
        settings = {
            "config": config.model_dump(mode="json"),
            "seed": seed,
            "augmentation": augmentation and augmentation.model_dump(mode="json"),
            "rates": dict(rates or {}),
        }
        identity = _identity(checkpoints, net, task, (train, val), settings)
        drawn = batches(task, train, order, config.batch_size, augmentation, changes)
        loss_of = training_loss(
            task,
            train.target,
            name=config.loss,
            gamma=config.focal_gamma,
            smoothing=config.label_smoothing,
            weighted=config.class_weights == "balanced",
            shifted=config.balances,
            device=device,
        )
        optimiser, schedule = _optimiser(net, config, steps, rates or {})
        moving = get_ema_multi_avg_fn(config.ema_decay)  # type: ignore[no-untyped-call]
        average = AveragedModel(net, multi_avg_fn=moving, use_buffers=True)
        forward = cast("nn.Module", torch.compile(net)) if config.compile else net
        bf16 = _uses_bf16(config.precision, net, train.x[:1].to(device))
        keeper = Keeper(config.choose_by)
        state = TrainingState(net, average, optimiser, schedule, changes, keeper)
        checkpointing = Checkpointing(checkpoints, state, identity)
        begin = checkpointing.resume()
        skip(order, begin * steps * min(config.batch_size, len(train)))
        epochs = val if isinstance(val, int) else config.epochs
        for epoch in range(begin, epochs):
            progress(epoch, epochs)
            of_epoch = itertools.islice(drawn, steps)
            loss_of_epoch = _epoch(state, average, forward, loss_of, of_epoch, bf16=bf16)
            if isinstance(val, int):
                keeper.take(average.module, loss_of_epoch)
            else:
                keeper.look_at(average.module, task, val, loss_of_epoch)
            checkpointing.after(epoch + 1)
        progress(epochs, epochs)
        net.load_state_dict(keeper.weights)
        return Trained(
            history=keeper.history,
            chosen={"epoch": float(keeper.epoch)},
            seconds_before=checkpointing.seconds_before,
            notes=(*checkpointing.notes, *keeper.notes),
        )


def _epoch(
    state: TrainingState,
    average: AveragedModel,
    forward: nn.Module,
    loss_of: Loss,
    drawn: Iterable[tuple[Tensor, Tensor]],
    *,
    bf16: bool,
) -> float:
    """One optimiser step for each batch; the mean loss. ``forward`` may be the compiled network."""
    state.net.train()
    losses = []
    for x, target in drawn:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            logits = forward(x.contiguous(memory_format=memory_format(x.ndim)))
        loss = loss_of(logits.float(), target)
        state.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimiser.step()
        state.schedule.step()
        average.update_parameters(state.net)
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


def _identity(
    checkpoints: Checkpoints | None,
    net: nn.Module,
    task: Task,
    scans: Sequence[Scans | int],
    settings: Mapping[str, object],
) -> str:
    """Digest of what decides the training's bits; nothing is worked out where nobody asks."""
    if checkpoints is None:
        return ""
    return digest(
        {
            "key": checkpoints.key,
            "weights": weights_digest(net),
            "task": task.model_dump(mode="json"),
            "scans": [s if isinstance(s, int) else s.scan_ids.tolist() for s in scans],
            **settings,
            "versions": [medcurve_version(), torch.__version__],
            "machine": [best_device().type, torch.get_num_threads()],
        }
    )


def _uses_bf16(precision: str, net: nn.Module, x: Tensor) -> bool:
    if precision == "fp32" or (precision == "auto" and not computes_bf16(x.device)):
        return False
    safe = bf16_is_safe(net, x)
    if precision == "bf16" and not safe:
        raise TrainingError(
            "training.unsafe_bf16",
            "train.precision is bf16, but a convolution of this network has a kernel longer than "
            "its input, for which the processor's bf16 gradients are wrong",
            fix="set train.precision: auto (which then means fp32), or use fewer stages",
        )
    return safe


def _optimiser(
    net: nn.Module, config: TrainConfig, epoch_steps: int, rates: Mapping[str, float]
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    # Decay is for filters: on a norm's gain or a bias it does harm (Goyal et al. 2017, 5.3).
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((decay, rates.get(name, 1.0)), []).append(parameter)
    optimiser = torch.optim.AdamW(
        [{"params": members, "weight_decay": decay} for (decay, _), members in groups.items()],
        lr=config.learning_rate,
        fused=True,
    )
    total, rising = config.epochs * epoch_steps, config.warm_up
    if rising * total == 1:
        # OneCycleLR divides by (share x steps - 1). A rise of one step is the limit from above: it
        # begins at the lowest rate and is at the peak in the next step.
        rising *= 1 + 1e-6
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=[config.learning_rate * rate for _, rate in groups],
        total_steps=total,
        pct_start=rising,
    )
    return optimiser, schedule
