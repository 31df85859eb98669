"""Beginning an analysis and going on with it.

from trimpot.analyses.session import analyse
name = analyse("ablation", ["shapes"], ["scales=0,0.5"], Path("trimpot-runs"))
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..engine.knobs import digest
from ..engine.schema import Config, Section
from ..ground.errors import ConfigError, StoreError, TrimpotError, near_misses
from ..ground.folders import DEFAULT_STORE
from ..setup.mistakes import listed, names_in, sentences_of
from ..setup.overrides import Override, read_overrides
from ..storage import Analyses, AnalysisPlaces, AnalysisRow, SqliteStore
from .analysis import Analysis
from .bench import Bench
from .kinds import kind_named
from .page import draw
from .progress import Progress
from .target import Target, refuse_changed, target_of


def analyse(
    kind: str,
    targets: Sequence[str],
    pairs: Sequence[str] = (),
    folder: Path = DEFAULT_STORE,
    progress: Progress | None = None,
    command: str = "",
) -> str:
    """Begin an analysis and work on it to the end; go on with it if the store has the same one.

    Args:
        kind: The kind of the analysis, such as `ablation`.
        targets: What is analysed: runs, presets, configurations, models or calibrations.
        pairs: `key=value`: the options of the analysis, and dotted keys of the configuration.
        folder: The store's folder.
        progress: Is told of everything that is recorded.
        command: The command line, to be stored.

    Returns:
        The name of the analysis, whose folder holds its page and its tables.

    Raises:
        TrimpotError: If it cannot begin as asked (nothing is left behind then), or stops early; it can go on.
    """
    cls = kind_named(kind)
    options, typed = _options(cls, read_overrides(pairs), targets)
    targets = () if cls.wants == "store" else targets
    _refuse_number_of(cls, targets)
    named: list[Target] = []
    for text in targets:
        base = next(iter(named), None)
        named.append(target_of(text, typed, folder, wants=cls.wants, searches=cls.searches, base=base))
    made = cls(named, options)
    identity, versions = _identity(made), _versions(made)
    with SqliteStore(folder, create=cls.wants != "store") as store:
        store.refuse_read_only()
        analyses = Analyses(store)
        name = next((row.id for row in analyses.of(identity)), None)
        if name is None:
            made.check(store)
            prefix = "-".join([kind, *(target.name for target in made.targets[:1])])
            asked = {
                "targets": [target.to_json() for target in made.targets],
                "options": options.model_dump(mode="json"),
                "command": command,
            }
            name = analyses.add(prefix, identity, kind, asked, versions, _prompts(made))
        _work(store, analyses.get(name), made, progress or Progress())
    return name


def resume(name: str, folder: Path = DEFAULT_STORE, progress: Progress | None = None) -> str:
    """Go on with an analysis; if it has finished, write its page again.

    Args:
        name: The name of the analysis.
        folder: The store's folder.
        progress: Is told of everything that is recorded.

    Returns:
        The name.

    Raises:
        TrimpotError: If there is no such analysis, or its parts have changed since it began.
    """
    with SqliteStore(folder, create=False) as store:
        row = Analyses(store).get(name)
        cls = kind_named(row.kind)
        if row.outcome is not None and cls.lasting:
            draw(store, name)
            return name
        store.refuse_read_only()
        prompts = Analyses(store).prompts(name)
        targets = [
            Target.from_json(each, None if number else prompts) for number, each in enumerate(row.config["targets"])
        ]
        made = cls(targets, cls.Options.model_validate(row.config["options"]))
        refuse_changed(name, row.identity, _identity(made), str(row.config["command"]))
        _work(store, row, made, progress or Progress())
    return name


def _work(store: SqliteStore, row: AnalysisRow, made: Analysis, progress: Progress) -> None:
    """Work on an analysis until it has finished, failed or is interrupted, and record which."""
    analyses, clock = Analyses(store), AnalysisPlaces(store)
    if row.outcome is None or not made.lasting:
        with store.lock(row.id):
            progress.begun(row.id, made.question)
            analyses.update(row.id, error=None)
            try:
                with Bench(row.id, store, progress) as bench:
                    findings = made.examine(bench)
                analyses.update(row.id, outcome=findings.to_json(), seconds=row.seconds + clock.elapsed())
            except Exception as problem:
                said = str(problem) if isinstance(problem, TrimpotError) else f"{type(problem).__name__}: {problem}"
                with contextlib.suppress(StoreError):  # the first error is more important
                    analyses.update(row.id, error=" ".join(said.split()))
                    if row.outcome is None and analyses.take_back(row.id):
                        progress.analysis = None
                raise
    draw(store, row.id)
    store.settle()


def _options(cls: type[Analysis], typed: Sequence[Override], names: Sequence[str]) -> tuple[Section, list[Override]]:
    """Tell the options of an analysis from the keys of a configuration; names of what a store holds are an option.

    Raises:
        ConfigError: If a key is neither, or an option's value is wrong.
    """
    own, keys = names_in(cls.Options), list(Config.model_fields)
    values: dict[str, Any] = {}
    rest = []
    for each in typed:
        if each.path[0] in own:
            if len(each.path) > 1:
                raise ConfigError(f"{each.key}: {each.path[0]} is an option of {cls.kind} and has no parts")
            values[each.path[0]] = each.value
        elif each.path[0] in cls.instead:
            raise ConfigError(
                f"{each.path[0]}: {cls.kind} has the option {cls.instead[each.path[0]]} for it; give that"
            )
        elif each.path[0] in keys and cls.wants != "store":
            rest.append(each)
        else:
            known = own if cls.wants == "store" else [*own, *keys]
            raise ConfigError(f"{cls.kind} takes no {each.path[0]!r}; {near_misses(each.path[0], known)}")
    if cls.wants == "store" and names:
        if "runs" not in own:
            raise ConfigError(f"{cls.kind} reads the whole store and takes no target; leave {names[0]!r} out")
        if "runs" in values:
            raise ConfigError(f"{cls.kind} is given runs twice: {names[0]!r} and as runs=...; keep one of them")
        values["runs"] = list(names)
    try:
        return cls.Options.model_validate(values), rest
    except ValidationError as error:
        raise ConfigError(listed(cls.kind, sentences_of(error, values, cls.Options, {}))) from None


def _refuse_number_of(cls: type[Analysis], targets: Sequence[str]) -> None:
    if cls.wants == "store":
        return
    if not targets:
        what = "a calibration" if cls.wants == "calibration" else "a run, a preset, a configuration or a model"
        raise ConfigError(f"{cls.kind} of what? Name {what}")
    if len(targets) > 1 and not cls.several:
        raise ConfigError(f"{cls.kind} takes one target; leave {targets[1]!r} out")


def _identity(made: Analysis) -> str:
    asked = made.options.model_dump(mode="json")
    return digest([made.kind, asked, [target.identity for target in made.targets], _versions(made)])


def _versions(made: Analysis) -> dict[str, str]:
    return {name: version for target in made.targets for name, version in target.versions.items()}


def _prompts(made: Analysis) -> Any:
    """Return the prompts of the first target, to be recorded; None without targets."""
    for target in made.targets[:1]:
        part = target.config.prompts
        return target.prompts or target.plugins.make("prompts", part.name, part.options)
    return None
