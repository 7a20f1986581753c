"""A plain or residual convolutional network whose every part is a parameter."""

from __future__ import annotations

import math
from typing import Final, Literal

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional

from pipeline.families.base import FamilyError, FamilyParams

# Edge in voxels above which an "auto" stem goes over the scan in larger steps: (2D, 3D).
_STEM_EDGE: Final = (32, 16)

Edges = tuple[int, ...]


class ConvNetParams(FamilyParams):
    """What a ``ConvNet`` looks like.

    Attributes:
        widths: Channels of each stage; their number is the network's depth.
        convolutions: In each stage.
        residual: Whether a stage's input is added to its output (He et al. 2016).
        kernel: Edge of the convolutions in voxels, odd.
        padding: What lies beyond the border: ``zero``, ``reflect``, ``replicate`` or ``circular``
            keep the size; ``valid`` uses no voxel from beyond and ``full`` all that touch the scan.
        stem_stride: Step of the first convolution, or ``auto``: the least that leaves at most 32
            voxels along an axis in 2D, 16 in 3D.
        pooling: Between stages: ``max`` or ``average`` of 2 voxels along each axis, ``stride`` (the
            next stage's first convolution makes steps of 2) or ``none``.
        norm: After each convolution: ``batch``, ``group`` (of at most 8 groups) or ``none``.
        head: What the classifier sees of the last stage: its ``average`` or ``max`` over all
            voxels, or each voxel (``flat``: fully connected, so it knows where things are).
        dropout: Share of the classifier's inputs that are dropped in training.
    """

    widths: tuple[PositiveInt, ...] = Field(default=(16, 32, 64), min_length=1)
    convolutions: PositiveInt = 2
    residual: bool = True
    kernel: PositiveInt = 3
    padding: Literal["zero", "reflect", "replicate", "circular", "valid", "full"] = "zero"
    stem_stride: PositiveInt | Literal["auto"] = "auto"
    pooling: Literal["max", "average", "stride", "none"] = "max"
    norm: Literal["batch", "group", "none"] = "batch"
    head: Literal["average", "max", "flat"] = "average"
    dropout: float = Field(default=0.2, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> ConvNetParams:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {self.kernel}")
        if self.residual and self.padding in ("valid", "full"):
            raise ValueError(
                f"residual needs a padding that keeps the size, not '{self.padding}': "
                "set residual: false, or padding: zero"
            )
        return self


class ConvNet(nn.Module):
    """(N, C, I, J[, K]) -> (N, n_classes) logits.

    Attributes:
        stem: First convolution.
        stages: One per width; the last one's output is what explanations look at.
        classifier: From what the head makes of it to logits.
    """

    def __init__(self, params: ConvNetParams, scan_shape: tuple[int, ...], n_classes: int) -> None:
        super().__init__()
        edges = scan_shape[1:]
        ndim = len(edges)
        stride = _stem_stride(params, edges)
        # A stem that makes steps still sees every voxel: its kernel is wider than its step.
        kernel = params.kernel if stride == 1 else max(params.kernel, 2 * stride + 1)
        width = params.widths[0]
        self.stem = nn.Sequential(*_convolution(params, ndim, scan_shape[0], width, kernel, stride))
        edges = _after_convolution(params, edges, kernel, stride, "the stem")
        stages: list[nn.Module] = []
        for number, wider in enumerate(params.widths):
            stage = Stage(params, ndim, width, wider, first=number == 0)
            edges = stage.edges_after(edges, f"stage {number + 1}")
            _refuse_lone_voxels(params, wider, edges)
            stages.append(stage)
            width = wider
        self.stages = nn.Sequential(*stages)
        self.head = params.head
        self.dropout = nn.Dropout(params.dropout)
        places = math.prod(edges) if params.head == "flat" else 1
        self.classifier = nn.Linear(width * places, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        places = self.stages(functional.relu(self.stem(x))).flatten(2)
        pooled = {
            "average": lambda: places.mean(dim=2),
            "max": lambda: places.amax(dim=2),
            "flat": lambda: places.flatten(1),
        }[self.head]()
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


class Stage(nn.Module):
    """Pooling (but in the first stage), then convolutions with an optional shortcut round them."""

    def __init__(
        self, params: ConvNetParams, ndim: int, width: int, wider: int, *, first: bool
    ) -> None:
        super().__init__()
        self._params = params
        self._halves = not first and params.pooling != "none"
        self._stride = 2 if self._halves and params.pooling == "stride" else 1
        self.pool = nn.Identity() if first else _pooling(params, ndim)
        self.convolutions = nn.ModuleList(
            nn.Sequential(
                *_convolution(
                    params,
                    ndim,
                    width if number == 0 else wider,
                    wider,
                    params.kernel,
                    self._stride if number == 0 else 1,
                )
            )
            for number in range(params.convolutions)
        )
        changes = width != wider or self._stride > 1
        self.shortcut: nn.Module = (
            _CONVOLUTION[ndim](width, wider, 1, stride=self._stride, bias=False)
            if params.residual and changes
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features of a batch."""
        x = self.pool(x)
        out = x
        for convolution in self.convolutions[:-1]:
            out = functional.relu(convolution(out))
        out = self.convolutions[-1](out)
        return functional.relu(out + self.shortcut(x) if self._params.residual else out)

    def edges_after(self, edges: Edges, place: str) -> Edges:
        """Size of the output along each axis, for an input of size ``edges``.

        Raises:
            FamilyError: ``family.scan_too_small``, naming ``place`` and the parameter.
        """
        if self._halves and self._stride == 1:
            if min(edges) < 2:
                pooling = self._params.pooling
                raise _too_small(place, edges, f"params.pooling: {pooling} takes two by two")
            edges = tuple(edge // 2 for edge in edges)
        for number in range(self._params.convolutions):
            stride = self._stride if number == 0 else 1
            edges = _after_convolution(self._params, edges, self._params.kernel, stride, place)
        return edges


_CONVOLUTION: Final = {2: nn.Conv2d, 3: nn.Conv3d}
_BATCH_NORM: Final = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOL: Final = {
    (2, "max"): nn.MaxPool2d,
    (3, "max"): nn.MaxPool3d,
    (2, "average"): nn.AvgPool2d,
    (3, "average"): nn.AvgPool3d,
}


def _convolution(
    params: ConvNetParams, ndim: int, width: int, wider: int, kernel: int, stride: int
) -> list[nn.Module]:
    """A convolution and its norm."""
    around = _around(params, kernel)
    mode = params.padding if params.padding in ("reflect", "replicate", "circular") else "zeros"
    bias = params.norm == "none"  # a norm has its own
    convolution = _CONVOLUTION[ndim](
        width, wider, kernel, stride=stride, padding=around, padding_mode=mode, bias=bias
    )
    if params.norm == "batch":
        return [convolution, _BATCH_NORM[ndim](wider)]
    if params.norm == "group":
        return [convolution, nn.GroupNorm(_groups(wider), wider)]
    return [convolution]


def _groups(width: int) -> int:
    """At most 8, and two channels or more in each where there are two."""
    groups = math.gcd(8, width)
    return groups // 2 if groups == width > 1 else groups


def _pooling(params: ConvNetParams, ndim: int) -> nn.Module:
    return nn.Identity() if params.pooling in ("stride", "none") else _POOL[ndim, params.pooling](2)


def _around(params: ConvNetParams, kernel: int) -> int:
    """Voxels added at each border."""
    return {"valid": 0, "full": kernel - 1}.get(params.padding, kernel // 2)


def _after_convolution(
    params: ConvNetParams, edges: Edges, kernel: int, stride: int, place: str
) -> Edges:
    around = _around(params, kernel)
    # What lies beyond the border is taken from the scan, which must hold it: reflected without
    # its outermost voxel, wrapped round with it.
    least = {"reflect": around + 1, "circular": around}.get(params.padding, kernel - 2 * around)
    if min(edges) < least:
        what = f"params.kernel {kernel} with params.padding {params.padding} needs {least}"
        raise _too_small(place, edges, what)
    return tuple((edge + 2 * around - kernel) // stride + 1 for edge in edges)


def _stem_stride(params: ConvNetParams, edges: Edges) -> int:
    if params.stem_stride != "auto":
        return params.stem_stride
    return math.ceil(max(edges) / _STEM_EDGE[len(edges) - 2])


def _too_small(place: str, edges: Edges, why: str) -> FamilyError:
    return FamilyError(
        "family.scan_too_small",
        f"cnn_scratch: {place} gets {min(edges)} voxels along the shortest axis, and {why}",
        fix="choose fewer params.widths, a smaller params.kernel or params.stem_stride, "
        "params.pooling: none, or larger scans in the prep config",
    )


def _refuse_lone_voxels(params: ConvNetParams, width: int, edges: Edges) -> None:
    """A group of one channel at one place is one number, and its normalised value always 0."""
    if params.norm == "group" and math.prod(edges) == width == 1:
        raise FamilyError(
            "family.scan_too_small",
            "cnn_scratch: params.norm is group, and a stage is one channel of one voxel",
            fix="choose larger params.widths, or params.norm: batch or none",
        )
