"""What a schema refuses, said in the words of YAML: the line, the field and the nearest name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from data_prep.errors import nearest
from data_prep.yaml_file import FieldPath, Lines, type_name


def described(
    error: ValidationError,
    content: Any,
    schema: type[BaseModel],
    *,
    source: str,
    lines: Lines,
    at: str = "",
) -> list[str]:
    """One line for each field that ``schema`` refuses.

    Args:
        error: What pydantic says.
        content: What was refused.
        schema: What it ought to say.
        source: The file.
        lines: Line of each field, as far as known.
        at: Field path of ``content`` in its file.
    """
    prefix: FieldPath = tuple(at.split(".")) if at else ()
    by_field: dict[FieldPath, list[ErrorDetails]] = {}
    for detail in error.errors():
        by_field.setdefault(prefix + _field_of(detail, content), []).append(detail)
    return [_describe(path, details, schema, source, lines) for path, details in by_field.items()]


def first_fault(error: ValidationError) -> str:
    """The first field that a model of pydantic refuses, and why: for a file that we wrote."""
    detail = error.errors()[0]
    field = ".".join(str(step) for step in detail["loc"]) or "(top)"
    return f"field '{field}': {_message(detail)}"


def _describe(
    path: FieldPath,
    details: Sequence[ErrorDetails],
    schema: type[BaseModel],
    source: str,
    lines: Lines,
) -> str:
    """One line about one field: each member of a union has something to say about it."""
    field = ".".join(str(step) for step in path) or "(top)"
    line = next((lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in lines), None)
    where = f"{source}:{line}" if line else source
    first = details[0]
    if first["type"] == "extra_forbidden":
        known = _known_fields(schema, first["loc"][:-1])
        hint = nearest(str(path[-1]), known)
        allowed = f"; allowed here: {', '.join(known)}" if known else ""
        return f"{where}: unknown field '{field}'{hint}{allowed}"
    if first["type"] in ("missing", "union_tag_not_found"):
        return f"{where}: field '{field}' is required"
    if first["type"] == "union_tag_invalid":
        value, allowed = first["ctx"]["tag"], first["ctx"]["expected_tags"]
        hint = nearest(value, _words(allowed))
        return f"{where}: field '{field}' = '{value}'; allowed: {allowed}{hint}"
    value = first["input"]
    expected = ", ".join(detail.get("ctx", {}).get("expected", "") for detail in details)
    messages = [_message(detail) for detail in details]
    message = ", or ".join(dict.fromkeys(text[:1].lower() + text[1:] for text in messages))
    shown = repr(value) if isinstance(value, str | int | float | bool) else type_name(value)
    return f"{where}: field '{field}' = {shown}: {message}{nearest(str(value), _words(expected))}"


def _message(detail: ErrorDetails) -> str:
    """What is wrong, in the words of YAML: pydantic's are those of Python's types."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in ("tuple_type", "list_type", "set_type", "frozen_set_type"):
        return "should be a list, [a, b]"
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return "should be 'field: value' lines"
    if kind in ("too_short", "too_long"):
        side, count = ("least", "min_length") if kind == "too_short" else ("most", "max_length")
        items = "item" if context[count] == 1 else "items"
        return f"should have at {side} {context[count]} {items}, not {context['actual_length']}"
    return detail["msg"].removeprefix("Value error, ")


def _words(allowed: str) -> list[str]:
    """The values in pydantic's ``'a', 'b' or 'c'``."""
    return [word for word in allowed.replace("'", "").replace(" or ", ", ").split(", ") if word]


def _field_of(detail: ErrorDetails, content: Any) -> FieldPath:
    """Path of the field that an error is about."""
    # A discriminated union puts its tag into loc: keep only the steps that exist in the content.
    path = _real_path(detail["loc"], content, missing=detail["type"] == "missing")
    if detail["type"].startswith("union_tag"):  # the field that chooses among the union's members
        return (*path, detail["ctx"]["discriminator"].strip("'"))
    return path


def _real_path(location: FieldPath, content: Any, *, missing: bool) -> FieldPath:
    path: list[str | int] = []
    for position, step in enumerate(location):
        last = position == len(location) - 1
        is_field = isinstance(content, dict) and step in content
        is_item = isinstance(content, list) and isinstance(step, int) and step < len(content)
        if is_field or is_item:
            content = content[step]
        elif not (missing and last):
            continue
        path.append(step)
    return tuple(path)


def _known_fields(schema: type[BaseModel], location: FieldPath) -> list[str]:
    """Field names of the model that ``location`` leads to, through lists, dicts and unions."""
    models: list[type[BaseModel]] = [schema]
    for step in location:
        inner: list[type[BaseModel]] = []
        for model in models:
            if isinstance(step, str) and step in model.model_fields:
                inner += _models_in(model.model_fields[step].annotation)
        if inner:
            models = inner
        else:  # the step is a list position or a union's tag: narrow by the tag if it is one
            tagged = [
                m
                for m in models
                if any(_is_tag(f.annotation, step) for f in m.model_fields.values())
            ]
            models = tagged or models
    return sorted({name for model in models for name in model.model_fields})


def _is_tag(annotation: Any, step: str | int) -> bool:
    return step in get_args(annotation)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
