"""Prompts from text files, one prompt a line."""

from __future__ import annotations

from pathlib import Path

from .bucket import PromptSet
from .errors import ConfigError
from .hooks import Register, hookimpl


def prompt_files(*, train: Path, validation: Path, test: Path) -> PromptSet:
    """Read three files of prompts; blank lines and lines starting with `#` are left out.

    Raises:
        ConfigError: If a file cannot be read or is empty, or two of them share a prompt.
    """
    return PromptSet(_lines(train), _lines(validation), _lines(test), source="prompts")


def _lines(path: Path) -> tuple[str, ...]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read the prompt file {path}: {reason}") from None
    prompts = tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not prompts:
        raise ConfigError(f"the prompt file {path} is empty; write one prompt a line")
    return prompts


@hookimpl
def register_prompts(register: Register) -> None:
    """Name the prompt sets that need no plugin."""
    register("files", prompt_files)
