"""Family configs: every YAML loads, a typo is answered, and a config survives its own JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.config import CONFIG_ROOT
from data_prep.errors import ConfigError
from data_prep.task import Task
from pipeline.families import (
    FAMILIES,
    FamilyConfig,
    FamilyVariant,
    build_family,
    load_family_config,
)

NAMES = sorted(path.stem for path in (CONFIG_ROOT / "family").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_family_config_loads_builds_and_survives_json(name: str) -> None:
    config = load_family_config(name)
    task = Task(kind="binary", class_names=("benign", "malignant"))
    for shape in ((1, 28, 28), (1, 28, 28, 28)):
        assert build_family(config, task, shape, seed=0).params == config.params
    dumped = config.model_dump(mode="json")
    assert FamilyConfig.model_validate(dumped) == config
    assert set(dumped["params"]) == set(FAMILIES[config.family].Params.model_fields)


def test_every_family_has_a_config_and_its_own_name() -> None:
    assert {load_family_config(name).family for name in NAMES} == set(FAMILIES)
    assert all(family.name == name for name, family in FAMILIES.items())


def test_every_config_header_states_command_time_and_expected_result() -> None:
    for name in NAMES:
        head = (CONFIG_ROOT / "family" / f"{name}.yaml").read_text(encoding="utf-8").lower()
        for word in ("# what:", "# run:", "# time:", "# expect:"):
            assert word in head, (name, word)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("family: linaer\n", [":1:", "'family' = 'linaer'", "did you mean 'linear'"]),
        (
            "family: linear\nparams:\n  penalites: [1]\n",
            [":3:", "'params.penalites'", "'penalties'"],
        ),
        (
            "family: linear\nparams:\n  penalties: [1, -2]\n",
            [":3:", "'params.penalties.1' = -2", "greater than 0"],
        ),
        (
            "family: cnn_scratch\nparams:\n  train:\n    epoch: 3\n",
            [":4:", "'params.train.epoch'", "did you mean 'epochs'"],
        ),
        ("family: linear\nparms: {}\n", [":2:", "'parms'", "did you mean 'params'"]),
        ("params: {}\n", ["field 'family' is required"]),
        (
            "family: cnn_scratch\nparams: {padding: zeros}\n",
            [":2:", "'params.padding' = 'zeros'", "did you mean 'zero'"],
        ),
        ("family: cnn_scratch\nparams: {kernel: 4}\n", ["kernel must be odd, not 4"]),
        ("family: cnn_scratch\nparams: {padding: valid}\n", ["set residual: false"]),
        ("family: random_features\nparams: {sizes: [5, 5]}\n", ["sizes must differ"]),
        ("family: random_features\nparams: {filters: 2}\n", ["2 filters cannot have 3 sizes"]),
    ],
)
def test_a_wrong_config_is_answered_with_line_field_and_what_is_allowed(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_family_config(str(path))
    for part in ["mine.yaml", *expected]:
        assert part in str(caught.value)


def test_params_of_a_refused_family_add_no_second_error() -> None:
    with pytest.raises(ValueError, match="no such family") as caught:
        FamilyConfig.model_validate({"family": "svm", "params": {"c": 1}})
    assert str(caught.value).count("validation error") == 1


def test_a_variant_replaces_only_what_it_names() -> None:
    like = load_family_config("cnn_scratch")
    params = {"padding": "circular", "train": {"epochs": 3}}
    variant = FamilyVariant(name="around", like="cnn_scratch", params=params, permute=5).load()
    expected = like.params.model_dump(mode="json")
    expected["padding"], expected["train"]["epochs"] = "circular", 3
    assert variant.params.model_dump(mode="json") == expected
    assert (variant.family, variant.permute) == ("cnn_scratch", 5)


def test_a_variant_of_nothing_is_the_family_itself() -> None:
    assert FamilyVariant(name="same", like="mlp").load() == load_family_config("mlp")


def test_a_wrong_parameter_of_a_variant_names_the_variant() -> None:
    variant = FamilyVariant(name="around", like="cnn_scratch", params={"paddin": "circular"})
    with pytest.raises(ConfigError) as caught:
        variant.load()
    for words in ("'around'", "cnn_scratch", "'params.paddin'", "did you mean 'padding'"):
        assert words in caught.value.message
