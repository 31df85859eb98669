"""The fields of a record of a prompt file that trimpot knows by name: answer, options, and tag.

A record is a row of a prompt file: {"prompt": "2 + 2 =", "answer": " 4", "options": [" 3", " 4"], "tag": "sums"}.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..ground.errors import ConfigError
from ..ground.plain import short

FEWEST_OPTIONS = 2
LONGEST_TAG = 100  # characters of a heading in a report
ONE_OF_A_PROMPT = ("answer", "options")  # two values of one prompt are a contradiction, and are never left out


def checked_fields(about: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check the fields of a record that trimpot knows by name, and return its metadata.

    A field that is null counts as absent. The options of a table may be a JSON list in a cell.

    Args:
        about: The record without its prompt.
        where: The place of the record, such as `line 3 of sums.jsonl`.

    Raises:
        ConfigError: If a field has another type than it must have, or the answer is none of the options.
    """
    found = {name: value for name, value in about.items() if name not in FIELDS or value is not None}
    for name, check in FIELDS.items():
        if name in found:
            found[name] = check(found[name], where)
    if "answer" in found and "options" in found and found["answer"] not in found["options"]:
        near = next((each for each in found["options"] if each.strip() == found["answer"].strip()), None)
        aim = "their white space differs" if near else "write it as it stands among them"
        raise ConfigError(f"the answer in {where} is none of its {len(found['options'])} options; {aim}")
    return found


def _answer(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong("answer", value, where, "text")
    if not value.strip():
        raise ConfigError(f"the answer in {where} is empty; give text, or leave the field out")
    return value


def _options(value: object, where: str) -> list[str]:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ConfigError(f"the options in {where} begin like a JSON list and are none: {short(value)}") from None
    if not isinstance(value, list):
        raise _wrong("options", value, where, "a list of texts")
    for each in value:
        if not isinstance(each, str) or not each.strip():
            raise ConfigError(f"the options in {where} hold {_called(each)}; every option must be text")
    if len(value) < FEWEST_OPTIONS:
        raise ConfigError(f"the options in {where} are {len(value)}; give at least {FEWEST_OPTIONS}")
    if len(set(value)) < len(value):
        twice = next(each for each in value if value.count(each) > 1)
        raise ConfigError(f"the options in {where} hold {short(twice)} twice; leave one out")
    return value


def _tag(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong("tag", value, where, "text")
    if not value.strip() or len(value) > LONGEST_TAG or len(value.splitlines()) > 1:
        raise ConfigError(f"the tag in {where} is {short(value)}; give one line of at most {LONGEST_TAG} characters")
    return value


def _wrong(name: str, value: object, where: str, wanted: str) -> ConfigError:
    quotes = ", in quotes" if isinstance(value, (int, float)) and wanted == "text" else ""
    return ConfigError(
        f"the {name} in {where} must be {wanted}{quotes}, not {_called(value)}; correct it, or leave the field out of "
        f"`metadata`"
    )


def _called(value: object) -> str:
    return f"the {type(value).__name__} {short(value)}"


FIELDS: dict[str, Callable[[object, str], Any]] = {"answer": _answer, "options": _options, "tag": _tag}
