"""Tiny examples of transformers for pictures."""

from __future__ import annotations

from typing import Any

import torch

from .example import Draw, Example, Maker

_LATENTS = "hidden_states=~4x4x4 encoder_hidden_states=~5x8 timestep=steps"
_SIZES = "target_size=rows:(32,32) crop_coords=rows:(0,0)"
# Flux and classes with the same inputs: packed tokens with coordinates.
_FLUX_CONFIG = (
    "in_channels=4 num_layers=2 num_single_layers=2 attention_head_dim=8 num_attention_heads=2 "
    "joint_attention_dim=16 axes_dims_rope=(2,2,4)"
)
_FLUX_INPUTS = "hidden_states=~4x4 encoder_hidden_states=~5x16 img_ids=ids:4x3 txt_ids=ids:5x3 timestep=sigmas"
_FLUX2_IDS = "img_ids=ids:4x4 txt_ids=ids:5x4"
_QWEN_CONFIG = (
    "patch_size=2 in_channels=16 out_channels=4 num_layers=2 attention_head_dim=8 num_attention_heads=2 "
    "joint_attention_dim=16 axes_dims_rope=(2,2,4)"
)
_QWEN_INPUTS = (
    "hidden_states=~4x16 encoder_hidden_states=~5x16 encoder_hidden_states_mask=ones:5 timestep=sigmas "
    "img_shapes=each:(1,2,2)"
)
# Blocks with self-attention, cross-attention and a feed-forward network, as in PixArt.
_BASIC = "num_attention_heads=2 attention_head_dim=8 num_layers=2"


_IDEOGRAM = ("hidden_states", "encoder_hidden_states", "position_ids", "segment_ids", "indicator")


