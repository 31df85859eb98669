"""Human studies in the store: what is shown to whom, and every answer from the moment it is given."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..ground.errors import StoreError, near_misses
from .kept_images import IMAGES, read_bytes, read_image
from .records import Row
from .runs import dump, now
from .sentences import decoding
from .store import SqliteStore

Plan = list[dict[str, Any]]


@dataclass(frozen=True)
class StudyRow:
    """The stored record of a study.

    Attributes:
        id: Its name.
        created: ISO time, UTC.
        identity: Fingerprint of what was asked to be studied.
        config: What is shown, and the rules that were set before the first answer; see `studies.design`.
    """

    id: str
    created: str
    identity: str
    config: dict[str, Any]


@dataclass(frozen=True)
class RaterRow:
    """The stored record of a rater.

    Attributes:
        id: The study's name and the rater's number.
        study: The study.
        number: The rater's number in the study, from 1.
        token: What the rater's link ends with; whoever knows it can answer.
        plan: The pairs in the order in which they are shown; see `studies.design.plan_for`.
    """

    id: str
    study: str
    number: int
    token: str
    plan: Plan


class Answer(NamedTuple):
    """An answer to one question about one pair: `left`, `right` or `same`, and the seconds it took, if known."""

    position: int
    question: str
    answer: str
    seconds: float | None
    answered: str


class Studies:
    """The studies of a store.

    Args:
        store: An open store.
    """

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def add(self, prefix: str, identity: str, config: Mapping[str, Any]) -> str:
        """Begin a study named `prefix-N` with the next free N, and return its name."""
        store = self._store
        with store._transaction():
            name = store._free_name(prefix)
            row = {"id": name, "created": now(), "identity": identity, "config": dump(config)}
            store.records.insert("studies", row)
        return name

    def get(self, name: str) -> StudyRow:
        """Return a study by name.

        Raises:
            StoreError: If no study has this name.
        """
        row = self._store.records.one("studies", id=name)
        if row is None:
            raise StoreError(f"no study {name!r} in {self._store.folder}; {near_misses(name, self.names())}")
        return self._row(row)

    def names(self) -> list[str]:
        """Return the names of all studies, oldest first."""
        rows = self._store.records.whole("studies")
        return [row["id"] for row in sorted(rows, key=lambda row: str(row["created"]))]

    def of(self, identity: str) -> list[StudyRow]:
        """Return the studies with this identity, latest first."""
        found = [self.get(name) for name in reversed(self.names())]
        return [row for row in found if row.identity == identity]

    def files(self, name: str) -> set[str]:
        """Return the image files that a study shows."""
        return set(shown_files(self.get(name).config))

    def raters(self, name: str) -> list[RaterRow]:
        """Return the raters of a study, by number."""
        rows = [self._rater(row) for row in self._store.records.whole("raters", name)]
        return sorted(rows, key=lambda row: row.number)

    def rater_of(self, token: str) -> RaterRow | None:
        """Return the rater whose link ends with a token, or None."""
        row = self._store.records.one("raters", token=token)
        return None if row is None else self._rater(row)

    def add_raters(self, name: str, number: int, plan: Callable[[int, Sequence[Plan]], Plan]) -> list[RaterRow]:
        """Add raters in one transaction, until the study has this number of them.

        Args:
            name: The study.
            number: The number of raters that it shall have.
            plan: Returns the plan of a new rater from its number and the plans of those before.

        Returns:
            All raters of the study.
        """
        store = self._store
        with store._transaction():
            there = self.raters(name)
            plans = [row.plan for row in there]
            for next_one in range(len(there) + 1, number + 1):
                plans.append(plan(next_one, plans))
                row = {"id": f"{name}/{next_one}", "study": name, "number": next_one, "created": now()}
                row |= {"token": secrets.token_urlsafe(18), "plan": dump(plans[-1])}
                store.records.insert("raters", row)
        return self.raters(name)

    def answers(self, rater: str) -> list[Answer]:
        """Return the answers of a rater, in the order of the pairs."""
        rows = self._store.records.whole("answers", rater)
        found = [Answer(*(row[column] for column in Answer._fields)) for row in rows]
        return sorted(found, key=lambda each: (each.position, each.answered))

    def answer(self, rater: str, position: int, question: str, answer: str, seconds: float | None) -> Answer | None:
        """Record an answer; it is durable when this returns.

        Returns:
            None if the answer was recorded now; the answer that stands if one was given before.
        """
        row = {"rater": rater, "position": position, "question": question, "answer": answer}
        row |= {"seconds": seconds, "answered": now()}
        with self._store._transaction():
            if self._store.records.insert("answers", row, ignore=True):
                return None
            there = self._store.records.named(
                "that is asked for", "answers", rater=rater, position=position, question=question
            )
        return Answer(*(there[column] for column in Answer._fields))

    def picture(self, key: str) -> str | None:
        """Return the file of a picture that was made for a study before, or None."""
        row = self._store.records.one("pictures", key=key)
        return None if row is None else str(row["file"])

    def record_pictures(self, made: Mapping[str, str]) -> None:
        """Record the files of pictures that were made, by key."""
        with self._store._transaction():
            for key, file in made.items():
                self._store.records.insert("pictures", {"key": key, "file": file, "recorded": now()}, ignore=True)

    def image(self, file: str) -> Any:
        """Read a picture.

        Raises:
            StoreError: If its file is missing or damaged.
        """
        return read_image(self._store.folder / IMAGES, file)

    def image_bytes(self, file: str) -> bytes:
        """Return the PNG file of a picture.

        Raises:
            StoreError: If the file is missing or damaged.
        """
        return read_bytes(self._store.folder / IMAGES, file)

    def _row(self, row: Row) -> StudyRow:
        with decoding(self._store.path, f"studies {row['id']!r}"):
            return StudyRow(row["id"], row["created"], row["identity"], json.loads(row["config"]))

    def _rater(self, row: Row) -> RaterRow:
        with decoding(self._store.path, f"raters {row['id']!r}"):
            return RaterRow(row["id"], row["study"], row["number"], row["token"], json.loads(row["plan"]))


def shown_files(config: Mapping[str, Any]) -> list[str]:
    """Return the image files that a study's configuration names."""
    pairs = [file for files in config["pictures"] for file in files]
    return [*pairs, *(check["file"] for check in config["checks"] if check.get("file"))]
