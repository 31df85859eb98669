"""Looking at outputs before they are scored: a picture of nothing must not get a score that looks right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .bucket import Bucket
from .errors import ModelError
from .evaluation import POOL, Place
from .seams import Adapter, Output

NEUTRAL_STAGE = "baseline"
MEND = "choose dtype: bfloat16 or float32, or vae_dtype: float32 if only decoding fails"


def check_outputs(adapter: Adapter, outputs: Sequence[Output], bucket: Bucket, place: Place) -> None:
    """Refuse outputs that no score could be believed of.

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
    arrays = [as_array(output) for output in outputs]
    for array, output, prompt in zip(arrays, outputs, bucket.prompts, strict=True):
        if adapter.makes and (array is None or array.ndim < 2 or not array.size):
            raise ModelError(
                f"{place}: the adapter says it makes {adapter.makes}s, and made a {type(output).__name__} of "
                f"prompt {prompt!r}"
            )
        if array is not None and array.dtype.kind == "f" and not np.isfinite(array).all():
            mend = MEND if adapter.makes else "let the adapter refuse what it cannot make"
            raise ModelError(f"{place}: the output of prompt {prompt!r} holds numbers that are not finite; {mend}")
    if adapter.makes and place.stage.removesuffix(POOL) == NEUTRAL_STAGE:
        _check_neutral([array for array in arrays if array is not None], bucket, place)


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
        output = output.detach().cpu().float().numpy()
    try:
        array = np.stack([np.asarray(each) for each in output]) if isinstance(output, list) else np.asarray(output)
    except (TypeError, ValueError):  # frames of unlike size, or no numbers at all
        return None
    return array if array.dtype.kind in "biuf" else None
