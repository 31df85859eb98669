"""Backbones: find a model's sites, scale their outputs, generate images."""

from __future__ import annotations

from ..engine.hooks import Register, hookimpl
from .factories import make_diffusers, make_flow_grpo, make_flux, make_qwen_image, make_sd3, make_shapes

__all__ = ["make_diffusers", "make_flow_grpo", "make_flux", "make_qwen_image", "make_sd3", "make_shapes"]


@hookimpl
def register_adapters(register: Register) -> None:
    """Register the built-in backbones by name."""
    register("diffusers", make_diffusers)
    register("flow-grpo", make_flow_grpo)
    register("flux", make_flux)
    register("qwen-image", make_qwen_image)
    register("sd3", make_sd3)
    register("shapes", make_shapes)
