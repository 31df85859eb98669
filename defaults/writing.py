"""Write a proposed configuration as YAML, with the reason for each key in a comment."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..ground.errors import ConfigError
from ..ground.folders import write_text
from ..setup.yaml_text import read_yaml
from .fit import RULE
from .proposal import Proposal

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
WIDTH = 110


def commented(proposal: Proposal) -> str:
    """Return the text of a configuration file that loads to the proposed configuration."""
    head = [
        f"A calibration of {proposal.model.given} on {proposal.machine.name}.",
        "Run it with `trimpot calibrate THIS_FILE`; docs/configuration.md explains every key.",
        "",
        *RULE.splitlines(),
    ]
    lines = [f"# {_visible(line)}".rstrip() for line in head]
    return "\n".join([*lines, "", *_mapping(proposal.values, proposal.reasons, ()), ""])


def write(text: str, to: Path, *, force: bool = False) -> None:
    """Write a configuration file.

    Raises:
        ConfigError: If the file exists and `force` is not set, or it cannot be written.
    """
    if to.suffix.lower() not in (".yaml", ".yml"):
        raise ConfigError(
            f"{to} is not called .yaml, so no command would take it for a configuration; call it {to}.yaml"
        )
    if not force and (to.exists() or to.is_symlink()):
        raise ConfigError(f"{to} is there already; give --force to replace it, or another name by --to")
    write_text(to, text, error=ConfigError)


def _mapping(values: Mapping[str, Any], reasons: Mapping[str, str], place: tuple[str, ...]) -> Iterator[str]:
    indent = "  " * len(place)
    for key, value in values.items():
        here = (*place, str(key))
        if reason := reasons.get(".".join(here)):
            for line in textwrap.wrap(_visible(reason), WIDTH - len(indent)):
                yield f"{indent}# {line}"
        if isinstance(value, Mapping) and value:
            yield f"{indent}{_scalar(key)}:"
            yield from _mapping(value, reasons, here)
        else:
            yield f"{indent}{_scalar(key)}: {_flow(value)}"


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(key)}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    """Write one value so that it is read back as the same value."""
    if isinstance(value, str) and not (_PLAIN.fullmatch(value) and read_yaml(value, "a value") == value):
        written: str = yaml.safe_dump(value, default_style='"', allow_unicode=True, width=float("inf"))
        return written.rstrip("\n")
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _visible(text: str) -> str:
    """Return a text in one line, without characters that YAML does not allow in a comment."""
    return "".join(each if each.isprintable() else " " for each in text)
