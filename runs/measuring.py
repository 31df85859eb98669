"""Measuring any calibration on held-out prompts: a run that searches nothing.

from trimpot.runs.measuring import measure
name = measure("somebody/calibrated", steps=(4, 8))
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..engine.bucket import PromptSet
from ..engine.calibration import Calibration
from ..engine.schema import Config
from ..engine.watcher import Watcher
from ..ground.errors import CalibrationError, ConfigError, Notice, TrimpotError
from ..ground.plain import short
from ..setup.config import load_config, read_values, search_keys
from ..setup.overrides import Override, Overrides, read_overrides
from ..storage import SqliteStore
from ..storage.database import FILE_NAME
from . import session
from .results import Files

#: What a measurement takes of the configuration that a calibration's file holds.
TAKEN = (
    *("adapter", "objectives", "combine", "prompts", "seeds_per_prompt", "validation", "test", "by_steps", "watch"),
    "keep",
)
#: What another's file may not decide on this machine: code to execute, and where outputs and secrets are sent.
TRUSTED_ONLY = ("url", "token_env", "allow_execution")
UNWATCHED = "watch={}"  # the override of whoever takes only the other parts of a file's configuration
NEEDED = ("adapter", "objectives", "prompts")
#: Keys of a search, which a measurement has none of; the same keys below `validation` as well.
OF_A_SEARCH = ("start", "generations", "seed", "ladder", "sensitivity", "budget", "bucket_size", "group_size")
OF_CHECKS = ("every", "every_images", "every_outputs", "patience", "significance")


def configured(
    file: Path, source: str | None = None, overrides: Overrides = (), *, steps: Sequence[int] = (), folder: Path
) -> Config:
    """Return the configuration of the run that measures a calibration.

    What `source` and the overrides do not say is as the calibration's own configuration says. Of a file that is no
    result of a run of the store, plugin files are not executed, and no address of a reward is used.

    Args:
        file: The calibration file.
        source: A preset or the path of a YAML file; its keys of a search do not count.
        overrides: `key=value` pairs with dotted keys.
        steps: Other numbers of steps to measure at as well; empty for those of the configuration.
        folder: The store's folder.

    Raises:
        CalibrationError: If the file cannot be read, or does not say enough to measure it.
        ConfigError: If the configuration cannot be run, or an override is a key of a search.
    """
    made = Calibration.load(file)
    typed = read_overrides(overrides)
    refuse_search(typed, "a measurement")
    given = read_values(source)[0] if source is not None else {}
    named = {each.path[0] for each in typed}
    own = _own(file, made, folder, given={*given, *named})
    if "objectives" in given or ("objectives",) in {each.path for each in typed}:
        own.pop("combine", None)  # it belongs to the rewards that it names
    values = {**own, **given}
    if _name(given.get("adapter")) == _name(own.get("adapter")) and isinstance(own.get("adapter"), Mapping):
        options = given["adapter"] if isinstance(given.get("adapter"), Mapping) else {}
        values["adapter"] = {**own["adapter"], **options}
    lacking = [key for key in NEEDED if key not in values and key not in named]
    if lacking:
        typing = " ".join(f"{key}=..." for key in lacking)
        raise CalibrationError(
            f"{file} does not say with which {' and '.join(lacking)} to measure it; give a configuration, or {typing}"
        )
    values = without_search(values)
    if steps:
        values["by_steps"] = {**(values.get("by_steps") or {}), "steps": list(steps)}
    values = read_values(values, overrides)[0]
    repeats = values.get("seeds_per_prompt", 1)
    values |= {"generations": 0, "start": str(file.absolute()), "optimizer": "cma-es", "bucket_size": repeats}
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", re.sub(r"-measured-\d+$", "", made.provenance.run))
    name = name.strip("-._")[:80] or "calibration"
    return load_config({"name": f"{name}-measured", **values})


def measure(
    file: Path,
    source: str | None = None,
    overrides: Overrides = (),
    *,
    steps: Sequence[int] = (),
    folder: Path,
    watchers: tuple[Watcher, ...] = (),
) -> str:
    """Measure a calibration against the neutral setting at its best, on validation and test prompts.

    An image that was made and scored before, by any run of the store, is not made again. A measurement that was
    stopped goes on when it is asked for again, or as a run, with `resume`.

    Args:
        file: The calibration file.
        source: As in `configured`.
        overrides: As in `configured`.
        steps: As in `configured`.
        folder: The store's folder.
        watchers: Are told of everything that is recorded.

    Returns:
        The name of the run, whose calibration file holds the gain.

    Raises:
        TrimpotError: If it cannot be measured as asked for.
    """
    config = configured(file, source, overrides, steps=steps, folder=folder)
    _tell_of_seen(file, config)
    begun = _begun(config, folder)
    return session.resume(begun, folder, watchers) if begun else session.start(config, folder, watchers)


def refuse_existing(to: Path) -> None:
    """Refuse to write over a file.

    Raises:
        CalibrationError: If something is there already.
    """
    if to.exists():
        raise CalibrationError(f"{to} exists already; name another file with --to")


def _own(file: Path, made: Calibration, folder: Path, given: set[str]) -> dict[str, Any]:
    """Return what a calibration's own configuration says of measuring it."""
    config, trusted = _recorded(file, made, folder)
    own = {key: config[key] for key in TAKEN if config.get(key) is not None}
    if trusted:
        return {**own, "plugins": config.get("plugins") or []}
    if config.get("plugins") and "plugins" not in given:
        warnings.warn(
            f"the plugin files that {file} names are not executed; give yours with plugins=[...], if it needs any",
            Notice,
            stacklevel=4,
        )
    for name, reward in _rewards_in(own, given):
        if not isinstance(reward, Mapping):
            continue
        sent = [key for key in TRUSTED_ONLY if reward.get(key) is not None]
        if sent:
            raise CalibrationError(
                f"{file} says of its reward {name!r} {sent[0]}: {short(reward[sent[0]])}, which nobody has vouched for "
                "here; give the rewards to measure with, in a configuration or with objectives=..."
            )
    return own


