"""One rule for relative paths: what a file says is relative to that file, what is typed is relative to where one is.

Which options name files is read off their annotations. A `Path` always does. A `Source` is a local file or folder if
there is one, or if it is written as one, with `.`, `/` or `~` at its beginning; otherwise it is an id on the hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from ..engine.hooks import OfTheHubOrHere
from ..ground.errors import ConfigError
from ..ground.plain import short
from .factory import Option


def anchored_options(
    options: Mapping[str, Any], known: Iterable[Option], folder: Path, only: str | None = None
) -> dict[str, Any]:
    """Options with every path made absolute.

    Args:
        options: What a configuration says of a part.
        known: The options that the part takes.
        folder: What relative paths are relative to.
        only: The one option to look at; None for all.

    Raises:
        ConfigError: If a path could be meant to be relative to either of two folders.
    """
    result = dict(options)
    for each in known:
        if each.name in result and only in (None, each.name):
            always, here = _kind_of(each.annotation)
            if always or here:
                result[each.name] = _anchored(result[each.name], folder, always, each.name)
    return result


def anchored(value: str, folder: Path, name: str) -> str:
    """A path made absolute.

    Args:
        value: As it was written; `~` stands for the home folder.
        folder: What it is relative to.
        name: What to call it in a sentence.

    Raises:
        ConfigError: If it names the home of a user whom nobody knows, or no path at all.
    """
    if "\0" in value:
        raise ConfigError(f"{name} {short(value)} is no path: it holds a character of code 0")
    try:
        return str(folder / Path(value).expanduser())
    except RuntimeError:
        raise ConfigError(f"{name} {short(value)} names a home folder that is not known here; write it out") from None


def _kind_of(annotation: Any) -> tuple[bool, bool]:
    """Whether it is always a path, and whether it is one if it is there."""
    inner = [_kind_of(each) for each in get_args(annotation)]
    always = isinstance(annotation, type) and issubclass(annotation, Path)
    return always or any(a for a, _ in inner), isinstance(annotation, OfTheHubOrHere) or any(h for _, h in inner)


def _anchored(value: Any, folder: Path, always: bool, name: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _anchored(each, folder, always, f"{name}.{key}") for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_anchored(each, folder, always, name) for each in value]
    if not isinstance(value, str) or not value:
        return value
    if always or value.startswith((".", "/", "~")) or _exists(folder / value):
        return anchored(value, folder, name)
    if _exists(Path(value)):
        raise ConfigError(
            f"{name} {short(value)} is in the working folder, but not in {folder}, which it is relative to; "
            f"write it as it is seen from there, or an absolute path"
        )
    return value


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a character of code 0
        return False
