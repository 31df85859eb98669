"""Knobs and the space they span.

A knob is one scalar that the search may change. A point of the space is a *setting*, a mapping from knob name to
value; only between `ask` and `tell` is it a vector.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..ground.errors import ConfigError, near_misses
from ..ground.plain import LARGEST, number

SMALLEST_SPREAD = 1e-30

Setting = Mapping[str, float]
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Knob:
    """One named scalar that is searched.

    Attributes:
        name: The knob's name, from the outermost part inwards: `member1.double.07.attn.image`.
        low: Smallest value the search may try, in the knob's own unit.
        high: Largest value the search may try.
        default: The neutral value, at which the model is untouched.
        spread: Width of the first sample in the knob's own unit: its first standard deviation is the
            optimizer's sigma0 times `spread`.
        searched: Whether the search may change it. Otherwise it is a choice that only neutral settings make, such as
            the format of a prompt: a search keeps the value of the setting that it begins from.

    Raises:
        ConfigError: If a number is not finite, the bounds do not enclose the default, or the spread is not positive.
    """

    name: str
    low: float = -1.0
    high: float = 2.0
    default: float = 1.0
    spread: float = 1.0
    searched: bool = True

    def __post_init__(self) -> None:
        for label, least in (("low", -LARGEST), ("high", -LARGEST), ("default", -LARGEST), ("spread", SMALLEST_SPREAD)):
            value = getattr(self, label)
            number(value, f"knob {self.name!r}: {label}", low=least)
            if isinstance(value, np.generic):
                object.__setattr__(self, label, value.item())
        if not self.low < self.high:
            raise ConfigError(f"knob {self.name!r}: low {self.low:g} must lie below high {self.high:g}")
        if not self.low <= self.default <= self.high:
            raise ConfigError(
                f"knob {self.name!r}: its bounds [{self.low:g}, {self.high:g}] exclude its "
                f"default {self.default:g}; widen the bounds or move the default"
            )


class KnobSpace(Sequence[Knob]):
    """An ordered set of knobs, which converts between settings and vectors.

    Raises:
        ConfigError: If there is no knob, or two knobs share a name.
    """

    def __init__(self, knobs: Sequence[Knob]) -> None:
        self._knobs = tuple(knobs)
        if not self._knobs:
            raise ConfigError("a knob space needs at least one knob")
        for name, count in Counter(knob.name for knob in self._knobs).items():
            if count > 1:
                raise ConfigError(f"{count} knobs are named {name!r}; every knob needs a name of its own")

    def __len__(self) -> int:
        return len(self._knobs)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # Sequence's overloads add nothing here
        return self._knobs[index]

    def __iter__(self) -> Iterator[Knob]:
        return iter(self._knobs)

    def __repr__(self) -> str:
        return f"KnobSpace({len(self)} knobs, {self._knobs[0].name} .. {self._knobs[-1].name})"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Knob names in vector order."""
        return tuple(knob.name for knob in self._knobs)

    @property
    def defaults(self) -> Vector:
        """The neutral vector, shape (num_knobs,)."""
        return np.array([knob.default for knob in self._knobs], dtype=np.float64)

    @property
    def spreads(self) -> Vector:
        """Relative widths of the first sample, shape (num_knobs,)."""
        return np.array([knob.spread for knob in self._knobs], dtype=np.float64)

    @property
    def bounds(self) -> tuple[Vector, Vector]:
        """Lower and upper bounds, each of shape (num_knobs,)."""
        return (
            np.array([knob.low for knob in self._knobs], dtype=np.float64),
            np.array([knob.high for knob in self._knobs], dtype=np.float64),
        )

    def to_vector(self, setting: Setting) -> Vector:
        """Order a setting's values into a vector.

        Args:
            setting: Knob name to value; missing knobs take their default.

        Returns:
            Shape (num_knobs,).

        Raises:
            ConfigError: If the setting names a knob that the space does not have.
        """
        known = set(self.names)
        for name in setting:
            if name not in known:
                raise ConfigError(f"no knob {name!r} in this space; {near_misses(name, known)}")
        return np.array([setting.get(knob.name, knob.default) for knob in self._knobs], dtype=np.float64)

    def to_setting(self, vector: Vector) -> dict[str, float]:
        """Convert a vector to a setting; the exact inverse of `to_vector` for a full setting.

        Args:
            vector: Shape (num_knobs,).

        Raises:
            ConfigError: If the vector has another shape.
        """
        if np.shape(vector) != (len(self),):
            raise ConfigError(f"a vector of shape {np.shape(vector)} is no point of a space of {len(self)} knobs")
        return dict(zip(self.names, np.asarray(vector, dtype=np.float64).tolist(), strict=True))

    @cached_property
    def fingerprint(self) -> str:
        """A digest of every knob; equal spaces have equal fingerprints."""
        return digest([_told(knob) for knob in self._knobs])

    @property
    def searched(self) -> NDArray[np.bool_]:
        """Whether the search may change each knob, shape (num_knobs,)."""
        return np.array([knob.searched for knob in self._knobs], dtype=np.bool_)


def _told(knob: Knob) -> dict[str, object]:
    """Return a knob's numbers; whether it is searched only if it is not, as most are."""
    return {name: value for name, value in asdict(knob).items() if name != "searched" or not value}


def digest(value: object) -> str:
    """Hash a JSON-like value: sha256 of its canonical JSON, first 16 hexadecimal digits.

    Floats are written with the shortest digits that read back to the same float64, so equal digests mean
    bit-equal numbers.
    """
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def digest_of_many(values: Iterable[object]) -> str:
    """Return the digest of a list of JSON-like values, without holding all of them in memory."""
    hashed, before = hashlib.sha256(), "["
    for value in values:
        hashed.update((before + canonical(value)).encode())
        before = ","
    hashed.update(b"[]" if before == "[" else b"]")
    return hashed.hexdigest()[:16]


#: Writes a JSON-like value as canonical text: equal values give equal texts.
canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
