"""A tiny PixArt-Sigma."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from .parts import image_vae, letter_tokenizer, shake, t5


def tiny_pixart(folder: Path) -> Path:
    """Save a tiny PixArtSigmaPipeline: images, both sides of guidance in one forward pass, inputs by position."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optional packages that nothing here needs
        from diffusers import DDIMScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel
    torch.manual_seed(0)
    tokenizer = letter_tokenizer()
    transformer = PixArtTransformer2DModel(
        sample_size=4,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=16,
        caption_channels=32,
        use_additional_conditions=False,
    )
    shake(transformer)
    pipe = PixArtSigmaPipeline(
        tokenizer=tokenizer,
        text_encoder=t5(tokenizer),
        vae=image_vae(),
        transformer=transformer,
        scheduler=DDIMScheduler(),
    )
    pipe.save_pretrained(folder)
    return folder
