"""What is analysed: the backbone of a run, a preset, a configuration, a model or a calibration; or a calibration."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ..applying.located import located_calibration
from ..defaults.model import is_configuration
from ..defaults.proposal import propose
from ..engine.bucket import PromptSet
from ..engine.calibration import Calibration
from ..engine.knobs import digest
from ..engine.schema import Config
from ..ground.errors import ConfigError, StoreError, near_misses
from ..runs.measuring import UNWATCHED, configured, refuse_search, without_search
from ..setup.assembly import MACHINE, libraries, origins_of, versions
from ..setup.config import as_recorded, load_config, plugins_of, presets, read_values
from ..setup.live import PREFIX
from ..setup.overrides import Override, read_overrides
from ..setup.plugins import Plugins
from ..storage import RunRow, SqliteStore
from ..storage.database import FILE_NAME

OWN = ("name", "trackers", "watch")  # keys of a run's configuration that an analysis of it does not inherit


@dataclass(frozen=True)
class Target:
    """One target of an analysis.

    Attributes:
        text: What was typed.
        name: What it is called on pages and in file names.
        config: Its backbone, rewards and prompts, and, if the analysis searches, how to search.
        prompts: The recorded prompts of a run; None for those of the configuration.
        calibration: The calibration file, if the target is a calibration or a run with a result.
    """

    text: str
    name: str
    config: Config
    prompts: PromptSet | None = None
    calibration: Path | None = None

    @property
    def plugins(self) -> Plugins:
        """The plugins that provide its parts."""
        return plugins_of(self.config)

    @cached_property
    def made(self) -> Calibration:
        """The calibration.

        Raises:
            CalibrationError: If the file cannot be read.
        """
        assert self.calibration is not None, "only of a calibration"
        return Calibration.load(self.calibration)

    @property
    def identity(self) -> str:
        """Fingerprint of all that can change a number and is known before anything is loaded; no library versions."""
        known = self.plugins
        prompts = self.prompts or known.make("prompts", self.config.prompts.name, self.config.prompts.options)
        made = self.made.identity if self.calibration else None
        return digest([self.config.fingerprint, origins_of(self.config, known), prompts.fingerprint, made])

    @property
    def versions(self) -> dict[str, str]:
        """The versions of Python and of every package that can change a number, and the kind of machine."""
        found = {**libraries(self.config, self.plugins), **versions()}
        return {name: version for name, version in found.items() if name != MACHINE[-1]}  # known only after loading

    def to_json(self) -> dict[str, Any]:
        """Return the target as JSON-like values, without the prompts."""
        return {
            "text": self.text,
            "name": self.name,
            "config": self.config.model_dump(mode="json"),
            "calibration": str(self.calibration) if self.calibration else None,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any], prompts: PromptSet | None) -> Target:
        """Return the target that `to_json` returned, with its prompts as they were recorded."""
        file = found["calibration"]
        return cls(found["text"], found["name"], load_config(found["config"]), prompts, Path(file) if file else None)


def target_of(
    text: str,
    typed: Sequence[Override],
    folder: Path,
    *,
    wants: Literal["backbone", "calibration", "store"] = "backbone",
    searches: bool = False,
    base: Target | None = None,
) -> Target:
    """Find out what a name on the command line stands for.

    Args:
        text: The name of a run of the store, a preset, a configuration's file, a model, or a calibration's file, folder
            or hub id.
        typed: Changes to the configuration.
        folder: The store's folder.
        wants: What the analysis wants of its targets.
        searches: Whether it calibrates; otherwise keys of a search are refused.
        base: The first target, as which a further calibration is evaluated, with the same backbone and rewards.

    Raises:
        TrimpotError: If it stands for nothing that can be analysed so.
    """
    if not searches:
        refuse_search(typed, "this analysis")
    if watched := next((each.key for each in typed if each.path[0] == "watch"), None):
        raise ConfigError(f"{watched}: an analysis watches no prompts; leave it out")
    row, prompts = _run_named(text, folder)
    if wants == "calibration" or (row is None and _is_calibration_here(text)):
        file = located_calibration(text, store=folder)
        name = row.id if row else _slug(file.parent.name if file.name == "calibration.json" else file.stem)
        if base is not None:
            return Target(text, name, base.config, base.prompts, file.absolute())
        config = configured(file, None, [*typed, *read_overrides([UNWATCHED])], folder=folder)
        values = config.model_dump(mode="json")
        own = row is not None and prompts is not None and row.config["prompts"] == values["prompts"]
        return Target(text, name, _config(values, (), searches), prompts if own else None, file.absolute())
    if row is not None:
        _refuse_live(row)
        kept = {key: value for key, value in as_recorded(row.config).model_dump(mode="json").items() if key not in OWN}
        config = _config(kept, typed, searches)
        changed = config.prompts.model_dump(mode="json") != kept["prompts"]
        return Target(text, row.id, config, None if changed else prompts)
    if is_configuration(text):
        return Target(text, _slug(Path(text).stem), _config(text, typed, searches))
    try:
        proposal = propose(text, overrides=typed, here=True)
    except ConfigError as error:
        known = near_misses(text, [*presets(), *_run_names(folder)])
        raise ConfigError(f"{error}; of runs and presets, {known}" if known.startswith("did") else str(error)) from None
    return Target(text, _slug(text.rstrip("/").rpartition("/")[2]), _config(proposal.values, (), searches))


def refuse_changed(name: str, recorded: str, now: str, command: str) -> None:
    """Refuse to go on with an analysis whose parts are not what they were.

    Raises:
        StoreError: If they differ.
    """
    if recorded != now:
        raise StoreError(
            f"analysis {name} was begun with another backbone, reward, calibration or prompts, or with other library "
            f"versions; restore them, or begin a new one with `{command}`"
        )


def _config(source: str | Mapping[str, Any], typed: Sequence[Override], searches: bool) -> Config:
    values = {key: value for key, value in read_values(source, typed)[0].items() if key != "watch"}
    if searches:
        return load_config(values)
    values = {key: value for key, value in without_search(values).items() if key not in OWN}
    repeats = values.get("seeds_per_prompt", 1)  # what follows is never used, and must not contradict the rest
    return load_config({**values, "optimizer": "cma-es", "generations": 1, "bucket_size": repeats})


def _run_named(text: str, folder: Path) -> tuple[RunRow | None, PromptSet | None]:
    """Return the run of the store with this name and its prompts, or None twice."""
    if not (folder / FILE_NAME).exists() or not re.fullmatch(r"[\w.-]+", text):
        return None, None
    with SqliteStore(folder, create=False) as store:
        row = next((row for row in store.runs() if row.id == text), None)
        if row is None:
            return None, None
        if text in presets() or _exists(Path(text)):
            raise ConfigError(f"{text!r} is a run of {folder} and lies here as well; write ./{text} for what lies here")
        prompts = store.prompts(row.id)
        return row, replace(prompts, watched={}) if prompts else None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # the working folder may not be read
        return False


def _run_names(folder: Path) -> list[str]:
    if not (folder / FILE_NAME).exists():
        return []
    with SqliteStore(folder, create=False) as store:
        return [row.id for row in store.runs()]


def _is_calibration_here(text: str) -> bool:
    if is_configuration(text) and Path(text).suffix != ".json":
        return False
    try:
        path = Path(text).expanduser()
        return (path / "calibration.json").is_file() or (path.is_file() and path.suffix == ".json")
    except (OSError, ValueError, RuntimeError):
        return False


def _refuse_live(row: RunRow) -> None:
    named = [row.config["adapter"]["name"], row.config["prompts"]["name"], row.config["combine"]["name"]]
    named += [reward.get("name") or key for key, reward in row.config["objectives"].items()]
    if live := next((name for name in named if str(name).startswith(PREFIX)), None):
        raise ConfigError(
            f"run {row.id} was begun by a Python program with {live.removeprefix(PREFIX)!r} of its own, which no "
            f"command can make; register it in a plugin file to analyse it"
        )


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-._")[:80] or "target"
