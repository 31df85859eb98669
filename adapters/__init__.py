"""Backbones: which sites a model has, how scales reach them, how images are made."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..engine.hooks import Register, hookimpl
from ..engine.seams import Adapter
from .checkpoints import Dtype, load_pipeline, own_settings, shipped
from .sites import Granularity


def make_sd3(
    *,
    model: str = "stabilityai/stable-diffusion-3.5-medium",
    revision: str | None = None,
    dtype: Dtype = "bfloat16",
    device: str | None = None,
    granularity: Granularity = "gate",
    num_inference_steps: Annotated[int, Field(ge=1)] | None = None,
    guidance_scale: float | None = None,
    guidance_grid: tuple[float, ...] | None = None,
    tie_members: bool = False,
    height: Annotated[int, Field(ge=1)] | None = None,
    width: Annotated[int, Field(ge=1)] | None = None,
    max_sequence_length: Annotated[int, Field(ge=0)] | None = None,
    batch_size: Annotated[int, Field(ge=1)] = 16,
    low: float = -1.0,
    high: float = 2.0,
) -> Adapter:
    """Stable Diffusion 3 and 3.5, medium and large.

    What is left out is taken from the checkpoint's own `trimpot.json` if it has one, and otherwise from the
    published protocol: 15 steps at 512 pixels, guidance 4.5.
    """
    from .diffusion import DiffusionAdapter

    pipe, source = load_pipeline("StableDiffusion3Pipeline", model, revision=revision, dtype=dtype, device=device)
    published = {
        "num_inference_steps": 15,
        "guidance_scale": 4.5,
        "guidance_grid": (3.0, 4.5, 6.0, 7.5),
        "height": 512,
        "width": 512,
    }
    chosen = {
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "guidance_grid": guidance_grid,
        "height": height,
        "width": width,
        "max_sequence_length": max_sequence_length,
    }
    given = {key: value for key, value in chosen.items() if value is not None}
    return DiffusionAdapter(
        pipe,
        source,
        granularity=granularity,
        tie_members=tie_members,
        batch_size=batch_size,
        low=low,
        high=high,
        **{**published, **own_settings(model), **given},
    )


def make_shapes(
    *,
    granularity: Granularity = "block",
    num_inference_steps: Annotated[int, Field(ge=1)] | None = None,
    guidance_scale: float | None = None,
    guidance_grid: tuple[float, ...] | None = None,
    tie_members: bool = False,
    batch_size: Annotated[int, Field(ge=1)] = 256,
    low: float = -1.0,
    high: float = 2.0,
) -> Adapter:
    """The tiny text-to-image transformer shipped with trimpot: the sd3 adapter on a checkpoint of its own."""
    return make_sd3(
        model=str(shipped("shapes")),
        dtype="float32",
        device="cpu",
        granularity=granularity,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        guidance_grid=guidance_grid,
        tie_members=tie_members,
        batch_size=batch_size,
        low=low,
        high=high,
    )


@hookimpl
def register_adapters(register: Register) -> None:
    """Name the built-in backbones."""
    register("sd3", make_sd3)
    register("shapes", make_shapes)
