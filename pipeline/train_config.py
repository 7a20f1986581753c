"""How a network is trained, as configs say it."""

from __future__ import annotations

import math
from typing import Final, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from data_prep.config import Config
from pipeline.balance import ClassWeights
from pipeline.losses import LossName

_BRIEF_STEPS: Final = 4


class TrainConfig(Config):
    """How a network is trained: AdamW on a one-cycle schedule, weights averaged as they come.

    Attributes:
        epochs: Passes over the training scans; the averaged network is looked at after each.
        min_steps: Optimiser steps in all are at least this: where an epoch of a small training
            set has fewer than ``min_steps / epochs``, it goes over the scans several times.
        batch_size: Scans a step (all of them, where there are fewer).
        learning_rate: Peak of the cycle (Smith and Topin 2018).
        warm_up: Share of the steps in which the rate rises.
        weight_decay: AdamW's (Loshchilov and Hutter 2019).
        label_smoothing: Share of each target that is spread over all classes. It makes
            probabilities more doubtful than the scans are: without it, validation log loss was
            lower on all three cohorts of the leaderboard.
        loss: ``cross_entropy`` (of each label, for multi-label tasks); ``focal`` (Lin et al. 2017);
            for ordinal tasks also ``cumulative`` (cross-entropy of "is it above class k?") and
            ``earth_mover`` (Hou et al. 2017). ``auto``: cumulative for ordinal tasks, else
            cross_entropy. See ``pipeline.losses``.
        focal_gamma: Of ``focal``; 0 makes it cross-entropy.
        class_weights: ``none``, or ``balanced``: each class has the same weight in the loss (each
            label's two answers, for multi-label tasks). The probabilities that come of it are
            corrected back to the training frequencies: they mean the same as without, and a
            decision in favour of rare classes is a matter of the threshold.
        sampling: ``natural``, or ``balanced``: each class is as frequent in a batch; corrected in
            the same way. A multi-label task has no such draw.
        ema_decay: Of the exponential moving average of weights, per step; 0: no averaging.
        choose_by: ``log_loss`` or ``auc`` on validation decides the epoch that is kept (the
            earlier of equals); ``last`` keeps the last. Where validation scans lack a class they
            have no AUC: then it is log_loss, and a note says so.
        precision: ``fp32``, ``bf16``, or ``auto``: bf16 where the hardware computes it itself and
            its gradients of this network can be trusted.
        compile: Let torch.compile fuse the network. Off by default: on a processor it takes 20 to
            30 s and gained a bf16 ResNet-18 under 5 % of speed; it is for long runs on a GPU.
    """

    epochs: PositiveInt = 30
    min_steps: PositiveInt = 300
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 3e-3
    warm_up: float = Field(default=0.25, gt=0, lt=1)
    weight_decay: NonNegativeFloat = 0.05
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    loss: LossName = "auto"
    focal_gamma: NonNegativeFloat = 2.0
    class_weights: ClassWeights = "none"
    sampling: Literal["natural", "balanced"] = "natural"
    ema_decay: float = Field(default=0.98, ge=0, lt=1)
    choose_by: Literal["log_loss", "auc", "last"] = "log_loss"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False

    def steps_per_epoch(self, n_scans: int) -> int:
        """Optimiser steps of an epoch on that many scans."""
        needed = math.ceil(self.min_steps / self.epochs)
        return max(math.ceil(n_scans / self.batch_size), needed)

    def scans_seen(self, n_scans: int) -> int:
        """Scans that all steps together see, training on ``n_scans``."""
        return self.epochs * self.steps_per_epoch(n_scans) * min(self.batch_size, n_scans)

    def brief(self, steps: int = _BRIEF_STEPS) -> TrainConfig:
        """The same for one epoch of a few steps (more, where they do not see every scan)."""
        return self.model_copy(update={"epochs": 1, "min_steps": steps})

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.class_weights == self.sampling == "balanced":
            raise ValueError("class_weights and sampling are both balanced: one of them does it")
        return self

    @property
    def balances(self) -> bool:
        """True where all classes count the same in training, by weights or by sampling."""
        return "balanced" in (self.class_weights, self.sampling)
