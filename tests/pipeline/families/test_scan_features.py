"""How scans become images, and maps become features."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from pipeline.families.backbones import Architecture
from pipeline.families.checkpoint import PackagedCheckpoint
from pipeline.families.scan_features import ScanFeatures, SliceAttention
from pipeline.families.scan_images import ReadingConfig


class Seen(nn.Module):
    """Two stages that hand out the image itself, and each of its pixels twice as bright."""

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        yield x
        yield 2 * x


NEUTRAL = Architecture(
    build=Seen,
    n_stages=2,
    published=PackagedCheckpoint("none", "none", ""),
    rename=str,
    classifier="",
    mean=(0.0, 0.0, 0.0),
    deviation=(1.0, 1.0, 1.0),
)


def features(shape: tuple[int, ...], **config: object) -> ScanFeatures:
    reading = ReadingConfig.model_validate(
        {"intensity": [0, 1], "pooling": ["average"], "stages": [1]} | config
    )
    return ScanFeatures(NEUTRAL, Seen(), reading, shape)


def scans(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_grey_becomes_red_green_and_blue() -> None:
    x = scans(3, 1, 20, 20)
    rows = features((1, 20, 20))(x)
    assert rows.shape == (3, 3)
    assert torch.allclose(rows, x.mean(dim=(1, 2, 3))[:, None].expand(-1, 3), atol=1e-3)


def test_three_channels_are_the_colours_and_others_images_of_their_own() -> None:
    x = scans(2, 3, 32, 32)
    assert torch.allclose(features((3, 32, 32))(x), x.mean(dim=(2, 3)), atol=1e-5)
    two = features((2, 32, 32))(x[:, :2])
    wanted = x[:, :2].mean(dim=(2, 3)).repeat_interleave(3, dim=1)
    assert torch.allclose(two, wanted, atol=1e-5)


def test_an_image_keeps_its_proportions() -> None:
    assert features((1, 20, 10), sizes=[64]).image_shape == (3, 64, 32)
    assert features((1, 100, 25, 50), sizes=[40]).image_shape == (3, 40, 10)
    assert features((1, 100, 25, 50), sizes=[40], volume="acs").image_shape == (3, 40, 10, 20)


@pytest.mark.parametrize("volume", ["slices", "acs"])
@pytest.mark.parametrize("edge", [20, 40])
def test_volumes_are_seen_whole(volume: str, edge: int) -> None:
    x = scans(2, 1, edge, edge, edge)
    rows = features((1, edge, edge, edge), volume=volume, sizes=[32])(x)
    assert rows.shape == (2, 9 if volume == "slices" else 3)
    assert torch.allclose(rows, x.mean(dim=(1, 2, 3, 4))[:, None].expand_as(rows), atol=0.01)


def test_sizes_are_joined() -> None:
    x = scans(2, 1, 16, 16)
    rows = features((1, 16, 16), sizes=[32, 48])(x)
    apart = [features((1, 16, 16), sizes=[size])(x) for size in (32, 48)]
    assert torch.equal(rows, torch.cat(apart, dim=1))
    assert features((1, 16, 16), sizes=[32, 48]).n_features == rows.shape[1]


def test_kinds_of_pooling_and_stages_are_joined() -> None:
    x = scans(2, 1, 32, 32)
    reader = features(
        (1, 32, 32), sizes=[32], stages="all", pooling=["average", "deviation", "max"]
    )
    rows = reader(x)
    places = x.flatten(1)
    one = [places.mean(1), places.std(1, correction=0), places.amax(1)]
    wanted = torch.stack([*one, *(2 * value for value in one)], dim=1).repeat_interleave(3, dim=1)
    assert torch.allclose(rows, wanted, atol=1e-4)


def test_mirrored_scans_are_averaged_in_without_gradients() -> None:
    ramp = torch.linspace(0, 1, 32).repeat(1, 1, 32, 1)
    left = features((1, 32, 32), flip_axes=[1])
    left.net = nn.Module()
    left.net.stages = lambda x: iter([x[..., :8]])
    with torch.no_grad():
        both = left(ramp)
    assert torch.allclose(both, torch.full((1, 3), 0.5), atol=1e-5)
    assert float(left(ramp)[0, 0]) < 0.2


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20])
def test_chunks_change_nothing(count: int) -> None:
    x = scans(count, 1, 16, 16)
    reader = features((1, 16, 16))
    with torch.no_grad():
        assert torch.equal(reader(x), torch.cat([reader(row[None]) for row in x]))


def test_attention_begins_with_the_mean_and_can_learn() -> None:
    attention = SliceAttention(4)
    x = scans(5, 3, 4)
    out = attention(x)
    assert torch.allclose(out, x.mean(dim=1), atol=1e-6)
    out.square().sum().backward()
    assert attention.weigh.weight.grad is not None
    assert attention.weigh.weight.grad.abs().sum() > 0
