"""Draws for the compositional prompts: digests of a key, the same on every machine and in every version of Python."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TypeVar

VERSION = 1  # of the words and the grammar; part of every draw
_UNTIL = {"train": 0.6, "validation": 0.75, "test": 1.0}  # the splits' places among the digests of pairs

Item = TypeVar("Item")


class Draws:
    """An endless sequence of draws that depends on a key alone.

    Args:
        key: The parts of the key.
    """

    def __init__(self, *key: object) -> None:
        self._key = "/".join(map(str, ("compositional", VERSION, *key)))
        self._numbers = self._made()

    def _made(self) -> Iterator[int]:
        block = 0
        while True:
            digest = hashlib.sha256(f"{self._key}/{block}".encode()).digest()
            yield from (int.from_bytes(digest[at : at + 4], "big") for at in range(0, 32, 4))
            block += 1

    def pick(self, items: Sequence[Item]) -> Item:
        """Return one of the items."""
        return items[next(self._numbers) * len(items) >> 32]


@cache
def split_of(*names: str) -> str:
    """Return the split that a pair of nouns, or a noun with its number, belongs to, by the digest of the names."""
    key = "+".join(("compositional", str(VERSION), *sorted(names)))
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48
    return next(split for split, until in _UNTIL.items() if place < until)
