"""Extending a run: it searches longer, and ends as if it had been given the longer search at first.

Only keys that limit the length of the search may change, and only to larger values. The search's recorded evaluations
are used again, bit for bit. The measurements made at its old end are set aside, and made anew at the new end.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..engine.identity import KEYS_CHANGE_NO_NUMBER
from ..engine.knobs import digest
from ..engine.nouns import noun, told_key
from ..engine.run import Run
from ..engine.stopping import taken_away_by
from ..ground.errors import ConfigError, StoreError, TrimpotError
from ..setup.assembly import planned_evaluations
from ..setup.config import Config, as_recorded, load_config, plugins_of
from ..setup.live import Live
from ..setup.overrides import Override, Overrides, read_overrides
from ..storage import Comparisons, RunRow, SqliteStore
from ..storage.extensions import Extensions

LONGER = ("generations", "budget.images", "budget.seconds", "budget.gpu_hours", "validation.patience")
_PARTS = ("adapter", "objectives", "combine", "prompts", "optimizer")  # compared by identity, not by their keys
_ABSENT = object()


@dataclass(frozen=True)
class Extension:
    """A longer search for a run.

    Attributes:
        config: The run's stored configuration with the new lengths of search.
        begun: The given configuration, with the old lengths of search, to compare with the run as it was begun.
    """

    config: Config
    begun: Config


def added(row: RunRow, overrides: Overrides) -> list[Override]:
    """Resolve overrides that add to the run's value, such as `generations=+200`, into overrides with the sum.

    Raises:
        ConfigError: If the run has no value to add to, or the addition is not positive.
    """
    return [_sum(row, each) if each.adds else each for each in read_overrides(overrides)]


def _sum(row: RunRow, override: Override) -> Override:
    if override.key not in _keys(row):
        raise _refusal(row, override.key, {override.key: override.path})
    value = _leaves(_asked(row))[override.key]
    if value is None:
        raise ConfigError(f"run {row.id} has no {'.'.join(override.path)} to add to; leave {override.text} out")
    if not override.value > 0:
        raise ConfigError(f"{override.text} asks for no more than the {value:g} that run {row.id} has")
    total = value + override.value
    return Override(f"{override.key}={total!r}", override.path, total)


def extension_of(row: RunRow, overrides: Sequence[Override], live: Live | None, store: SqliteStore) -> Extension | None:
    """Return the extension that overrides ask for, or None if they change no number.

    Args:
        row: The run.
        overrides: The result of `added`.
        live: The objects of this program that are parts of the run.
        store: The store that holds the run.

    Raises:
        ConfigError: If the overrides ask for a shorter search, a different one, or one that would not continue exactly.
        StoreError: If the run ended for a reason that the overrides do not remove, or belongs to a comparison.
    """
    config = load_config(row.config, overrides, live)
    before, after = _leaves(_asked(row)), _leaves(config.model_dump(mode="json"))
    typed = {each.key: each.path for each in overrides}
    changed = [key for key in {**before, **after} if before.get(key, _ABSENT) != after.get(key, _ABSENT)]
    if not changed:
        return None
    if not _asked(row)["generations"]:
        raise ConfigError(f"run {row.id} measures a given setting and searches nothing; {_instead(row)}")
    for key in changed:
        if key not in _keys(row) or key not in after:
            raise _refusal(row, key, typed)
        if _size(after[key]) < _size(before[key]):
            has = "no such limit" if before[key] is None else f"{before[key]:g}"
            raise ConfigError(
                f"{_told(row, key, typed)}={after[key]:g} is less than run {row.id} has, {has}; a run can be made "
                "longer, not shorter"
            )
    _check_reason(row, changed, typed)
    _check_ladder(row, changed)
    known = plugins_of(config, live)
    if planned_evaluations(as_recorded(row.config), known) != planned_evaluations(config, known):
        raise ConfigError(
            f"optimizer {config.optimizer.name!r} plans by the evaluations that run {row.id} was given at first, so "
            f"with more it would have searched otherwise; {_instead(row)}"
        )
    if comparison := Comparisons(store).holding(row.id):
        raise StoreError(
            f"run {row.id} belongs to comparison {comparison}, which measures contenders by what they were given; "
            f"{_instead(row)}"
        )
    kept, begun = _asked(row), config.model_dump(mode="json")
    for key in changed:
        _put(kept, key, after[key])
        _put(begun, key, before[key])
    return Extension(as_recorded(kept), as_recorded(begun))


@contextlib.contextmanager
def extended(store: SqliteStore, row: RunRow, run: Run, extension: Extension | None, drifted: bool) -> Iterator[None]:
    """Extend a run for the work in this context; if the work fails before recording anything, undo the extension.

    Args:
        store: The store that holds the run.
        row: The run before the extension.
        run: The run to be worked on.
        extension: The extension; None to leave the run as it is.
        drifted: Whether the run's parts differ from those at its beginning, so that it needs an identity of its own.
    """
    if extension is None:
        yield
        return
    extensions = Extensions(store)
    identity = digest([row.identity, run.identity]) if drifted else run.identity
    with store.lock(row.id):
        extensions.begin(row.id, row.identity, identity, extension.config.model_dump(mode="json"))
    try:
        yield
    except Exception as error:
        with contextlib.suppress(StoreError):  # the first error is more important
            if extensions.take_back(row.id) and isinstance(error, TrimpotError):
                error.args = (f"{error}; nothing was added to run {row.id}, which is as it was",)
        raise


def _asked(row: RunRow) -> dict[str, Any]:
    """Return a run's stored configuration, with every key."""
    return as_recorded(row.config).model_dump(mode="json")


