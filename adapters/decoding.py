"""Decoding of latents: a dtype for the autoencoder, and detection of numbers that are not finite."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..engine.outputs import NotFinite
from ..engine.seams import Output
from ..ground.errors import ModelError

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

BLACK = -1.0  # black for most autoencoders, and clipped to black if a picture's range begins at 0


def set_vae_dtype(pipe: Any, dtype: str | None) -> None:
    """Convert the autoencoder to its own dtype, and let its `decode` accept latents of any dtype.

    Args:
        pipe: The pipeline, before its weights are placed on a device or offloaded.
        dtype: The dtype, such as `float32`; None changes nothing.

    Raises:
        ModelError: If the pipeline has no autoencoder.
    """
    if dtype is None:
        return
    vae = getattr(pipe, "vae", None)
    if vae is None:
        raise ModelError(f"a {type(pipe).__name__} has no autoencoder, so leave out vae_dtype")
    vae.to(getattr(torch, dtype))
    decode = vae.decode

    @functools.wraps(decode)
    def in_own_dtype(z: Tensor, *args: Any, **kwargs: Any) -> Any:
        return decode(z.to(vae.dtype), *args, **kwargs)

    vae.decode = in_own_dtype


class Decoding:
    """A check of a pipeline's decoding, so that numbers that are not finite never pass for a picture.

    The inputs and results of `decode` are checked, for any class of autoencoder. If a pipeline has no autoencoder,
    because its transformer makes pixels, the inputs of its image processor are checked. A row with a number that is not
    finite is decoded as black and reported; other rows are not changed.

    Args:
        pipe: The pipeline.
    """

    def __init__(self, pipe: Any) -> None:
        self._kind = type(pipe).__name__
        self._calls: list[list[str | None]] = []
        self._wrapped: list[tuple[Any, str, Any]] = []
        self._hooks: list[RemovableHandle] = []
        latents = _another(_dtype_of(pipe.transformer), "dtype")
        decoders = {name: part for name, part in pipe.components.items() if _decodes(name, part)}
        for name, part in decoders.items():
            if isinstance(getattr(part, "decoder", None), nn.Module):
                self._hooks.append(part.decoder.register_forward_hook(_keep_infinite))
            self._wrap(part, "decode", latents, _another(_dtype_of(part), "vae_dtype" if name == "vae" else "dtype"))
        if not decoders:
            for name, method in (("image_processor", "postprocess"), ("video_processor", "postprocess_video")):
                if hasattr(getattr(pipe, name, None), method):
                    self._wrap(getattr(pipe, name), method, latents, "")

    @property
    def looks_at(self) -> int:
        """The number of functions that are checked."""
        return len(self._wrapped)

    def begin(self) -> None:
        """Forget the findings from an earlier call of the pipeline."""
        self._calls = []

    def settle(self, outputs: Sequence[Output]) -> list[Output]:
        """Replace each output of a call that had numbers that are not finite by a `NotFinite`.

        Args:
            outputs: Images, or videos as lists of images, one per row.

        Raises:
            ModelError: If there were such numbers, but the outputs that had them cannot be identified.
        """
        settled = list(outputs)
        found = self._found(len(settled))
        if not any(found):
            return settled
        shown = [rows for rows in found if all(_shows_black(settled[row]) for row in rows)]
        if not shown:  # rows were decoded in another order, or drawn over
            why = next(iter(found[0].values()))
            raise ModelError(f"{why}; which output this concerns cannot be told of a {self._kind}: set batch_size: 1")
        for row, why in max(shown, key=len).items():
            settled[row] = NotFinite(_black(settled[row]), why)
        return settled

    def remove(self) -> None:
        """Stop checking, and restore the checked functions."""
        for owner, name, own in self._wrapped:
            delattr(owner, name)
            if own is not None:
                setattr(owner, name, own)
        self._wrapped = []

    def _found(self, num_rows: int) -> list[dict[int, str]]:
        """Return the rows with numbers that are not finite and the reasons, for each possible order of decoding.

        Each call decodes some of the rows, or a part of all rows; a row may consist of several consecutive frames.
        """
        calls = self._calls
        orders = [[[why for call in calls for why in call]]]
        if all(len(call) % num_rows == 0 for call in calls):
            orders.append(calls)
        return [
            {
                min(at * num_rows // len(call), num_rows - 1): why
                for call in order
                for at, why in enumerate(call)
                if why is not None
            }
            for order in orders
        ]

    def _wrap(self, owner: Any, name: str, latents: str, decoded: str) -> None:
        given = getattr(owner, name)
        before = (
            "latents came out of the transformer as numbers that are not finite, so that their pictures would be "
            f"black; {latents}, or narrow the bounds low and high"
        )
        after = (
            "the autoencoder decoded latents to numbers that are not finite, so that their pictures would be black; "
            f"{decoded}"
        )

        @functools.wraps(given)
        def looking(first: Any, *args: Any, **kwargs: Any) -> Any:
            bad = _not_finite(first)
            if bad:
                first = first.clone()
                first[bad] = BLACK
            made = given(first, *args, **kwargs)
            worse = [] if isinstance(made, list) else _not_finite(made[0])
            if not isinstance(made, list) and (bad or worse):
                made[0][sorted({*bad, *worse})] = BLACK
            reasons = {**dict.fromkeys(worse, after), **dict.fromkeys(bad, before)}
            self._calls.append([reasons.get(row) for row in range(len(first))])
            return made

        self._wrapped.append((owner, name, vars(owner).get(name)))
        setattr(owner, name, looking)


def _decodes(name: str, part: Any) -> bool:
    """Return whether a component decodes pictures; decoders of sound do not count."""
    return isinstance(part, nn.Module) and hasattr(part, "decode") and not name.startswith(("audio", "sound"))


def _dtype_of(model: nn.Module) -> str:
    dtype = getattr(model, "dtype", None) or next((each.dtype for each in model.parameters()), torch.float32)
    return str(dtype).removeprefix("torch.")


def _another(dtype: str, option: str) -> str:
    wider = "float32" if dtype == "bfloat16" or option == "vae_dtype" else "bfloat16 or float32"
    return (
        f"check the checkpoint, {dtype} is wide enough" if dtype == "float32" else f"set {option}: {wider}, not {dtype}"
    )


def _not_finite(values: Any) -> list[int]:
    """Return the rows of a tensor, along its first axis, that hold a number that is not finite."""
    if not isinstance(values, Tensor) or not values.is_floating_point() or _surely_finite(values):
        return []
    return [row for row in range(len(values)) if not bool(torch.isfinite(values[row]).all())]


def _surely_finite(values: Tensor) -> bool:
    """Return whether the sum of all numbers is finite: one pass without a copy. False if only the sum overflows."""
    return math.isfinite(values.sum())


def _keep_infinite(_module: nn.Module, _args: Any, decoded: Any) -> Any:
    """Replace infinite numbers by NaN, because some autoencoders clamp their results."""
    if isinstance(decoded, Tensor) and decoded.is_floating_point() and not _surely_finite(decoded):
        return decoded.masked_fill(torch.isinf(decoded), torch.nan)
    return decoded


def _black(output: Any) -> Any:
    """Return a black picture, or a video of black pictures, of the same size."""
    return list(map(_black, output)) if isinstance(output, list) else Image.new(output.mode, output.size)


def _shows_black(output: Any) -> bool:
    """Return whether a picture, or any picture of a video, is black."""
    if isinstance(output, list):
        return any(map(_shows_black, output))
    return isinstance(output, Image.Image) and not any(output.convert("RGB").tobytes())
