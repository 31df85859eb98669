"""Read `key=value` pairs with dotted keys, and apply them to the values of a configuration."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..engine.nouns import ALSO
from ..ground.errors import ConfigError
from ..ground.plain import plain, short
from .mistakes import listed
from .yaml_text import read_yaml

EXAMPLE = "such as optimizer.sigma0=0.1"
#: The parts of a dotted key by its general name to those by its name in a stored configuration; see `engine.nouns`.
_STORED: dict[tuple[str, ...], tuple[str, ...]] = {
    (section, ALSO[key]): (section, key) for section, key in (("budget", "images"), ("validation", "every_images"))
}
_OTHER = {**_STORED, **{stored: general for general, stored in _STORED.items()}}


@dataclass(frozen=True)
class Override:
    """A typed key with its value.

    Attributes:
        text: The pair as it was typed.
        path: The parts of the dotted key, as it was typed.
        value: The value, read as YAML.
    """

    text: str
    path: tuple[str, ...]
    value: Any

    @property
    def key(self) -> str:
        """The dotted key, as a stored configuration names it."""
        return ".".join(stored_key(self.path))

    @property
    def adds(self) -> bool:
        """Whether the value is a number with a plus sign, which is added to the run's own value."""
        signed = self.text.partition("=")[2].startswith("+")
        return signed and isinstance(self.value, (int, float)) and not isinstance(self.value, bool)


#: Typed pairs; or dotted keys with their values, as Python gives them; or either of them, read already.
Overrides = Sequence[str] | Mapping[str, Any] | Sequence[Override]


def read_overrides(pairs: Overrides) -> list[Override]:
    """Read `key=value` pairs, whose values are read as YAML, or a mapping of dotted keys to values.

    Raises:
        ConfigError: If a pair is not of this form, or two pairs set the same key, or a pair replaces a key that an
            earlier pair has set.
    """
    found: list[Override] = []
    if isinstance(pairs, Mapping):
        read = [_given(key, value) for key, value in pairs.items()]
    else:
        texts = [each.text if isinstance(each, Override) else str(each) for each in pairs]
        read = [
            pair if isinstance(pair, Override) else _read(texts[number], texts[number + 1 :])
            for number, pair in enumerate(pairs)
        ]
    for new in read:
        for old in found:
            if old.key == new.key:
                raise ConfigError(
                    f"{new.key} is given twice: {short(old.text)} and {short(new.text)}; keep one of them"
                )
            if old.path[: len(new.path)] == new.path:
                raise ConfigError(f"{short(new.text)} undoes {short(old.text)}, given before it; give it first")
        found.append(new)
    return found


def parse_options(pairs: Overrides) -> dict[str, Any]:
    """Read `key=value` pairs into a mapping, with values read as YAML.

    Raises:
        ConfigError: If a pair is not of this form.
    """
    values: dict[str, Any] = {}
    for override in read_overrides(pairs):
        apply(values, override)
    return values


def apply(values: dict[str, Any], override: Override, parts: Sequence[str] = ()) -> None:
    """Apply one override; the mappings that contain the key are copied.

    Args:
        values: A configuration or the options of a part; changed in place.
        override: The key and its new value.
        parts: Top-level keys whose value may be a name, which stands for a mapping with `name`.

    Raises:
        ConfigError: If a parent of the key is a single value instead of a mapping, or the value has a plus sign.
    """
    if override.adds:
        raise ConfigError(
            f"override {short(override.text)}: a plus sign extends a run, and only `trimpot resume` does that; "
            f"write {override.text.replace('=+', '=', 1)}"
        )
    *parents, last = override.path
    section = values
    for depth, parent in enumerate(parents):
        inner = section.get(parent)
        of_a_part = depth == 0 or (depth == 2 and parents[0] == "watch" and "prompts" in parts)
        if isinstance(inner, str) and of_a_part and parent in parts:
            inner = {"name": inner}
        elif of_a_part and parent in ("objectives", "trackers"):
            inner = by_key(inner)
        elif section is values and parent == "workers" and not isinstance(inner, Mapping):
            inner = {} if last in ("ray", "address") else {"processes": inner}  # of two kinds, the one that is given
        if inner is None:
            inner = {}
        if not isinstance(inner, Mapping):
            raise ConfigError(f"override {short(override.text)}: {parent!r} is a single value and has no key {last!r}")
        section[parent] = dict(inner)
        section = section[parent]
    section.pop(_OTHER.get(override.path, ("",))[-1], None)
    section[last] = override.value


