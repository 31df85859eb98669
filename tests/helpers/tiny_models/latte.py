"""A tiny Latte."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from .parts import image_vae, letter_tokenizer, shake, t5


def tiny_latte(folder: Path) -> Path:
    """Save a tiny LattePipeline: videos, whose frames and then whose places are folded into the batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optional packages that nothing here needs
        from diffusers import DDIMScheduler, LattePipeline, LatteTransformer3DModel
    torch.manual_seed(0)
    tokenizer = letter_tokenizer()
    transformer = LatteTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=4,
        patch_size=2,
        video_length=3,
        cross_attention_dim=16,
        caption_channels=32,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
    )
    shake(transformer)
    pipe = LattePipeline(
        tokenizer=tokenizer,
        text_encoder=t5(tokenizer),
        vae=image_vae(),
        transformer=transformer,
        scheduler=DDIMScheduler(),
    )
    pipe.save_pretrained(folder)
    return folder
