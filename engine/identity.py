"""The identity of a part of a run, so that two different parts never share one.

In addition to `describe`, a part is identified by the distribution that registered it, by its code, and by the options
that it was made with. A reward whose code was edited is a different reward, and scores anew.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import inspect
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, get_origin, get_type_hints

from ..ground.digests import content_digest
from ..ground.errors import ConfigError
from ..ground.plain import plain
from ..ground.weights import weights_digest
from .code import TRIMPOT, Code, classes_of, code_of
from .vetting import description_of

# Options of built-in parts that change no number, or that `describe` gives in other words, by kind and name (`*` is any
# name). Every other option is part of the identity. So is every option of another author's plugin, unless the part
# names the option in `changes_no_number`.
CHANGES_NO_NUMBER: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("adapters", "*"): {
        "outline": "an outline makes no outputs",
        "release_text_encoders": "prompts are encoded before, and stay as they were encoded",
        "offload": "weights wait elsewhere, and are calculated with where they always were",
    },
    ("adapters", "surrogate"): {"run": "it says which evaluations it was fitted to, wherever that run lies"},
    ("objectives", "*"): {"offload": "weights wait elsewhere, and are calculated with where they always were"},
    ("objectives", "remote"): {
        "url": "a served reward says what it is, wherever it listens",
        "token_env": "it names what opens the door of a server",
        "timeout": "it says how long to wait for an answer",
        "patience": "it says how long to wait for a server that is away",
        "compression": "images arrive as they were sent",
    },
    ("objectives", "judge"): {
        "token_env": "it names what opens the door of a server",
        "timeout": "it says how long to wait for an answer",
        "patience": "it says how long to wait for a server that is away",
        "parallel": "every text is judged alone",
    },
    ("objectives", "unit-tests"): {"allow_execution": "without it, nothing is made"},
}
# Keys of a configuration that change no number. Its parts have their own identities.
KEYS_CHANGE_NO_NUMBER: Mapping[str, str] = {
    "name": "it names the run",
    "plugins": "what the files register counts in the parts, wherever the files lie",
    "protocol": "the keys it stands for are there",
    "start": "the setting it holds is part of the identity, not where it lies",
    "keep": "images are kept after they are scored",
    "trackers": "they show what is recorded",
    "workers": "jobs are cut by the configuration, whoever does them",
}
OWN_KEY = "made_of"  # the key that trimpot adds to a description
_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")


class Registered(Protocol):
    """A registered factory; see `plugins.Registration`."""

    @property
    def kind(self) -> str:
        """The kind of plugin, such as `objectives`."""

    @property
    def name(self) -> str:
        """The registered name."""

    @property
    def origin(self) -> str:
        """The distribution that registered it."""

    @property
    def factory(self) -> Callable[..., Any]:
        """Makes the part."""

    @property
    def code(self) -> Code:
        """The code of the factory at the time of registration."""


def made_of(registered: Registered, made: object, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a part's identity as a JSON-like mapping that is the same on every machine.

    Args:
        registered: The factory that made the part.
        made: The part, or None if it has not been made yet; then only its factory's code counts.
        options: The options given to the factory; other options count by their defaults. A file or folder counts by
            its content, not by its path.

    Returns:
        `name`, `distribution`, `version`, `code` and `options`.

    Raises:
        ConfigError: If an option cannot be written down, or a file cannot be read.
    """
    kind, name, origin, factory = registered.kind, registered.name, registered.origin, registered.factory
    code = registered.code | code_of(*classes_of(made), own=origin) if made is not None else registered.code
    unnumbered = changing_no_number(kind, name) if origin == TRIMPOT else getattr(made, "changes_no_number", {})
    words = {option for option, hint in _hints(factory).items() if _is_word(hint)}
    given = {**_defaults(factory), **options}
    return {
        "name": name,
        "distribution": origin,
        "version": _version(origin),
        "code": code.digest,
        "options": {
            option: plain(value, f"option {option!r} of {name!r}")
            if option in words
            else _content(value, f"option {option!r} of {name!r}", built_in=origin == TRIMPOT)
            for option, value in given.items()
            if option not in unnumbered
        },
    }


