"""A tiny FLUX.2."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from .parts import chat_tokenizer, language_sizes, shake


def tiny_flux2(folder: Path) -> Path:
    """Save a tiny Flux2Pipeline: images, guidance-distilled, blocks that share their modulation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optional packages that nothing here needs
        from diffusers import (
            AutoencoderKLFlux2,
            FlowMatchEulerDiscreteScheduler,
            Flux2Pipeline,
            Flux2Transformer2DModel,
        )
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    torch.manual_seed(0)
    tokenizer = chat_tokenizer()
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=96,
        timestep_guidance_channels=8,
        axes_dims_rope=(2, 2, 2, 2),
    )
    shake(transformer)
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8),
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
        sample_size=16,
    )
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text_encoder = Mistral3ForConditionalGeneration(
        Mistral3Config(
            text_config={"model_type": "mistral", **language_sizes(tokenizer)},
            vision_config={"model_type": "pixtral", "image_size": 16, "patch_size": 8, "head_dim": 8, **sizes},
            image_token_index=3,
        )
    )
    pipe = Flux2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
    )
    pipe.save_pretrained(folder)
    return folder
