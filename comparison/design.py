"""The design of a comparison: contenders, seeds and images, checked before anything is loaded.

A contender is the name of a protocol or of an optimizer, or a set of changes to the configuration that all contenders
share. It may change any key except those by which contenders are judged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from ..engine.knobs import digest
from ..engine.schema import Count, Images, Name, Section, Seed
from ..ground.errors import ConfigError, PluginError, TrimpotError, near_misses
from ..ground.plain import short
from ..setup.assembly import origins_of
from ..setup.config import (
    Config,
    expanded,
    lines_in,
    load_config,
    pinned,
    plugins_of,
    protocols,
    read_file,
    read_values,
    search_keys,
    with_default,
    with_protocol,
)
from ..setup.mistakes import listed, sentences_of
from ..setup.overrides import by_stored_keys
from ..setup.parts import PARTS, anchored_at, parts_of
from ..setup.plugin_files import files_in
from ..setup.plugins import Plugins, plugins

JUDGED_BY = (
    "plugins",
    "adapter",
    "objectives",
    "combine",
    "prompts",
    "test",
    "by_steps",
    "watch",
    "keep",
    "seeds_per_prompt",
    "validation.num_prompts",
    "validation.seed",
)
SET_HERE = {"seed": "seeds", "generations": "outputs", "budget": "outputs", "name": "name"}
MOST_SEEDS = 10_000
NEVER = 1_000_000  # checks without a gain before a search stops: no contender stops early


def _by_name(value: object) -> object:
    if isinstance(value, (list, tuple)):
        if len(set(map(str, value))) < len(value):
            raise ValueError("a contender is named twice; to run one in two ways, give each a label")
        return {name: name for name in value}
    return value


def _changes(value: object) -> object:
    if isinstance(value, str):
        return {"protocol": value} if value in protocols() else {"optimizer": value}
    return {} if value is None else value


def _counted(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        if value > MOST_SEEDS:
            raise ValueError(f"should be at most {MOST_SEEDS:,}")
        return tuple(range(value))
    return value


Changes = Annotated[dict[str, Any], BeforeValidator(_changes)]


class ComparisonConfig(Section):
    """The keys of a comparison file.

    Attributes:
        name: Prefix of the comparison's name; by default `compare-` followed by the configuration's name.
        config: The configuration that all contenders share: a preset, a file or a mapping.
        overrides: Changes to the configuration for all contenders.
        contenders: Label to the changes of one contender; a text instead names a protocol or an optimizer.
        seeds: The number of seeds, counted from 0, or a list of seeds.
        images: Number of outputs that the search of every run may generate; `outputs` says the same.
        checks: Approximate number of checks in a run, at equal intervals of outputs.
    """

    name: Name | None = None
    config: str | dict[str, Any]
    overrides: dict[str, Any] = Field(default_factory=dict)
    contenders: Annotated[dict[str, Changes], BeforeValidator(_by_name)] = Field(min_length=2)
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(_counted)] = Field(default=(0, 1, 2, 3, 4), min_length=1)
    images: Images
    checks: Count = 16


@dataclass(frozen=True)
class Design:
    """A checked comparison, ready to begin.

    Attributes:
        name: Prefix of the comparison's name.
        asked: All keys, with the content of the files they name, so that the comparison can go on without the files.
        contenders: Label to configuration, all with the first seed.
        seeds: The seeds that every contender runs with.
    """

    name: str
    asked: Mapping[str, Any]
    contenders: Mapping[str, Config]
    seeds: tuple[int, ...]

    @property
    def members(self) -> list[tuple[str, int]]:
        """Contender and seed of every run in working order: all contenders of a seed before the next seed."""
        return [(label, seed) for seed in self.seeds for label in self.contenders]

    @property
    def plugins(self) -> Plugins:
        """The plugins that provide the parts, which all contenders share.

        Raises:
            PluginError: If a plugin file cannot be used.
        """
        return plugins_of(next(iter(self.contenders.values())))

    def identity(self, plugins: Plugins) -> str:
        """Return a fingerprint of everything that can change a number and is known before anything is loaded.

        Prompts are not included; `running.find` compares them separately.

        Args:
            plugins: The plugins that provide the parts.

        Raises:
            PluginError: If a part is unknown.
            ConfigError: If a file that an option names cannot be read.
        """
        made = [(label, each.fingerprint, origins_of(each, plugins)) for label, each in sorted(self.contenders.items())]
        return digest([made, self.seeds])

    def config(self, contender: str, seed: int) -> Config:
        """Return the configuration of one run."""
        return self.contenders[contender].model_copy(update={"seed": seed})


def read_design(source: str | Path) -> Design:
    """Read and check a comparison file.

    Raises:
        ConfigError: If the file cannot be found, read or run as written.
    """
    values, folder = read_file(source)
    if "contenders" not in values:
        raise ConfigError(
            f"{source} names no contenders; add --contender NAME at least twice, or write a comparison file "
            f"with the key 'contenders'"
        )
    config = values.get("config")
    if isinstance(config, str) and (folder / config).is_file():
        values["config"] = str(folder / config)
    if isinstance(config, Mapping):
        known = plugins().joined(files_in(config.get("plugins"), folder))
        values["config"] = anchored_at((), config, parts_of(config), folder, known)
    if isinstance(config, (str, Mapping)):
        _anchor_changes(values, folder)
    return make_design(values, str(source), default_name=Path(source).stem, lines=lines_in(source))


def _anchor_changes(values: dict[str, Any], folder: Path) -> None:
    """Make the paths in overrides and contenders absolute; both change the configuration by dotted keys."""
    base = read_values(values["config"])[0]
    for holder, key in [(values, "overrides"), *((values["contenders"], label) for label in _labels(values))]:
        changes = holder.get(key)
        if isinstance(changes, Mapping):
            parts = parts_of(merged(base, changes))
            known = plugins().joined(files_in(changes.get("plugins", base.get("plugins")), folder))
            holder[key] = {
                dotted: anchored_at(tuple(str(dotted).split(".")), change, parts, folder, known)
                for dotted, change in changes.items()
            }


def _labels(values: Mapping[str, Any]) -> list[str]:
    return list(values["contenders"]) if isinstance(values["contenders"], dict) else []


def make_design(
    values: Mapping[str, Any],
    where: str = "comparison",
    default_name: str | None = None,
    lines: Mapping[tuple[str, ...], int] | None = None,
) -> Design:
    """Check a comparison and return its design.

    Args:
        values: The keys of `ComparisonConfig`.
        where: The name of the comparison in error messages.
        default_name: The name of the comparison if `values` has none.
        lines: Key to its line in the file.

    Raises:
        ConfigError: If the comparison cannot be run as written.
    """
    try:
        asked = ComparisonConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(listed(where, sentences_of(error, values, ComparisonConfig, lines))) from None
    named = {label: by_stored_keys(changes) for label, changes in asked.contenders.items()}
    asked = asked.model_copy(update={"overrides": by_stored_keys(asked.overrides), "contenders": named})
    if len(set(asked.seeds)) < len(asked.seeds):
        raise ConfigError(f"{where}: a seed is listed twice in 'seeds'; every run needs one of its own")
    for key in asked.overrides:
        _refuse_own(key, "'overrides'")
    loaded = load_config(asked.config)
    shared = _changed(_shared(asked.config), asked.overrides)
    contenders = {label: _config(label, changes, shared, asked) for label, changes in asked.contenders.items()}
    whole = {**asked.model_dump(mode="json"), "config": shared, "overrides": {}}
    title = asked.name or slug(default_name or f"compare-{_title(asked.config, loaded)}")
    return Design(title, {**whole, "name": title}, contenders, asked.seeds)


def check(design: Design, plugins: Plugins) -> None:
    """Check the optimizers of the contenders and their options, without a backbone.

    Raises:
        PluginError: If an optimizer is unknown.
        ConfigError: If an option of an optimizer is unknown.
    """
    for label, config in design.contenders.items():
        with said_by(label):
            name = config.optimizer.name
            optimizers = [each.name for each in plugins.registrations("optimizers")]
            if name == label and name.partition(":")[0] not in optimizers:
                known = near_misses(name, [*protocols(), *optimizers])
                raise PluginError(f"no protocol or optimizer {short(name)}; {known}")
            plugins.check("optimizers", name, config.optimizer.options)


class said_by:  # noqa: N801  # reads as a sentence where it is used
    """A context manager that begins the message of a TrimpotError with the contender's label."""

    def __init__(self, label: str) -> None:
        self._label = label

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Add the label to the message."""
        if isinstance(error, TrimpotError):
            error.args = (f"contender {self._label!r}: {str(error).removeprefix('config: ')}",)


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with changes applied; keys may be dotted, and the other keys of a section stay.

    An optimizer or other part with a new name replaces the old part with all its options.
    """
    result = dict(values)
    for key, change in changes.items():
        head, dot, rest = key.partition(".")
        new = {rest: change} if dot else change
        result[head] = _joined(head, result.get(head), new)
    return result


