"""Make relative paths absolute: paths in a file are relative to the file, typed paths to the working folder.

The annotation of an option says whether its value is a path. A `Path` always is. A `Source` is a local file or folder
if that exists, or if the value begins with `.`, `/` or `~`; otherwise it is an id on the hub.
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
    """Make every path in the options of a part absolute.

    Args:
        options: The options of the part in a configuration.
        known: The options that the part takes.
        folder: The folder that relative paths are relative to.
        only: The only option to change; None changes all.

    Raises:
        ConfigError: If a file is in the working folder, but not in `folder`.
    """
    result = dict(options)
    for each in known:
        if each.name in result and only in (None, each.name):
            always, here = _kind_of(each.annotation)
            if always or here:
                result[each.name] = _anchored(result[each.name], folder, always, each.name)
    return result


def anchored(value: str, folder: Path, name: str) -> str:
    """Make a path absolute.

    Args:
        value: The path; `~` stands for the home folder.
        folder: The folder that the path is relative to.
        name: The name of the path in an error message.

    Raises:
        ConfigError: If the value names the home folder of an unknown user, or is no path.
    """
    if "\0" in value:
        raise ConfigError(f"{name} {short(value)} is no path: it holds a character of code 0")
    try:
        return str(folder / Path(value).expanduser())
    except RuntimeError:
        raise ConfigError(f"{name} {short(value)} names a home folder that is not known here; write it out") from None


def _kind_of(annotation: Any) -> tuple[bool, bool]:
    """Tell whether a value of this annotation is always a path, and whether it is a path if the file exists."""
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
            f"write a path relative to that folder, or an absolute path"
        )
    return value


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # the name is too long, or holds a character of code 0
        return False
