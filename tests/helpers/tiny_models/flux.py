"""A tiny FLUX.1."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from .parts import byte_tokenizer, clip, image_vae, letter_tokenizer, shake, t5


def tiny_flux(folder: Path, *, guidance: bool = True) -> Path:
    """Save a tiny FluxPipeline of two double and two single blocks, guidance-distilled as dev is, or not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optional packages that nothing here needs
        from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    torch.manual_seed(0)
    bytes_, letters = byte_tokenizer(), letter_tokenizer()
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        guidance_embeds=guidance,
        axes_dims_rope=(2, 2, 4),
    )
    shake(transformer)
    pipe = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        vae=image_vae(),
        text_encoder=clip("CLIPTextModel", bytes_),
        tokenizer=bytes_,
        text_encoder_2=t5(letters),
        tokenizer_2=letters,
        transformer=transformer,
    )
    pipe.save_pretrained(folder)
    (folder / "trimpot.json").write_text('{"height": 16, "width": 16, "max_sequence_length": 16}')
    return folder