def _part(name: str) -> Maker:
    """Make one argument of Ideogram, whose sequence consists of four text tokens followed by four picture tokens."""

    def make(draw: Draw) -> Any:
        is_text = torch.arange(8) < 4
        place = torch.arange(8) % 4
        if name == "position_ids":
            picture = torch.stack([torch.zeros_like(place), place // 2, place % 2], dim=-1) + 65536
            return torch.where(is_text[:, None], place[:, None], picture).expand(draw.rows, -1, -1)
        if name == "hidden_states":
            return draw.normal(8, 8) * ~is_text[:, None]
        if name == "encoder_hidden_states":
            return draw.normal(8, 12) * is_text[:, None]
        return (torch.ones_like(place) if name == "segment_ids" else 2 + is_text.long()).expand(draw.rows, -1)

    return make


IMAGES = (
    Example(
        "AuraFlowTransformer2DModel",
        "sample_size=4 num_mmdit_layers=2 num_single_dit_layers=2 attention_head_dim=8 "
        "num_attention_heads=2 caption_projection_dim=16 joint_attention_dim=8 pos_embed_max_size=16",
        f"{_LATENTS} timestep=sigmas",
    ),
    Example(
        "BriaFibo2Transformer2DModel",
        "in_channels=4 dim=32 n_layers=2 n_refiner_layers=1 n_heads=2 cap_feat_dim=8 "
        "injection_layer_ids=(1,) perceiver_num_layers=1 min_num_gist_tokens=2 max_num_gist_tokens=4 "
        "gist_step=2 gist_min_text_len=2 gist_max_text_len=16 axes_dims=(4,6,6) axes_lens=(32,32,32)",
        "hidden_states=~4x4x4 timestep=sigmas encoder_hidden_states=~2x5x8",
    ),
    Example(
        "BriaFiboTransformer2DModel",
        f"{_FLUX_CONFIG} text_encoder_dim=8",
        _FLUX_INPUTS,
        also={"text_encoder_layers": lambda draw: [draw.normal(5, 8) for _ in range(4)]},
    ),
    Example(
        "BriaTransformer2DModel",
        _FLUX_CONFIG,
        _FLUX_INPUTS,
    ),
    Example(
        "ChromaTransformer2DModel",
        f"{_FLUX_CONFIG} approximator_num_channels=8 approximator_hidden_dim=16 approximator_layers=1",
        _FLUX_INPUTS,
    ),
    Example(
        "CogView3PlusTransformer2DModel",
        f"{_BASIC} in_channels=4 out_channels=4 text_embed_dim=8 time_embed_dim=8 condition_dim=4 "
        "pos_embed_max_size=8 sample_size=8",
        f"{_LATENTS} {_SIZES} original_size=rows:(32,32)",
    ),
    Example(
        "CogView4Transformer2DModel",
        f"{_BASIC} in_channels=4 out_channels=4 text_embed_dim=8 time_embed_dim=8 condition_dim=4",
        f"{_LATENTS} {_SIZES} original_size=rows:(32,32)",
    ),
    Example(
        "DiTTransformer2DModel",
        f"{_BASIC} in_channels=4 sample_size=4 num_embeds_ada_norm=8",
        "hidden_states=~4x4x4 timestep=whole_steps",
        also={"class_labels": lambda draw: torch.arange(draw.rows) % 8},
    ),
    Example(
        "DreamLiteTransformer2DModel",
        f"{_BASIC} in_channels=32 cross_attention_dim=8",
        "hidden_states=~32x2x2 encoder_hidden_states=~5x8",
    ),
    Example(
        "DualTransformer2DModel",
        f"{_BASIC} in_channels=32 cross_attention_dim=8",
        "hidden_states=~32x2x2 encoder_hidden_states=~334x8",
    ),
    Example(
        "ErnieImageTransformer2DModel",
        "hidden_size=16 num_attention_heads=2 num_layers=2 ffn_hidden_size=16 in_channels=4 out_channels=4 "
        "text_in_dim=8 rope_axes_dim=(4,2,2)",
        "hidden_states=~4x2x2 timestep=sigmas text_bth=~5x8",
        also={"text_lens": lambda draw: torch.full((draw.rows,), 5)},
    ),
    Example(
        "Flux2Transformer2DModel",
        f"{_FLUX_CONFIG} axes_dims_rope=(2,2,2,2)",
        f"{_FLUX_INPUTS} {_FLUX2_IDS} guidance=sigmas",
    ),
    Example(
        "Flux3Transformer2DModel",
        f"{_FLUX_CONFIG} cond_in_channels=4 timestep_channels=8 axes_dims_rope=(2,2,2,2)",
        f"{_FLUX_INPUTS} {_FLUX2_IDS}",
    ),
    Example(
        "FluxTransformer2DModel",
        f"{_FLUX_CONFIG} pooled_projection_dim=8 guidance_embeds=True",
        f"{_FLUX_INPUTS} pooled_projections=~8 guidance=sigmas",
    ),
    Example(
        "GlmImageTransformer2DModel",
        f"{_BASIC} in_channels=4 out_channels=4 text_embed_dim=8 time_embed_dim=8 condition_dim=4 "
        "prior_vq_quantizer_codebook_size=16",
        f"{_LATENTS} {_SIZES}",
        also={
            "prior_token_id": lambda draw: draw.tokens(4, 16),
            "prior_token_drop": lambda draw: torch.zeros(draw.rows, 4, dtype=torch.bool),
        },
    ),
    Example(  # all experts are active, because their selection would be discontinuous
        "HiDreamImageTransformer2DModel",
        "patch_size=2 in_channels=4 out_channels=4 num_layers=2 num_single_layers=2 attention_head_dim=8 "
        "num_attention_heads=2 caption_channels=[8,4] text_emb_dim=8 num_routed_experts=2 "
        "num_activated_experts=2 axes_dims_rope=(4,2,2) max_resolution=(4,4) llama_layers=(0,1,1,0) "
        "force_inference_output=True",
        "hidden_states=~4x4x4 timesteps=steps encoder_hidden_states_t5=~5x8 pooled_embeds=~8",
        also={"encoder_hidden_states_llama3": lambda draw: draw.fixed(2, draw.rows, 5, 4)},
        differentiable=False,  # the experts run without autograd
    ),
    Example(
        "HunyuanDiT2DModel",
        "sample_size=4 patch_size=2 in_channels=4 num_layers=4 attention_head_dim=8 num_attention_heads=2 "
        "cross_attention_dim=8 cross_attention_dim_t5=8 pooled_projection_dim=4 hidden_size=16 text_len=4 "
        "text_len_t5=4 activation_fn=gelu-approximate",  # four layers: the last has a skip connection
        "hidden_states=~4x4x4 timestep=steps encoder_hidden_states=~4x8 encoder_hidden_states_t5=~4x8 "
        "text_embedding_mask=ones:4 text_embedding_mask_t5=ones:4 image_meta_size=rows:(32,32,16,16,0,0)",
        also={
            "style": lambda draw: torch.zeros(draw.rows, dtype=torch.long),
            "image_rotary_emb": lambda draw: [draw.fixed(4, 8), draw.fixed(4, 8)],
        },
        beside={"HunyuanDiTBlock": "its second half joins a skip connection into the stream"},
    ),
    Example(
        "HunyuanImageTransformer2DModel",
        "in_channels=4 out_channels=4 num_attention_heads=2 attention_head_dim=8 num_layers=2 "
        "num_single_layers=2 num_refiner_layers=2 patch_size=(1,1) text_embed_dim=8 rope_axes_dim=(4,4)",
        "hidden_states=~4x2x2 timestep=steps encoder_hidden_states=~5x8 encoder_attention_mask=ones:5",
    ),
    Example(
        "Ideogram4Transformer2DModel",
        "in_channels=8 num_layers=2 attention_head_dim=8 num_attention_heads=2 intermediate_size=16 "
        "adaln_dim=8 llm_features_dim=12 mrope_section=(2,1,1)",
        "timestep=sigmas",
        also={name: _part(name) for name in _IDEOGRAM},
    ),
    Example(
        "JoyImageEditPlusTransformer3DModel",
        "patch_size=[1,2,2] in_channels=4 hidden_size=16 num_attention_heads=2 text_dim=8 num_layers=2 "
        "rope_dim_list=[2,2,4]",
        "hidden_states=~2x4x1x2x2 encoder_hidden_states=~5x8 timestep=sigmas shape_list=each:[(1,1,1),(1,1,1)]",
    ),
    Example(
        "JoyImageEditTransformer3DModel",
        "patch_size=[1,2,2] in_channels=4 hidden_size=16 num_attention_heads=2 text_dim=8 num_layers=2 "
        "rope_dim_list=[2,2,4]",
        "hidden_states=~4x1x4x4 encoder_hidden_states=~5x8 timestep=sigmas",
    ),
    Example(
        "Krea2Transformer2DModel",
        "in_channels=8 num_layers=2 attention_head_dim=8 num_attention_heads=2 num_key_value_heads=1 "
        "intermediate_size=16 timestep_embed_dim=8 text_hidden_dim=8 num_text_layers=3 "
        "text_num_attention_heads=2 text_num_key_value_heads=1 text_intermediate_size=16 "
        "num_layerwise_text_blocks=1 num_refiner_text_blocks=1 axes_dims_rope=(4,2,2)",
        "hidden_states=~4x8 encoder_hidden_states=~5x3x8 timestep=sigmas encoder_attention_mask=ones:5 "
        "position_ids=ids:9x3",
    ),
    Example(
        "LongCatImageTransformer2DModel",
        f"{_FLUX_CONFIG} pooled_projection_dim=8",
        f"{_FLUX_INPUTS} guidance=sigmas",
    ),
    Example(
        "Lumina2Transformer2DModel",
        "sample_size=4 in_channels=4 hidden_size=24 num_layers=2 num_refiner_layers=1 "
        "num_attention_heads=3 num_kv_heads=1 multiple_of=2 axes_dim_rope=(4,2,2) axes_lens=(16,16,16) "
        "cap_feat_dim=8",
        f"{_LATENTS} timestep=sigmas encoder_attention_mask=ones:5",
    ),
    Example(
        "LuminaNextDiT2DModel",
        "sample_size=4 in_channels=4 hidden_size=24 num_layers=2 num_attention_heads=3 num_kv_heads=1 "
        "multiple_of=16 learn_sigma=False cross_attention_dim=8",
        f"{_LATENTS} timestep=sigmas encoder_mask=ones:5",
        also={"image_rotary_emb": lambda draw: draw.fixed(384, 384, 4), "cross_attention_kwargs": {}},
    ),
    Example(  # if narrower, the feed-forward networks would have width 0
        "NucleusMoEImageTransformer2DModel",
        f"{_QWEN_CONFIG} attention_head_dim=16 num_attention_heads=4 axes_dims_rope=(8,4,4) moe_enabled=False "
        "capacity_factors=[8.0,8.0]",
        _QWEN_INPUTS,
    ),
    Example(
        "OmniGenTransformer2DModel",
        "hidden_size=16 num_attention_heads=2 num_key_value_heads=2 intermediate_size=16 num_layers=2 "
        "pad_token_id=0 vocab_size=32 in_channels=4 time_step_dim=4 "
        "rope_scaling={'long_factor':[1,1,1,1],'short_factor':[1,1,1,1]}",
        "hidden_states=~4x4x4 timestep=sigmas",
        also={
            "input_ids": lambda draw: draw.tokens(6, 32),
            "input_img_latents": lambda draw: [draw.fixed(1, 4, 4, 4)],
            "input_image_sizes": {0: [[0, 4]]},
            "attention_mask": lambda draw: torch.ones(draw.rows, 11, 11, dtype=draw.dtype),
            "position_ids": lambda draw: torch.arange(11).expand(draw.rows, -1),
        },
    ),
    Example(
        "OvisImageTransformer2DModel",
        f"{_FLUX_CONFIG} out_channels=4",
        _FLUX_INPUTS,
    ),
    Example(
        "PRXTransformer2DModel",
        "in_channels=4 patch_size=2 context_in_dim=8 hidden_size=16 mlp_ratio=2.0 num_heads=2 depth=2 axes_dim=[4,4]",
        f"{_LATENTS} timestep=sigmas",
    ),
    Example(
        "PixArtTransformer2DModel",
        f"{_BASIC} sample_size=4 in_channels=4 out_channels=8 cross_attention_dim=16 caption_channels=8 "
        "use_additional_conditions=False",
        _LATENTS,
        also={"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}},
    ),
    Example(
        "PriorTransformer",
        f"{_BASIC} embedding_dim=8 num_embeddings=7 additional_embeddings=4",
        "hidden_states=~8 timestep=steps proj_embedding=~8 encoder_hidden_states=~7x8",
    ),
    Example(
        "QwenImage21Transformer2DModel",
        "in_channels=4 out_channels=4 num_layers=2 attention_head_dim=8 num_attention_heads=2 "
        "context_in_dim=8 axes_dims_rope=(2,2,4)",
        "hidden_states=~4x4 encoder_hidden_states=~5x8 timestep=sigmas img_shapes=each:[(1,2,2)]",
        also={"img_mask": lambda draw: torch.tensor([[False] * 5 + [True]] * draw.rows)},
    ),
    Example(
        "QwenImageTransformer2DModel",
        _QWEN_CONFIG,
        _QWEN_INPUTS,
    ),
    Example(
        "SD3Transformer2DModel",
        "sample_size=4 in_channels=4 out_channels=4 num_layers=3 attention_head_dim=8 "
        "num_attention_heads=2 joint_attention_dim=8 caption_projection_dim=16 pooled_projection_dim=8 "
        "pos_embed_max_size=4 dual_attention_layers=(0,) qk_norm=rms_norm",
        f"{_LATENTS} pooled_projections=~8",
    ),
    Example(
        "SanaTransformer2DModel",
        "in_channels=4 out_channels=4 num_layers=2 attention_head_dim=4 num_attention_heads=4 "
        "num_cross_attention_heads=2 cross_attention_head_dim=8 cross_attention_dim=16 caption_channels=8 "
        "sample_size=4",
        _LATENTS,
    ),
    Example(
        "Transformer2DModel",
        f"{_BASIC} in_channels=32 cross_attention_dim=8",
        "hidden_states=~32x2x2 encoder_hidden_states=~5x8",
    ),
    Example(
        "ZImageTransformer2DModel",
        "in_channels=4 dim=16 n_layers=2 n_refiner_layers=1 n_heads=1 n_kv_heads=1 cap_feat_dim=8 "
        "axes_dims=[8,4,4] axes_lens=[256,32,32]",
        "x=[~4x1x4x4] cap_feats=[~5x8] t=sigmas",
    ),
)
