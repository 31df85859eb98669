"""Recognize typing mistakes on the command line, and say in one sentence what to type."""

from __future__ import annotations

from collections.abc import Sequence

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


def unknown_option(option: str, arguments: Sequence[str]) -> str:
    """Return a sentence about an option that a command does not have.

    Keys of a configuration are often typed as options; the sentence then says how to type them.

    Args:
        option: The option as typed, without its value.
        arguments: All arguments of the command line.
    """
    from ..engine.schema import Config

    said = f"no option {option}"
    if not any(command in arguments for command in _WITH_KEYS):
        return f"{said}; `--help` lists them"
    value = _value_of(option, arguments)
    if option in ("-o", "--option"):
        return f"{said} here; write it under its part: adapter.{value}"
    key = _MEANT.get(option) or option.lstrip("-").replace("-", "_")
    head = key.partition(".")[0]
    if head in Config.model_fields:
        return f"{said}; keys of a configuration are typed without dashes: {key}={value}"
    return f"{said}; `--help` lists options, and of keys of a configuration, {near_misses(head, Config.model_fields)}"


def _value_of(option: str, arguments: Sequence[str]) -> str:
    """Return the value that was typed after an option, or VALUE if there is none."""
    for number, argument in enumerate(arguments):
        if argument == option and len(arguments) > number + 1:
            return arguments[number + 1]
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
    return "VALUE"
