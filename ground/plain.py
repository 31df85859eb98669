"""The gate for values that enter from outside: numbers that are finite and in range, descriptions of plain types.

Whoever gave a value is named in the sentence that refuses it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ConfigError, TrimpotError

LARGEST = 1e100  # so that squares, sums of squares and their products stay finite
DEEPEST = 32
_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}


def number(
    value: object,
    name: str,
    *,
    low: float = -LARGEST,
    high: float = LARGEST,
    error: type[TrimpotError] = ConfigError,
) -> float:
    """A number that may be calculated with.

    Args:
        value: What was given.
        name: What to call it in a sentence, such as `the calibration's gain.mean`.
        low: Smallest value allowed.
        high: Largest value allowed.
        error: The class to refuse it with.

    Raises:
        TrimpotError: Of the class `error`, if it is no real number, not finite, or outside the range.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise error(f"{name} must be a number, not {_shown(value)}")
    try:
        result = float(value)
    except OverflowError:  # an integer beyond every float
        result = math.inf
    if not math.isfinite(result):
        raise error(f"{name} must be finite, not {_shown(value)}")
    if not low <= result <= high:
        raise error(f"{name} must lie between {low:g} and {high:g}, not be {result:g}")
    return result


def real_numbers(values: ArrayLike, length: int, name: str, error: type[TrimpotError]) -> NDArray[np.float64]:
    """A list of real numbers of an expected length; they may still be infinite or not a number.

    Args:
        values: What was given, such as what a reward returned.
        length: How many there must be.
        name: What to call them in a sentence.
        error: The class to refuse them with.

    Returns:
        Shape (length,).

    Raises:
        TrimpotError: Of the class `error`, if there are more or fewer, or some are masked or no real numbers.
    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        raise error(f"{name} has masked values; give a number for each")
    array = np.asarray(values)
    if array.shape != (length,):
        raise error(f"{name} must have shape ({length},), not {array.shape}")
    if array.dtype.kind not in "biuf":
        kind = "complex numbers" if array.dtype.kind == "c" else f"values of type {array.dtype}"
        raise error(f"{name} must hold real numbers, not {kind}")
    return array.astype(np.float64)


def plain(value: object, name: str, error: type[TrimpotError] = ConfigError, _depth: int = 0) -> Any:
    """A description as JSON holds it, the same for equal values.

    NumPy's numbers and arrays, sets, tuples and paths become numbers, lists and strings; sets are sorted. Infinite
    values and NaN become strings of their JavaScript names: they describe, and are never calculated with.

    Args:
        value: What was given.
        name: Who gave it, for a sentence.
        error: The class to refuse it with.

    Raises:
        TrimpotError: Of the class `error`, if it holds something else, or is deeper than `DEEPEST`.
    """
    if _depth > DEEPEST:
        raise error(f"{name} is nested more than {DEEPEST} deep or holds itself; make it flatter")
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return _NOT_FINITE.get(value, "NaN")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        keys = [_key(key, name, error) for key in value]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise error(f"{name} has two keys that both read {twice!r}; give them names that differ")
        inner = [plain(each, f"{name}[{key!r}]", error, _depth + 1) for key, each in value.items()]
        return dict(zip(keys, inner, strict=True))
    if isinstance(value, Set):
        return sorted((plain(each, name, error, _depth + 1) for each in value), key=repr)
    if isinstance(value, (list, tuple)):
        return [plain(each, name, error, _depth + 1) for each in value]
    raise error(f"{name} holds {_shown(value)}; give numbers, strings, lists and mappings of them")


def _key(key: object, name: str, error: type[TrimpotError]) -> str:
    if isinstance(key, (str, int, float, np.integer, np.floating)):
        return str(key)
    raise error(f"{name} has the key {_shown(key)}; give strings as keys")


def short(value: object) -> str:
    """A value in a sentence, shortened."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a stranger's class may fail in any way, and Python refuses integers of thousands of digits
        text = "one that cannot be shown"
    return text if len(text) <= 60 else text[:57] + "..."


def _shown(value: object) -> str:
    """The same with its type."""
    return f"{type(value).__name__} {short(value)}"
