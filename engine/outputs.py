"""Checking outputs before they are scored, so that an invalid picture never gets a plausible score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ground.errors import ModelError
from ..ground.plain import quoted
from .answer import Answer
from .bucket import Bucket
from .evaluation import POOL, Place
from .seams import Adapter, Output

NEUTRAL_STAGE = "baseline"
OWN_MEND = "narrow the bounds of its knobs, or let the adapter make something finite of every candidate"
MEND = "choose dtype: bfloat16 or float32, or vae_dtype: float32 if only decoding fails"
TEXT_MEND = "choose dtype: float32, or narrow the bounds low and high"


PICTURES = ("image", "video")  # media of which a neutral model that always makes the same is broken
MAY_FAIL = ("search", "sensitivity")  # stages whose candidates may lie anywhere within the bounds


@dataclass(frozen=True)
class NotFinite:
    """Replaces an output whose numbers are not finite.

    Attributes:
        instead: A black picture or an empty answer, which is scored in the stages in which a candidate may fail.
        why: The fault and its remedy, as the rest of a sentence.
    """

    instead: Output
    why: str


def checked(adapter: Adapter, outputs: Sequence[Output], bucket: Bucket, place: Place) -> list[Output]:
    """Check a candidate's outputs, and refuse outputs whose scores could not be believed.

    In the stages of `MAY_FAIL`, an output whose numbers are not finite becomes a `NotFinite`. In the other stages,
    which compare or choose settings, it is refused.

    Args:
        adapter: The adapter that made the outputs.
        outputs: The candidate's outputs, one a prompt.
        bucket: The prompts and seeds.
        place: The candidate's place, for an error message.

    Returns:
        The outputs, each possibly replaced by a `NotFinite`.

    Raises:
        ModelError: If the number of outputs is wrong, an output is not what the adapter says it makes, an output
            holds numbers that are not finite, or all outputs of the neutral model are alike.
    """
    if len(outputs) != len(bucket):
        raise ModelError(f"{place}: the adapter made {len(outputs)} outputs for {len(bucket)} prompts")
    made = [as_array(output) for output in outputs]
    looked_at = [_looked_at(adapter, output, array) for output, array in zip(outputs, made, strict=True)]
    for prompt, output in zip(bucket.prompts, looked_at, strict=True):
        if isinstance(output, NotFinite) and place.stage not in MAY_FAIL:
            raise ModelError(f"{place}: of prompt {quoted(prompt)}, {output.why}")
    sound = shown(looked_at)
    arrays = [
        array if output is given else as_array(output)
        for output, given, array in zip(sound, outputs, made, strict=True)
    ]
    for array, output, prompt in zip(arrays, sound, bucket.prompts, strict=True):
        if not _is_made(adapter, output, array):
            raise ModelError(
                f"{place}: the adapter says it makes {adapter.makes}s, and made a {type(output).__name__} of "
                f"prompt {quoted(prompt)}"
            )
        if not _finite(output, array):
            raise ModelError(
                f"{place}: the output of prompt {quoted(prompt)} holds numbers that are not finite; {OWN_MEND}"
            )
    if adapter.makes in PICTURES and place.stage.removesuffix(POOL) == NEUTRAL_STAGE:
        _check_neutral([array for array in arrays if array is not None], bucket, place)
    return looked_at


def shown(outputs: Sequence[Output]) -> list[Output]:
    """Return outputs as they are scored and kept: a black picture or an empty answer in place of each `NotFinite`."""
    return [output.instead if isinstance(output, NotFinite) else output for output in outputs]


def not_finite(outputs: Sequence[Output]) -> list[NotFinite]:
    """Return the outputs that are `NotFinite`."""
    return [output for output in outputs if isinstance(output, NotFinite)]


def _looked_at(adapter: Adapter, output: Output, array: NDArray[np.generic] | None) -> Output:
    """Return an output, or a `NotFinite` if it is a picture or an answer whose numbers are not finite."""
    if not adapter.makes or isinstance(output, NotFinite):
        return output
    if isinstance(output, Answer):
        why = f"the model's numbers are not finite, so that it has no answer; {TEXT_MEND}"
        return output if output.finite else NotFinite(output.failed(), why)
    if array is None or _finite(output, array):
        return output
    return NotFinite(_zeros(output), f"the output holds numbers that are not finite; {MEND}")


def _is_made(adapter: Adapter, output: Output, array: NDArray[np.generic] | None) -> bool:
    """Return whether an output is what the adapter says it makes."""
    if adapter.makes == "text":
        return isinstance(output, (str, Answer))
    return adapter.makes is None or (array is not None and array.ndim >= 2 and bool(array.size))


def _zeros(output: Output) -> Output:
    """Return a black picture of the same type."""
    if isinstance(output, list):
        return [_zeros(frame) for frame in output]
    return output.new_zeros(output.shape) if hasattr(output, "new_zeros") else np.zeros_like(output)


def _finite(output: Output, array: NDArray[np.generic] | None) -> bool:
    """Return whether every number of an output is finite, including arrays inside mappings and lists."""
    if array is not None:
        return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, (list, tuple)) else ()
    return all(_finite(part, as_array(part)) for part in parts)


def _check_neutral(arrays: Sequence[NDArray[np.generic]], bucket: Bucket, place: Place) -> None:
    """Refuse a neutral model whose pictures have a single colour, or are the same for every prompt."""
    if all(array.min() == array.max() for array in arrays):
        raise ModelError(f"{place}: every picture of the neutral model has a single colour; {MEND}")
    alike = all(array.shape == arrays[0].shape and np.array_equal(array, arrays[0]) for array in arrays)
    if len(set(bucket.prompts)) > 1 and alike:
        raise ModelError(
            f"{place}: the neutral model made the same picture of every prompt, such as "
            f"{quoted(bucket.prompts[0])} and {quoted(bucket.prompts[-1])}; check the checkpoint, or {MEND}"
        )


def as_array(output: Output) -> NDArray[np.generic] | None:
    """Convert a picture, list of frames, array, tensor or number to an array; return None for any other output."""
    if isinstance(output, (str, bytes)) or output is None:
        return None
    if hasattr(output, "detach"):  # a tensor, on whatever device
        output = output.detach().cpu()
        output = (output.float() if "bfloat16" in str(output.dtype) else output).numpy()
    try:
        array = np.stack([_part(each) for each in output]) if isinstance(output, list) else np.asarray(output)
    except (TypeError, ValueError):  # frames of unlike size, or no numbers at all
        return None
    return array if array.dtype.kind in "biufc" else None


def _part(output: Output) -> NDArray[np.generic]:
    array = as_array(output)
    if array is None:
        raise TypeError("no numbers")
    return array
