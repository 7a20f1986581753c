"""Parameters that cannot be, or that do nothing, are refused; what is asked can be read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.families import FamilyConfig, load_family_config
from pipeline.families.pretrained_params import PretrainedParams


def test_the_path_of_own_weights_starts_from_the_config(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "family: pretrained\nparams:\n  checkpoint:\n    path: weights/own.pth\n"
        f"    sha256: '{'0' * 64}'\n"
    )
    params = load_family_config(str(tmp_path / "mine.yaml")).params
    assert isinstance(params, PretrainedParams)
    assert params.checkpoint is not None
    assert params.checkpoint.path == str(tmp_path / "weights" / "own.pth")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"reading": {"stages": [9]}}, "efficientnet-lite0 has stages 1 to 8"),
        ({"reading": {"slice_pooling": "attention"}}, "mode: partial"),
        ({"checkpoint": {"path": "x.pth", "sha256": "abc"}}, "sha256"),
        ({"train": {"epochs": 3}}, "train is for mode: partial and full"),
        ({"augment": {"noise": 0.1}}, "augment is for mode: partial and full"),
        ({"blocks": 2}, "blocks is for mode: partial"),
        ({"dropout": 0.5}, "dropout is for mode: partial and full"),
        ({"layer_decay": 0.5}, "layer_decay is for mode: partial and full"),
        ({"mode": "full", "blocks": 2}, "does nothing in mode: full"),
        ({"reading": {"flip_axes": [-2]}}, "flip_axes"),
        ({"mode": "full", "augment": {"flip_axes": [-1]}}, "flip_axes"),
        (
            {"checkpoint": {"path": "own.pth", "sha256": "0" * 64}, "random_weights": 0},
            "checkpoint or random_weights, not both",
        ),
    ],
)
def test_parameters_that_cannot_be_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FamilyConfig.model_validate({"family": "pretrained", "params": params})


def test_every_mode_can_be_read_back_from_what_it_says_of_itself() -> None:
    for mode in ("probe", "partial", "full"):
        params = PretrainedParams.model_validate({"mode": mode})
        assert PretrainedParams.model_validate(params.model_dump(mode="json")) == params


@pytest.mark.parametrize("mode", ["probe", "partial", "full"])
def test_the_shipped_configs_are_of_their_modes(mode: str) -> None:
    name = "pretrained" if mode == "probe" else f"pretrained_{mode}"
    assert load_family_config(name).params.mode == mode  # type: ignore[attr-defined]
