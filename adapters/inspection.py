"""Check a loaded pipeline against the options it was loaded with.

Libraries drop arguments, cast weights and skip steps silently. These checks verify that a pipeline uses the components
it was given, in the requested dtype, and quantized if that was requested.
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
    """Refuse a pipeline that differs from the requested one.

    Args:
        pipe: The pipeline, before any component is moved to a device.
        given: The components that the pipeline was given, by name; None for those left out.
        loading: The requested options.

    Raises:
        ModelError: If a component was replaced, has another dtype, or is not quantized as requested.
    """
    from torch import nn

    kind = type(pipe).__name__
    for name, component in given.items():
        if getattr(pipe, name, None) is not component:
            raise ModelError(
                f"a {kind} does not use the {name} that it is given; use a checkpoint that contains that {name}"
            )
    for name, component in pipe.components.items():
        if isinstance(component, nn.Module):
            check_dtypes(name, component, dtype_of(name, loading))
    for name in QUANTIZED if loading.quantization else ():
        component = getattr(pipe, name, None)
        if component is not None and not quantized(component):
            raise ModelError(f"quantization: {loading.quantization} left the {name} as it was; choose another, or none")


def dtype_of(name: str, loading: Loading) -> Dtype:
    """Return the requested dtype of a component's weights."""
    return (loading.vae_dtype if name == "vae" else None) or loading.dtype


def quantized(model: Any) -> list[str]:
    """Return the names of a model's quantized weights."""
    from torch import Tensor

    return [
        name
        for name, value in model.named_parameters()
        if type(value.data) is not Tensor or hasattr(value, "quant_type") or not value.is_floating_point()
    ]


def check_dtypes(name: str, model: Any, asked: Dtype) -> None:
    """Check that each weight has the requested dtype, is quantized, or is kept in float32 by its class.

    Args:
        name: The model's name for the error message.
        model: The model.
        asked: The requested dtype.

    Raises:
        ModelError: If a weight has another dtype.
    """
    import torch

    wanted = getattr(torch, asked)
    skipped = set(quantized(model))
    keep = (*(getattr(model, "_keep_in_fp32_modules", None) or ()),)
    keep += (*(getattr(model, "_keep_in_fp32_modules_strict", None) or ()),)
    for weight, value in model.named_parameters():
        kept = value.dtype == torch.float32 and any(part in weight for part in keep)
        if weight not in skipped and value.dtype != wanted and not kept:
            raise ModelError(
                f"the {name} was loaded as {str(value.dtype).removeprefix('torch.')} although {asked} was asked "
                f"for (first {weight}); choose another dtype"
            )


def pictures_taken(kind: Any) -> list[str]:
    """Return the picture arguments of a pipeline's call, such as `image`; empty if it takes prompts alone."""
    taken = signatures.signature(kind.__call__).parameters
    return [name for name in ("image", "images", "control_image", "control_video", "video") if name in taken]
