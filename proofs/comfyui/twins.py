"""Tiny models in ComfyUI's classes and in those of diffusers, of the same size."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CHANNELS, SIDE, WIDTH, POOLED = 16, 8, 16, 8
GUIDANCE = 3.5  # distilled, which is ComfyUI's default


@dataclass(frozen=True)
class Twin:
    """One tiny model in ComfyUI and in diffusers.

    Attributes:
        transformer: Class name in diffusers.
        config: Arguments of the class in diffusers.
        comfy: Name in `comfy.supported_models`.
        unet: Arguments of ComfyUI's class.
        convert: Converts ComfyUI's weights to diffusers' names.
        inputs: Makes the transformer's arguments from latents, sigmas, prompt and pooled prompt.
        outputs: Makes latents of the transformer's output, given latents of their shape.
        frames: Frames of the latents; 0 for pictures.
        rescaled: Whether guidance keeps the norm of each token.
    """

    transformer: str
    config: Mapping[str, Any]
    comfy: str
    unet: Mapping[str, Any]
    convert: Callable[[dict[str, Tensor], Mapping[str, Any]], dict[str, Tensor]]
    inputs: Callable[[Tensor, Tensor, Tensor, Tensor], dict[str, Any]]
    outputs: Callable[[Tensor, Tensor], Tensor] = lambda made, _latents: made
    frames: int = 0
    rescaled: bool = False


def _flux_weights(weights: dict[str, Tensor], unet: Mapping[str, Any]) -> dict[str, Tensor]:
    """Convert by ComfyUI's own table, since the converter of diffusers knows FLUX at full size only."""
    table = importlib.import_module("comfy.utils").flux_to_diffusers(unet)
    converted = {}
    for name, place in table.items():
        key, rows, change = (place, None, None) if isinstance(place, str) else (*place, None, None)[:3]
        if key in weights:
            value = weights[key] if rows is None else weights[key].narrow(*rows)
            converted[name] = value if change is None else change(value)
    return converted


def _single_file(transformer: str) -> Callable[[dict[str, Tensor], Mapping[str, Any]], dict[str, Tensor]]:
    """Convert by the single-file loader of diffusers."""

    def convert(weights: dict[str, Tensor], _unet: Mapping[str, Any]) -> dict[str, Tensor]:
        from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

        change: Any = SINGLE_FILE_LOADABLE_CLASSES[transformer]["checkpoint_mapping_fn"]
        converted: dict[str, Tensor] = change(checkpoint=dict(weights))
        return converted

    return convert


