"""What is wrong with values that were given, as sentences: every mistake, once each, with what to write instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..ground.errors import near_misses
from ..ground.plain import short

MOST_TOLD = 20


def listed(where: str, mistakes: Sequence[str]) -> str:
    """One sentence for one mistake, and a counted list of sentences for several.

    Args:
        where: What they are in, such as a file's name.
        mistakes: A sentence each.
    """
    if len(mistakes) == 1:
        return f"{where}: {mistakes[0]}"
    told = [f"({number}) {mistake}" for number, mistake in enumerate(mistakes[:MOST_TOLD], 1)]
    more = f"; and {len(mistakes) - MOST_TOLD} more" if len(mistakes) > MOST_TOLD else ""
    return f"{where} has {len(mistakes)} mistakes: {'; '.join(told)}{more}"


def at_line(number: int | None) -> str:
    """The beginning of a sentence on a line of a file, if it is known."""
    return "" if number is None else f"line {number}: "


def sentences_of(
    error: ValidationError,
    values: object,
    root: type[BaseModel] | None = None,
    lines: Mapping[tuple[str, ...], int] | None = None,
) -> list[str]:
    """Every validation error as a sentence, with near misses for unknown keys.

    What the members of a union say of one value is one mistake: that which went deepest is told.

    Args:
        error: What pydantic found.
        values: What it looked at.
        root: The class they were for, whose keys are known.
        lines: In which line of a file a key stands; of those that do not stand there, nothing is said.
    """
    found: dict[tuple[str, ...], list[ErrorDetails]] = {}
    for each in error.errors():
        found.setdefault(_path(each, values), []).append(each)
    deepest = [path for path in found if not any(other[: len(path)] == path and other != path for other in found)]
    return [_line(path, found[path], lines or {}) + _sentence(path, found[path], root) for path in deepest]


def _line(path: tuple[str, ...], errors: Sequence[ErrorDetails], lines: Mapping[tuple[str, ...], int]) -> str:
    """Where to look for a mistake; a key that is missing is missed under the one above it."""
    return at_line(lines.get(path[:-1] if errors[0]["type"] == "missing" else path))


def _path(error: ErrorDetails, values: Any) -> tuple[str, ...]:
    """Where a value stands; names of a union's members, which pydantic puts in between, are left out."""
    path: list[str] = []
    for part in error["loc"]:
        keys = (
            values if isinstance(values, Mapping) else range(len(values)) if isinstance(values, (list, tuple)) else ()
        )
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
        return f"key {short(key)} is missing"
    messages = dict.fromkeys(each["msg"].removeprefix("Value error, ") for each in errors)
    if not path:
        return " or ".join(messages)
    return f"{short(key)}: {_said(list(messages))}, not {short(first['input'])}{_hint(path[-1], first)}"


def _said(messages: Sequence[str]) -> str:
    """Several things that a value could have been, as one."""
    rest = [message.removeprefix("Input should be ") for message in messages[1:]]
    return " or ".join([messages[0], *rest])


def _hint(name: str, error: ErrorDetails) -> str:
    """What to write where that is not plain."""
    value = error["input"]
    if error["type"] in ("list_type", "tuple_type") and isinstance(value, str) and len(value) < 60:
        return f"; write {name}=[{value}]"
    return ""


def _keys(path: Sequence[str], root: Any) -> Sequence[str]:
    """The keys that are known at a place."""
    model = root
    for part in path:
        annotation = model.model_fields[part].annotation
        model = next(kind for kind in (annotation, *get_args(annotation)) if hasattr(kind, "model_fields"))
    return list(model.model_fields) if model is not None else []
