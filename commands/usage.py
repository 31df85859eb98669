"""What was typed and cannot be meant so, as one sentence that says what to type."""

from __future__ import annotations

from collections.abc import Sequence

from ..ground.errors import near_misses

DASHES = "‐‑‒–—―−"  # noqa: RUF001  # what word processors make of hyphens
_MEANT = {"-g": "adapter.granularity", "--granularity": "adapter.granularity"}  # options of `trimpot knobs`
_WITH_KEYS = ("calibrate", "compare", "plan", "resume")  # whose configurations are changed by key=value


def wrong_dash(arguments: Sequence[str]) -> str | None:
    """A sentence on the first argument that begins with a dash which is no hyphen, if there is one."""
    for argument in arguments:
        if argument[:1] and argument[0] in DASHES:
            bare = argument.lstrip(DASHES + "-")
            typed = f"-{bare}" if len(bare) == 1 else f"--{bare}"
            return f"{argument!r} begins with a dash that is no hyphen; type {typed}"
    return None


def unknown_option(option: str, arguments: Sequence[str]) -> str:
    """A sentence on an option that a command does not have.

    Keys of a configuration are often typed as options; then it says how they are typed.

    Args:
        option: As it was typed, without its value.
        arguments: All that was typed.
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
    """What was typed after an option."""
    for number, argument in enumerate(arguments):
        if argument == option and len(arguments) > number + 1:
            return arguments[number + 1]
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
    return "VALUE"
