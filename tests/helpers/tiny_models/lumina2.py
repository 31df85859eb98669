"""A tiny Lumina Image 2."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from .parts import image_vae, language_model, piece_tokenizer, shake


def tiny_lumina2(folder: Path) -> Path:
    """Save a tiny Lumina2Pipeline: images, a pass for each side of guidance, lengths of text told by masks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optional packages that nothing here needs
        from diffusers import FlowMatchEulerDiscreteScheduler, Lumina2Pipeline, Lumina2Transformer2DModel
    torch.manual_seed(0)
    tokenizer = piece_tokenizer("Gemma")
    transformer = Lumina2Transformer2DModel(
        sample_size=4,
        in_channels=4,
        hidden_size=24,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=3,
        num_kv_heads=1,
        multiple_of=2,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(128, 16, 16),
        cap_feat_dim=32,
    )
    shake(transformer)
    pipe = Lumina2Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=image_vae(4),
        text_encoder=language_model("Gemma2", tokenizer),
        tokenizer=tokenizer,
    )
    pipe.save_pretrained(folder)
    return folder
