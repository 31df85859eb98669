"""What a rater's page is told, and what becomes of an answer; all that is served goes through here.

Nothing that leaves tells which entrant a picture belongs to: a picture's name is a digest of the rater's token and of
the place where it is shown, all pictures of an item have one size, and all are sent as PNG without any metadata.

A pair is sent with a key, which an answer must bring back. Only the first pair that lacks an answer is ever sent, so
an answer to a pair that was never shown has no key and is refused.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..ground.errors import ConfigError, TrimpotError, printable
from ..ground.plain import number as checked_number
from ..storage import Answer, RaterRow, SqliteStore, Studies
from .design import ANSWERS, LEFT, QUESTIONS, RIGHT, SAME, Design

LONGEST = 86_400.0  # seconds that a rater may take for one answer, as far as it is recorded
_TOLD = {LEFT: "the first picture", RIGHT: "the second picture", SAME: "no difference"}


class Reply(NamedTuple):
    """An HTTP status, and what is sent as JSON."""

    status: int
    content: dict[str, Any]


class Rating:
    """The raters of one study, as their pages see it. It is used by one thread, the one that opened the store.

    Args:
        store: The open store.
        study: The study's name.
    """

    def __init__(self, store: SqliteStore, study: str) -> None:
        self._studies = Studies(store)
        self.study = study
        self.design = Design.from_json(self._studies.get(study).config)

    def rater(self, token: str) -> RaterRow | None:
        """Return the rater of this study whose link ends with a token, or None."""
        rater = self._studies.rater_of(token) if token.isascii() and len(token) < 100 else None
        return rater if rater is not None and rater.study == self.study else None

    def state(self, rater: RaterRow) -> dict[str, Any]:
        """Return what a rater's page shows now: the progress, and the first pair that lacks an answer."""
        given = {(each.position, each.question) for each in self._studies.answers(rater.id)}
        position, question = self._open(rater, given)
        told: dict[str, Any] = {"done": position, "of": len(rater.plan), "finished": position == len(rater.plan)}
        if question is None:
            return told
        told |= {
            "position": position,
            "question": question,
            "prompt": printable(self.design.items[rater.plan[position]["item"]].prompt),
            "pictures": [picture_name(rater.token, position, side) for side in (LEFT, RIGHT)],
            "key": _key(rater.token, position),
        }
        if position + 1 < len(rater.plan):
            told["next"] = [picture_name(rater.token, position + 1, side) for side in (LEFT, RIGHT)]
        return told

    def answer(self, rater: RaterRow, sent: object) -> Reply:
        """Record an answer, or refuse it in a sentence; the reply holds what the page shows next.

        The status is 200 if the answer stands, also if it was given before; 409 if another one stands or the pair
        was never shown; 400 if it is no answer.
        """
        try:
            position, question, answer, key, seconds = _read(sent, len(rater.plan))
        except TrimpotError as error:
            return Reply(400, {"error": str(error), **self.state(rater)})
        shown = hmac.compare_digest(key, _key(rater.token, position))
        given = {(each.position, each.question): each for each in self._studies.answers(rater.id)}
        before = given.get((position, question))
        if shown and before is None and self._open(rater, set(given)) != (position, question):
            shown = False
        if not shown:
            sentence = "this pair has not been shown to you yet, so the answer does not count; go on with this one"
            return Reply(409, {"error": sentence, **self.state(rater)})
        before = self._studies.answer(rater.id, position, question, answer, seconds)
        return self._after(rater, before, answer)

    def _after(self, rater: RaterRow, before: Answer | None, answer: str) -> Reply:
        """Return the reply to an answer that was recorded now, or before."""
        if before is None:
            return Reply(200, {"stored": True, **self.state(rater)})
        if before.answer == answer:
            return Reply(200, {"stored": True, "again": "this was answered before, and just so", **self.state(rater)})
        sentence = f"this was answered before, perhaps on another device: {_TOLD[before.answer]} stays your answer"
        return Reply(409, {"error": sentence, **self.state(rater)})

    def picture(self, rater: RaterRow, name: str) -> str | None:
        """Return the image file of a picture that a rater's page may show now or next, or None."""
        given = {(each.position, each.question) for each in self._studies.answers(rater.id)}
        now, _ = self._open(rater, given)
        for position in range(min(now + 2, len(rater.plan))):
            for side in (LEFT, RIGHT):
                if hmac.compare_digest(name.encode(), picture_name(rater.token, position, side).encode()):
                    return self.design.file(rater.plan[position], side)
        return None

    def _open(self, rater: RaterRow, given: set[tuple[int, str]]) -> tuple[int, str | None]:
        """Return the first position and question without an answer; (number of pairs, None) at the end."""
        for position in range(len(rater.plan)):
            for question in QUESTIONS:
                if (position, question) not in given:
                    return position, question
        return len(rater.plan), None


def picture_name(token: str, position: int, side: str) -> str:
    """Return the name under which a rater sees a picture."""
    return f"{_digest(token, 'picture', position, side)}.png"


def _key(token: str, position: int) -> str:
    return _digest(token, "pair", position)


def _digest(token: str, *where: object) -> str:
    text = "/".join(map(str, where))
    return hashlib.blake2b(text.encode(), key=token.encode()[:64], digest_size=16).hexdigest()


def _read(sent: object, num_shown: int) -> tuple[int, str, str, str, float | None]:
    """Check what a page has sent.

    Raises:
        ConfigError: If it is no answer.
    """
    if not isinstance(sent, Mapping):
        raise ConfigError("an answer is a JSON object; open your link again")
    question, answer, key = (sent.get(name) for name in ("question", "answer", "key"))
    if question not in tuple(QUESTIONS):
        raise ConfigError(f"there is no such question; there are {' and '.join(QUESTIONS)}")
    if answer not in ANSWERS:
        raise ConfigError(f"there is no such answer; there are {', '.join(ANSWERS)}")
    position = checked_number(sent.get("position"), "position", low=0, high=num_shown - 1)
    if position != int(position):
        raise ConfigError("position must be a whole number")
    seconds = sent.get("seconds")
    if seconds is not None:
        seconds = min(LONGEST, checked_number(seconds, "seconds", low=0))
    return int(position), str(question), str(answer), key if isinstance(key, str) and key.isascii() else "", seconds
