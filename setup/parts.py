"""Find and check the parts that a configuration names, and make their paths absolute, before any part is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..engine.schema import Config
from ..ground.errors import ConfigError, TrimpotError
from .factory import Option
from .mistakes import at_line, listed
from .overrides import by_key
from .paths import anchored, anchored_options
from .plugin_files import files_in
from .plugins import Plugins

PARTS = {"adapter": "adapters", "combine": "combinations", "optimizer": "optimizers", "prompts": "prompts"}
Place = tuple[str, ...]


class NamedOne(NamedTuple):
    """A part in a configuration: its kind, name and options."""

    kind: str
    name: str
    options: dict[str, Any]


def parts_of(values: Mapping[str, Any]) -> dict[Place, NamedOne]:
    """Return the parts by their keys in the configuration; malformed parts are skipped."""
    entries: list[tuple[Place, str, Any, object]] = [
        ((key,), kind, values.get(key), None) for key, kind in PARTS.items()
    ]
    for kind in ("objectives", "trackers"):
        named = by_key(values.get(kind))
        if isinstance(named, Mapping):
            entries += [((kind, key), kind, each or {}, key) for key, each in named.items()]
    watched = values.get("watch")
    for name, section in watched.items() if isinstance(watched, Mapping) else ():
        if isinstance(section, Mapping):
            entries.append((("watch", str(name), "prompts"), "prompts", section.get("prompts"), None))
            named = by_key(section.get("objectives"))
            for key, each in named.items() if isinstance(named, Mapping) else ():
                entries.append((("watch", str(name), "objectives", key), "objectives", each or {}, key))
    found: dict[Place, NamedOne] = {}
    for place, kind, value, default in entries:
        given = {"name": value} if isinstance(value, str) else value
        if not isinstance(given, Mapping):
            continue
        name = given.get("name") or default or ("cma-es" if kind == "optimizers" else None)
        if isinstance(name, str):
            own = ("name", "weight") if kind == "objectives" else ("name",)
            found[place] = NamedOne(kind, name, {key: each for key, each in given.items() if key not in own})
    return found


def mistakes_of(
    values: Mapping[str, Any], known: Plugins, lines: Mapping[tuple[str, ...], int] | None = None
) -> list[str]:
    """Return a sentence for every mistake in the names and options of a configuration's parts.

    Args:
        values: The configuration.
        known: The registered plugins.
        lines: The line numbers of keys in a file; a part without a line number is reported without one.
    """
    return [
        at_line((lines or {}).get(place)) + mistake
        for place, part in parts_of(values).items()
        for mistake in known.mistakes(*part)
    ]


def check_parts(config: Config, known: Plugins) -> None:
    """Check the names and options of all parts, before anything costly is made.

    Raises:
        PluginError: If a name is unknown and nothing else is wrong.
        MissingError: If a tracker's package is not installed.
        ConfigError: If an option is wrong, or there are several mistakes; the message lists all of them.
    """
    values = config.model_dump()
    mistakes = mistakes_of(values, known)
    if len(mistakes) > 1:
        raise ConfigError(listed("the configuration", mistakes))
    for part in parts_of(values).values() if mistakes else ():
        known.check(*part)
    for name, tracker in config.trackers.items():  # made to find what is not installed; nothing is opened yet
        known.make("trackers", tracker.name or name, tracker.options)


def anchored_at(place: Place, value: Any, parts: Mapping[Place, NamedOne], folder: Path, known: Plugins) -> Any:
    """Make every path in a value of a configuration absolute.

    Args:
        place: The keys that lead to the value, from the outside in; () for the whole configuration.
        value: The value at this place.
        parts: The parts of the whole configuration.
        folder: The folder that relative paths are relative to.
        known: The registered plugins.

    Raises:
        ConfigError: If a file is in the working folder, but not in `folder`.
    """
    if place == ("plugins",):
        return files_in(value, folder) if isinstance(value, (str, list, tuple)) and _all_texts(value) else value
    if place == ("start",) and isinstance(value, str) and value:
        return anchored(value, folder, "start")
    if place == ("sensitivity", "file") and isinstance(value, str) and value:
        return anchored(value, folder, "sensitivity.file")
    part = parts.get(place[:-1])
    if part and place[-1] != "name":
        return anchored_options({place[-1]: value}, _options(part, known), folder)[place[-1]]
    if isinstance(value, Mapping):
        return {key: anchored_at((*place, str(key)), each, parts, folder, known) for key, each in value.items()}
    return value


def _all_texts(value: Iterable[object]) -> bool:
    return all(isinstance(each, str) and each for each in value)


def _options(part: NamedOne, known: Plugins) -> Iterable[Option]:
    try:
        return known.get(part.kind, part.name).options
    except TrimpotError:  # an unknown part is reported when it is made
        return ()
