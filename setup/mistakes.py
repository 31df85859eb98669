"""Turn the mistakes in a configuration into sentences: each mistake once, with the correction if it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..engine.nouns import ALSO
from ..ground.errors import near_misses
from ..ground.mistakes import mistake_of
from ..ground.plain import short

MOST_TOLD = 20


def listed(where: str, mistakes: Sequence[str]) -> str:
    """Join mistakes: one mistake is one sentence, several are a numbered list.

    Args:
        where: The place of the mistakes, such as the name of a file.
        mistakes: One sentence for each mistake.
    """
    if len(mistakes) == 1:
        return f"{where}: {mistakes[0]}"
    told = [f"({number}) {mistake}" for number, mistake in enumerate(mistakes[:MOST_TOLD], 1)]
    more = f"; and {len(mistakes) - MOST_TOLD} more" if len(mistakes) > MOST_TOLD else ""
    return f"{where} has {len(mistakes)} mistakes: {'; '.join(told)}{more}"


def at_line(number: int | None) -> str:
    """Return the beginning of a sentence about a line of a file, or an empty text if the line is unknown."""
    return "" if number is None else f"line {number}: "


def sentences_of(
    error: ValidationError,
    values: object,
    root: type[BaseModel] | None = None,
    lines: Mapping[tuple[str, ...], int] | None = None,
) -> list[str]:
    """Turn every validation error into a sentence, with near misses for unknown keys.

    The members of a union may report several errors for one value; only the most deeply nested one is kept.

    Args:
        error: The error that pydantic raised.
        values: The values that were validated.
        root: The model that the values were validated against, for the names of its keys.
        lines: The line numbers of keys in a file; a key without a line number is reported without one.
    """
    found: dict[tuple[str, ...], list[ErrorDetails]] = {}
    for each in error.errors():
        found.setdefault(_path(each, values), []).append(each)
    deepest = [path for path in found if not any(other[: len(path)] == path and other != path for other in found)]
    return [_line(path, found[path], lines or {}) + _sentence(path, found[path], root) for path in deepest]


def _line(path: tuple[str, ...], errors: Sequence[ErrorDetails], lines: Mapping[tuple[str, ...], int]) -> str:
    """Return the line of a mistake as the beginning of a sentence; for a missing key, the line of its parent."""
    return at_line(lines.get(path[:-1] if errors[0]["type"] == "missing" else path))


def _path(error: ErrorDetails, values: Any) -> tuple[str, ...]:
    """Return the keys that lead to a value, as they were written, without the names of union members of pydantic."""
    path: list[str] = []
    for part in error["loc"]:
        keys = (
            values if isinstance(values, Mapping) else range(len(values)) if isinstance(values, (list, tuple)) else ()
        )
        if part not in keys and ALSO.get(str(part)) in keys:
            part = ALSO[str(part)]
        if part in keys:
            values = values[part]
        elif error["type"] != "missing" or part != error["loc"][-1]:
            continue
        path.append(str(part))
    return tuple(path)


def _sentence(path: tuple[str, ...], errors: Sequence[ErrorDetails], root: type[BaseModel] | None) -> str:
    key, first = ".".join(path), errors[0]
    if first["type"] == "extra_forbidden":
        return f"unknown key {short(key)}; {near_misses(path[-1], _keys(path[:-1], root))}"
    if first["type"] == "missing":
        return f"key {short('.'.join([*path[:-1], ALSO.get(path[-1], path[-1])]))} is missing"
    messages = list(dict.fromkeys(map(mistake_of, errors)))
    if not path:
        return " or ".join(messages)
    return f"{short(key)}: {_said(messages)}, not {short(first['input'])}{_hint(path[-1], first)}"


def _said(messages: Sequence[str]) -> str:
    """Join the messages about a value that could have had several types."""
    rest = [message.removeprefix("should be ") for message in messages[1:]]
    return " or ".join([messages[0], *rest])


def _hint(name: str, error: ErrorDetails) -> str:
    """Return a hint at the right notation, for mistakes with a known correction."""
    value = error["input"]
    if error["type"] in ("list_type", "tuple_type") and isinstance(value, str) and len(value) < 60:
        return f"; write {name}=[{value}]"
    return ""


def _keys(path: Sequence[str], root: Any) -> Sequence[str]:
    """Return the known keys at a place of the configuration."""
    model, by_name = root, False
    for part in path:
        if by_name:  # the name of one of several sections that are alike
            by_name = False
            continue
        annotation = model.model_fields[part].annotation
        model = next(kind for kind in (annotation, *get_args(annotation)) if hasattr(kind, "model_fields"))
        by_name = get_origin(annotation) is dict
    return names_in(model) if model is not None else []


def names_in(model: type[BaseModel]) -> list[str]:
    """Return the keys of a section, by all their names."""
    fields = list(model.model_fields)
    return [*fields, *(ALSO[name] for name in fields if name in ALSO)]
