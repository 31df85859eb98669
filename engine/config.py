"""What a run is asked to do, validated before anything is loaded.

A configuration is a YAML file, a preset shipped with the package, or a mapping; dotted overrides such as
`optimizer.sigma0=0.1` change single keys. Unknown keys are errors that name the nearest known one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from .errors import ConfigError, near_misses
from .schema import Config

DEFAULT_PROTOCOL = "grouped-cma"  # among those that save most images wherever it was measured: docs/search.md

__all__ = [
    "DEFAULT_PROTOCOL",
    "Config",
    "anchor",
    "load_config",
    "names_a_search",
    "parse_options",
    "presets",
    "protocols",
    "read_values",
    "search_keys",
    "sentence_of",
]


def presets() -> list[str]:
    """Names of the configurations shipped with the package."""
    folder = resources.files("trimpot.presets")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def protocols() -> list[str]:
    """Names of the search protocols shipped with the package."""
    folder = resources.files("trimpot.presets") / "protocols"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir())


def load_config(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """Read and validate a configuration. Where it says nothing of how to search, it gets the default protocol.

    Args:
        source: A preset's name, the path of a YAML file, or the mapping itself.
        overrides: `key=value` pairs with dotted keys; values are read as YAML.

    Raises:
        ConfigError: In one sentence, if it cannot be found, read or run as written.
    """
    values, where = (dict(source), "config") if isinstance(source, Mapping) else read_values(source)
    if values.get("protocol") is not None:
        values = {**_protocol(values["protocol"]), **values}
    for override in overrides:
        _apply(values, override)
        if override.startswith("protocol=") and values["protocol"] is not None:
            values.update(_protocol(values["protocol"]))
    if not names_a_search(values):
        values = {**values, **_protocol(DEFAULT_PROTOCOL), "protocol": DEFAULT_PROTOCOL}
    anchor(values, Path.cwd())
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {sentence_of(error)}") from None


def names_a_search(values: Mapping[str, Any]) -> bool:
    """Whether a configuration names a protocol or sets any key of one, so that the default protocol is not wanted."""
    return any(values.get(key) is not None for key in search_keys())


@cache
def search_keys() -> tuple[str, ...]:
    """The keys that a protocol stands for, and its name's."""
    return ("protocol", *_protocol(DEFAULT_PROTOCOL))


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Read `key=value` pairs into a mapping, values as YAML.

    Raises:
        ConfigError: If one is not of this form.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        _apply(values, pair)
    return values


def _protocol(name: object) -> dict[str, Any]:
    """The keys that a protocol stands for."""
    import yaml

    if name not in protocols():
        raise ConfigError(f"no protocol {str(name)!r}; {near_misses(str(name), protocols())}")
    text = (resources.files("trimpot.presets") / "protocols" / f"{name}.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def read_values(source: str | Path) -> tuple[dict[str, Any], str]:
    """Read a YAML file or a preset, its paths made absolute.

    Returns:
        The mapping, and what to call it in an error.

    Raises:
        ConfigError: If it cannot be found or read, or is no mapping.
    """
    import yaml

    path = Path(source)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigError(f"cannot read the configuration {path}: {reason}") from None
    elif str(source) in presets():
        text = (resources.files("trimpot.presets") / f"{source}.yaml").read_text(encoding="utf-8")
    else:
        raise ConfigError(f"no preset or file {str(source)!r}; {near_misses(str(source), presets())}")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{source} is not valid YAML{line}: {getattr(error, 'problem', error)}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{source} must be a mapping of keys to values, with at least 'adapter' and 'objectives'")
    anchor(values, path.parent.absolute())
    return values, str(source)


def anchor(values: dict[str, Any], folder: Path) -> None:
    """Make the paths of prompt files and of the start absolute, so that a run can be resumed from anywhere."""
    if isinstance(values.get("start"), str):
        values["start"] = str(folder / values["start"])
    prompts = values.get("prompts")
    if isinstance(prompts, dict) and prompts.get("name") == "files":
        files = {key: prompts[key] for key in ("train", "validation", "test") if isinstance(prompts.get(key), str)}
        paths = {key: str(folder / value) for key, value in files.items()}
        values["prompts"] = {**prompts, **paths}


def _apply(values: dict[str, Any], override: str) -> None:
    import yaml

    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r} is not of the form key=value, such as optimizer.sigma0=0.1")
    *parents, last = key.split(".")
    section = values
    for parent in parents:
        inner = section.get(parent)
        if isinstance(inner, str):
            inner = {"name": inner} if section is values and parent != "objectives" else {inner: {}}
        if inner is None:
            inner = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"override {override!r}: {parent!r} is a single value and has no key {last!r}")
        section[parent] = dict(inner)
        section = section[parent]
    try:
        section[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"override {override!r}: {text!r} is not a YAML value") from None


def sentence_of(error: ValidationError, root: type[BaseModel] = Config) -> str:
    """The first validation error of a `root` as one sentence, with near misses for unknown keys."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        model: Any = root
        for part in path[:-1]:
            kinds = (model.model_fields[part].annotation, *get_args(model.model_fields[part].annotation))
            model = next(kind for kind in kinds if hasattr(kind, "model_fields"))
        return f"unknown key {key!r}; {near_misses(path[-1], model.model_fields)}"
    if first["type"] == "missing":
        return f"key {key!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    return f"{key!r}: {message}, not {first['input']!r}" if path else message
