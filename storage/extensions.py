"""Extending a run: the records made after its search are set aside, so that the search can go on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..engine.evaluation import POOL
from ..ground.errors import StoreError
from .records import Row
from .runs import dump, now
from .sentences import decoding
from .store import SqliteStore

SEARCHED = ("reference", "search")  # in the order of recording; everything recorded after the last of them can change
_JSON = ("config", "outcome", "continued")
_RESULT = ("outcome", "stop_reason", "unreported", "error")
_COLUMNS = ("identity", "config", "continued", "seconds", *_RESULT)


class Extensions:
    """The runs of a store, as far as they are extended.

    A candidate that is removed here leaves its evaluation in the store; the longer search finds it if it asks for it.

    Args:
        store: An open store.
    """

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def begin(self, run: str, was: str, identity: str, config: Mapping[str, Any]) -> None:
        """Give a run another configuration in one transaction, and append its former state to its `extended`.

        Args:
            run: The name of the run.
            was: The identity of the run until now.
            identity: The identity of the longer run.
            config: The configuration of the longer run.

        Raises:
            StoreError: If the run is damaged, or another process has extended it meanwhile.
        """
        store = self._store
        totals = store.totals(run)  # reads every record before any is changed
        with store._transaction():
            row = store.records.named("that is asked for", "runs", id=run)
            if row["identity"] != was:
                raise StoreError(f"run {run} has been extended by another process meanwhile; look at it again")
            candidates = sorted(store.records.whole("candidates", run), key=lambda each: int(each["number"]))
            forgotten = _after_the_search(candidates)
            for each in forgotten:
                store.records.delete("candidates", each)
            kept = {column: row[column] for column in _COLUMNS}
            kept |= {column: json.loads(kept[column]) for column in _JSON if kept[column]}
            kept |= {"until": now(), "digest": totals["digest"], "num_images": totals["num_images"]}
            kept["num_kept"] = len(candidates) - len(forgotten)
            kept["forgotten"] = [{key: each[key] for key in each if key != "checksum"} for each in forgotten]
            changed = {"config": dump(config), "identity": identity, "extended": dump([*_extended(row), kept])}
            store.records.update("runs", row, **changed, **dict.fromkeys(_RESULT))

    def take_back(self, run: str) -> bool:
        """Undo the last extension of a run, if nothing has been recorded since.

        Returns:
            Whether the extension was undone.
        """
        store = self._store
        with store._transaction(), decoding(store.path, f"runs {run!r}"):
            row = store.records.named("that is asked for", "runs", id=run)
            *earlier, last = _extended(row)
            forgotten = {_place(each): each for each in last["forgotten"]}
            candidates = store.records.whole("candidates", run)
            later = [each for each in candidates if each["number"] >= last["num_kept"]]
            if any(forgotten.get(_place(each), {}).get("evaluation") != each["evaluation"] for each in later):
                return False
            for each in later:
                store.records.delete("candidates", each)
            for each in forgotten.values():
                store.records.insert("candidates", each)
            columns = {key: dump(last[key]) if key in _JSON and last[key] else last[key] for key in _COLUMNS}
            store.records.update("runs", row, **columns, extended=dump(earlier) if earlier else None)
        return True


def _after_the_search(candidates: list[Row]) -> list[Row]:
    """Return the candidates recorded after the last one of the search; a longer search may not ask for them."""
    stages = {name for stage in SEARCHED for name in (stage, stage + POOL)}
    searched = [number for number, each in enumerate(candidates) if each["stage"] in stages]
    return candidates[searched[-1] + 1 :] if searched else []


def _extended(row: Row) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(row["extended"] or "[]")
    return found


def _place(row: Mapping[str, Any]) -> tuple[str, int, int]:
    return row["stage"], row["generation"], row["position"]
