"""How a model is named that MLflow's store holds; nothing here needs MLflow to tell."""

from __future__ import annotations

import re
from typing import Final

from data_prep.errors import ConfigError

MODEL_ADDRESS: Final = re.compile(
    r"models:/(?P<name>[^/@:]+)(?:@(?P<alias>[\w.-]+)|/(?P<version>\d+))"
)
_RUN_ADDRESS: Final = re.compile(r"runs:/[^/]+/.+")


def is_address(model: str) -> bool:
    """Whether a model is named by an address, right or wrong, and not by a folder."""
    return model.startswith(("models:", "runs:"))


def check_address(model: str) -> None:
    """Stop where text is no address of a model.

    Raises:
        ConfigError: ``tracking.bad_model_uri``.
    """
    if not (MODEL_ADDRESS.fullmatch(model) or _RUN_ADDRESS.fullmatch(model)):
        raise ConfigError(
            "tracking.bad_model_uri",
            f"'{model}' is not the address of a model",
            fix="use models:/NAME@champion (or another alias), models:/NAME/VERSION or "
            "runs:/RUN_ID/model",
        )
