"""Looking at outputs before they are scored: a picture of nothing must not get a score that looks right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ground.errors import ModelError
from .bucket import Bucket
from .evaluation import POOL, Place
from .seams import Adapter, Output

NEUTRAL_STAGE = "baseline"
OWN_MEND = "narrow the bounds of its knobs, or let the adapter make something finite of every candidate"
MEND = "choose dtype: bfloat16 or float32, or vae_dtype: float32 if only decoding fails"


MAY_FAIL = ("search", "sensitivity")  # stages of which a candidate may be anything that the bounds allow


@dataclass(frozen=True)
class NotFinite:
    """In place of an output whose numbers are not finite.

    Attributes:
        instead: What such numbers would be shown as, a black picture: scored where a candidate may fail.
        why: What has happened, and what to change; completes a sentence.
    """

    instead: Output
    why: str


def checked(adapter: Adapter, outputs: Sequence[Output], bucket: Bucket, place: Place) -> list[Output]:
    """A candidate's outputs, looked at; refused if no score could be believed.

    A candidate of the search may make numbers that are not finite: what it made is a `NotFinite`. Where outputs are
    measured against, chosen or judged, the same is refused.

    Args:
        adapter: Who made them.
        outputs: A candidate's, one a prompt.
        bucket: The prompts and seeds.
        place: Whose they are, for a sentence.

    Raises:
        ModelError: If there are not as many as prompts, one is no picture where pictures are made, one holds numbers
            that are not finite, or the neutral model's are all alike.
    """
    if len(outputs) != len(bucket):
        raise ModelError(f"{place}: the adapter made {len(outputs)} outputs for {len(bucket)} prompts")
    made = [as_array(output) for output in outputs]
    looked_at = [_looked_at(adapter, output, array) for output, array in zip(outputs, made, strict=True)]
    for prompt, output in zip(bucket.prompts, looked_at, strict=True):
        if isinstance(output, NotFinite) and place.stage not in MAY_FAIL:
            raise ModelError(f"{place}: of prompt {prompt!r}, {output.why}")
    sound = shown(looked_at)
    arrays = [
        array if output is given else as_array(output)
        for output, given, array in zip(sound, outputs, made, strict=True)
    ]
    for array, output, prompt in zip(arrays, sound, bucket.prompts, strict=True):
        if adapter.makes and (array is None or array.ndim < 2 or not array.size):
            raise ModelError(
                f"{place}: the adapter says it makes {adapter.makes}s, and made a {type(output).__name__} of "
                f"prompt {prompt!r}"
            )
        if not _finite(output, array):
            raise ModelError(f"{place}: the output of prompt {prompt!r} holds numbers that are not finite; {OWN_MEND}")
    if adapter.makes and place.stage.removesuffix(POOL) == NEUTRAL_STAGE:
        _check_neutral([array for array in arrays if array is not None], bucket, place)
    return looked_at


def shown(outputs: Sequence[Output]) -> list[Output]:
    """Outputs as they are scored and kept."""
    return [output.instead if isinstance(output, NotFinite) else output for output in outputs]


def not_finite(outputs: Sequence[Output]) -> list[NotFinite]:
    """Those of them whose numbers are not finite."""
    return [output for output in outputs if isinstance(output, NotFinite)]


def _looked_at(adapter: Adapter, output: Output, array: NDArray[np.generic] | None) -> Output:
    """An output, or that it is not finite: of pictures it is known what such numbers would be shown as."""
    if not adapter.makes or isinstance(output, NotFinite):
        return output
    if array is None or _finite(output, array):
        return output
    return NotFinite(_zeros(output), f"the output holds numbers that are not finite; {MEND}")


def _zeros(output: Output) -> Output:
    """A black picture of the same type."""
    if isinstance(output, list):
        return [_zeros(frame) for frame in output]
    return output.new_zeros(output.shape) if hasattr(output, "new_zeros") else np.zeros_like(output)


def _finite(output: Output, array: NDArray[np.generic] | None) -> bool:
    """Whether every number of an output is finite, also of arrays that it holds by name or in a row."""
    if array is not None:
        return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, (list, tuple)) else ()
    return all(_finite(part, as_array(part)) for part in parts)


def _check_neutral(arrays: Sequence[NDArray[np.generic]], bucket: Bucket, place: Place) -> None:
    """Refuse a neutral model that draws nothing, or the same whatever it is asked."""
    if all(array.min() == array.max() for array in arrays):
        raise ModelError(f"{place}: every picture of the neutral model has a single colour; {MEND}")
    alike = all(array.shape == arrays[0].shape and np.array_equal(array, arrays[0]) for array in arrays)
    if len(set(bucket.prompts)) > 1 and alike:
        raise ModelError(
            f"{place}: the neutral model made the same picture of every prompt, such as {bucket.prompts[0]!r} and "
            f"{bucket.prompts[-1]!r}; check the checkpoint, or {MEND}"
        )


def as_array(output: Output) -> NDArray[np.generic] | None:
    """An output as numbers: pictures, lists of frames, arrays, tensors and numbers; None where it is none of these."""
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