def stored_key(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the parts of a dotted key by the name under which it is stored."""
    return _STORED.get(path, path)


def by_stored_keys(changes: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """Return changes to a configuration with every key by the name under which it is stored.

    Args:
        changes: Keys, which may be dotted, to their new values.
        section: The section that the keys lie in.

    Raises:
        ConfigError: If a key is given by both its names.
    """
    result: dict[str, Any] = {}
    for key, value in changes.items():
        path = (section, key) if section else tuple(str(key).split("."))
        if isinstance(value, Mapping) and not section and any(path == stored[:1] for stored in _STORED):
            value = by_stored_keys(value, str(key))
        name = stored_key(path)[-1] if section else ".".join(stored_key(path)) if path in _STORED else key
        if name in result:
            raise ConfigError(f"{key} and {name} are two names of one key; leave one of them out")
        result[name] = value
    return result


def by_key(value: Any) -> Any:
    """Return the mapping that a name, or a list of names, stands for in `objectives` and `trackers`."""
    if isinstance(value, str):
        return {value: {}}
    named = isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value)
    return {each: {} for each in value} if named else value


def refuse_not_finite(value: object, where: str, place: tuple[str, ...] = ()) -> None:
    """Refuse infinite numbers and NaN, in mappings and lists at any depth.

    Raises:
        ConfigError: If there is any.
    """
    if mistakes := list(_not_finite(value, place)):
        raise ConfigError(listed(where, mistakes))


def _not_finite(value: Any, place: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield a sentence for every infinite number and NaN, in mappings and lists at any depth."""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{'.'.join(place)!r}: should be a finite number, not {value}"
    entries = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    for key, each in entries:
        yield from _not_finite(each, (*place, str(key)))


def _given(key: object, value: object) -> Override:
    """Return the override of a key with a value of Python; the text `+200` adds, as it does when it is typed."""
    path = tuple(str(key).split("."))
    if not isinstance(key, str) or not all(part and part == part.strip() for part in path):
        raise ConfigError(f"{short(key)} is no dotted key, {EXAMPLE}")
    if isinstance(value, str) and re.fullmatch(r"\+\d[\d_]*(\.\d+)?", value):
        return _read(f"{key}={value}", ())
    refuse_not_finite(value, "config", path)
    made = plain(value, key)
    return Override(f"{key}={made}", path, made)


def _read(pair: str, following: Sequence[str]) -> Override:
    key, equals, text = pair.partition("=")
    if not equals or not key:
        typed = _typed_apart(key, equals, text, following)
        example = f"write {typed} without spaces" if typed else EXAMPLE
        raise ConfigError(f"override {short(pair)} is not of the form key=value{'; ' if typed else ', '}{example}")
    if not text:
        rest = following[0] if following and "=" not in following[0] else "null"
        raise ConfigError(f"override {short(pair)} has no value; write {key}={rest} without spaces")
    path = tuple(key.split("."))
    if not all(part and part == part.strip() for part in path):
        raise ConfigError(f"override {short(pair)}: {short(key)} is no dotted key, {EXAMPLE}")
    return Override(pair, path, _value(pair, text))


def _typed_apart(key: str, equals: str, text: str, following: Sequence[str]) -> str:
    """Return `key=value` if the pair was typed with spaces, or an empty text."""
    if key and not equals and following and following[0].startswith("="):
        value = following[0][1:] or (following[1] if len(following) > 1 else "")
        return f"{key}={value}" if value else ""
    return ""


def _value(pair: str, text: str) -> Any:
    try:
        return read_yaml(text, f"override {short(pair)}")
    except ConfigError as error:
        if "is not valid YAML" in str(error):
            raise ConfigError(
                f"override {short(pair)}: {short(text)} is not a YAML value; put a text in quotes"
            ) from None
        raise
