"""Names that a shell completes: read quickly, without torch, and in silence if anything is wrong."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import typer


def stored_runs(context: typer.Context, incomplete: str) -> list[str]:
    """Return the runs of the store, latest first."""
    return _starting(_stored(context, "runs"), incomplete)


def stored_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return the runs, the comparisons, the analyses and the studies of the store, latest first."""
    tables = ("runs", "comparisons", "analyses", "studies")
    return _starting([name for table in tables for name in _stored(context, table)], incomplete)


def studied(context: typer.Context, incomplete: str) -> list[str]:
    """Return the studies and the runs of the store, latest first; the shell itself completes the names of folders."""
    return _starting([*_stored(context, "studies"), *_stored(context, "runs")], incomplete)


def configurations(incomplete: str) -> list[str]:
    """Return the presets; the shell itself completes the names of files."""
    from ..setup.config import presets

    return _starting(presets(), incomplete)


def sources(context: typer.Context, incomplete: str) -> list[str]:
    """Return the presets and the comparisons of the store."""
    return [*configurations(incomplete), *_starting(_stored(context, "comparisons"), incomplete)]


def sources_of_analyses(context: typer.Context, incomplete: str) -> list[str]:
    """Return the presets and the runs of the store."""
    return [*configurations(incomplete), *_starting(_stored(context, "runs"), incomplete)]


def keys(incomplete: str) -> list[str]:
    """Return `key=` for every key of a configuration, and the known names behind `adapter=` and its like."""
    from ..engine.schema import Config

    key, equals, _ = incomplete.partition("=")
    if not equals:
        return _starting([f"{name}=" for name in Config.model_fields], incomplete)
    return _starting([f"{key}={name}" for name in _names_for(key)], incomplete)


def parts(kind: str) -> Callable[[str], list[str]]:
    """Return a function that completes the names of registered parts.

    Args:
        kind: One of `setup.plugins.KINDS`.
    """

    def names(incomplete: str) -> list[str]:
        return _starting(_registered(kind), incomplete)

    return names


def one_of(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a function that completes one of these names."""
    return lambda incomplete: _starting(names, incomplete)


def contenders(incomplete: str) -> list[str]:
    """Return the protocols and the optimizers."""
    from ..setup.config import protocols

    return _starting([*protocols(), *_registered("optimizers")], incomplete)


#: Keys of a configuration that take the name of a part, to the part's kind.
_PARTS = {
    "adapter": "adapters",
    "combine": "combinations",
    "objectives": "objectives",
    "optimizer": "optimizers",
    "prompts": "prompts",
    "trackers": "trackers",
}


def _names_for(key: str) -> list[str]:
    from ..setup.config import protocols

    key = key.removesuffix(".name")
    return protocols() if key == "protocol" else _registered(_PARTS[key]) if key in _PARTS else []


def _registered(kind: str) -> list[str]:
    from ..ground.errors import TrimpotError
    from ..setup.plugins import plugins

    with contextlib.suppress(TrimpotError):
        return [each.name for each in plugins().registrations(kind)]
    return []


def _stored(context: typer.Context, table: str) -> Iterable[str]:
    folder: Any = context.params.get("store") or os.environ.get("TRIMPOT_STORE") or "trimpot-runs"
    path = Path(folder).absolute() / "trimpot.sqlite"
    log = path.with_name("trimpot.sqlite-wal")
    with contextlib.suppress(sqlite3.Error, OSError):
        if path.exists():
            logged = log.exists() and log.stat().st_size > 0
            mode = "mode=ro" if logged else "immutable=1"  # without a log, reading leaves no file behind
            with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True)) as connection:
                return [name for (name,) in connection.execute(f"SELECT id FROM {table} ORDER BY created DESC")]
    return []


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
