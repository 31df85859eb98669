"""A tiny HunyuanVideo."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from .parts import byte_tokenizer, clip, language_model, piece_tokenizer, shake


def tiny_hunyuan_video(folder: Path) -> Path:
    """Save a tiny HunyuanVideoPipeline: videos, guidance-distilled, two text encoders and a refiner."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optional packages that nothing here needs
        from diffusers import (
            AutoencoderKLHunyuanVideo,
            FlowMatchEulerDiscreteScheduler,
            HunyuanVideoPipeline,
            HunyuanVideoTransformer3DModel,
        )
    torch.manual_seed(0)
    pieces, bytes_ = piece_tokenizer("Llama"), byte_tokenizer()
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=32,
        pooled_projection_dim=16,
        rope_axes_dim=(4, 2, 2),
    )
    shake(transformer)
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
    )
    pipe = HunyuanVideoPipeline(
        text_encoder=language_model("Llama", pieces),
        tokenizer=pieces,
        transformer=transformer,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=clip("CLIPTextModel", bytes_, 77),
        tokenizer_2=bytes_,
    )
    pipe.save_pretrained(folder)
    return folder
