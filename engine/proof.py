"""Proof that an output depends on its candidate, prompt and seed alone, before a run spends anything on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from .bucket import Bucket
from .errors import ModelError
from .outputs import as_array
from .seams import Adapter, Output, Population

Make = Callable[[Population, Bucket], Sequence[Sequence[Output]]]

AGAIN = 2.0  # grey levels: the same call again runs the same arithmetic
SHARE = 0.1  # beside others a batch has another shape, which moves last bits, and many steps make more of them
ROUNDING = 1.0  # grey levels, on average

_proved: WeakValueDictionary[int, Adapter] = WeakValueDictionary()  # by identity: some adapters have no hash


def prove(adapter: Adapter, bucket: Bucket, make: Make) -> None:
    """Make the first output alone, then last beside neighbours, then alone again, and compare them.

    Last, since noise that a whole batch draws from one generator is right in its first row; and alone again at the end,
    in case the neighbours leave something behind. Six outputs are made, once for the life of an adapter, and are
    neither counted nor kept.

    Args:
        adapter: The backbone.
        bucket: Prompts and seeds; its first is made again, and its last prompt is the neighbour's.
        make: Makes the outputs of a population on a bucket, as `Adapter.generate` does.

    Raises:
        ModelError: If an output depends on something else than its candidate, prompt and seed.
    """
    if _proved.get(id(adapter)) is adapter:
        return
    space = adapter.space
    low, high = space.bounds
    neutral = space.defaults
    other = np.clip(neutral + np.where(neutral < high, 1, -1) * space.spreads, low, high)
    alone = bucket.head(1)
    pair = Bucket((bucket.prompts[-1], alone.prompts[0]), (alone.seeds[0] ^ 1, alone.seeds[0]))
    first = make(neutral[None], alone)[0]
    beside = make(np.stack([other, neutral]), pair)[-1]
    again = make(neutral[None], alone)[0]
    if len(first) != 1 or len(again) != 1 or len(beside) != 2:  # miscounted: refused as soon as outputs are looked at
        return
    if _differ(first[0], again[0], AGAIN, np.max):
        raise ModelError(
            f"asked for the same candidate, prompt and seed again, the backbone made another output, so that no score "
            f"could be believed; {_cause(adapter)}"
        )
    if _differ(first[0], beside[1], ROUNDING + SHARE * _distance(first[0], beside[0], np.mean), np.mean):
        raise ModelError(
            f"beside another candidate and prompt the backbone made another output of the same candidate, prompt and "
            f"seed, so that scores would depend on who shares a batch; {_cause(adapter)}, or set batch_size: 1"
        )
    _proved[id(adapter)] = adapter


def _cause(adapter: Adapter) -> str:
    scheduler = adapter.describe().get("scheduler")
    if isinstance(scheduler, dict) and "class" in scheduler:
        return (
            f"its scheduler {scheduler['class']} draws noise that no seed decides (another one draws none, or this one "
            f"with stochastic_sampling: false in scheduler/scheduler_config.json), or a dropout is switched on"
        )
    return "let every random number come from the output's own seed, and switch dropout off"


def _differ(one: Output, other: Output, most: float, how: Any) -> bool:
    """Whether pictures differ by more than so many grey levels, and other outputs by more than rounding."""
    first, second = as_array(one), as_array(other)
    if first is None or second is None:
        return not _equal(one, other)
    if first.shape != second.shape:
        return True
    if first.dtype == np.uint8:
        return _distance(one, other, how) > most
    return not np.allclose(first, second, rtol=1e-3, atol=1e-6, equal_nan=True)


def _distance(one: Output, other: Output, how: Any) -> float:
    first, second = as_array(one), as_array(other)
    if first is None or second is None or first.shape != second.shape or first.dtype != np.uint8:
        return 0.0
    return float(how(np.abs(first.astype(np.float64) - second.astype(np.float64))))


def _equal(one: Output, other: Output) -> bool:
    """Whether outputs of an unknown kind are equal; those that cannot be compared are taken for equal."""
    if isinstance(one, Sequence) and isinstance(other, Sequence) and not isinstance(one, (str, bytes)):
        return len(one) == len(other) and all(_equal(*pair) for pair in zip(one, other, strict=True))
    if "__eq__" not in {name for kind in type(one).__mro__[:-1] for name in vars(kind)}:
        return True
    try:
        return bool(one == other)
    except (TypeError, ValueError):
        return True
