"""Beginning a study, or finding the one that was begun with the same words.

from trimpot.studies.beginning import asked_for, begin
with SqliteStore(folder) as store:
    name = begin(store, asked_for(store, ["shapes-1"]))
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from ..applying.located import FILE_NAME, located_calibration
from ..engine.calibration import Calibration
from ..engine.knobs import digest
from ..ground.digests import content_digest
from ..ground.errors import ConfigError, Notice
from ..storage import RaterRow, SqliteStore, Studies
from .design import (
    MOST_ENTRANTS,
    MOST_PAIRS,
    MOST_RATERS,
    PAIRS,
    RATERS,
    Check,
    Design,
    drawn_checks,
    num_checks,
    plan_for,
)
from .pictures import Sets, folder_sets, of_one_size, opened, shuffled

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Asked:
    """What a study is asked to show.

    Attributes:
        folders: Folders of pictures, or empty.
        calibrations: Calibration files, or empty.
        prompts: A file of prompts, or None for those of the folders or the calibration.
        pairs: Pairs that a rater sees, besides the checks; None for `PAIRS`, or fewer if there are not as many.
        checks: Pairs whose answer is known; None for one to ten pairs.
        neutral_steps: Denoising steps of the neutral side; None for those of the calibration.
        seed: Draws sides and orders.
        identity: A digest of all of these, with the content of files and folders.
    """

    folders: tuple[Path, ...]
    calibrations: tuple[Path, ...]
    prompts: Path | None = None
    pairs: int | None = None
    checks: int | None = None
    neutral_steps: int | None = None
    seed: int = 0
    identity: str = ""


def asked_for(
    store: SqliteStore,
    sources: Sequence[str],
    *,
    prompts: Path | None = None,
    pairs: int | None = None,
    checks: int | None = None,
    neutral_steps: int | None = None,
    seed: int = 0,
) -> Asked:
    """Return what is asked for, with its identity.

    Args:
        store: The store, for runs that are named.
        sources: Runs, calibration files, their folders or hub ids; or at least two folders of pictures.
        prompts: See `Asked`, like all that follow.
        pairs: See `Asked`.
        checks: See `Asked`.
        neutral_steps: See `Asked`.
        seed: See `Asked`.

    Raises:
        CalibrationError: If a source is no calibration.
        ConfigError: If the sources cannot be studied together.
    """
    paths = [Path(each).expanduser() for each in sources]
    pictures = [path for path in paths if is_folder_of_pictures(path) and not _is_run(store, path)]
    if pictures and len(pictures) < len(sources):
        raise ConfigError(
            f"{pictures[0]} is a folder of pictures, and other sources are calibrations; study folders with folders, "
            f"and calibrations with calibrations"
        )
    if len(pictures) == 1:
        raise ConfigError(f"{pictures[0]} is one folder of pictures; give another one to show beside it")
    if pictures and neutral_steps is not None:
        raise ConfigError("--neutral-steps is for calibrations; the pictures of a folder are made already")
    files = () if pictures else tuple(located_calibration(each, store=store.folder) for each in sources)
    if len({file.resolve() for file in files}) < len(files):
        raise ConfigError("the same calibration is given twice; a study compares different ones")
    if len(pictures or files) > MOST_ENTRANTS:
        raise ConfigError(
            f"{len(sources)} sets of pictures are too many to show in pairs; give {MOST_ENTRANTS} at most"
        )
    if prompts is not None and not prompts.is_file():
        raise ConfigError(f"--prompts: there is no file {prompts}")
    told = [content_digest(folder) for folder in pictures] or [Calibration.load(file).identity for file in files]
    words = [content_digest(prompts) if prompts else None, pairs, checks, neutral_steps, seed]
    identity = digest(["study", bool(pictures), told, words])
    return Asked(tuple(pictures), files, prompts, pairs, checks, neutral_steps, seed, identity)


def found(store: SqliteStore, asked: Asked) -> str | None:
    """Return the latest study that was begun with the same words, or None."""
    rows = Studies(store).of(asked.identity)
    return rows[0].id if rows else None


def begin(
    store: SqliteStore,
    asked: Asked,
    *,
    raters: int = RATERS,
    name: str | None = None,
    progress: Progress = lambda done, total: None,
) -> str:
    """Begin a study: its pictures are made, or copied into the store, so that nothing else is needed from then on.

    Args:
        store: The store, open for writing.
        asked: What to show.
        raters: Raters to make room for; the number of items depends on it, where pictures have to be made.
        name: The study is named `name-N`; None for the name of its first source.
        progress: Is called with the number of pictures that are there and that are needed.

    Returns:
        The study's name.

    Raises:
        TrimpotError: If the pictures cannot be had.
    """
    store.refuse_read_only()
    sets = _sets(store, asked, raters, progress)
    files = _copied(store, sets)
    _refuse_equal(sets, files)
    matches = len(sets.labels) * (len(sets.labels) - 1) // 2
    there = len(sets.items) * matches
    if asked.pairs is not None and asked.pairs > there:
        raise ConfigError(f"there are {there} pairs, so no rater can see {asked.pairs}; give --pairs {there} at most")
    pairs = min(PAIRS, there) if asked.pairs is None else asked.pairs
    number = num_checks(pairs) if asked.checks is None else asked.checks
    checks = drawn_checks(len(sets.labels), len(sets.items), number, asked.seed) if number else []
    design = Design(
        entrants=sets.labels,
        items=sets.items,
        pictures=files,
        checks=tuple(_with_file(store, check, files, asked.seed + at) for at, check in enumerate(checks)),
        pairs=pairs,
        seed=asked.seed,
        scores=sets.scores,
        sources={**sets.sources, "neutral_steps": asked.neutral_steps},
    )
    prefix = name or f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', sets.labels[0]).strip('-.')[:80] or 'pictures'}-study"
    return Studies(store).add(prefix, asked.identity, design.to_json())


def with_raters(store: SqliteStore, study: str, number: int | None = None) -> list[RaterRow]:
    """Return the raters of a study, after adding some if it has fewer than `number`.

    Args:
        store: The store, open for writing.
        study: The study's name.
        number: How many there shall be; None for those that there are, and `RATERS` at the beginning.

    Raises:
        ConfigError: If there are more already: their links are known.
    """
    studies = Studies(store)
    there = studies.raters(study)
    wanted = number if number is not None else len(there) or RATERS
    if wanted > MOST_RATERS:
        raise ConfigError(f"a study has at most {MOST_RATERS} raters")
    if number is not None and number < len(there):
        raise ConfigError(
            f"{study} has {len(there)} raters, whose links are known; --raters {len(there)} or more goes on with it"
        )
    if wanted == len(there):
        return there
    design = Design.from_json(studies.get(study).config)
    return studies.add_raters(study, wanted, lambda each, earlier: plan_for(design, each, earlier))


def _sets(store: SqliteStore, asked: Asked, raters: int, progress: Progress) -> Sets:
    if asked.pairs is not None and not 1 <= asked.pairs <= MOST_PAIRS:
        raise ConfigError(f"--pairs: give 1 to {MOST_PAIRS}, not {asked.pairs}")
    if asked.folders:
        return folder_sets(asked.folders, asked.prompts)
    from .calibrated import calibrated_sets

    return calibrated_sets(
        asked.calibrations,
        store,
        most=(asked.pairs or PAIRS) * raters,
        prompts=asked.prompts,
        seed=asked.seed,
        neutral_steps=asked.neutral_steps,
        progress=progress,
    )


def _copied(store: SqliteStore, sets: Sets) -> tuple[tuple[str, ...], ...]:
    """Write the pictures, in the form in which they are shown, into the store; return their files by set and item."""
    columns, resized = list[list[str]](), 0
    for item in range(len(sets.items)):
        pictures = [opened(each[item]) for each in sets.pictures]
        resized += len({picture.size for picture in pictures}) > 1
        columns.append(store.keeper(of_one_size(pictures)))
    if resized:
        warnings.warn(
            f"the pictures of {resized} of {len(columns)} prompts differ in size; each is shown in the size of the "
            f"smallest, so that size tells nothing",
            Notice,
            stacklevel=3,
        )
    return tuple(zip(*columns, strict=True))


def _refuse_equal(sets: Sets, files: Sequence[Sequence[str]]) -> None:
    for (first, one), (second, other) in combinations(zip(sets.labels, files, strict=True), 2):
        if tuple(one) == tuple(other):
            raise ConfigError(
                f"every picture of {first} is that of {second}, so there is nothing to choose between; a calibration "
                f"whose result is the neutral setting is such a case"
            )


def _with_file(store: SqliteStore, check: Check, files: Sequence[Sequence[str]], seed: int) -> Check:
    """Return a check with its shuffled picture written."""
    if check.kind != "noise":
        return check
    noise = shuffled(Studies(store).image(files[check.entrant][check.item]), seed)
    return replace(check, file=store.keeper([noise])[0])


def is_folder_of_pictures(path: Path) -> bool:
    """Return whether a path is a folder that holds no calibration."""
    try:
        return path.is_dir() and not (path / FILE_NAME).exists()
    except (OSError, ValueError):
        return False


def _is_run(store: SqliteStore, path: Path) -> bool:
    """Return whether a folder has the name of a run of the store, and is that run's folder."""
    known: Any = {row["id"] for row in store.records.whole("runs")}
    return path.name in known and path.resolve() == (store.folder / path.name).resolve()
