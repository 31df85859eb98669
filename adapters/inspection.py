"""After loading: is what runs what was asked for?

Libraries drop arguments, cast and skip in silence. So a pipeline is looked at once it stands: its components are the
very ones it was given, in the dtype asked for, and quantized where that was asked for.
"""

from __future__ import annotations

import inspect as signatures
from collections.abc import Mapping
from typing import Any

from ..ground.errors import ModelError
from .loading import Dtype, Loading
from .sites import SECOND

QUANTIZED = ("transformer", SECOND)  # the components that `quantization` is for


def inspect(pipe: Any, given: Mapping[str, Any], loading: Loading) -> None:
    """Refuse a pipeline that is not what was asked for.

    Args:
        pipe: The pipeline, before anything of it is moved.
        given: The components it was given, by name; None for those left out.
        loading: What was asked for.

    Raises:
        ModelError: If a component is another, of another dtype, or not quantized as asked.
    """
    from torch import nn

    kind = type(pipe).__name__
    for name, component in given.items():
        if getattr(pipe, name, None) is not component:
            raise ModelError(
                f"a {kind} does not use the {name} that it is given; use a checkpoint whose {name} is its own"
            )
    for name, component in pipe.components.items():
        if isinstance(component, nn.Module):
            _check_dtypes(name, component, loading)
    for name in QUANTIZED if loading.quantization else ():
        component = getattr(pipe, name, None)
        if component is not None and not quantized(component):
            raise ModelError(f"quantization: {loading.quantization} left the {name} as it was; choose another, or none")


def dtype_of(name: str, loading: Loading) -> Dtype:
    """The dtype that was asked for a component's weights."""
    return (loading.vae_dtype if name == "vae" else None) or loading.dtype


def quantized(model: Any) -> list[str]:
    """Names of a model's weights that are quantized."""
    from torch import Tensor

    return [
        name
        for name, value in model.named_parameters()
        if type(value.data) is not Tensor or hasattr(value, "quant_type") or not value.is_floating_point()
    ]


def _check_dtypes(name: str, model: Any, loading: Loading) -> None:
    """Every weight has the dtype asked for, or is quantized, or is one that its class keeps in float32."""
    import torch

    asked = dtype_of(name, loading)
    wanted = getattr(torch, asked)
    skipped = set(quantized(model))
    keep = (*(getattr(model, "_keep_in_fp32_modules", None) or ()),)
    keep += (*(getattr(model, "_keep_in_fp32_modules_strict", None) or ()),)
    for weight, value in model.named_parameters():
        kept = value.dtype == torch.float32 and any(part in weight for part in keep)
        if weight not in skipped and value.dtype != wanted and not kept:
            raise ModelError(
                f"the {name} was loaded as {str(value.dtype).removeprefix('torch.')} where {asked} was asked "
                f"for (first {weight}); choose another dtype"
            )


def pictures_taken(kind: Any) -> list[str]:
    """What a pipeline's call takes of pictures, such as `image`; nothing for one that works on prompts alone."""
    taken = signatures.signature(kind.__call__).parameters
    return [name for name in ("image", "images", "control_image", "control_video", "video") if name in taken]
