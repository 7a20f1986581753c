"""MONAI's networks for scans of any size, 2D and 3D: the published layers, a stem that fits.

MONAI is imported when a network is built, not before: it takes seconds.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from torch import nn

from pipeline.families.base import FamilyError

Architecture = Literal["resnet18", "resnet34", "resnet50", "densenet121", "efficientnet-b0"]
ARCHITECTURES: Final[tuple[Architecture, ...]] = get_args(Architecture)

# Longest edge that the small stem is for; the published stem, which quarters a scan before the
# first block, was made for 224 (He et al. 2016, section 4.2, on 32 x 32: a first layer of 3 x 3).
SMALL_EDGE: Final = 64
_BLOCKS: Final[dict[str, tuple[str, list[int]]]] = {
    "resnet18": ("basic", [2, 2, 2, 2]),
    "resnet34": ("basic", [3, 4, 6, 3]),
    "resnet50": ("bottleneck", [3, 4, 6, 3]),
}
_TRANSITIONS: Final = 3  # of DenseNet-121, each pools by 2
_MBCONV: Final = (  # Tan and Le 2019, table 1: repeats, kernel, stride, expansion, in, out
    "r1_k3_s11_e1_i32_o16_se0.25",
    "r2_k3_s22_e6_i16_o24_se0.25",
    "r2_k5_s22_e6_i24_o40_se0.25",
    "r3_k3_s22_e6_i40_o80_se0.25",
    "r3_k5_s11_e6_i80_o112_se0.25",
    "r4_k5_s22_e6_i112_o192_se0.25",
    "r1_k3_s11_e6_i192_o320_se0.25",
)


def build_monai_net(
    architecture: Architecture,
    scan_shape: tuple[int, ...],
    n_classes: int,
    *,
    width: float = 1.0,
    small_stem: bool = True,
    dropout: float = 0.0,
) -> nn.Module:
    """(N, C, I, J[, K]) -> (N, n_classes) logits, with first weights from torch's generator.

    Args:
        architecture: Which.
        scan_shape: (C, I, J[, K]) of one scan.
        n_classes: Columns of the logits.
        width: Factor on all channel counts; 1 is the published network.
        small_stem: A first convolution of 3 voxels and stride 1 without pooling after it, in place
            of the published one.
        dropout: Share of the classifier's inputs dropped in training.

    Raises:
        FamilyError: ``family.scan_too_small``: only DenseNet pools without padding.
    """
    if architecture == "densenet121":
        _refuse_small(architecture, scan_shape, small_stem)
        return _densenet(scan_shape, n_classes, width, small_stem, dropout)
    if architecture == "efficientnet-b0":
        return _efficientnet(scan_shape, n_classes, width, small_stem, dropout)
    return _resnet(architecture, scan_shape, n_classes, width, small_stem, dropout)


def _resnet(
    architecture: str,
    scan_shape: tuple[int, ...],
    n_classes: int,
    width: float,
    small_stem: bool,
    dropout: float,
) -> nn.Module:
    from monai.networks.nets.resnet import ResNet

    block, layers = _BLOCKS[architecture]
    net = ResNet(
        block=block,
        layers=layers,
        block_inplanes=[_channels(planes, width) for planes in (64, 128, 256, 512)],
        spatial_dims=len(scan_shape) - 1,
        n_input_channels=scan_shape[0],
        conv1_t_size=3 if small_stem else 7,
        conv1_t_stride=1 if small_stem else 2,
        no_max_pool=small_stem,
        num_classes=n_classes,
        bias_downsample=False,
    )
    _drop_before(net, "fc", dropout)
    return net


def _densenet(
    scan_shape: tuple[int, ...], n_classes: int, width: float, small_stem: bool, dropout: float
) -> nn.Module:
    from monai.networks.nets.densenet import DenseNet

    ndim, first = len(scan_shape) - 1, _channels(64, width)
    net = DenseNet(
        spatial_dims=ndim,
        in_channels=scan_shape[0],
        out_channels=n_classes,
        init_features=first,
        growth_rate=_channels(32, width),
        block_config=(6, 12, 24, 16),
    )
    if small_stem:
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[ndim](
            scan_shape[0], first, 3, padding=1, bias=False
        )
        nn.init.kaiming_normal_(convolution.weight)  # as MONAI draws the one that it replaces
        net.features.conv0 = convolution
        net.features.pool0 = nn.Identity()
    _drop_before(net.class_layers, "out", dropout)
    return net


def _efficientnet(
    scan_shape: tuple[int, ...], n_classes: int, width: float, small_stem: bool, dropout: float
) -> nn.Module:
    from monai.networks.nets.efficientnet import EfficientNet

    net = EfficientNet(
        blocks_args_str=list(_MBCONV),
        spatial_dims=len(scan_shape) - 1,
        in_channels=scan_shape[0],
        num_classes=n_classes,
        width_coefficient=width,
        dropout_rate=dropout,
        image_size=max(scan_shape[1:]),
        # TensorFlow's 0.01 is for runs of many thousand steps: with hundreds the running
        # statistics would still be the initial ones.
        norm=("batch", {"eps": 1e-3, "momentum": 0.1}),
    )
    net.set_swish(memory_efficient=False)
    _pad_by_kernel(net)
    if small_stem:
        net._conv_stem.stride = (1,) * (len(scan_shape) - 1)
    return net


def densenet_least_edge(halvings: int, *, small_stem: bool) -> int:
    """Voxels along an axis of which so many poolings by 2 leave one (Huang et al. 2017, table 1).

    The published stem has two layers of stride 2 before them, each of which leaves half of the
    voxels, rounded up.
    """
    pooled: int = 2**halvings
    return pooled if small_stem else 4 * pooled - 3


def _refuse_small(architecture: str, scan_shape: tuple[int, ...], small_stem: bool) -> None:
    least = densenet_least_edge(_TRANSITIONS, small_stem=small_stem)
    if min(scan_shape[1:]) < least:
        stem = "small" if small_stem else "published"
        raise FamilyError(
            "family.scan_too_small",
            f"{architecture} with its {stem} stem gets {min(scan_shape[1:])} voxels along the "
            f"shortest axis of scans of shape {scan_shape}; it needs {least}",
            fix="choose a larger params.shape in the prep config, or another architecture: "
            "ResNets and EfficientNets bear scans of any size"
            + ("" if small_stem else "; params.stem: small needs fewer"),
        )


def _drop_before(parent: nn.Module, name: str, dropout: float) -> None:
    layer: nn.Module = getattr(parent, name)
    setattr(parent, name, nn.Sequential(nn.Dropout(dropout), layer))


def _pad_by_kernel(net: nn.Module) -> None:
    """Pad each convolution by half its kernel, at both ends alike.

    MONAI pads as TensorFlow does, by sizes that it works out for a square scan: on another one a
    late block can be left with fewer voxels than its kernel needs.
    """
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if name.endswith("_padding"):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.Conv2d | nn.Conv3d):
                child.padding = tuple(edge // 2 for edge in child.kernel_size)


def _channels(published: int, width: float) -> int:
    return max(1, round(published * width))