def _packed(latents: Tensor) -> Tensor:
    rows, channels, height, width = latents.shape
    patches = latents.reshape(rows, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(rows, height * width // 4, channels * 4)


def _unpacked(tokens: Tensor, latents: Tensor) -> Tensor:
    height, width = latents.shape[-2:]
    patches = tokens.reshape(len(tokens), height // 2, width // 2, -1, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(latents.shape)


def _flux_inputs(latents: Tensor, sigma: Tensor, prompt: Tensor, pooled: Tensor) -> dict[str, Any]:
    height, width = latents.shape[-2] // 2, latents.shape[-1] // 2
    grid = torch.stack(
        [torch.zeros(height, width), *torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")], -1
    )
    return {
        "hidden_states": _packed(latents),
        "timestep": sigma,
        "guidance": torch.full_like(sigma, GUIDANCE),
        "encoder_hidden_states": prompt,
        "pooled_projections": pooled,
        "img_ids": grid.reshape(-1, 3),
        "txt_ids": torch.zeros(prompt.shape[1], 3),
    }


def _plain_inputs(latents: Tensor, sigma: Tensor, prompt: Tensor, _pooled: Tensor) -> dict[str, Any]:
    return {"hidden_states": latents, "timestep": sigma * 1000, "encoder_hidden_states": prompt}


def _qwen_inputs(latents: Tensor, sigma: Tensor, prompt: Tensor, _pooled: Tensor) -> dict[str, Any]:
    return {
        "hidden_states": _packed(latents[:, :, 0]),
        "timestep": sigma,
        "encoder_hidden_states": prompt,
        "encoder_hidden_states_mask": torch.ones(prompt.shape[:2], dtype=torch.long),
        "img_shapes": [[(1, latents.shape[-2] // 2, latents.shape[-1] // 2)]] * len(latents),
    }


TWINS = {
    "flux": Twin(
        transformer="FluxTransformer2DModel",
        config={
            "in_channels": 64,
            "num_layers": 2,
            "num_single_layers": 2,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "joint_attention_dim": WIDTH,
            "pooled_projection_dim": POOLED,
            "guidance_embeds": True,
            "axes_dims_rope": (2, 2, 4),
        },
        comfy="Flux",
        unet={
            "image_model": "flux",
            "in_channels": CHANNELS,
            "out_channels": CHANNELS,
            "vec_in_dim": POOLED,
            "context_in_dim": WIDTH,
            "hidden_size": 16,
            "mlp_ratio": 4.0,
            "num_heads": 2,
            "depth": 2,
            "depth_single_blocks": 2,
            "axes_dim": [2, 2, 4],
            "theta": 10000,
            "patch_size": 2,
            "qkv_bias": True,
            "guidance_embed": True,
        },
        convert=_flux_weights,
        inputs=_flux_inputs,
        outputs=_unpacked,
    ),
    "sd3": Twin(
        transformer="SD3Transformer2DModel",
        config={
            "sample_size": SIDE,
            "pos_embed_max_size": SIDE,
            "in_channels": CHANNELS,
            "out_channels": CHANNELS,
            "num_layers": 3,
            "attention_head_dim": 64,
            "num_attention_heads": 3,
            "joint_attention_dim": WIDTH,
            "caption_projection_dim": 192,
            "pooled_projection_dim": POOLED,
            "dual_attention_layers": (0,),
            "qk_norm": "rms_norm",
        },
        comfy="SD3",
        unet={
            "input_size": None,
            "in_channels": CHANNELS,
            "patch_size": 2,
            "depth": 3,
            "adm_in_channels": POOLED,
            "context_embedder_config": {
                "target": "torch.nn.Linear",
                "params": {"in_features": WIDTH, "out_features": 192},
            },
            "pos_embed_scaling_factor": None,
            "pos_embed_max_size": SIDE,
            "num_patches": SIDE**2,
            "qk_norm": "rms",
            "x_block_self_attn_layers": [0],
        },
        convert=_single_file("SD3Transformer2DModel"),
        inputs=lambda latents, sigma, prompt, pooled: {
            **_plain_inputs(latents, sigma, prompt, pooled),
            "pooled_projections": pooled,
        },
    ),
    "qwen": Twin(
        transformer="QwenImageTransformer2DModel",
        config={
            "patch_size": 2,
            "in_channels": 64,
            "out_channels": CHANNELS,
            "num_layers": 2,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "joint_attention_dim": WIDTH,
            "axes_dims_rope": (2, 2, 4),
        },
        comfy="QwenImage",
        unet={
            "image_model": "qwen_image",
            "patch_size": 2,
            "in_channels": 64,
            "out_channels": CHANNELS,
            "num_layers": 2,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "joint_attention_dim": WIDTH,
            "axes_dims_rope": (2, 2, 4),
        },
        convert=_single_file("QwenImageTransformer2DModel"),
        inputs=_qwen_inputs,
        outputs=_unpacked,
        frames=1,
        rescaled=True,
    ),
    "wan": Twin(
        transformer="WanTransformer3DModel",
        config={
            "in_channels": CHANNELS,
            "out_channels": CHANNELS,
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "text_dim": WIDTH,
            "freq_dim": 16,
            "ffn_dim": 32,
            "num_layers": 2,
            "rope_max_seq_len": 32,
        },
        comfy="WAN21_T2V",
        unet={
            "image_model": "wan2.1",
            "model_type": "t2v",
            "in_dim": CHANNELS,
            "out_dim": CHANNELS,
            "dim": 24,
            "num_heads": 2,
            "text_dim": WIDTH,
            "freq_dim": 16,
            "ffn_dim": 32,
            "num_layers": 2,
        },
        convert=_single_file("WanTransformer3DModel"),
        inputs=_plain_inputs,
        frames=3,
    ),
}
"""The tiny model of each family."""
