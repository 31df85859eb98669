"""Calibrating from Python.

import trimpot

result = trimpot.calibrate("shapes", generations=10)
result.gain, result.report, result.curve
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from ..defaults.model import is_configuration
from ..engine.run import Run
from ..engine.statistics import Gain
from ..engine.watcher import Watcher
from ..ground.errors import ConfigError, TrimpotError
from ..ground.folders import DEFAULT_STORE
from ..ground.plain import short
from ..reports.facts import Facts, gather
from ..reports.nouns import noun
from ..setup.config import Config, ConfigSource, load_config, source_of
from ..setup.live import Live, by_leaves, taken
from ..storage import SqliteStore
from ..workshops import refuse_while_imported
from .results import Files, summary
from .session import resume as go_on
from .session import start

StorePath = str | os.PathLike[str] | None
Shown = bool | Literal["auto"]


class Result:
    """A run and what came of it, as the store had it when the result was made.

    Attributes:
        run: The run's name.
        store: The store's folder.
        status: `finished`, `interrupted`, `failed`, `running` or `unreported`.
        gain: What calibration gained on test prompts that the search never saw: `mean`, `low` and `high` (the 95 %
            interval), `num_prompts` and `num_images`; None if the run has not finished.
        setting: Knob name to value, of the calibrated setting; None if the run has not finished.
        calibration: The path of the calibration file, for `trimpot.load_calibration`; None if there is none yet.
        report: The path of the report; None if there is none yet.
        folder: The run's folder. `start=result.folder` begins another run at this one's result.
        summary: What `trimpot show RUN --json` prints.
        curve: The course of the search, for `pandas.DataFrame(result.curve)`: a row a generation, the first for the
            neutral setting. Columns: `generation` (how many are done), `images` (generated for the search so far),
            `best` and `mean` (fitness of the generation's candidates), `sigma` (step size after it), `validation`
            (score of the recommendation made after it; None if it was not judged), `admitted` (whether that may be
            chosen) and `chosen` (whether it is the result so far).

    Args:
        facts: The facts of the run.
        shown: What `runs.results.summary` returned.
        store: The store's folder.
    """

    def __init__(self, facts: Facts, shown: Mapping[str, Any], store: Path) -> None:
        from ..reports.notebook import curve_of

        self._facts, self.summary, self.store = facts, dict(shown), store
        self.run: str = facts.row.id
        self.status: str = facts.row.status
        self.folder: Path = store / self.run
        self.curve: list[dict[str, Any]] = curve_of(facts)
        self.gain: Gain | None = _gain(shown["gain"])
        self.setting: dict[str, float] | None = dict(facts.row.outcome["calibrated"]) if facts.row.outcome else None
        self.calibration = _path(shown["calibration"])
        self.report = _path(shown["report"])

    @classmethod
    def load(cls, run: str, store: StorePath = None) -> Result:
        """Read a run, finished or not.

        Args:
            run: The run's name.
            store: The store's folder; None for `TRIMPOT_STORE`, or `trimpot-runs` in the working folder.

        Raises:
            StoreError: If there is no such store or run.
        """
        name, folder = _name(run), _store(store)
        with SqliteStore(folder, create=False) as opened:
            row = opened.run(name)
            return cls(gather(opened, row.id), summary(opened, row), folder)

    def __repr__(self) -> str:
        if self.gain is None:
            told = f"{len(self._facts.generations)} generations done; {self._going_on()}"
            return f"Result({self.run}: {self.status}, {told})"
        images = f"{self.summary['num_images']:,} {noun(self.summary['makes'])}"
        return f"Result({self.run}: gain {self.gain} on {self.gain.num_prompts} prompts, {images})"

    def _repr_html_(self) -> str:
        from ..reports.notebook import card

        return card(self._facts, Files.of(self.folder), self._going_on())

    def _going_on(self) -> str:
        return _resume_call(self.run, self.store)


def calibrate(
    source: ConfigSource | None = None, /, *, store: StorePath = None, progress: Shown = "auto", **keys: Any
) -> Result:
    """Calibrate a backbone: what `trimpot calibrate` does, from Python.

    Every key of a configuration is a keyword, and has the meaning that it has in a file: a mapping is the whole value
    of its key. A dotted key changes a single value: `**{"optimizer.sigma0": 0.1}`. Where a configuration names a part,
    the part itself may be given: an instance, a class, or a function as `trimpot.objective` and `trimpot.adapter`
    describe. Ctrl-C stops the run; everything that was recorded is kept, and `resume` goes on.

    Args:
        source: The name of a preset, the path of a YAML file, a mapping, or a configuration from `load_config`; or a
            model by its hub id, folder or file, for which all else is chosen; may be left out if the keywords say
            everything.
        store: The folder of the database and of the runs' files; None for `TRIMPOT_STORE`, or `trimpot-runs` in the
            working folder.
        progress: `auto` shows a bar in a terminal and in a notebook; True also prints lines elsewhere; False is silent.
        **keys: Keys of the configuration.

    Returns:
        The result, which a notebook shows.

    Raises:
        TrimpotError: If the run cannot begin, or stops early; the message says how to go on.
        KeyboardInterrupt: If the run was stopped; the message says how to go on.

    Example:
        >>> result = calibrate("shapes", generations=10)
        >>> result.gain.mean, result.report
    """
    asked, live = taken(keys)
    base = source_of({} if source is None else source)
    if isinstance(base, Mapping):
        base, more = taken(base)
        live = more | live
    folder = _store(store)
    if isinstance(base, (Mapping, Config)) or is_configuration(str(base)):
        config = load_config(base, asked, live)
    else:
        config = _proposed(str(base), asked, live)
    live = live.used_by(config)
    return _worked(lambda watchers: start(config, folder, watchers, live), live, folder, progress)


def _proposed(model: str, asked: Mapping[str, Any], live: Live) -> Config:
    """Return the configuration that is proposed for a model, in which options of the adapter change nothing else."""
    from ..defaults.proposal import propose

    options = by_leaves({key: value for key, value in asked.items() if key == "adapter"})
    others = {key: value for key, value in asked.items() if key != "adapter"}
    return load_config(propose(model, overrides={**options, **others}, here=True).values, (), live)


def resume(
    run: str | None = None,
    /,
    *,
    store: StorePath = None,
    progress: Shown = "auto",
    allow_drift: bool = False,
    **keys: Any,
) -> Result:
    """Go on with a run that was stopped, or make a finished one longer: what `trimpot resume` does, from Python.

    A run that was begun with objects of a program needs the same objects again, under the same keys. They are checked:
    an edited function is another one.

    Args:
        run: The run's name; None for the latest unfinished one.
        store: The store's folder, as in `calibrate`.
        progress: As in `calibrate`.
        allow_drift: Whether to go on although the backbone, rewards or prompts have changed.
        **keys: A longer search, such as `generations=400` or `generations="+200"`; keys that change no number; objects.

    Returns:
        The result.

    Raises:
        StoreError: If there is no such run, it needs objects that are not given, or its parts have changed.
        TrimpotError: If the run stops early.
        KeyboardInterrupt: If the run was stopped.

    Example:
        >>> resume("mine-1", adapter=my_model, objectives={"mine": my_score})
    """
    asked, live = taken(keys)
    folder, name = _store(store), None if run is None else _name(run)
    return _worked(
        lambda watchers: go_on(name, folder, watchers, by_leaves(asked), allow_drift, live), live, folder, progress
    )


class _Begun(Watcher):
    """Remembers which run is at work."""

    run: str | None = None

    def run_started(self, run: Run, work_done: int) -> None:
        self.run = run.id


def _worked(work: Callable[[tuple[Watcher, ...]], str], live: Live, folder: Path, progress: Shown) -> Result:
    """Work on a run, show its progress, and return its result; if it stops, say how to go on."""
    refuse_while_imported()
    begun = _Begun()
    watcher, done = _progress(progress)
    try:
        name = work((begun, *watcher))
    except KeyboardInterrupt as stop:
        if begun.run is not None:
            stop.args = (f"stopped; nothing is lost; go on with {_resume_call(begun.run, folder)}",)
        raise
    except TrimpotError as error:
        if begun.run is not None and not _has_ended(begun.run, folder):
            error.args = (f"{error}; go on with {_resume_call(begun.run, folder)}",)
        raise
    finally:
        done()
        live.settle()
    return Result.load(name, folder)


def _progress(shown: Shown) -> tuple[tuple[Watcher, ...], Callable[[], None]]:
    """Return the watchers that show progress, and what ends them."""
    if shown != "auto" and not isinstance(shown, bool):
        raise ConfigError(f"progress: should be True, False or 'auto', not {short(shown)}")
    if shown is False:
        return (), lambda: None
    from ..reports.notebook import NotebookProgress, notebook_display

    if display := notebook_display():
        bar = NotebookProgress(display)
        return (bar,), bar.ended
    from rich.console import Console

    from ..reports.console import ProgressWatcher

    console = Console(stderr=True, highlight=False)
    if shown == "auto" and not console.is_terminal:
        return (), lambda: None
    watcher = ProgressWatcher(console)
    return (watcher,), lambda: watcher.__exit__()


def _has_ended(run: str, folder: Path) -> bool:
    with SqliteStore(folder, create=False) as opened:
        return opened.run(run).status == "finished"


def _resume_call(run: str, folder: Path) -> str:
    where = "" if folder == _store(None) else f", store={str(folder)!r}"
    return f"trimpot.resume({run!r}{where})"


def _store(store: StorePath) -> Path:
    if store is None:
        return Path(os.environ.get("TRIMPOT_STORE") or DEFAULT_STORE)
    text = os.fspath(store) if isinstance(store, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigError(f"store: should be the path of a folder, not {short(store)}")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(f"store: {short(text)} begins with the home folder of a user who is unknown here") from None


def _name(run: object) -> str:
    if not isinstance(run, str) or not run:
        raise ConfigError(f"run: should be the name of a run, such as 'shapes-1', not {short(run)}")
    return run


def _gain(found: Mapping[str, Any] | None) -> Gain | None:
    fields: Any = {"num_prompts": None, **(found or {})}  # runs of early versions counted images alone
    return Gain(**fields) if found else None


def _path(found: str | None) -> Path | None:
    return Path(found) if found else None
