"""What all probes keep to: finite numbers that repeat, a picture, an unchanged family, errors."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from probed import TASK, cnn, scans_of
from pydantic import TypeAdapter, ValidationError

from data_prep.errors import ConfigError
from pipeline.families import build_family, load_family_config
from pipeline.families.mlp import Mlp, MlpParams
from pipeline.families.random_features import RandomFeatures, RandomFeaturesParams
from pipeline.probes import PROBES, ProbeConfig, bounds_of, load_probe
from pipeline.probes.adversarial import Adversarial
from pipeline.probes.base import Probe, ProbeError
from pipeline.probes.equivariance import Equivariance

SHAPE = (1, 20, 18)
QUICK = {"adversarial": {"epsilons": (0.05, 0.1), "steps": 2}, "equivariance": {"up_to": 2}}


def quick(name: str) -> Probe:
    return PROBES[name].model_validate(QUICK.get(name, {}))


def test_a_config_is_read_by_its_name() -> None:
    adapter: TypeAdapter[Probe] = TypeAdapter(ProbeConfig)
    for name, probe in PROBES.items():
        assert type(adapter.validate_python({"probe": name})) is probe
        assert adapter.validate_json(probe().model_dump_json()) == probe()
    with pytest.raises(ValidationError):
        adapter.validate_python({"probe": "equivariance", "upto": 3})


def test_a_probe_is_loaded_by_name_or_from_a_file(tmp_path: Path) -> None:
    assert load_probe("position") == PROBES["position"]()
    file = tmp_path / "mine.yaml"
    file.write_text("probe: equivariance\nup_to: 3\n")
    assert load_probe(str(file)) == Equivariance(up_to=3)
    for content in ("up_to: 3\n", "probe: [equivariance]\n", "probe: equivarianc\n"):
        file.write_text(content)
        with pytest.raises(ConfigError) as raised:
            load_probe(str(file))
        assert raised.value.code == "probe.unknown"
    file.write_text("probe: equivariance\nupto: 3\n")
    with pytest.raises(ConfigError, match="up_to"):
        load_probe(str(file))


@pytest.mark.parametrize("name", PROBES)
def test_a_family_is_refused_before_it_is_fitted_where_it_would_be_afterwards(name: str) -> None:
    scans, probe = scans_of(SHAPE, 40), quick(name)
    probe.check(cnn(SHAPE, widths=(3, 4)))
    linear = build_family(load_family_config("linear"), TASK, SHAPE, 0)
    if name in ("steadiness", "foreign"):
        probe.check(linear)
        return
    with pytest.raises(ProbeError) as early:
        probe.check(linear)
    with pytest.raises(ProbeError) as late:
        probe.measure(linear, scans, 0)
    assert (early.value.code, early.value.message) == (late.value.code, late.value.message)


@pytest.mark.parametrize("name", PROBES)
def test_numbers_are_finite_repeat_and_leave_the_family_as_it_was(name: str) -> None:
    family, scans = cnn(SHAPE, widths=(3, 4)), scans_of(SHAPE, 40)
    family.net.train()
    before = {key: value.copy() for key, value in family.state().items()}
    found = quick(name).measure(family, scans, seed=3)
    assert found
    last_axis = {"position slice"}  # that images do not have
    assert set(quick(name).quantities) - last_axis == set(found)
    low, high = bounds_of(f"{name}/{next(iter(found))}")
    assert all(low <= value <= high for value in found.values())
    assert all(type(value) is float and math.isfinite(value) for value in found.values())
    torch.manual_seed(99)
    assert quick(name).measure(family, scans, seed=3) == found
    assert family.net.training
    for key, value in family.state().items():
        np.testing.assert_array_equal(value, before[key])
    assert all(p.requires_grad and p.grad is None for p in family.net.parameters())


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("shape", [(3, 20, 18), (1, 12, 12, 12)], ids=["2D", "3D"])
def test_every_probe_draws(name: str, shape: tuple[int, ...]) -> None:
    if name == "filters" and len(shape) == 4:
        shape = (1, 12, 12)  # of volumes it refuses to
    buffer = io.BytesIO()
    quick(name).draw(cnn(shape), scans_of(shape, 40), seed=0).savefig(buffer, format="svg")
    assert "cnn_scratch" in buffer.getvalue().decode()


@pytest.mark.parametrize(
    "name", sorted(set(PROBES) - {"adversarial", "cost", "steadiness", "foreign"})
)
@pytest.mark.parametrize(
    ("family", "code"),
    [
        ("linear", "probe.no_network"),
        ("mlp", "probe.no_convolution"),
        ("pretrained", "probe.reads_images"),
    ],
)
def test_families_without_maps_are_refused(name: str, family: str, code: str) -> None:
    built = build_family(load_family_config(family), TASK, (1, 28, 28), seed=0)
    with pytest.raises(ProbeError) as raised:
        PROBES[name]().measure(built, scans_of((1, 28, 28)), seed=0)
    assert raised.value.code == code
    assert family in str(raised.value)


def test_networks_of_other_families_are_looked_at_too() -> None:
    params = RandomFeaturesParams(network="cnn_scratch")
    random = RandomFeatures(params, TASK, (1, 20, 20), seed=0)
    found = Equivariance(up_to=1, scans=1).measure(random, scans_of((1, 20, 20)), seed=0)
    assert found["inside_error"] < 1e-12 < found["border_error"]
    flat = Mlp(MlpParams(widths=(4,)), TASK, (1, 6, 6), seed=0)
    attacked = Adversarial(epsilons=(0.1,), steps=1).measure(flat, scans_of((1, 6, 6)), seed=0)
    assert 0 <= attacked["pgd accuracy at 0.1"] <= attacked["accuracy"] <= 1


@pytest.mark.parametrize("name", PROBES)
def test_foreign_scans_and_none_are_refused(name: str) -> None:
    with pytest.raises(ProbeError) as raised:
        quick(name).measure(cnn(SHAPE), scans_of((1, 22, 18)), seed=0)
    assert raised.value.code == "probe.wrong_shape"
    nothing = scans_of(SHAPE).take(np.array([], dtype=np.int64))
    with pytest.raises(ProbeError) as raised:
        quick(name).measure(cnn(SHAPE), nothing, seed=0)
    assert raised.value.code == "probe.no_scans"
