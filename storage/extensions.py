"""Extending a run: what came after its search is forgotten and put by, so that the search can go on."""

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

SEARCHED = ("reference", "search")  # in the order in which they are recorded; whatever follows the last can change
_JSON = ("config", "outcome", "continued")
_RESULT = ("outcome", "stop_reason", "unreported", "error")
_COLUMNS = ("identity", "config", "continued", "seconds", *_RESULT)


class Extensions:
    """Runs of a store that are given more to do.

    A candidate forgotten here leaves its evaluation behind, which is found again where the longer search asks for it.

    Args:
        store: An open store.
    """

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def begin(self, run: str, was: str, identity: str, config: Mapping[str, Any]) -> None:
        """Give a run another configuration, all or nothing; what it was is appended to its `extended`.

        Args:
            run: Its name.
            was: Its identity until now.
            identity: That of the longer run.
            config: Its configuration from now on.

        Raises:
            StoreError: If the run is damaged, or somebody has extended it meanwhile.
        """
        store = self._store
        totals = store.totals(run)  # everything recorded is looked at before anything is changed
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
        """Make a run what it was before it was last extended, if nothing has been made since.

        Returns:
            Whether it is that again.
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
    """What was recorded after the last evaluation of a search, which a longer one may never ask for."""
    stages = {name for stage in SEARCHED for name in (stage, stage + POOL)}
    searched = [number for number, each in enumerate(candidates) if each["stage"] in stages]
    return candidates[searched[-1] + 1 :] if searched else []


def _extended(row: Row) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(row["extended"] or "[]")
    return found


def _place(row: Mapping[str, Any]) -> tuple[str, int, int]:
    return row["stage"], row["generation"], row["position"]
