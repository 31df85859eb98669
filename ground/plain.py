"""Check values that come from outside: numbers must be finite and in range, descriptions must be of plain types.

The error names the source of the refused value.
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
LONGEST_QUOTE = 200  # characters of a prompt that a sentence quotes whole
_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}


def number(
    value: object,
    name: str,
    *,
    low: float = -LARGEST,
    high: float = LARGEST,
    error: type[TrimpotError] = ConfigError,
) -> float:
    """Check that a value is a finite real number within a range, and return it as a float.

    Args:
        value: The value to check.
        name: The name of the value in an error message, such as `the calibration's gain.mean`.
        low: The smallest value allowed.
        high: The largest value allowed.
        error: The class of the error to raise.

    Raises:
        TrimpotError: Of the class `error`, if the value is no real number, not finite, or outside the range.
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
    """Check that values are a list of real numbers of an expected length; infinity and NaN are allowed.

    Args:
        values: The values to check, such as the scores that a reward returned.
        length: The number of values expected.
        name: The name of the values in an error message.
        error: The class of the error to raise.

    Returns:
        Float64 array of shape (length,).

    Raises:
        TrimpotError: Of the class `error`, if the length differs, or a value is masked or no real number.
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
    """Convert a description to the types of JSON; equal values give equal results.

    NumPy's numbers and arrays, sets, tuples and paths become numbers, lists and strings; sets are sorted. Infinity and
    NaN become strings with their JavaScript names, because a description is never used in a calculation.

    Args:
        value: The description to convert.
        name: The source of the description, for an error message.
        error: The class of the error to raise.

    Raises:
        TrimpotError: Of the class `error`, if the description holds another type or is nested more than `DEEPEST` deep.
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
    """Return the repr of a value in one line of at most 60 characters, for use in a sentence."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a plugin's class may raise anything, and Python refuses integers of thousands of digits
        text = "one that cannot be shown"
    return text if len(text) <= 60 else text[:57] + "..."


def quoted(prompt: str) -> str:
    """Return a prompt as a sentence quotes it; of a long one, its beginning and its end.

    The end matters: prompts that begin with the same worked examples differ only there.
    """
    text = repr(prompt)
    return text if len(text) <= LONGEST_QUOTE else f"{text[:60]} ... {text[-80:]}"


def _shown(value: object) -> str:
    """Return the type of a value, and the value as `short` writes it."""
    return f"{type(value).__name__} {short(value)}"
