"""What training of a network minimises: the losses, and which one fits which task.

A loss of single scans takes logits (N, K) and soft targets (N, K); ``training_loss`` joins it with
label smoothing and class weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from data_prep.errors import MedcurveError
from data_prep.task import Task
from pipeline.balance import answer_weights, prior_shift

LossName = Literal["auto", "cross_entropy", "focal", "cumulative", "earth_mover"]
Loss = Callable[[Tensor, Tensor], Tensor]

_NEED_ORDER: Final = ("cumulative", "earth_mover")


class LossError(MedcurveError):
    """A loss, or a way to draw batches, that does not fit the task."""


def refuse_unfit(task: Task, loss: LossName, sampling: str) -> None:
    """Refuse what has no meaning for this kind of task.

    Raises:
        LossError: ``training.loss_needs_order`` or ``training.sampling_needs_classes``.
    """
    if loss in _NEED_ORDER and task.kind in ("multi-class", "multi-label"):
        raise LossError(
            "training.loss_needs_order",
            f"params.train.loss is {loss}, which measures how far apart classes are; the classes "
            f"of a {task.kind} task have no order",
            fix="set params.train.loss: auto, or state an ordinal task in the data config",
        )
    if sampling == "balanced" and task.is_multi_label:
        raise LossError(
            "training.sampling_needs_classes",
            "params.train.sampling is balanced, but a scan of a multi-label task has several "
            "labels: no draw of scans makes each label as frequent as its absence",
            fix="set params.train.sampling: natural and class_weights: balanced, which weighs "
            "each label's two answers alike",
        )


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """(N,) ``-sum_k t_k log p_k`` of the softmax."""
    return -(target * logits.log_softmax(dim=1)).sum(dim=1)


def focal(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    """(N,) ``-sum_k t_k (1 - p_k)^gamma log p_k`` (Lin et al. 2017): surprises count for more.

    It is no proper loss: where it is least, probabilities are drawn towards 1/K.
    """
    # 1 - p_k is the sum of the other classes: as such it is never rounded to 0, where a power
    # below 1 has no slope.
    own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    others = logits[:, None, :].masked_fill(own, -torch.inf).logsumexp(dim=2)
    log_rest = others - logits.logsumexp(dim=1, keepdim=True)
    return -(target * (gamma * log_rest).exp() * logits.log_softmax(dim=1)).sum(dim=1)


def cumulative(logits: Tensor, target: Tensor) -> Tensor:
    """(N,) mean binary cross-entropy of the K - 1 questions "is it above class k?".

    The answers come from one softmax, so that they never contradict each other; the further off a
    class is, the more of them are wrong. A sum of proper losses, it is proper itself.
    """
    whole = logits.logsumexp(dim=1)
    below = target.cumsum(dim=1)
    asked = [
        below[:, k] * (logits[:, : k + 1].logsumexp(dim=1) - whole)
        + (1 - below[:, k]) * (logits[:, k + 1 :].logsumexp(dim=1) - whole)
        for k in range(logits.shape[1] - 1)
    ]
    return -torch.stack(asked).mean(dim=0)


def earth_mover(logits: Tensor, target: Tensor) -> Tensor:
    """(N,) squared earth mover's distance, ``sum_k (P_k - T_k)^2`` of cumulative probabilities.

    Hou et al. 2017, "Squared earth mover's distance-based loss for training deep neural networks".
    It is the ranked probability score (Epstein 1969), which is proper.
    """
    gap = (logits.softmax(dim=1) - target).cumsum(dim=1)
    return gap[:, :-1].square().sum(dim=1)  # the last of both is 1


def label_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """(N, L) binary cross-entropy of each label."""
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")


def label_focal(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    """(N, L) focal loss of each label."""
    yes, no = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    return -(target * (gamma * no).exp() * yes + (1 - target) * (gamma * yes).exp() * no)


def training_loss(
    task: Task,
    target: NDArray[np.int64],
    *,
    name: LossName,
    gamma: float,
    smoothing: float,
    weighted: bool,
    shifted: bool,
    device: torch.device,
) -> Loss:
    """The loss of a batch: (logits (N, K), target columns (N, K)) -> scalar.

    Weights are relative to the whole training set (mean 1), not to the batch: the expected gradient
    is then that of the balanced loss, however few scans of a class a batch has.

    Where classes are balanced, the logits that are compared with the targets are those of the
    network less ``prior_shift``. So the network itself learns logits for the training frequencies,
    and its validation scores mean what they always mean: exactly for proper losses and endless
    data. Label smoothing, ``focal`` and few steps hold logits back, which leaves rare classes too
    rare: what remains is for a bias that is fitted without weights.

    Args:
        task: Softmax of all classes, or a sigmoid for each label.
        target: Of the training scans, for their frequencies.
        name: ``auto`` is ``cumulative`` for ordinal tasks and ``cross_entropy`` for all others.
        gamma: Of ``focal``.
        smoothing: Share of each target that is spread over all classes (a label's two answers).
        weighted: Whether all classes weigh the same.
        shifted: Whether they do, by weights or by the draw of batches.
        device: Where logits come from.
    """
    by_label = task.is_multi_label
    each = _of_scans(task, name, gamma)
    columns = task.one_hot(target)
    no, yes = (
        torch.from_numpy(weight).float().to(device)
        for weight in answer_weights(columns, by_label=by_label)
    )
    shift = torch.from_numpy(prior_shift(columns, by_label=by_label)).float().to(device)
    spread = smoothing / (2 if by_label else task.n_classes)

    def loss(logits: Tensor, wanted: Tensor) -> Tensor:
        soft = wanted * (1 - smoothing) + spread
        values = each(logits - shift if shifted else logits, soft)
        if not weighted:
            return values.mean()
        weights = torch.where(wanted == 1, yes, no)
        return (values * (weights if by_label else weights.sum(dim=1))).mean()

    return loss


def start_balanced(net: nn.Module, task: Task, target: NDArray[np.int64]) -> None:
    """Let a balanced training of a new network begin with all classes equally likely, as others do.

    Its loss sees logits less ``prior_shift``: with the shift in the network, which then need not
    learn it, the difference starts at the network's own logits.
    """
    shift_logits(net, prior_shift(task.one_hot(target), by_label=task.is_multi_label))


def shift_logits(net: nn.Module, shift: NDArray[np.float64]) -> None:
    """Add ``shift`` (K,) to a network's logits, in the bias of its last layer of K outputs."""
    heads = [
        module
        for module in net.modules()
        if isinstance(module, nn.Linear)
        and module.bias is not None
        and module.out_features == len(shift)
    ]
    with torch.no_grad():
        for head in heads[-1:]:
            head.bias.add_(torch.from_numpy(shift).to(head.bias))


def _of_scans(task: Task, name: LossName, gamma: float) -> Loss:
    if name == "focal":
        form = label_focal if task.is_multi_label else focal
        return lambda logits, target: form(logits, target, gamma)
    if task.is_multi_label:
        return label_cross_entropy
    if name == "earth_mover":
        return earth_mover
    if name == "cumulative" or (name == "auto" and task.kind == "ordinal"):
        return cumulative
    return cross_entropy