def described(kind: str, name: str | None, part: Any, made: Any) -> dict[str, Any]:
    """Return a part's description of itself, JSON-like, with its identity from `made_of` under trimpot's own key.

    Args:
        kind: The kind of part, for an error message.
        name: The part's registered name, or None if the description is stored under a name already.
        part: A part with a method `describe`.
        made: The result of `made_of`, or None if unknown.

    Raises:
        PluginError: If `describe` fails, or returns no mapping.
        ConfigError: If the description holds values that are not JSON-like, a memory address, or trimpot's own key.
    """
    who = f"the {kind} {name or type(part).__name__!r}"
    says = description_of(part, who)
    if OWN_KEY in says:
        raise ConfigError(f"{who} has the key {OWN_KEY!r}, under which trimpot puts its code and options; rename it")
    if found := _address(says):
        raise ConfigError(f"{who} holds {found!r}, an address that is another in every process; say what is there")
    return {**({"name": name} if name else {}), **says, **({OWN_KEY: made} if made else {})}


def changing_no_number(kind: str, name: str) -> dict[str, str]:
    """Return the options of a built-in part that change no number, each with the reason."""
    family = name.partition(":")[0]
    return {**CHANGES_NO_NUMBER.get((kind, "*"), {}), **CHANGES_NO_NUMBER.get((kind, family), {})}


def content_of(path: Path, digest_of: Callable[[Path], str] = content_digest) -> Any:
    """Return what identifies a file or folder: a digest of its content, or its path if it does not exist."""
    return {"content": digest_of(path)} if _exists(path) else os.fspath(path)


def _defaults(factory: Callable[..., Any]) -> dict[str, Any]:
    """Return the defaults of a factory's options, without those that a configuration could not give."""
    found = {}
    for parameter in _parameters(factory):
        if parameter.default is not parameter.empty and parameter.kind is not parameter.POSITIONAL_ONLY:
            with contextlib.suppress(ConfigError):
                found[parameter.name] = plain(parameter.default, parameter.name)
    return found


def _parameters(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    with contextlib.suppress(TypeError, ValueError):  # functions written in C may have no signature
        return list(inspect.signature(factory).parameters.values())
    return []


def _hints(factory: Callable[..., Any]) -> dict[str, Any]:
    """Return option to annotation; empty if the annotations cannot be read."""
    made = factory.__init__ if inspect.isclass(factory) else factory
    with contextlib.suppress(Exception):  # a stranger's annotations may name anything
        return get_type_hints(made, include_extras=True)
    return {}


def _is_word(hint: Any) -> bool:
    """Return whether an option takes one of a few fixed words, so that its value cannot name a file."""
    return get_origin(hint) is Literal or any(_is_word(each) for each in get_args(hint) if each is not type(None))


@functools.cache
def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _content(value: object, name: str, *, built_in: bool) -> Any:
    """Return what identifies an option's value: files and folders count by their content.

    Args:
        value: The option's value.
        name: The option's name in an error message.
        built_in: Whether the part is built in. Then a folder is a checkpoint, and a single word names no file, since
            built-in parts describe their weights themselves.
    """
    if isinstance(value, Mapping):
        return plain({key: _content(each, name, built_in=built_in) for key, each in value.items()}, name)
    if isinstance(value, (list, tuple)):
        return [_content(each, name, built_in=built_in) for each in value]
    named = isinstance(value, str) and value.strip("./\\~ ")
    if isinstance(value, Path) or (named and not (built_in and not re.search(r"[/\\]|^~|\.\w+$", str(value)))):
        path = Path(os.path.expanduser(str(value)))
        if _exists(path):
            return content_of(path, weights_digest if built_in else content_digest)
    return plain(value, name)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a text too long for a path, or with a character of code 0
        return False


def _address(value: Any) -> str | None:
    """Return a text of a description that holds a memory address, or None."""
    if isinstance(value, str):
        return value if _ADDRESS.search(value) else None
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next(filter(None, map(_address, inner)), None)
