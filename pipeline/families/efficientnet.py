"""EfficientNet and EfficientNet-Lite, in the names of their published PyTorch weights.

Tan and Le 2019, "EfficientNet: rethinking model scaling for convolutional neural networks"; the
Lite variants (no squeeze-and-excitation, ReLU6, a stem and head of fixed size) are those of
tensorflow/tpu, models/official/efficientnet/lite. Padding is worked out from each input, as
TensorFlow does, so the weights are right at every image size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Final, cast

from torch import Tensor, nn
from torch.nn import functional

_HEAD_WIDTH: Final = 1280
_NORM_EPSILON: Final = 1e-3  # TensorFlow's, with which the weights were trained
_NORM_MOMENTUM: Final = 0.01
_SQUEEZE: Final = 0.25  # of a block's input width

# (blocks, kernel, stride, expansion, width) of each stage: efficientnet_builder.py.
_STAGES: Final = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNet(nn.Module):
    """(N, 3, I, J) -> (N, n_classes) logits; eight stages, the last one the head.

    Args:
        width: Multiplier of the stages' widths (B0, Lite0: 1.0).
        depth: Multiplier of the stages' numbers of blocks (B0, Lite0: 1.0).
        lite: Whether it is a Lite variant.
        n_classes: Of the classifier.
    """

    def __init__(self, width: float, depth: float, *, lite: bool, n_classes: int = 1000) -> None:
        super().__init__()
        self.activation: nn.Module = nn.ReLU6() if lite else nn.SiLU()
        before = 32 if lite else _divisible(32 * width)
        self.conv_stem = SameConv2d(3, before, 3, stride=2)
        self.bn0 = _norm(before)
        self.lengths: list[int] = []
        blocks: list[nn.Module] = []
        for number, (repeats, kernel, stride, expansion, base) in enumerate(_STAGES):
            fixed = lite and number in (0, len(_STAGES) - 1)
            self.lengths.append(repeats if fixed else math.ceil(repeats * depth))
            for i in range(self.lengths[-1]):
                wide = _divisible(base * width)
                step = stride if i == 0 else 1
                blocks.append(Block(before, wide, kernel, step, expansion, lite=lite))
                before = wide
        self.blocks = nn.ModuleList(blocks)
        head = _HEAD_WIDTH if lite else _divisible(_HEAD_WIDTH * width)
        self.conv_head: nn.Module = SameConv2d(before, head, 1)
        self.bn1: nn.Module = _norm(head)
        self.fc: nn.Module = nn.Linear(head, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        *_, last = self.stages(x)
        logits: Tensor = self.fc(last.mean(dim=tuple(range(2, x.ndim))))
        return logits

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """Of each stage the widened map of its last block, where it is rectified; of the head."""
        x = self.activation(self.bn0(self.conv_stem(x)))
        for *first, last in self._blocks_of_stages():
            for block in first:
                x = block(x)
            inner = last.filtered(x)
            yield inner
            if last.narrows:
                x = last.narrowed(x, inner)
        if self._has_head():
            yield self.activation(self.bn1(self.conv_head(x)))

    def parts(self) -> list[list[nn.Module]]:
        """The blocks of each stage; the stem belongs to the first."""
        parts: list[list[nn.Module]] = [list(blocks) for blocks in self._blocks_of_stages()]
        parts[0] = [nn.ModuleList([self.conv_stem, self.bn0]), *parts[0]]
        if self._has_head():
            parts.append([nn.ModuleList([self.conv_head, self.bn1])])
        return parts

    def truncate(self, n_stages: int) -> None:
        """Forget the classifier and all that lies above the map of stage ``n_stages``."""
        self.fc = nn.Identity()
        if n_stages <= len(_STAGES):
            self.conv_head, self.bn1 = nn.Identity(), nn.Identity()
            self.lengths = self.lengths[:n_stages]
            self.blocks = self.blocks[: sum(self.lengths)]
            last = self.blocks[-1]
            assert isinstance(last, Block)
            last.stop_narrowing()

    def _has_head(self) -> bool:
        return not isinstance(self.conv_head, nn.Identity)

    def _blocks_of_stages(self) -> Iterator[list[Block]]:
        blocks = iter(cast("list[Block]", list(self.blocks)))
        for length in self.lengths:
            yield list(itertools.islice(blocks, length))


class Block(nn.Module):
    """Inverted residual: widen, filter each channel, narrow (Sandler et al. 2018, MobileNetV2)."""

    def __init__(
        self, width: int, wider: int, kernel: int, stride: int, expansion: int, *, lite: bool
    ) -> None:
        super().__init__()
        inner = width * expansion
        self.activation: nn.Module = nn.ReLU6() if lite else nn.SiLU()
        self._expands = expansion != 1
        self._adds = stride == 1 and width == wider
        self._squeezes = not lite
        self.narrows = True
        if self._expands:
            self.expand_conv = SameConv2d(width, inner, 1)
            self.bn0 = _norm(inner)
        self.depthwise_conv = SameConv2d(inner, inner, kernel, stride=stride, groups=inner)
        self.bn1 = _norm(inner)
        if self._squeezes:
            narrow = max(1, int(width * _SQUEEZE))
            self.se_reduce = SameConv2d(inner, narrow, 1, bias=True)
            self.se_expand = SameConv2d(narrow, inner, 1, bias=True)
        self.project_conv: nn.Module = SameConv2d(inner, wider, 1)
        self.bn2: nn.Module = _norm(wider)

    def forward(self, x: Tensor) -> Tensor:
        """Features of a batch."""
        return self.narrowed(x, self.filtered(x))

    def filtered(self, x: Tensor) -> Tensor:
        """The widened map after its filters."""
        inner: Tensor = self.activation(self.bn0(self.expand_conv(x))) if self._expands else x
        inner = self.activation(self.bn1(self.depthwise_conv(inner)))
        if not self._squeezes:
            return inner
        mean = inner.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
        gate: Tensor = self.se_expand(self.activation(self.se_reduce(mean))).sigmoid()
        return inner * gate

    def narrowed(self, x: Tensor, inner: Tensor) -> Tensor:
        """The block's output, from its input and ``filtered(input)``."""
        out: Tensor = self.bn2(self.project_conv(inner))
        return x + out if self._adds else out

    def stop_narrowing(self) -> None:
        """Forget what makes the output of the widened map."""
        self.narrows = False
        self.project_conv, self.bn2 = nn.Identity(), nn.Identity()


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: ceil(edge / stride) places, the odd pixel last."""

    def __init__(
        self,
        width: int,
        wider: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(width, wider, kernel, stride=stride, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Features of a batch."""
        return super().forward(pad_same(x, self.kernel_size, self.stride))


def pad_same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Zeros round (N, C, I, J[, K]), so that a convolution has ceil(edge / stride) places."""
    if max(kernel) == 1:
        return x
    padding: list[int] = []
    for edge, k, step in zip(x.shape[2:], kernel, stride, strict=True):
        added = max((math.ceil(edge / step) - 1) * step + k - edge, 0)
        padding = [added // 2, added - added // 2, *padding]  # functional.pad: last axis first
    return functional.pad(x, padding)


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=_NORM_EPSILON, momentum=_NORM_MOMENTUM)


def _divisible(width: float, by: int = 8) -> int:
    """The nearest multiple of ``by``, but never less than 90 % of the width (MobileNet's rule)."""
    near = max(by, int(width + by / 2) // by * by)
    return near + by if near < 0.9 * width else near
