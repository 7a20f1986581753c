"""What the contract suite does not ask: what is trained, by which rates, from which start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.files import sha256_file
from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.families import FamilyConfig, build_family
from pipeline.families.backbones import ARCHITECTURES
from pipeline.families.base import FamilyError
from pipeline.families.checkpoint import CheckpointError
from pipeline.families.fine_tuned import FineTuned
from pipeline.families.pretrained import Pretrained
from pipeline.study.features import preparation

TASK = Task(kind="binary", class_names=("a", "b"))
READING = {"sizes": [32], "stages": [1, 2], "pooling": ["average"], "slices": 3}
TRAIN = {"epochs": 1, "min_steps": 2, "learning_rate": 1e-3, "precision": "fp32"}


def family(shape: tuple[int, ...] = (1, 12, 12), **params: Any) -> Pretrained:
    training = {"train": TRAIN} if params.get("mode", "probe") != "probe" else {}
    config = {"family": "pretrained", "params": {"reading": READING} | training | params}
    built = build_family(FamilyConfig.model_validate(config), TASK, shape, seed=0)
    assert isinstance(built, Pretrained)
    return built


def scans(shape: tuple[int, ...] = (1, 12, 12), n: int = 24) -> Scans:
    """Scans of class b are brighter in a corner."""
    rng = np.random.default_rng(n)
    target = np.arange(n) % 2
    x = rng.normal(0, 1, (n, *shape)).astype(np.float32)
    x[target == 1, :, :5, :5] += 1.5
    ids = np.arange(n).astype(np.str_)
    return Scans(torch.from_numpy(x), target, ids, ids)


def weights(of: Pretrained) -> dict[str, Any]:
    return {name: value for name, value in of.state().items() if ".net." in name}


def published() -> dict[str, Any]:
    net = ARCHITECTURES["efficientnet-lite0"].trained(2, None)
    return {name: value.numpy() for name, value in net.state_dict().items()}


@pytest.mark.parametrize(
    ("mode", "trained"),
    [
        ("probe", set()),
        ("partial", {"blocks.1", "blocks.2"}),
        ("full", {"conv_stem", "bn0", "blocks.0", "blocks.1", "blocks.2"}),
    ],
)
def test_a_mode_trains_its_blocks_and_no_other(mode: str, trained: set[str]) -> None:
    built = family(mode=mode, **({"blocks": 2} if mode == "partial" else {}))
    built.fit(*(part.with_x(built.prepare(part.x)) for part in (scans(), scans(n=10))))
    before, changed = published(), set()
    for name, value in weights(built).items():
        own = name.partition(".net.")[2] if mode != "probe" else name.removeprefix("network.net.")
        if not np.array_equal(np.ravel(value), np.ravel(before[own])):
            changed.add(".".join(own.split(".")[: 2 if own.startswith("blocks") else 1]))
            assert "running" not in own  # the norms keep their statistics
    assert changed == trained


def test_deeper_blocks_learn_more_slowly() -> None:
    built = family(mode="full")
    net = built._net
    assert isinstance(net, FineTuned)
    rates = net.rates(0.5)
    assert rates["features.net.blocks.2.depthwise_conv.weight"] == 0.5
    assert rates["features.net.blocks.1.expand_conv.weight"] == 0.25
    assert rates["features.net.conv_stem.weight"] == 0.5**4
    of_the_network = {n for n, _ in net.named_parameters() if n.startswith("features.net.")}
    assert set(rates) == of_the_network


@pytest.mark.parametrize("kind", ["binary", "multi-class", "multi-label"])
def test_fine_tuning_begins_as_the_probe(kind: str) -> None:
    task = Task.model_validate(
        {"kind": kind, "class_names": ("a", "b") if kind == "binary" else ("a", "b", "c")}
    )
    train = scans()
    if kind == "multi-class":
        train = Scans(train.x, np.arange(24) % 3, train.patient_ids, train.scan_ids)
    elif kind == "multi-label":
        target = np.stack([train.target, 1 - train.target, np.arange(24) % 3 // 2], axis=1)
        train = Scans(train.x, target, train.patient_ids, train.scan_ids)
    still = TRAIN | {"learning_rate": 1e-12, "weight_decay": 0}
    rows = []
    for mode in ("probe", "full"):
        params = {"reading": READING, "mode": mode} | ({"train": still} if mode == "full" else {})
        config = FamilyConfig.model_validate({"family": "pretrained", "params": params})
        built = build_family(config, task, (1, 12, 12), seed=0)
        ready = train.with_x(built.prepare(train.x))
        built.fit(ready, ready)
        rows.append(built.predict_proba(ready.x))
    assert np.allclose(*rows, atol=1e-3)


@pytest.mark.parametrize("reading", [{"volume": "acs"}, {"slice_pooling": "attention"}])
def test_volumes_are_fitted_whole_or_by_attention(reading: dict[str, Any]) -> None:
    shape = (1, 8, 8, 8)
    built = family(shape, mode="partial", blocks=1, reading=READING | reading)
    built.fit(scans(shape), scans(shape, n=8))
    state = built.state()
    other = family(shape, mode="partial", blocks=1, reading=READING | reading)
    other.load_state(state)
    x = scans(shape, n=6).x
    assert np.array_equal(other.predict_proba(x), built.predict_proba(x))


def test_own_weights_are_used_if_they_fit(tmp_path: Path) -> None:
    net = ARCHITECTURES["efficientnet-lite0"].build()
    net.state_dict()["bn0.bias"].fill_(0.25)
    torch.save(net.state_dict(), tmp_path / "own.pth")
    torch.save({"conv_stem.weight": torch.ones(3)}, tmp_path / "other.pth")
    own = {"path": str(tmp_path / "own.pth"), "sha256": sha256_file(tmp_path / "own.pth")}
    built = family(checkpoint=own)
    built.prepare(scans().x)
    assert (built.state()["network.net.bn0.bias"] == 0.25).all()
    own["path"], own["sha256"] = str(tmp_path / "other.pth"), sha256_file(tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"'conv_stem\.weight' has shape"):
        family(checkpoint=own).prepare(scans().x)


def test_random_weights_are_drawn_by_their_own_seed() -> None:
    """Features are computed once for all seeds of a family: its seed must not draw them."""
    rows, states = [], []
    for number in (0, 0, 1):
        built = family(random_weights=number)
        rows.append(built.prepare(scans().x))
        states.append(weights(built))
    assert torch.equal(rows[0], rows[1])
    assert not torch.allclose(rows[0], rows[2])
    before = published()
    kernels = [name for name in states[0] if "conv" in name]
    assert kernels
    for name in kernels:
        own = before[name.removeprefix("network.net.")]
        assert not np.array_equal(states[0][name], own)


def test_random_weights_keep_signals_alive() -> None:
    net = ARCHITECTURES["efficientnet-lite0"].random(8, seed=0).eval()
    images = torch.randn((4, 3, 48, 48), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for found in net.stages(images):  # type: ignore[operator]
            assert 0.02 < float(found.std()) < 50


@pytest.mark.parametrize(("mode", "kept"), [("probe", True), ("partial", False), ("full", False)])
def test_only_the_features_of_a_probe_are_kept_for_all_cells(mode: str, kept: bool) -> None:
    built = family(mode=mode)
    assert built.prepares(built.params) is kept
    x = scans().x
    assert (built.prepare(x) is x) is not kept
    config = FamilyConfig(family="pretrained", params=built.params)
    needed = [preparation("any", config, seed, "store", {}) for seed in (0, 1)]
    assert needed[0] == needed[1]
    assert (needed[0] is not None) is kept


def test_features_of_another_object_serve_to_fit_and_to_save() -> None:
    first, second = family(), family()
    ready = scans().with_x(first.prepare(scans().x))
    for built in (first, second):
        built.fit(ready, ready)
    assert all(np.array_equal(value, second.state()[name]) for name, value in first.state().items())


def test_a_loaded_model_needs_no_checkpoint(tmp_path: Path) -> None:
    absent = {"path": str(tmp_path / "gone.pth"), "sha256": "0" * 64}
    first = family()
    ready = scans().with_x(first.prepare(scans().x))
    first.fit(ready, ready)
    loaded = family(checkpoint=absent)
    loaded.load_state(first.state())
    assert torch.equal(loaded.prepare(scans().x), ready.x)
    with pytest.raises(CheckpointError, match=r"gone\.pth"):
        family(checkpoint=absent).prepare(scans().x)


def test_intensities_of_no_recipe_are_refused_until_their_range_is_given() -> None:
    raw = 100 + 50 * scans().x
    for mode in ("probe", "full"):
        with pytest.raises(FamilyError, match=r"\[black, white\]") as caught:
            built = family(mode=mode)
            part = scans().with_x(raw)
            built.fit(part.with_x(built.prepare(raw)), part)
        assert caught.value.code == "family.foreign_intensities"
    stated = family(reading=READING | {"intensity": [0, 200]}).prepare(raw)
    scaled = family(reading=READING | {"intensity": [0, 1]}).prepare(raw / 200)
    assert torch.allclose(stated, scaled, atol=1e-4)


def test_more_blocks_than_are_used_are_refused() -> None:
    family(mode="partial", blocks=4)  # the stem, and three blocks up to stage 2
    with pytest.raises(FamilyError, match="4 blocks up to stage 2") as caught:
        family(mode="partial", blocks=5)
    assert caught.value.code == "family.no_such_block"


@pytest.mark.parametrize("mode", ["partial", "full"])
def test_a_network_reads_no_mirror_image_that_its_training_never_saw(mode: str) -> None:
    mirrored = {"mode": mode, "reading": READING | {"flip_axes": [1]}}
    with pytest.raises(FamilyError, match=r"params\.reading\.flip_axes is \[1\]") as caught:
        family(**mirrored, augment={"flip_axes": [0]})
    assert caught.value.code == "family.unseen_view"
    family(**mirrored, augment={"flip_axes": [1]})
    family(reading=READING | {"flip_axes": [1]})  # a probe's classifier sees what it is given


def test_mirroring_along_an_absent_axis_is_refused() -> None:
    with pytest.raises(FamilyError, match="no_such_axis"):
        family(reading=READING | {"flip_axes": [2]})


@pytest.mark.parametrize(("shape", "found"), [((1, 60, 3), 3), ((1, 40, 40, 6), 10)])
def test_a_scan_that_is_too_narrow_for_a_network_is_refused_in_words(
    shape: tuple[int, ...], found: int
) -> None:
    reading = {"sizes": [64], "stages": "all"}
    with pytest.raises(
        FamilyError, match=rf"is {found} pixels wide.*5 stages .* need 29"
    ) as caught:
        family(shape, network="densenet121", reading=reading)
    assert caught.value.code == "family.scan_too_small"
    for network, stages in (("resnet18", "all"), ("densenet121", [1])):
        narrow = family(shape, network=network, reading=reading | {"stages": stages})
        with torch.no_grad():
            assert narrow._features(torch.zeros((1, *shape))).isfinite().all()


@pytest.mark.parametrize("mode", ["probe", "full"])
@pytest.mark.parametrize(
    ("shape", "reading", "images"),
    [
        ((1, 12, 12), {}, 1),
        ((2, 12, 12), {"flip_axes": [1]}, 4),
        ((1, 9, 9, 9), {"slices": 4}, 12),
        ((1, 9, 9, 9), {"slices": 12, "flip_axes": [0, 2]}, 3 * 9 * 3),
        ((1, 9, 9, 9), {"volume": "acs"}, 1),
    ],
)
def test_inspect_counts_all_images_of_a_scan(
    mode: str, shape: tuple[int, ...], reading: dict[str, Any], images: int
) -> None:
    trained = {"augment": {"flip_axes": reading.get("flip_axes", [])}} if mode == "full" else {}
    built = family(shape, mode=mode, reading=READING | reading, **trained)
    found = built.inspect()
    assert found.reading is not None
    assert found.reading.images == images
    of_one = sum(layer.multiply_adds for layer in found.layers)
    classifier = 0 if mode == "probe" else built._features.n_features * 2
    assert found.multiply_adds == images * of_one + classifier
    activations = sum(layer.activation_bytes for layer in found.layers)
    assert found.activation_bytes == images * activations + (8 if classifier else 0)
    assert found.parameters == sum(p.numel() for p in built._net.parameters())


def test_inspect_counts_each_size_and_proportion_as_it_is() -> None:
    sizes = [family((1, 10, 20), reading=READING | {"sizes": [size]}) for size in (32, 64)]
    both = family((1, 10, 20), reading=READING | {"sizes": [64, 32]}).inspect()
    assert both.multiply_adds == sum(one.inspect().multiply_adds for one in sizes)
    assert both.reading is not None
    assert (both.reading.images, both.reading.image_shape) == (2, (3, 32, 64))
