"""Proving that an output depends only on its candidate, prompt and seed, before a run generates anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from ..ground.errors import ModelError
from .answer import Answer
from .bucket import Bucket
from .outputs import NotFinite, as_array
from .seams import Adapter, Output, Population

Make = Callable[[Population, Bucket], Sequence[Sequence[Output]]]

AGAIN = 2.0  # grey levels: the same call again runs the same arithmetic
SHARE = 0.1  # a batch of another shape changes last bits, and many steps amplify the change
ROUNDING = 1.0  # grey levels, on average
EPSILONS = {"float16": 2.0**-10, "bfloat16": 2.0**-7}  # from 1 to the next number; no model computes finer than float32
FLOAT32 = 2.0**-23

_proved: WeakValueDictionary[int, Adapter] = WeakValueDictionary()  # by identity: some adapters have no hash


def prove(adapter: Adapter, bucket: Bucket, make: Make) -> None:
    """Make the first output alone, then last in a batch, then alone again, and compare the three.

    The second time the output is last, because noise that a batch draws from one generator is right in the first row.
    The third time shows whether the neighbours changed the adapter's state; a backbone that says that it uses no seed
    is then given another one. The proof makes six outputs, once in the life of an adapter, and neither counts nor keeps
    them.

    Args:
        adapter: The backbone.
        bucket: Prompts and seeds; the first output is made three times, and the last prompt is the neighbour's.
        make: Makes the outputs of a population on a bucket, as `Adapter.generate` does.

    Raises:
        ModelError: If an output depends on anything but its candidate, prompt and seed.
    """
    if _proved.get(id(adapter)) is adapter:
        return
    space = adapter.space
    low, high = space.bounds
    neutral = space.defaults
    other = np.clip(neutral + space.searched * np.where(neutral < high, 1, -1) * space.spreads, low, high)
    alone = bucket.head(1)
    pair = Bucket((bucket.prompts[-1], alone.prompts[0]), (alone.seeds[0] ^ 1, alone.seeds[0]))
    first = make(neutral[None], alone)[0]
    beside = make(np.stack([other, neutral]), pair)[-1]
    other_seed = alone if adapter.uses_seed else Bucket(alone.prompts, (alone.seeds[0] ^ (2**31 - 1),))
    again = make(neutral[None], other_seed)[0]
    if len(first) != 1 or len(again) != 1 or len(beside) != 2:  # wrong counts are refused by `outputs.checked`
        return
    for output in (first[0], again[0], beside[1]):
        if isinstance(output, NotFinite):
            raise ModelError(output.why)
    computes = str(adapter.describe().get("dtype", ""))
    what = "candidate, prompt and seed" if adapter.uses_seed else "candidate and prompt"
    if differ(first[0], again[0], AGAIN, np.max, computes):
        raise ModelError(
            f"asked for the same {what} again, the backbone made another output, so that no score "
            f"could be believed; {_cause(adapter)}"
        )
    moved = _levels_apart(first[0], beside[0], np.mean)
    if differ(first[0], beside[1], ROUNDING + SHARE * moved, np.mean, computes):
        raise ModelError(
            f"beside another candidate and prompt the backbone made another output of the same {what}, "
            f"so that scores would depend on who shares a batch; {_cause(adapter)}, or set batch_size: 1"
        )
    _proved[id(adapter)] = adapter


def _cause(adapter: Adapter) -> str:
    scheduler = adapter.describe().get("scheduler")
    if isinstance(scheduler, dict) and "class" in scheduler:
        return (
            f"its scheduler {scheduler['class']} draws noise that no seed decides (another one draws none, or this one "
            f"with stochastic_sampling: false in scheduler/scheduler_config.json), or a dropout is switched on"
        )
    if not adapter.uses_seed:
        return "it says that it uses no seed: set uses_seed to True if it does, and switch dropout off"
    return "let every random number come from the output's own seed, and switch dropout off"


def differ(one: Output, other: Output, most: float, how: Any, computes: str = "") -> bool:
    """Return whether two outputs differ by more than rounding.

    Pictures may differ by some grey levels. Other numbers must agree in half the digits of their type: they may differ
    by the square root of the type's epsilon, in units of the largest number of their array. Whole numbers and texts
    must be equal; of `Answer`s see `Answer.differs`. Outputs that cannot be compared count as equal.

    Args:
        one: An output.
        other: Another output.
        most: The largest allowed difference of pictures, in grey levels.
        how: Reduces the differences of grey levels to one number: `np.max` or `np.mean`.
        computes: The dtype that the backbone computes in, if known, which may be coarser than its outputs' dtype.
    """
    if isinstance(one, Answer) and isinstance(other, Answer):
        return one.differs(other, float(np.sqrt(_epsilon(computes))))
    first, second = as_array(one), as_array(other)
    if first is not None and second is not None:
        if first.shape != second.shape:
            return True
        if first.dtype == np.uint8:
            return _levels_apart(one, other, how) > most
        if first.dtype.kind not in "fc":
            return not np.array_equal(first, second)
        finite = np.abs(first[np.isfinite(first)])
        allowed = np.sqrt(_epsilon(computes, one, other)) * float(finite.max(initial=0.0))
        return not np.allclose(first, second, rtol=0, atol=allowed, equal_nan=True)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() != other.keys() or any(differ(one[key], other[key], most, how, computes) for key in one)
    if _sequence(one) and _sequence(other):
        return len(one) != len(other) or any(
            differ(*pair, most, how, computes) for pair in zip(one, other, strict=True)
        )
    return not _equal(one, other)


def _epsilon(computes: str, *outputs: Output) -> float:
    """Return the largest epsilon of the dtypes in which numbers were computed or are stored."""
    dtypes = [computes, *map(_dtype, outputs)]
    return max(EPSILONS.get(dtype.removeprefix("torch."), FLOAT32) for dtype in dtypes)


def _dtype(output: Output) -> str:
    while isinstance(output, (list, tuple)) and output:
        output = output[0]
    return str(getattr(output, "dtype", ""))


def _levels_apart(one: Output, other: Output, how: Any) -> float:
    """Return the difference between two pictures in grey levels; 0 for other outputs."""
    first, second = as_array(one), as_array(other)
    if first is None or second is None or first.shape != second.shape or first.dtype != np.uint8:
        return 0.0
    return float(how(np.abs(first.astype(np.float64) - second.astype(np.float64))))


def _sequence(output: Output) -> bool:
    return isinstance(output, Sequence) and not isinstance(output, (str, bytes))


def _equal(one: Output, other: Output) -> bool:
    """Return whether outputs of an unknown type are equal; outputs that cannot be compared count as equal."""
    if "__eq__" not in {name for kind in type(one).__mro__[:-1] for name in vars(kind)}:
        return True
    try:
        return bool(one == other)
    except Exception:  # a stranger's class may fail in any way
        return True
