"""Numbers of an evaluation as bytes: float64, little-endian, bit for bit, with their names kept once.

A setting of 216 knobs is 1,728 bytes so, where JSON with names takes 10,000 and a hundred times as long to read.
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
    """Lists of names by their fingerprints: of knobs, and of objectives.

    Args:
        records: The rows of a database.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._read: dict[str, tuple[str, ...]] = {}

    def keep(self, names: Iterable[str]) -> str:
        """Keep a list, once, and give back its fingerprint; call it in a transaction."""
        found = tuple(names)
        row = {"id": digest(found), "names": json.dumps(found, ensure_ascii=False, separators=(",", ":"))}
        if row["id"] not in self._read:  # what was read is there; what was only written may be rolled back
            self._records.insert("names", row, ignore=True)
        return row["id"]

    def of(self, by: str, fingerprint: str) -> tuple[str, ...]:
        """The list that the record `by` names.

        Raises:
            StoreError: If it is damaged or gone.
        """
        known = self._read.get(fingerprint)
        if known is None:
            known = tuple(json.loads(self._records.named(by, "names", id=fingerprint)["names"]))
            self._read[fingerprint] = known
        return known


def pack_setting(setting: Mapping[str, float]) -> bytes:
    """A setting's values in its own order.

    Raises:
        StoreError: If one is not finite.
    """
    return _packed(list(setting.values()))


def unpack_setting(names: Sequence[str], packed: bytes) -> dict[str, float]:
    """The exact inverse of `pack_setting`.

    Raises:
        ValueError: If there are more or fewer values than names.
    """
    return dict(zip(names, _unpacked(packed, len(names)).tolist(), strict=True))


def pack_scores(scores: Mapping[str, Sequence[float]], num_images: int) -> bytes:
    """Objectives' scores one after the other, `num_images` of each.

    Raises:
        StoreError: If one is not finite, or an objective has more or fewer.
    """
    for name, values in scores.items():
        if len(values) != num_images:
            raise StoreError(f"cannot record {len(values)} scores of {name!r} for {num_images} outputs")
    return _packed([value for values in scores.values() for value in values])


def unpack_scores(names: Sequence[str], packed: bytes, num_images: int) -> dict[str, tuple[float, ...]]:
    """The exact inverse of `pack_scores`.

    Raises:
        ValueError: If there are more or fewer scores.
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
