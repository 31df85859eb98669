"""What is typed: `key=value` pairs with dotted keys, applied to a configuration's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..ground.errors import ConfigError
from ..ground.plain import short
from .yaml_text import read_yaml

EXAMPLE = "such as optimizer.sigma0=0.1"


@dataclass(frozen=True)
class Override:
    """A key and its value.

    Attributes:
        text: As it was typed.
        path: The parts of the dotted key.
        value: Read as YAML.
    """

    text: str
    path: tuple[str, ...]
    value: Any

    @property
    def key(self) -> str:
        """The dotted key."""
        return ".".join(self.path)

    @property
    def adds(self) -> bool:
        """Whether its value is a number with a plus sign, which is added to what a run has."""
        signed = self.text.partition("=")[2].startswith("+")
        return signed and isinstance(self.value, (int, float)) and not isinstance(self.value, bool)


def read_overrides(pairs: Sequence[str]) -> list[Override]:
    """Read `key=value` pairs.

    Raises:
        ConfigError: If one is not of this form, or says of a key what another says otherwise or takes back.
    """
    found: list[Override] = []
    for number, pair in enumerate(pairs):
        new = _read(pair, pairs[number + 1 :])
        for old in found:
            if old.path == new.path:
                raise ConfigError(
                    f"{new.key} is given twice: {short(old.text)} and {short(new.text)}; keep one of them"
                )
            if old.path[: len(new.path)] == new.path:
                raise ConfigError(f"{short(new.text)} takes back {short(old.text)}, given before it; give it first")
        found.append(new)
    return found


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Read `key=value` pairs into a mapping, values as YAML.

    Raises:
        ConfigError: If one is not of this form.
    """
    values: dict[str, Any] = {}
    for override in read_overrides(pairs):
        apply(values, override)
    return values


def apply(values: dict[str, Any], override: Override, parts: Sequence[str] = ()) -> None:
    """Change one key; mappings on the way are copied.

    Args:
        values: A configuration or a part's options; changed in place.
        override: The change.
        parts: Top-level keys whose value may be a name, which stands for a mapping with it.

    Raises:
        ConfigError: If the key leads through a single value, or the value is to be added to one.
    """
    if override.adds:
        raise ConfigError(
            f"override {short(override.text)}: a plus sign adds to what a run has, which `trimpot resume` does for "
            f"how long it searches; write {override.key}={override.text.partition('=')[2][1:]}"
        )
    *parents, last = override.path
    section = values
    for parent in parents:
        inner = section.get(parent)
        if isinstance(inner, str) and section is values and parent in parts:
            inner = {"name": inner}
        elif isinstance(inner, str) and section is values and parent == "objectives":
            inner = {inner: {}}
        if inner is None:
            inner = {}
        if not isinstance(inner, Mapping):
            raise ConfigError(f"override {short(override.text)}: {parent!r} is a single value and has no key {last!r}")
        section[parent] = dict(inner)
        section = section[parent]
    section[last] = override.value


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
    """What `key = value` was meant to be, or nothing."""
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
