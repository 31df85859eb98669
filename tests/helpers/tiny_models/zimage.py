"""A tiny Z-Image."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from .parts import chat_tokenizer, image_vae, language_model, shake


def tiny_zimage(folder: Path) -> Path:
    """Save a tiny ZImagePipeline: images, rows as the items of lists, prompts of many lengths."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optional packages that nothing here needs
        from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
    torch.manual_seed(0)
    tokenizer = chat_tokenizer()
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=16,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=1,
        n_kv_heads=1,
        cap_feat_dim=32,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    shake(transformer)
    pipe = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=image_vae(),
        text_encoder=language_model("Qwen3", tokenizer),
        tokenizer=tokenizer,
        transformer=transformer,
    )
    pipe.save_pretrained(folder)
    return folder
