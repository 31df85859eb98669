"""A tiny Stable Diffusion 3."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from .parts import byte_tokenizer, clip, image_vae, shake


def tiny_sd3(folder: Path, *, num_layers: int = 3, dtype: torch.dtype = torch.float32) -> Path:
    """Save a tiny StableDiffusion3Pipeline with dual attention in its first block; its gates matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optional packages that nothing here needs
        from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    transformer = tiny_sd3_transformer(num_layers)
    vae = image_vae()
    pipe = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=clip("CLIPTextModelWithProjection", tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=clip("CLIPTextModelWithProjection", tokenizer),
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    pipe.to(dtype).save_pretrained(folder)
    (folder / "trimpot.json").write_text('{"height": 16, "width": 16, "max_sequence_length": 4}')
    return folder


def tiny_sd3_transformer(num_layers: int = 3) -> nn.Module:
    """A tiny SD3Transformer2DModel with dual attention in its first block; its gates matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import SD3Transformer2DModel
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=4,
        patch_size=2,
        in_channels=4,
        num_layers=num_layers,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        out_channels=4,
        pos_embed_max_size=4,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    shake(transformer)
    return transformer
