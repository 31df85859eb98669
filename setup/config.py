"""Read a configuration, and validate it before anything is loaded.

A configuration is a YAML file, a preset shipped with the package, or a mapping; dotted overrides such as
`optimizer.sigma0=0.1` change single keys. An unknown key is an error that names the most similar known key. All
mistakes are reported together.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..engine.schema import Config
from ..ground.errors import ConfigError, near_misses
from ..ground.plain import plain, short
from .live import Live
from .measured import with_measured
from .mistakes import listed, sentences_of
from .overrides import Override, Overrides, apply, parse_options, read_overrides, refuse_not_finite
from .parts import PARTS, anchored_at, mistakes_of, parts_of
from .paths import anchored_options
from .plugin_files import files_in
from .plugins import Plugins, plugins
from .yaml_text import lines_of, read_yaml

ConfigSource = str | os.PathLike[str] | Mapping[str, Any] | Config
# It ends highest on both simulations, and level with others on real models, except with few knobs: docs/searching.md.
DEFAULT_PROTOCOL = "grouped"

__all__ = [
    "DEFAULT_PROTOCOL",
    "Config",
    "ConfigSource",
    "as_recorded",
    "expanded",
    "lines_in",
    "load_config",
    "parse_options",
    "pinned",
    "plugins_of",
    "presets",
    "protocols",
    "read_file",
    "read_values",
    "search_keys",
    "source_of",
    "typed_options",
    "with_default",
    "with_protocol",
]


def presets() -> list[str]:
    """Return the names of the configurations shipped with the package."""
    folder = resources.files("trimpot.presets")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def protocols() -> list[str]:
    """Return the names of the search protocols shipped with the package."""
    folder = resources.files("trimpot.presets") / "protocols"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir())


def load_config(source: ConfigSource, overrides: Overrides = (), live: Live | None = None) -> Config:
    """Read and validate a configuration. One that names neither protocol nor optimizer gets the default protocol.

    This is the one place where a source becomes a configuration.

    Args:
        source: The name of a preset, the path of a YAML file, the mapping itself, or a configuration.
        overrides: `key=value` pairs with dotted keys, whose values are read as YAML; or a mapping of dotted keys to
            values.
        live: Objects of a Python program that the configuration names; see `setup.live`.

    Raises:
        ConfigError: If the configuration cannot be found, read or run as written.
        PluginError: If a plugin file that it names cannot be used.
    """
    source = source_of(source)
    if isinstance(source, Config):
        source = source.model_dump(mode="json")
    values, where, known = _read(source, overrides, live)
    values = with_measured(expanded(values))
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = {} if isinstance(source, Mapping) else lines_in(source, overrides)
        mistakes = [*sentences_of(error, values, Config, lines), *mistakes_of(values, known, lines)]
        raise ConfigError(listed(where, mistakes)) from None


def source_of(given: object) -> str | Path | Mapping[str, Any] | Config:
    """Return a source of a configuration, with paths of every kind as `Path`.

    Raises:
        ConfigError: If it is none.
    """
    if isinstance(given, (str, Mapping, Config)):
        return given
    if isinstance(given, os.PathLike):
        return Path(os.fsdecode(given))
    raise ConfigError(f"a configuration is the name of a preset, a path, a mapping or a Config, not {short(given)}")


def as_recorded(values: Mapping[str, Any]) -> Config:
    """Return the configuration that a store holds, without executing the plugin files that it names.

    Raises:
        ConfigError: If this version of trimpot cannot read it.
    """
    found = load_config({**values, "plugins": []})
    return found.model_copy(update={"plugins": tuple(values.get("plugins", ()))})


def plugins_of(config: Config, live: Live | None = None) -> Plugins:
    """Return the plugins of a run: those installed, the files that its configuration names, and live objects.

    Raises:
        PluginError: If a file cannot be used, or an object is no part.
    """
    return plugins().joined(config.plugins, live)


def read_values(source: str | Path | Mapping[str, Any], overrides: Overrides = ()) -> tuple[dict[str, Any], str]:
    """Read the values of a configuration without validating them, make its paths absolute, and apply the overrides.

    The keys of a protocol are not filled in, except a key of which an override changes a part.

    Args:
        source: The name of a preset, the path of a YAML file, or the mapping itself.
        overrides: `key=value` pairs with dotted keys.

    Returns:
        The mapping, and the name of the configuration for error messages.

    Raises:
        ConfigError: If the configuration cannot be found or read, or is no mapping.
        PluginError: If a plugin file that it names cannot be used.
    """
    return _read(source, overrides)[:2]


def _read(
    source: str | Path | Mapping[str, Any], overrides: Overrides, live: Live | None = None
) -> tuple[dict[str, Any], str, Plugins]:
    """Return what `read_values` does, and the plugins that the configuration can name."""
    if isinstance(source, Mapping):
        values, where, folder = plain(source, "config"), "config", Path.cwd()
        refuse_not_finite(source, where)
    else:
        values, folder = read_file(source)
        where = str(source)
    typed = read_overrides(overrides)
    known = plugins().joined(_plugin_files(values, folder, typed), live)
    values = anchored_at((), values, parts_of(values), folder, known)
    for override in sorted(typed, key=lambda each: each.path != ("protocol",)):  # single keys take precedence
        if override.path == ("protocol",) and override.value is not None:
            values = with_protocol(values, override.value)
        else:
            values = pinned(values, override.path[0])
            apply(values, override, tuple(PARTS))
    for override in typed:
        value = anchored_at(override.path, override.value, parts_of(values), Path.cwd(), known)
        apply(values, replace(override, value=value), tuple(PARTS))
    return values, where, known


def _plugin_files(values: Mapping[str, Any], folder: Path, overrides: Sequence[Override]) -> list[str]:
    """Return the plugin files that a configuration names once the overrides are applied."""
    for override in overrides:
        if override.path == ("plugins",):
            return files_in(override.value, Path.cwd())
    return files_in(values.get("plugins"), folder)


def with_default(values: Mapping[str, Any]) -> dict[str, Any]:
    """Name the default protocol in a configuration that names neither a protocol nor an optimizer."""
    optimizer = values.get("optimizer")
    named = optimizer.get("name") if isinstance(optimizer, Mapping) else optimizer
    if values.get("protocol") is None and named is None:
        return {**values, "protocol": DEFAULT_PROTOCOL}
    return dict(values)


@cache
def search_keys() -> tuple[str, ...]:
    """Return `protocol` and the keys that a protocol sets."""
    return ("protocol", *_protocol(DEFAULT_PROTOCOL))


def expanded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the keys of the protocol that a configuration names, or of the default protocol if it names none.

    An optimizer that is not named is the protocol's own, with other options.

    Raises:
        ConfigError: If there is no such protocol.
    """
    values = with_default(values)
    if values.get("protocol") is None:
        return values
    protocol = _protocol(values["protocol"])
    given = values.get("optimizer")
    if isinstance(given, Mapping) and "name" not in given:
        values = {**values, "optimizer": {**protocol["optimizer"], **given}}
    return {**protocol, **values}


