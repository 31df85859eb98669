"""Recognize typing mistakes on the command line, and say in one sentence what to type."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from ..ground.errors import near_misses

DASHES = "‐‑‒–—―−"  # noqa: RUF001  # word processors replace hyphens by these
_MEANT = {"-g": "adapter.granularity", "--granularity": "adapter.granularity"}  # options of `trimpot knobs`
_WITH_KEYS = ("calibrate", "compare", "plan", "resume")  # commands that take key=value


def wrong_dash(arguments: Sequence[str]) -> str | None:
    """Return a sentence about the first argument that begins with a dash instead of a hyphen, or None."""
    for argument in arguments:
        if argument[:1] and argument[0] in DASHES:
            bare = argument.lstrip(DASHES + "-")
            typed = f"-{bare}" if len(bare) == 1 else f"--{bare}"
            return f"{argument!r} begins with a dash that is no hyphen; type {typed}"
    return None


def unknown_option(option: str, arguments: Sequence[str], known: Sequence[str] = ()) -> str:
    """Return a sentence about an option that a command does not have.

    Keys of a configuration are often typed as options; the sentence then says how to type them.

    Args:
        option: The option as typed, without its value.
        arguments: All arguments of the command line.
        known: The options that the command has.
    """
    bundled = next((each for each in arguments if len(each) > 2 and each[:2] == option and each[1] != "-"), option)
    option = bundled.partition("=")[0] if option[1:2].isalpha() else option  # -stoer is read as -s -t -o -e -r
    said, typed = f"no option {option}", option.lstrip("-").replace("-", "_")
    keys = _keys() if any(command in arguments for command in _WITH_KEYS) else []
    key = _MEANT.get(option) or typed
    head = key.partition(".")[0]
    if keys and option in ("-o", "--option"):
        return f"{said} here; write it under its part: adapter.{_value_of(option, arguments)}"
    if head in keys:
        return f"{said}; keys of a configuration are typed without dashes: {key}={_value_of(option, arguments)}"
    options = {each.lstrip("-").replace("-", "_"): each for each in known if each.startswith("--")}
    close = get_close_matches(head, [*options, *keys], n=1) if len(head) > 1 else []
    if close and close[0] in options:
        return f"{said}; did you mean {options[close[0]]!r}?"
    if keys:
        return f"{said}; `--help` lists options, and of keys of a configuration, {near_misses(head, keys)}"
    return f"{said}; `--help` lists them"


def _keys() -> list[str]:
    from ..engine.schema import Config

    return list(Config.model_fields)


def _value_of(option: str, arguments: Sequence[str]) -> str:
    """Return the value that was typed after an option, or VALUE if there is none."""
    for number, argument in enumerate(arguments):
        if argument == option and len(arguments) > number + 1:
            return arguments[number + 1]
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
    return "VALUE"
