"""What a part of a run is made of: so that two that differ never have one identity.

Whatever its author says of it in `describe`, a part is known by the distribution that registered it, by its code, and
by the options it was made with. A reward whose code was edited is another reward, and is scored anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import CodeType
from typing import Any

from .errors import ConfigError
from .knobs import digest
from .plain import plain
from .vetting import description_of
from .weights import weights_digest

# Options that change no number, in one list, by kind and name of the built-in part (`*` is any of the kind). Every
# other option, and every option of a plugin of somebody else's, is part of the identity.
CHANGES_NO_NUMBER: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("adapters", "*"): {
        "outline": "an outline makes no outputs",
        "release_text_encoders": "prompts are encoded before, and stay as they were encoded",
        "offload": "weights wait elsewhere, and are calculated with where they always were",
    },
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


def made_of(
    kind: str, name: str, origin: str, factory: Callable[..., Any], made: object, options: Mapping[str, Any]
) -> Any:
    """Say what a part is made of, JSON-like and the same on every machine.

    Args:
        kind: Of plugin, such as `objectives`.
        name: The registered name.
        origin: The distribution that registered the factory.
        factory: What made the part.
        made: The part.
        options: What the factory was given; what was left out counts by its default. A file or folder counts by
            what it holds, not by where it lies.

    Returns:
        `distribution`, `version`, `code` and `options`.
    """
    unnumbered = set(unnumbered_options(kind, name)) if origin == "trimpot" else set()
    return {
        "distribution": origin,
        "version": _version(origin),
        "code": code_digest(factory, made),
        "options": {
            key: _content(value, f"option {key!r} of {name!r}")
            for key, value in {**_defaults(factory), **options}.items()
            if key not in unnumbered
        },
    }


def _defaults(factory: Callable[..., Any]) -> dict[str, Any]:
    """The defaults of a factory's options, as far as a configuration could give them."""
    found = {}
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty:
            with contextlib.suppress(ConfigError):
                found[parameter.name] = plain(parameter.default, parameter.name)
    return found


def described(kind: str, name: str | None, part: Any, made: Any) -> dict[str, Any]:
    """A part as it describes itself, with what it is made of; JSON-like.

    Args:
        kind: Of part, for a sentence.
        name: Its registered name, or None where it stands under one.
        part: Has `describe`.
        made: What `made_of` said, or None where nobody knows.

    Raises:
        PluginError: If it fails, or describes itself by no mapping.
        ConfigError: If it describes itself by what JSON cannot hold.
    """
    says = description_of(part, f"the {kind} {name or type(part).__name__!r}")
    return {**({"name": name} if name else {}), **says, **({"made_of": made} if made else {})}


def unnumbered_options(kind: str, name: str) -> dict[str, str]:
    """The options of a built-in part that change no number, with the reason."""
    return {**CHANGES_NO_NUMBER.get((kind, "*"), {}), **CHANGES_NO_NUMBER.get((kind, name), {})}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _content(value: object, name: str) -> Any:
    """An option as it counts: a local file or folder by its content."""
    path = value if isinstance(value, Path) else Path(value) if isinstance(value, str) and value[:1] == "/" else None
    if path is not None and path.exists():
        return {"content": weights_digest(path)}
    if isinstance(value, Mapping):
        return {str(key): _content(each, name) for key, each in value.items()}
    return plain(value, name)


def code_digest(factory: Callable[..., Any], made: object) -> str:
    """A digest of the code that a part is made of: of its factory, its class, and the classes this is derived from.

    Of a plugin's own package every module counts, and of a class of trimpot's every module of its room. Installed
    packages that it only derives from count by their version. A class or function that has no source file, as in a
    notebook, counts by its compiled code.
    """
    while isinstance(factory, functools.partial):
        factory = factory.func
    maker = factory if inspect.isroutine(factory) or inspect.isclass(factory) else type(factory)
    parts: dict[str, None] = {}
    for thing in (maker, *_classes(made)):
        parts[_code_of(thing)] = None
    return digest(sorted(parts))


def _classes(made: object) -> Iterator[type]:
    for kind in type(made).__mro__:
        if kind.__module__.partition(".")[0] not in sys.stdlib_module_names:
            yield kind


def _code_of(thing: Any) -> str:
    """What the code of a class or function amounts to, in a word or two."""
    name = getattr(thing, "__module__", None) or ""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if not file or name == "__main__" or not Path(file).exists():
        return f"compiled {_compiled(thing)}"
    room = ".".join(name.split(".")[: 2 if name.startswith("trimpot.") else 1])
    home = _folder(sys.modules.get(room, module))
    if _is_installed(home) and not _is_small(home):
        return f"{room} {[_version(each) for each in sorted(_distributions().get(room, []))]}"
    return f"{room} {_sources(home)}"


def _folder(module: Any) -> Path:
    """The folder of a package, or the file of a module."""
    file = Path(module.__file__) if getattr(module, "__file__", None) else Path(next(iter(module.__path__)))
    return file.parent if file.name == "__init__.py" else file


def _is_installed(file: Path) -> bool:
    return "site-packages" in file.parts or "dist-packages" in file.parts


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


@functools.cache
def _is_small(home: Path) -> bool:
    """Whether a package is small enough to be somebody's plugin rather than a library of hundreds of modules."""
    return home.is_file() or sum(1 for _ in home.rglob("*.py")) <= 200


def _sources(home: Path) -> str:
    """A digest of a package's modules, or of one module's file."""
    files = [home] if home.is_file() else sorted(home.rglob("*.py"))
    base = home.parent if home.is_file() else home
    return _hashed(tuple((file.relative_to(base).as_posix(), file, *_stamp(file)) for file in files))


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=64)
def _hashed(files: tuple[tuple[str, Path, int, int], ...]) -> str:
    """A digest of files by name and content; what they are stamped with only tells when to read them again."""
    found = hashlib.sha256()
    for name, file, *_ in files:
        content = file.read_bytes()
        found.update(f"{name}\0{len(content)}\0".encode())
        found.update(content)
    return found.hexdigest()[:16]


def _compiled(thing: Any) -> str:
    """A digest of compiled code, by what it does and not by where it stands."""
    codes: list[str] = []
    for value in vars(thing).values() if inspect.isclass(thing) else [thing]:
        function = getattr(value, "__func__", getattr(value, "fget", value))
        if isinstance(code := getattr(function, "__code__", None), CodeType):
            codes.append(_words(code))
        elif not callable(value) and isinstance(value, (bool, int, float, str, tuple)):
            codes.append(repr(value))
    return digest([thing.__qualname__, *codes])


def _words(code: CodeType) -> str:
    constants = [_words(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return digest([code.co_name, code.co_code.hex(), list(code.co_names), constants])
