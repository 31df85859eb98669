"""Say in plain words what is wrong with a value that pydantic has refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

#: By the type of pydantic's error; in braces, what its context holds. The rest is said as pydantic says it.
WORDS = {
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "should be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "should be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "should be true or false"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), "should be a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), "should be a mapping"),
    "string_type": "should be a text",
    "finite_number": "should be a finite number",
    "greater_than": "should be more than {gt}",
    "greater_than_equal": "should be at least {ge}",
    "less_than": "should be less than {lt}",
    "less_than_equal": "should be at most {le}",
    "too_short": "should have {min_length} or more entries",
    "too_long": "should have {max_length} or fewer entries",
    "string_too_short": "should have {min_length} or more characters",
    "string_too_long": "should have {max_length} or fewer characters",
    "string_pattern_mismatch": "should match the pattern {pattern}",
    "missing": "is missing",
}


def mistake_of(error: Mapping[str, Any]) -> str:
    """Return what is wrong with a value, as the end of a sentence that begins with its name.

    Args:
        error: One of the errors of a `ValidationError`.
    """
    known = WORDS.get(error["type"])
    if known is not None:
        limits = error.get("ctx", {}).items()
        return known.format(**{name: f"{limit:g}" if isinstance(limit, float) else limit for name, limit in limits})
    said: str = error["msg"]
    return said.removeprefix("Value error, ").removeprefix("Input ")


def first_mistake(error: ValidationError, root: str = "") -> str:
    """Return the first mistake of a validation, such as `steps.0: should be a whole number`.

    Args:
        error: The error that pydantic raised.
        root: What stands for the value itself, if it is wrong as a whole.
    """
    first = error.errors()[0]
    where = ".".join(str(part)[:60] for part in first["loc"]) or root
    return f"{where}: {mistake_of(first)}"
