"""Packing the numbers of an evaluation into bytes: exact little-endian float64, with their names stored once.

A setting of 216 knobs takes 1,728 bytes; as JSON with names it takes 10,000, and a hundred times as long to read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..engine.knobs import digest
from ..ground.errors import StoreError
from .records import Records

_FLOAT = np.dtype("<f8")


class Names:
    """The lists of knob names and of objective names in a store, by fingerprint.

    Args:
        records: The rows of the store's database.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._read: dict[str, tuple[str, ...]] = {}

    def keep(self, names: Iterable[str]) -> str:
        """Store a list of names if it is new, and return its fingerprint; call this in a transaction."""
        found = tuple(names)
        row = {"id": digest(found), "names": json.dumps(found, ensure_ascii=False, separators=(",", ":"))}
        if row["id"] not in self._read:  # remember only lists that were read: a written one may be rolled back
            self._records.insert("names", row, ignore=True)
        return row["id"]

    def of(self, by: str, fingerprint: str) -> tuple[str, ...]:
        """Return the list that the record `by` refers to.

        Raises:
            StoreError: If the list is damaged or missing.
        """
        known = self._read.get(fingerprint)
        if known is None:
            known = tuple(json.loads(self._records.named(by, "names", id=fingerprint)["names"]))
            self._read[fingerprint] = known
        return known


def pack_setting(setting: Mapping[str, float]) -> bytes:
    """Pack the values of a setting, in the order of its knobs.

    Raises:
        StoreError: If a value is not finite.
    """
    return _packed(list(setting.values()))


def unpack_setting(names: Sequence[str], packed: bytes) -> dict[str, float]:
    """Return the setting that `pack_setting` packed.

    Raises:
        ValueError: If the number of values differs from the number of names.
    """
    return dict(zip(names, _unpacked(packed, len(names)).tolist(), strict=True))


def pack_scores(scores: Mapping[str, Sequence[float]], num_images: int) -> bytes:
    """Pack the scores of every objective, one objective after the other, `num_images` scores each.

    Raises:
        StoreError: If a score is not finite, or an objective does not have `num_images` scores.
    """
    for name, values in scores.items():
        if len(values) != num_images:
            raise StoreError(f"cannot record {len(values)} scores of {name!r} for {num_images} outputs")
    return _packed([value for values in scores.values() for value in values])


def unpack_scores(names: Sequence[str], packed: bytes, num_images: int) -> dict[str, tuple[float, ...]]:
    """Return the scores that `pack_scores` packed.

    Raises:
        ValueError: If the number of scores does not fit.
    """
    values = _unpacked(packed, len(names) * num_images).tolist()
    return {name: tuple(values[num_images * at : num_images * (at + 1)]) for at, name in enumerate(names)}


def _packed(values: Sequence[float]) -> bytes:
    numbers = np.array(values, dtype=_FLOAT)
    if not np.isfinite(numbers).all():
        worst = numbers[~np.isfinite(numbers)][0]
        raise StoreError(f"cannot record a number that is not finite ({worst:g}); nothing was written")
    return numbers.tobytes()


def _unpacked(packed: bytes, number: int) -> Any:
    numbers = np.frombuffer(packed, dtype=_FLOAT)
    if len(numbers) != number:
        raise ValueError(f"{number} numbers, not {len(numbers)}")
    return numbers