def _keys(row: RunRow) -> tuple[str, ...]:
    """Return the keys that limit the length of a run's search; of a ladder, only the last rung can grow."""
    ladder = _asked(row)["ladder"]
    return (f"ladder.{list(ladder)[-1]}", *LONGER[1:]) if ladder else LONGER


def _check_reason(row: RunRow, changed: Sequence[str], typed: Mapping[str, Sequence[str]]) -> None:
    """Refuse changes that do not remove the reason for which the run ended."""
    if row.outcome is None:
        return
    key = taken_away_by(row.stop_reason or "")
    if key == "generations":
        key = _keys(row)[0]
    if key in changed:
        return
    given = " and ".join(_told(row, each, typed) for each in changed)
    if key:
        raise StoreError(
            f"run {row.id} ended because {row.stop_reason}, which {given} cannot change; give more {_told(row, key)}"
        )
    raise StoreError(
        f"run {row.id} ended because its optimizer did ({row.stop_reason}), which {given} cannot change; "
        f"{_instead(row)}"
    )


def _check_ladder(row: RunRow, changed: Sequence[str]) -> None:
    """Refuse a change of patience if it may have ended an earlier rung, since the later rungs build on that rung."""
    if "validation.patience" in changed and len(_asked(row)["ladder"]) > 1:
        raise ConfigError(
            f"validation.patience also says how long the first rungs of run {row.id} were searched, on which the last "
            f"was built; {_instead(row)}"
        )


def _refusal(row: RunRow, key: str, typed: Mapping[str, Sequence[str]]) -> ConfigError:
    *others, last = (_told(row, each) for each in _keys(row))
    return ConfigError(
        f"{_told(row, key, typed)} of run {row.id} cannot change, only {', '.join(others)} and {last} can, to more; "
        f"{_instead(row)}"
    )


def _told(row: RunRow, key: str, typed: Mapping[str, Sequence[str]] | None = None) -> str:
    """Return a key as it was typed, or else by the name that fits what the run makes, as far as its outcome says."""
    if typed and key in typed:
        return ".".join(typed[key])
    return told_key(key, noun((row.outcome or {}).get("makes")))


def _instead(row: RunRow) -> str:
    return f"begin a new run at its result with `trimpot calibrate CONFIG --from {row.id}`"


def _leaves(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted key to value, for every key that changes numbers and is no part."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if key in KEYS_CHANGE_NO_NUMBER or key in _PARTS:
            continue
        if key == "watch":  # its prompts and objectives are parts too
            sizes = {name: {k: v for k, v in each.items() if k not in _PARTS} for name, each in value.items()}
            found |= {f"watch.{name}.{k}": v for name, each in sizes.items() for k, v in each.items()}
        elif isinstance(value, Mapping) and value:
            found |= {f"{key}.{inner}": each for inner, each in value.items()}
        elif value != {}:
            found[key] = value
    return found


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    section, _, inner = key.partition(".")
    if inner:
        config[section] = {**config[section], inner: value}
    else:
        config[section] = value


def _size(value: float | None) -> float:
    """Return a limit as a number; a missing limit is infinite."""
    return math.inf if value is None else float(value)
