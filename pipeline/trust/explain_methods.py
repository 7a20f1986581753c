"""The names of the methods that explain answers; nothing here needs torch to refuse another."""

from __future__ import annotations

from typing import Final, Literal, get_args

from data_prep.errors import MedcurveError, nearest

Method = Literal["grad_cam", "occlusion", "integrated_gradients"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)


class ExplainError(MedcurveError):
    """A method that a family does not have, or a class that a model does not know."""


def parse_method(name: str) -> Method:
    """The method of that name.

    Raises:
        ExplainError: ``explain.unknown_method``.
    """
    found = next((method for method in METHODS if method == name), None)
    if found is None:
        raise ExplainError(
            "explain.unknown_method",
            f"there is no method '{name}'{nearest(name, list(METHODS))}",
            fix=f"choose one of: {', '.join(METHODS)}, all",
        )
    return found