def with_protocol(values: Mapping[str, Any], name: object) -> dict[str, Any]:
    """Replace a configuration's protocol, and remove every key that a protocol sets.

    Raises:
        ConfigError: If there is no such protocol.
    """
    _protocol(name)
    return {**{key: value for key, value in values.items() if key not in search_keys()}, "protocol": name}


def pinned(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Copy one key of the configuration's protocol into its values, so that an override can change a part of it."""
    name = values.get("protocol")
    if name is None or key in values or key not in search_keys():
        return dict(values)
    return {**values, key: _protocol(name)[key]}


def typed_options(kind: str, name: str, pairs: Sequence[str], known: Plugins) -> dict[str, Any]:
    """Read the options of a part of these plugins from `key=value` pairs; paths are relative to the working folder.

    Raises:
        PluginError: If there is no such part.
        ConfigError: If a pair is not of this form.
    """
    options = parse_options(pairs)
    return anchored_options(options, known.get(kind, name).options, Path.cwd())


@cache
def _protocol_text(name: str) -> str:
    return (resources.files("trimpot.presets") / "protocols" / f"{name}.yaml").read_text(encoding="utf-8")


def _protocol(name: object) -> dict[str, Any]:
    """Return the keys that a protocol sets, with their values."""
    if name not in protocols():
        raise ConfigError(f"no protocol {short(str(name))}; {near_misses(str(name), protocols())}")
    return dict(read_yaml(_protocol_text(str(name)), f"protocol {name}"))


def read_file(source: str | Path) -> tuple[dict[str, Any], Path]:
    """Read the values of a file or a preset.

    Returns:
        The values as written, and the folder that their paths are relative to.

    Raises:
        ConfigError: If the file or preset cannot be found or read, or is no mapping.
    """
    values = read_yaml(_text(source), str(source))
    if not isinstance(values, dict):
        raise ConfigError(f"{source} must be a mapping of keys to values, with at least 'adapter' and 'objectives'")
    return values, Path(source).expanduser().parent.absolute()


def lines_in(source: str | Path, overrides: Overrides = ()) -> dict[tuple[str, ...], int]:
    """Return the line number of every key in a file or a preset, except the keys that overrides change."""
    typed = [override.path for override in read_overrides(overrides)]
    found = lines_of(_text(source))
    return {place: line for place, line in found.items() if not any(place[: len(path)] == path for path in typed)}


def _text(source: str | Path) -> str:
    name, path = str(source), Path(source)
    is_preset = isinstance(source, str) and name in presets()
    is_file = _is_file(path)
    if is_preset and is_file:
        raise ConfigError(f"{name!r} is a preset and a file here as well; write ./{name} for the file, or rename it")
    if is_preset:
        return (resources.files("trimpot.presets") / f"{name}.yaml").read_text(encoding="utf-8")
    if is_file or path.suffix in (".yaml", ".yml"):
        try:
            return path.expanduser().read_text(encoding="utf-8-sig")
        except (OSError, ValueError, RuntimeError) as error:
            said = f"cannot read the configuration {name:.300}: {_reason(path, error)}"
            raise ConfigError(f"{said}{_beside(path) if isinstance(error, FileNotFoundError) else ''}") from None
    raise ConfigError(f"no preset or file {short(name)}; {near_misses(name, presets())}")


def _beside(path: Path) -> str:
    """Return the end of a sentence that names configurations with a name like that of a missing file."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        found = near_misses(path.name, [each.name for each in path.expanduser().parent.glob("*.y*ml")])
        return f"; {found}" if found.startswith("did you mean") else ""
    return ""


def _is_file(path: Path) -> bool:
    try:
        return path.expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # the name is too long, no path, or has an unknown home folder
        return False


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text; save it as UTF-8"
    if isinstance(error, FileNotFoundError) and path.stem in presets():
        return f"No such file; the preset is called {path.stem!r}"
    return getattr(error, "strerror", None) or str(error)
