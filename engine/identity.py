"""What a part of a run is made of: so that two that differ never have one identity.

Whatever its author says of it in `describe`, a part is known by the distribution that registered it, by its code, and
by the options it was made with. A reward whose code was edited is another reward, and is scored anew.
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

# Options of built-in parts that change no number, or that the part says itself in other words; in one list, by kind and
# name (`*` is any of the kind). Every other option is part of the identity, and so is every option of somebody else's
# plugin, unless its class declares it likewise, in `changes_no_number`.
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
}
# Keys of a configuration that change no number; its parts are known by what they are made of.
KEYS_CHANGE_NO_NUMBER: Mapping[str, str] = {
    "name": "it names the run",
    "protocol": "the keys it stands for are there",
    "start": "the setting it holds is part of the identity, not where it lies",
    "keep": "images are kept after they are scored",
    "workers": "jobs are cut by the configuration, whoever does them",
}
OWN_KEY = "made_of"  # what trimpot adds to a description
_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")


class Registered(Protocol):
    """What is known of a factory; see `plugins.Registration`."""

    @property
    def kind(self) -> str:
        """Of plugin, such as `objectives`."""

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
        """Of the factory, as it was when it was registered."""


def made_of(registered: Registered, made: object, options: Mapping[str, Any]) -> dict[str, Any]:
    """Say what a part is made of, JSON-like and the same on every machine.

    Args:
        registered: What made it.
        made: The part; None where it has not been made yet, and only its factory's code counts.
        options: What the factory was given; what was left out counts by its default. A file or folder counts by
            what it holds, not by where it lies.

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
    """A part as it describes itself, with what it is made of under a key of its own; JSON-like.

    Args:
        kind: Of part, for a sentence.
        name: Its registered name, or None where it stands under one.
        part: Has `describe`.
        made: What `made_of` said, or None where nobody knows.

    Raises:
        PluginError: If it fails, or describes itself by no mapping.
        ConfigError: If it describes itself by what JSON cannot hold, by what is another in every process, or under
            trimpot's own key.
    """
    who = f"the {kind} {name or type(part).__name__!r}"
    says = description_of(part, who)
    if OWN_KEY in says:
        raise ConfigError(f"{who} has the key {OWN_KEY!r}, under which trimpot puts its code and options; rename it")
    if found := _address(says):
        raise ConfigError(f"{who} holds {found!r}, an address that is another in every process; say what is there")
    return {**({"name": name} if name else {}), **says, **({OWN_KEY: made} if made else {})}


def changing_no_number(kind: str, name: str) -> dict[str, str]:
    """The options of a built-in part that change no number, with the reason."""
    family = name.partition(":")[0]
    return {**CHANGES_NO_NUMBER.get((kind, "*"), {}), **CHANGES_NO_NUMBER.get((kind, family), {})}


def content_of(path: Path, digest_of: Callable[[Path], str] = content_digest) -> Any:
    """A file or folder as it counts: by what it holds; by its path where it is gone."""
    return {"content": digest_of(path)} if _exists(path) else os.fspath(path)


def _defaults(factory: Callable[..., Any]) -> dict[str, Any]:
    """The defaults of a factory's options, as far as a configuration could give them."""
    found = {}
    for parameter in _parameters(factory):
        if parameter.default is not parameter.empty and parameter.kind is not parameter.POSITIONAL_ONLY:
            with contextlib.suppress(ConfigError):
                found[parameter.name] = plain(parameter.default, parameter.name)
    return found


def _parameters(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    with contextlib.suppress(TypeError, ValueError):  # what is written in C may not tell
        return list(inspect.signature(factory).parameters.values())
    return []


def _hints(factory: Callable[..., Any]) -> dict[str, Any]:
    """Option to its annotation, where that can be read."""
    made = factory.__init__ if inspect.isclass(factory) else factory
    with contextlib.suppress(Exception):  # a stranger's annotations may name anything
        return get_type_hints(made, include_extras=True)
    return {}


def _is_word(hint: Any) -> bool:
    """Whether an option is one of a few words, which no file can be meant by."""
    return get_origin(hint) is Literal or any(_is_word(each) for each in get_args(hint) if each is not type(None))


@functools.cache
def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _content(value: object, name: str, *, built_in: bool) -> Any:
    """An option as it counts: files and folders by their content.

    Args:
        value: The option.
        name: What to call it in a sentence.
        built_in: Whether it is a built-in part's: folders are checkpoints then, and a single word names none, since
            such parts say themselves which weights they were given.
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
    """A text inside a description that holds an address in memory."""
    if isinstance(value, str):
        return value if _ADDRESS.search(value) else None
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next(filter(None, map(_address, inner)), None)
