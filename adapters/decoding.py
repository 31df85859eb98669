"""What becomes of latents: the autoencoder's own dtype, and no black picture of numbers that are none."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..engine.errors import ModelError

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.hooks import RemovableHandle


def set_vae_dtype(pipe: Any, dtype: str | None) -> None:
    """Give the autoencoder a dtype of its own, and have it take latents of any other.

    Args:
        pipe: The pipeline, before its weights are placed on a device or offloaded.
        dtype: Such as `float32`; None leaves it as the rest.

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


def refuse_not_finite(pipe: Any) -> list[RemovableHandle]:
    """Have decoding refuse numbers that are not finite, which would come out as black pictures with a score.

    Returns:
        Handles that take the checks off again; none where there is no autoencoder.
    """
    decoder = getattr(getattr(pipe, "vae", None), "decoder", None)
    if decoder is None:
        return []
    dtypes = {name: str(getattr(pipe, name).dtype).removeprefix("torch.") for name in ("transformer", "vae")}

    def before(_module: nn.Module, args: tuple[Any, ...]) -> None:
        if not _finite(args):
            raise ModelError(
                f"latents came out of the transformer as numbers that are not finite, so that their pictures would be "
                f"black; {_another(dtypes['transformer'], 'dtype')}, or narrow the bounds low and high"
            )

    def after(_module: nn.Module, _args: Any, decoded: Any) -> None:
        if not _finite(decoded):
            raise ModelError(
                f"the autoencoder decoded latents to numbers that are not finite, so that their pictures would be "
                f"black; {_another(dtypes['vae'], 'vae_dtype')}"
            )

    return [decoder.register_forward_pre_hook(before), decoder.register_forward_hook(after)]


def _another(dtype: str, option: str) -> str:
    wider = "float32" if dtype == "bfloat16" or option == "vae_dtype" else "bfloat16 or float32"
    return (
        f"check the checkpoint, {dtype} is wide enough" if dtype == "float32" else f"set {option}: {wider}, not {dtype}"
    )


def _finite(values: Any) -> bool:
    """Whether every number of tensors, wherever they are nested, is finite."""
    if isinstance(values, Tensor):
        return not values.is_floating_point() or bool(torch.isfinite(values).all())
    if isinstance(values, (list, tuple)):
        return all(map(_finite, values))
    return True
