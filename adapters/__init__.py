"""Backbones: find a model's sites, scale their outputs, generate images."""

from __future__ import annotations

from ..engine.hooks import Register, hookimpl
from .factories import NAMED, make_diffusers, make_flow_grpo, make_flux, make_qwen_image, make_sd3, make_shapes

__all__ = ["make_diffusers", "make_flow_grpo", "make_flux", "make_qwen_image", "make_sd3", "make_shapes"]


@hookimpl
def register_adapters(register: Register) -> None:
    """Register the built-in backbones by name."""
    for name, (factory, _) in NAMED.items():
        register(name, factory)