def _rewards_in(own: Mapping[str, Any], given: set[str]) -> Iterator[tuple[str, object]]:
    """Yield the rewards of a configuration, those of watched prompts too, unless they are given anew."""
    watched = own.get("watch") if "watch" not in given else None
    sections = [own.get("objectives") if "objectives" not in given else None]
    sections += [each.get("objectives") for each in watched.values() if isinstance(each, Mapping)] if watched else []
    for rewards in sections:
        yield from rewards.items() if isinstance(rewards, Mapping) else ()


def _recorded(file: Path, made: Calibration, folder: Path) -> tuple[Mapping[str, Any], bool]:
    """Return a calibration's configuration, and whether it is this store's, which executed it before."""
    name = made.provenance.run
    if (folder / FILE_NAME).exists() and file.resolve() == Files.of(folder / name).calibration.resolve():
        with SqliteStore(folder, create=False) as store:
            row = next((row for row in store.runs() if row.id == name), None)
        if row is not None:
            return row.config, True
    return made.provenance.config, False


def _tell_of_seen(file: Path, config: Config) -> None:
    """Warn if test prompts are among those that the calibration was searched on, as far as these are known here."""
    own = Calibration.load(file).provenance.config.get("prompts")
    if not isinstance(own, Mapping) or own == config.prompts.model_dump(mode="json"):
        return
    known = session.parts_for(config)
    try:
        searched: PromptSet = known.make("prompts", str(own.get("name")), {k: v for k, v in own.items() if k != "name"})
    except TrimpotError:  # its files are elsewhere
        return
    measured: PromptSet = known.make("prompts", config.prompts.name, config.prompts.options)
    seen = {*searched.train, *searched.validation} & {*measured.test}
    if seen:
        warnings.warn(
            f"{len(seen)} of the {len({*measured.test})} test prompts are among those that {file} was searched on, "
            "which flatters its gain; give others with prompts=...",
            Notice,
            stacklevel=3,
        )


def _begun(config: Config, folder: Path) -> str | None:
    """Return the unfinished run of the store that measures the same, or None."""
    if not (folder / FILE_NAME).exists():
        return None
    asked = config.model_dump(mode="json")
    with SqliteStore(folder, create=False) as store:
        rows = [row for row in store.runs() if row.config == asked and row.status in ("interrupted", "failed")]
        return rows[-1].id if rows else None


def refuse_search(typed: Sequence[Override], what: str) -> None:
    """Refuse overrides that are keys of a search.

    Args:
        typed: The overrides.
        what: What has no search, as an error message names it.

    Raises:
        ConfigError: If one is.
    """
    for each in typed:
        if each.path[0] in (*OF_A_SEARCH, *search_keys()) and each.path[0] != "validation":
            aim = f"; test.seed draws the prompts of {what}" if each.path[0] == "seed" else ""
            raise ConfigError(f"{each.path[0]} is of a search, and {what} has none; leave it out{aim}")
        if each.path[0] == "validation" and each.path[-1] in OF_CHECKS:
            raise ConfigError(f"{each.key} is of a search, and {what} has none; leave it out")


def without_search(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a configuration without the keys of a search."""
    kept = {key: value for key, value in values.items() if key not in (*OF_A_SEARCH, *search_keys(), "validation")}
    validation = values.get("validation")
    if isinstance(validation, Mapping):
        kept["validation"] = {key: value for key, value in validation.items() if key not in OF_CHECKS}
    elif validation is not None:
        kept["validation"] = validation  # wrong, and refused as such
    return json.loads(json.dumps(kept))  # type: ignore[no-any-return]


def _name(part: object) -> object:
    return part.get("name") if isinstance(part, Mapping) else part