def _joined(key: str, old: object, new: object) -> object:
    if key in PARTS and isinstance(new, str):
        new = {"name": new}
    if not isinstance(new, Mapping) or not isinstance(old, Mapping):
        return new
    if key in PARTS and new.get("name", old.get("name")) != old.get("name"):
        return dict(new)
    return merged(old, new)


def slug(text: str) -> str:
    """Return a text as part of a name: characters that a shell would need quoted become hyphens."""
    return re.sub("[^A-Za-z0-9_.-]+", "-", text).strip("-.") or "comparison"


def _shared(source: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with its defaults, except for search keys that it does not set itself.

    A protocol is not expanded into its keys: they belong only to the contenders that search by it.
    """
    values = with_default(read_values(source)[0])
    shared = load_config(values).model_dump(mode="json")
    if _of_protocol(values):
        shared["optimizer"] = values["optimizer"]  # as little as is said of it
    return {key: value for key, value in shared.items() if key not in search_keys() or key in values}


def _changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Apply changes, a protocol first: it replaces every key that a protocol can set."""
    rest = {key: change for key, change in changes.items() if key != "protocol"}
    result = with_protocol(values, changes["protocol"]) if changes.get("protocol") is not None else dict(values)
    for key in rest:
        result = pinned(result, key.partition(".")[0])
    return merged(result, rest)


def _config(label: str, changes: Mapping[str, Any], shared: Mapping[str, Any], asked: ComparisonConfig) -> Config:
    """Return a contender's configuration, with the first seed."""
    given = _keys(changes)
    for key in given:
        _refuse_own(key, f"contender {label!r}")
        if any(key == judged or key.startswith(f"{judged}.") for judged in JUDGED_BY):
            raise ConfigError(
                f"contender {label!r} sets {key!r}, but all contenders must be judged alike; "
                f"set it in 'overrides', for all of them, or leave it out"
            )
    with said_by(label):
        values = _searching(shared, changes)
        if values.get("ladder"):  # the last rung goes on until the images are spent
            values["ladder"] = {**values["ladder"], list(values["ladder"])[-1]: asked.images}
        return load_config(merged(values, _fair(given, asked)))


def _searching(shared: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the shared configuration with the changes of one contender.

    A contender searches by its own protocol or optimizer if it names one, otherwise as the shared configuration does.
    If it names an optimizer, the keys of the shared protocol do not apply to it.
    """
    if changes.get("protocol") is not None:
        return expanded(_changed(shared, changes))
    if _optimizer_of(changes) is not None:
        values = {key: value for key, value in shared.items() if key != "optimizer" or not _of_protocol(shared)}
        values["protocol"] = None
    else:
        values = expanded(shared)
    return merged(values, {key: change for key, change in changes.items() if key != "protocol"})


def _of_protocol(values: Mapping[str, Any]) -> bool:
    """Return whether the optimizer of a configuration is its protocol's own, with other options."""
    optimizer = values.get("optimizer")
    return values.get("protocol") is not None and isinstance(optimizer, Mapping) and "name" not in optimizer


def _optimizer_of(changes: Mapping[str, Any]) -> str | None:
    """Return the name of the optimizer that changes set, or None."""
    named = changes.get("optimizer")
    named = named.get("name") if isinstance(named, Mapping) else named
    found = changes.get("optimizer.name", named)
    return None if found is None else str(found)


def _fair(given: Sequence[str], asked: ComparisonConfig) -> dict[str, Any]:
    """Return the keys that are equal for all contenders, and the defaults of those that this one leaves unset."""
    return equal_keys(asked.images, asked.checks, asked.seeds[0], given)


def equal_keys(images: int, checks: int, seed: int, given: Sequence[str] = ()) -> dict[str, Any]:
    """Return the keys, dotted, by which searches are given equal numbers of images.

    Args:
        images: Number of images that each search may generate.
        checks: Approximate number of checks, at equal intervals of images.
        seed: The seed of the search.
        given: Keys that a search sets itself; the stopping rule and the checks are then its own.
    """
    changes: dict[str, Any] = {
        "name": None,
        "seed": seed,
        "generations": images,  # more than the images suffice for, so that only the budget ends a search
        "budget": {"images": images, "seconds": None, "gpu_hours": None},
        "by_steps": {"steps": ()},
        "keep": "none",
    }
    if "validation.patience" not in given:
        changes["validation.patience"] = NEVER
    if not {"validation.every", "validation.every_images"} & set(given):
        changes["validation.every_images"] = max(1, images // checks)
    return changes


def _refuse_own(key: str, where: str) -> None:
    head = key.partition(".")[0]
    if head in SET_HERE:
        raise ConfigError(f"{where} sets {key!r}, which the comparison itself sets for all, by its {SET_HERE[head]!r}")


def _keys(changes: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted keys of changes, at every depth."""
    found = []
    for key, value in changes.items():
        found.append(prefix + key)
        if isinstance(value, Mapping):
            found += _keys(value, f"{prefix}{key}.")
    return found


def _title(source: str | Mapping[str, Any], loaded: Config) -> str:
    if isinstance(source, str):
        return Path(source).stem
    return loaded.name or loaded.adapter.name
