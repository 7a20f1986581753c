"""The number that an explanation explains: how strongly a model is for one class."""

from __future__ import annotations

import copy
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data_prep.task import Task
from pipeline.families.base import Family

_LEAST: Final = 1e-12  # probability whose odds are taken


class LogOdds(nn.Module):
    """(N, C, I, J[, K]) scans -> (N, n_classes): log-odds of each class against all others.

    A softmax does not see what is added to all logits alike, so a class's own logit is not what the
    model says of it: its gradient may point at what raises all of them. The log-odds of class c,
    ``logit_c - log(sum of exp(logit) over the others)``, are ``log(p_c / (1 - p_c))`` exactly, and
    do not flatten out as the probability does where the model is sure.
    """

    def __init__(self, net: nn.Module, task: Task) -> None:
        super().__init__()
        self.net = net
        self._multi_label = task.is_multi_label

    def forward(self, x: Tensor) -> Tensor:
        """Log-odds (N,) of a batch (N, C, I, J[, K])."""
        logits: Tensor = self.net(x)
        if self._multi_label:
            return logits
        if logits.shape[1] == 1:
            return torch.cat([-logits, logits], dim=1)
        own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
        others = logits[:, None, :].masked_fill(own, -torch.inf).logsumexp(dim=2)
        return logits - others


def log_odds_net(family: Family[Any]) -> LogOdds | None:
    """A copy of what ``family`` computes that can be differentiated and hooked; None: nothing."""
    scorer = family.scorer()
    if scorer is None:
        return None
    net = LogOdds(copy.deepcopy(scorer), family.task).eval().requires_grad_(False)
    for module in net.modules():
        if getattr(module, "inplace", False):  # it would overwrite the map that is looked at
            module.inplace = False  # type: ignore[assignment]
    return net


def log_odds(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(p / (1 - p)), held within what float64 tells from 0 and 1."""
    held = probability.clip(_LEAST, 1 - _LEAST)
    return np.asarray(np.log(held) - np.log1p(-held))
