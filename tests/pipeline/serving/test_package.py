"""The package is read only if every bit of it is as written, and nothing pickled is ever opened."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.errors import StageError
from data_prep.files import digest, sha256_bytes
from data_prep.preprocess import Unchanged
from data_prep.task import Task
from data_prep.volume import Volume
from pipeline.serving import package as module
from pipeline.serving.package import load_package
from pipeline.serving.package_files import (
    MAX_MODEL_JSON_BYTES,
    MODEL,
    REFERENCE,
    WEIGHTS,
    PackageError,
)
from pipeline.serving.self_test import self_test

MULTI_LABEL = Task(kind="multi-label", class_names=("mass", "effusion", "nodule"))


FAMILIAR = [
    Volume(np.random.default_rng(n).integers(0, 255, (1, 6, 5, 4)), np.eye(4)) for n in range(40)
]


class Canary:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def reseal(folder: Path, **changes: object) -> None:
    """Change model.json and give it a seal that fits, as a hostile writer would."""
    content = json.loads((folder / MODEL).read_text()) | changes
    content.pop("sha256")
    content = {**content, "sha256": digest(content)}
    (folder / MODEL).write_text(json.dumps(content, indent=2) + "\n")


def refusal(folder: Path) -> PackageError:
    with pytest.raises(PackageError) as caught:
        load_package(folder)
    return caught.value


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 4)])
def test_a_loaded_model_gives_the_bits_of_the_saved_one(make_package, tmp_path, shape):
    saved = make_package(shape)
    loaded = load_package(tmp_path / "model")
    x = torch.randn(5, 1, *shape, generator=torch.Generator().manual_seed(1))
    assert np.array_equal(saved.predict(x), loaded.predict(x))
    assert loaded.card == saved.card
    assert loaded.digest == saved.digest
    assert loaded.recipe == saved.recipe
    assert loaded.task.class_names == ("healthy", "lesion")
    assert loaded.card.test.metrics["auc"].low == 0.5


def test_saving_twice_gives_the_same_bytes(make_package, tmp_path):
    make_package(name="one")
    make_package(name="two")
    for name in (MODEL, WEIGHTS):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_an_array_that_is_not_contiguous_is_stored_right(make_package, tmp_path, monkeypatch):
    package = make_package()
    state = package.family.state()
    weight = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    stored = module._decode_state(
        module._encode_state(
            {**state, "weight": weight, "part": weight[:, ::2], "one": weight.sum()}
        )
    )
    assert np.array_equal(stored["weight"], weight)
    assert np.array_equal(stored["part"], weight[:, ::2])
    assert stored["one"].shape == ()
    assert stored["weight"].flags.writeable


@pytest.mark.parametrize("name", [MODEL, WEIGHTS, REFERENCE])
def test_every_flipped_bit_is_refused(make_package, tmp_path, name):
    make_package(familiar=FAMILIAR)
    path = tmp_path / "model" / name
    whole = path.read_bytes()

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(bit=st.integers(0, len(whole) * 8 - 1))
    def flip(bit: int) -> None:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        error = refusal(tmp_path / "model")
        assert error.code in (
            "package.damaged",
            "package.foreign",
            "package.newer_format",
            "package.older_format",
        )
        assert name in error.message

    flip()
    path.write_bytes(whole)
    load_package(tmp_path / "model")


@pytest.mark.parametrize("name", [MODEL, WEIGHTS, REFERENCE])
def test_every_truncation_is_refused(make_package, tmp_path, name):
    make_package(familiar=FAMILIAR)
    path = tmp_path / "model" / name
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:length])
        assert refusal(tmp_path / "model").code == "package.damaged"


def test_white_space_that_json_ignores_is_damage_too(make_package, tmp_path):
    make_package()
    path = tmp_path / "model" / MODEL
    path.write_bytes(path.read_bytes() + b" ")
    assert refusal(tmp_path / "model").code == "package.damaged"


def test_weights_of_another_model_are_refused(make_package, tmp_path):
    make_package(name="one")
    make_package((3, 3), name="two")
    shutil.copy(tmp_path / "two" / WEIGHTS, tmp_path / "one" / WEIGHTS)
    error = refusal(tmp_path / "one")
    assert error.code == "package.damaged"
    assert WEIGHTS in error.message


@pytest.mark.parametrize("name", [MODEL, WEIGHTS])
def test_a_missing_file_is_named(make_package, tmp_path, name):
    make_package()
    (tmp_path / "model" / name).unlink()
    error = refusal(tmp_path / "model")
    assert error.code == "package.missing_file"
    assert name in error.message


def test_a_missing_folder_is_named(tmp_path):
    error = refusal(tmp_path / "nowhere")
    assert error.code == "package.not_found"
    assert "nowhere" in error.message


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    assert refusal(tmp_path / "model.bin").code == "package.not_a_folder"


@pytest.mark.parametrize("content", ["[1, 2]", "{}", '{"format": "bundle"}', "3"])
def test_foreign_json_is_refused(make_package, tmp_path, content):
    make_package()
    (tmp_path / "model" / MODEL).write_text(content)
    assert refusal(tmp_path / "model").code == "package.foreign"


def test_nan_and_deep_nesting_are_refused(make_package, tmp_path):
    make_package()
    path = tmp_path / "model" / MODEL
    path.write_text('{"format": "medcurve-model", "x": NaN}')
    assert refusal(tmp_path / "model").code == "package.damaged"
    path.write_text("[" * 200_000)
    assert refusal(tmp_path / "model").code == "package.damaged"


def test_a_model_json_beyond_the_limit_is_not_read(make_package, tmp_path):
    make_package()
    with (tmp_path / "model" / MODEL).open("r+b") as file:
        file.truncate(MAX_MODEL_JSON_BYTES + 1)
    assert refusal(tmp_path / "model").code == "package.foreign"


def test_a_newer_format_asks_for_an_upgrade(make_package, tmp_path):
    make_package()
    reseal(tmp_path / "model", format_version=3)
    error = refusal(tmp_path / "model")
    assert error.code == "package.newer_format"
    assert "upgrade" in error.fix


def test_an_older_format_asks_for_another_release(make_package, tmp_path):
    make_package()
    reseal(tmp_path / "model", format_version=1)
    error = refusal(tmp_path / "model")
    assert error.code == "package.older_format"
    assert "medcurve release" in error.fix


def test_what_the_training_scans_look_like_travels_with_the_model(make_package, tmp_path):
    saved = make_package(familiar=FAMILIAR)
    loaded = load_package(tmp_path / "model")
    assert saved.reference is not None and loaded.reference is not None
    assert loaded.reference.facts == saved.reference.facts == loaded.card.trust.shift
    found, kept = loaded.reference.state(), saved.reference.state()
    assert {k: v.tobytes() for k, v in found.items()} == {k: v.tobytes() for k, v in kept.items()}
    (tmp_path / "model" / REFERENCE).unlink()
    assert refusal(tmp_path / "model").code == "package.missing_file"


def test_a_reference_without_its_digest_is_refused(make_package, tmp_path):
    make_package(familiar=FAMILIAR)
    reseal(tmp_path / "model", reference_sha256="")
    assert refusal(tmp_path / "model").code == "package.invalid"


@pytest.mark.parametrize(
    "change",
    [
        {"family": {"family": "oracle", "params": {}}},
        {"family": {"family": "linear", "params": {"penalties": []}}},
        {"task": {"kind": "binary", "class_names": ["one"]}},
        {"recipe": {"nonsense": 1}},
        {"scan_shape": [1, 2, 2]},
        {"extra": 1},
        {"seed": "three"},
    ],
)
def test_a_sealed_card_that_makes_no_sense_is_refused(make_package, tmp_path, change):
    make_package()
    reseal(tmp_path / "model", **change)
    error = refusal(tmp_path / "model")
    assert error.code == "package.invalid"
    assert "(field '" in error.message
    assert "Value error" not in error.message


@pytest.mark.parametrize("suffix", [".pkl", ".pt", ".pth", ".joblib", ".skops", ".CKPT", ".npz"])
def test_pickled_files_are_refused_and_never_run(make_package, tmp_path, suffix):
    make_package()
    ran = tmp_path / "ran"
    bait = pickle.dumps(Canary(ran))
    beside = tmp_path / "model" / f"weights{suffix}"
    beside.write_bytes(bait)
    error = refusal(tmp_path / "model")
    assert error.code == "package.pickled"
    assert beside.name in error.message
    assert refusal(beside).code == "package.pickled"
    assert not ran.exists()
    pickle.loads(bait)
    assert ran.exists()  # the canary does sing


def test_a_pickle_under_our_names_is_refused_and_never_run(make_package, tmp_path):
    make_package()
    ran = tmp_path / "ran"
    bait = pickle.dumps(Canary(ran))
    folder = tmp_path / "model"
    (folder / WEIGHTS).write_bytes(bait)
    assert refusal(folder).code == "package.damaged"
    reseal(folder, weights_sha256=sha256_bytes(bait))
    assert refusal(folder).code == "package.invalid"
    (folder / MODEL).write_bytes(bait)
    assert refusal(folder).code == "package.damaged"
    assert not ran.exists()


def test_arrays_that_do_not_fit_the_family_are_refused(make_package, tmp_path):
    make_package()
    data = safetensors.numpy.save({"weight": np.zeros((2, 2)), "bias": np.zeros(1)})
    (tmp_path / "model" / WEIGHTS).write_bytes(data)
    reseal(tmp_path / "model", weights_sha256=sha256_bytes(data))
    error = refusal(tmp_path / "model")
    assert error.code == "package.invalid"
    assert "linear" in error.message


def test_a_package_never_replaces_something_else(make_package, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.tex").write_text("years of work")
    with pytest.raises(StageError) as caught:
        make_package()
    assert caught.value.code == "stage.not_ours"
    assert (tmp_path / "model" / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("shape", [(9, 5), (6, 5, 4)])
def test_the_self_test_depends_on_weights_and_recipe(make_package, tmp_path, shape):
    package = make_package(shape)
    assert package.card.self_test == self_test(package.recipe, package.family)
    state = package.family.state()
    package.family.load_state({**state, "weight": state["weight"] * 1.5})
    assert package.card.self_test != self_test(package.recipe, package.family)
    package.family.load_state(state)
    config = package.recipe.config.model_copy(update={"intensity": Unchanged()})
    other = package.recipe.model_copy(update={"config": config})
    assert package.card.self_test != self_test(other, package.family)


def test_multi_label_models_keep_their_own_probabilities(make_package):
    package = make_package(task=MULTI_LABEL)
    probability = package.predict(torch.zeros(2, 1, 6, 5, 4))
    assert probability.shape == (2, 3)
    assert not np.allclose(probability.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("decision", {"rule": {"rule": "youden"}, "thresholds": [0.2, 0.4]}, "2 thresholds, not 1"),
        ("decision", {"rule": {"rule": "youden"}, "thresholds": [-5.0]}, "not between 0 and 1"),
        (
            "conformal",
            {
                "coverage": 0.9,
                "by_class": True,
                "quantiles": [1, 1, 1],
                "patients": [9, 9, 9],
                "pooled": [True, True, True],
            },
            "3 quantiles, not 2",
        ),
        ("calibration", {"method": "temperature", "numbers": [[0.5], [0.5]]}, "does not fit"),
    ],
)
def test_numbers_for_another_task_are_refused(make_package, tmp_path, part, value, said):
    trust = make_package().card.trust.model_dump(mode="json")
    reseal(tmp_path / "model", trust=trust | {part: value})
    error = refusal(tmp_path / "model")
    assert error.code == "package.invalid"
    assert said in error.message


def test_a_package_that_does_not_say_its_version_is_refused(make_package, tmp_path):
    make_package()
    reseal(tmp_path / "model", versions={})
    assert refusal(tmp_path / "model").code == "package.invalid"
