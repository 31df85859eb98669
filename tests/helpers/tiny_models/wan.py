"""A tiny Wan."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from .parts import letter_tokenizer, shake, t5


def tiny_wan22(folder: Path) -> Path:
    """Save a tiny WanPipeline with a second transformer, for the last steps."""
    return tiny_wan(folder, two=True)


def tiny_wan(folder: Path, *, two: bool = False) -> Path:
    """Save a tiny WanPipeline: videos, a forward pass for each side of guidance; with one transformer or two."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optional packages that nothing here needs
        from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
    torch.manual_seed(0)
    tokenizer = letter_tokenizer()
    transformers = [
        WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            text_dim=32,
            freq_dim=16,
            ffn_dim=32,
            num_layers=2,
            rope_max_seq_len=32,
        )
        for _ in range(1 + two)
    ]
    for transformer in transformers:
        shake(transformer, 0.1)
    vae = AutoencoderKLWan(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
        scale_factor_temporal=2,
        scale_factor_spatial=4,
    )
    pipe = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=t5(tokenizer, kind="UMT5"),
        transformer=transformers[0],
        transformer_2=transformers[1] if two else None,
        boundary_ratio=0.9 if two else None,
        vae=vae,
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    )
    pipe.save_pretrained(folder)
    return folder
