"""Tiny examples of transformers for video, sound, or both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .example import Draw, Example, Maker

_LATENTS = "hidden_states=~4x2x4x4 encoder_hidden_states=~5x8 timestep=steps"
_FRAMES_FIRST = f"{_LATENTS} hidden_states=~2x4x4x4"
_HEADS = "num_attention_heads=2 attention_head_dim=8"
_CHANNELS = "in_channels=4 out_channels=4"
_COGVIDEO = (
    f"{_HEADS} {_CHANNELS} num_layers=2 time_embed_dim=4 text_embed_dim=8 sample_width=4 sample_height=4 "
    "sample_frames=5 max_text_seq_length=5"
)
_HUNYUAN_1_5 = (
    f"{_HEADS} {_CHANNELS} num_layers=2 num_refiner_layers=2 patch_size=1 patch_size_t=1 text_embed_dim=8 "
    "rope_axes_dim=(4,2,2)"
)
_HUNYUAN = f"{_HUNYUAN_1_5} num_single_layers=2 pooled_projection_dim=8"
_HUNYUAN_INPUTS = f"{_LATENTS} pooled_projections=~8 encoder_attention_mask=ones:5 guidance=steps"
_WAN_WITHOUT_ROPE = (
    f"{_CHANNELS} num_attention_heads=2 attention_head_dim=12 text_dim=8 freq_dim=16 ffn_dim=16 num_layers=2"
)
_WAN = f"{_WAN_WITHOUT_ROPE} rope_max_seq_len=32"
_ANYFLOW = f"{_FRAMES_FIRST} timestep=steps:2 r_timestep=steps:2"


def _shared_ones(*shape: int) -> Maker:
    return lambda draw: torch.ones(shape, dtype=draw.dtype)


def _packed(kind: str) -> Maker:
    """Make the positions of MiniMax's text (four tokens), sound (six) and video (eight) in one sequence."""
    start, length = {"text": (0, 4), "audio": (4, 6), "video": (10, 8)}[kind]
    return lambda _draw: torch.arange(start, start + length)


def _animate_cache(_draw: Draw) -> Any:
    from diffusers.models.transformers.transformer_wan_animate_2 import WanAnimate2KVCache

    return WanAnimate2KVCache(2)


def _refiner_rope(draw: Draw) -> tuple[Tensor, Tensor]:
    return draw.fixed(1, 4, 16), draw.fixed(1, 4, 16)


VIDEOS = (
    Example(
        "AceStepTransformer1DModel",
        "hidden_size=16 intermediate_size=16 num_hidden_layers=2 num_attention_heads=2 "
        "num_key_value_heads=1 head_dim=8 in_channels=12 audio_acoustic_hidden_dim=4 sliding_window=4",
        "hidden_states=~8x4 timestep=sigmas timestep_r=sigmas encoder_hidden_states=~5x16 context_latents=~8x8",
    ),
    Example(
        "AllegroTransformer3DModel",
        f"{_HEADS} {_CHANNELS} num_layers=2 cross_attention_dim=16 sample_width=4 sample_height=4 sample_frames=2 "
        "caption_channels=8",
        _LATENTS,
    ),
    Example(
        "AnyFlowFARTransformer3DModel",
        f"{_WAN} chunk_partition=(1,1)",
        _ANYFLOW,
        also={"chunk_partition": [1, 1]},
        differentiable=False,  # flex attention has no backward on a CPU
    ),
    Example(
        "AnyFlowTransformer3DModel",
        _WAN,
        _ANYFLOW,
    ),
    Example(
        "ChronoEditTransformer3DModel",
        _WAN,
        _LATENTS,
    ),
    Example(
        "CogVideoXTransformer3DModel",
        _COGVIDEO,
        _FRAMES_FIRST,
    ),
    Example(
        "ConsisIDTransformer3DModel",
        f"{_COGVIDEO} is_train_face=True cross_attn_interval=1 cross_attn_dim_head=4 cross_attn_num_heads=2 "
        "LFE_id_dim=4 LFE_vit_dim=4 LFE_depth=5 LFE_dim_head=4 LFE_num_heads=2 LFE_num_id_token=1 "
        "LFE_num_querie=2 LFE_output_dim=10 LFE_ff_mult=1 LFE_num_scale=1",
        f"{_FRAMES_FIRST} id_cond=~4",
        also={"id_vit_hidden": lambda draw: [draw.normal(2, 4)]},
    ),
    Example(
        "Cosmos3OmniTransformer",
        "head_dim=6 hidden_size=12 intermediate_size=16 latent_channel=2 latent_patch_size=1 "
        "num_attention_heads=2 num_hidden_layers=2 num_key_value_heads=1 patch_latent_dim=2 "
        "rope_axes_dim=[1,1,1] vocab_size=32",
        "und_len=3 sequence_length=7",
        also={
            "input_ids": lambda _draw: torch.tensor([1, 2, 3]),
            "text_indexes": lambda _draw: torch.arange(3),
            "position_ids": lambda _draw: torch.arange(7).expand(3, 7),
            "vision_tokens": lambda draw: [draw.fixed(1, 2, 1, 2, 2)],
            "vision_token_shapes": [(1, 2, 2)],
            "vision_sequence_indexes": lambda _draw: torch.arange(3, 7),
            "vision_mse_loss_indexes": lambda _draw: torch.arange(3, 7),
            "vision_timesteps": _shared_ones(4),
            "vision_noisy_frame_indexes": lambda _draw: [torch.tensor([0])],
        },
        max_rows=1,  # one packed sequence
    ),
    Example(  # without learned positions, which every block would add, and without a mask, which needs torchvision
        "CosmosTransformer3DModel",
        f"{_CHANNELS} num_attention_heads=2 attention_head_dim=12 num_layers=2 mlp_ratio=2 text_embed_dim=8 "
        "adaln_lora_dim=4 max_size=(4,8,8) concat_padding_mask=False extra_pos_embed_type=None",
        f"{_LATENTS} fps=24",
    ),
    Example(
        "EasyAnimateTransformer3DModel",
        f"{_HEADS} {_CHANNELS} num_layers=2 mmdit_layers=2 patch_size=2 sample_height=8 sample_width=8 "
        "text_embed_dim=8 "
        "time_embed_dim=8 add_noise_in_inpaint_model=False time_position_encoding_type=3d_rope "
        "attention_head_dim=16",
        _LATENTS,
    ),
    Example(
        "HeliosTransformer3DModel",
        f"{_WAN_WITHOUT_ROPE} rope_dim=(4,4,4)",
        _LATENTS,
        also={"indices_hidden_states": lambda draw: torch.arange(2).expand(draw.rows, -1).to(draw.dtype)},
    ),
    Example(
        "HunyuanVideo15Transformer3DModel",
        f"{_HUNYUAN_1_5} text_embed_2_dim=6 image_embed_dim=8 target_size=4 task_type=t2v",
        f"{_LATENTS} encoder_attention_mask=ones:5 encoder_hidden_states_2=~3x6 encoder_attention_mask_2=ones:3 "
        "image_embeds=~2x8",
    ),
    Example(
        "HunyuanVideoFramepackTransformer3DModel",
        f"{_HUNYUAN} patch_size=2 guidance_embeds=True has_image_proj=True image_proj_dim=8 has_clean_x_embedder=True",
        f"{_HUNYUAN_INPUTS} image_embeds=~2x8 latents_clean=~4x1x4x4 latents_history_2x=~4x1x4x4 "
        "latents_history_4x=~4x4x4x4",
        also={
            "indices_latents": _shared_ones(2),
            "indices_latents_clean": _shared_ones(1),
            "indices_latents_history_2x": _shared_ones(1),
            "indices_latents_history_4x": _shared_ones(4),
        },
    ),
    Example(
        "HunyuanVideoTransformer3DModel",
        f"{_HUNYUAN} guidance_embeds=True",
        _HUNYUAN_INPUTS,
    ),
    Example(
        "Kandinsky5Transformer3DModel",
        "in_visual_dim=4 out_visual_dim=4 in_text_dim=8 in_text_dim2=8 time_dim=8 model_dim=16 ff_dim=16 "
        "num_text_blocks=2 num_visual_blocks=2 axes_dims=(4,2,2)",
        "hidden_states=~2x4x4x4 encoder_hidden_states=~5x8 timestep=steps pooled_projections=~8",
        also={
            "visual_rope_pos": lambda _draw: (torch.arange(2), torch.arange(2), torch.arange(2)),
            "text_rope_pos": lambda _draw: torch.arange(5),
        },
        precision="float32",
    ),
    Example(
        "Kandinsky6SRTransformer3DModel",
        "in_visual_dim=4 out_visual_dim=4 time_dim=8 model_dim=16 ff_dim=16 num_visual_blocks=2 "
        "axes_dims=(8,4,4) nabla_window=(1,1,1)",
        "hidden_states=~1x8x8x9 timestep=steps",
        differentiable=False,  # flex attention has no backward on a CPU
    ),
    Example(
        "Kandinsky6Transformer3DModel",
        "in_visual_dim=4 out_visual_dim=4 in_text_dim=8 in_text_dim2=8 time_dim=8 model_dim=16 ff_dim=16 "
        "num_text_blocks=2 num_visual_blocks=2 axes_dims=(4,2,2) visual_cond=False in_audio_dim=4 "
        "out_audio_dim=4",
        "hidden_states=~2x4x4x4 encoder_hidden_states=~5x8 pooled_projections=~8 timestep=steps "
        "audio_hidden_states=~3x4",
    ),
    Example(
        "LTX2VideoTransformer3DModel",
        f"{_HEADS} {_CHANNELS} num_layers=2 cross_attention_dim=16 audio_in_channels=4 audio_out_channels=4 "
        "audio_num_attention_heads=2 audio_attention_head_dim=4 audio_cross_attention_dim=8 "
        "caption_channels=8 rope_double_precision=False",
        "hidden_states=~8x4 audio_hidden_states=~3x4 encoder_hidden_states=~5x8 "
        "audio_encoder_hidden_states=~5x8 timestep=steps encoder_attention_mask=ones:5 num_frames=2 "
        "height=2 width=2 audio_num_frames=3 fps=25.0",
    ),
    Example(
        "LTXVideoTransformer3DModel",
        f"{_HEADS} {_CHANNELS} num_layers=2 cross_attention_dim=16 caption_channels=8",
        "hidden_states=~8x4 encoder_hidden_states=~5x8 timestep=steps encoder_attention_mask=ones:5 "
        "num_frames=2 height=2 width=2",
    ),
    Example(
        "LatteTransformer3DModel",
        f"{_HEADS} in_channels=4 out_channels=8 num_layers=2 sample_size=4 patch_size=2 video_length=2 "
        "cross_attention_dim=16 caption_channels=8 attention_bias=True activation_fn=gelu-approximate "
        "num_embeds_ada_norm=1000 norm_type=ada_norm_single norm_elementwise_affine=False norm_eps=1e-06",
        _LATENTS,
    ),
    Example(
        "LongCatAudioDiTTransformer",
        "dit_dim=16 dit_depth=2 dit_heads=2 dit_text_dim=8 latent_dim=4 text_conv=False",
        "hidden_states=~6x4 encoder_hidden_states=~5x8 encoder_attention_mask=ones:5 attention_mask=ones:6 "
        "timestep=sigmas",
    ),
    Example(
        "MiniMaxH3Transformer3DModel",
        "num_attention_heads=2 attention_head_dim=16 hidden_size=16 num_layers=2 num_refiner_layers=2 "
        "ffn_dim=16 in_channels=4 audio_in_channels=6 patch_size=(1,2,2) text_dim=8 freq_dim=8 "
        "time_embed_hidden_dim=16 time_embed_dim=16 rope_freq_dim=2",
        "hidden_states=~8x16 audio_hidden_states=~6x6 encoder_hidden_states=~4x8 position_ids=ids:18x3",
        also={
            "timestep": lambda draw: torch.tensor([0.7, 0.3], dtype=draw.dtype),
            "timestep_indices": lambda _draw: torch.tensor([0] * 4 + [1] * 6 + [0] * 8),
            "token_tags": lambda _draw: torch.tensor([1] * 4 + [2] * 6 + [0] * 8),
            "video_indices": _packed("video"),
            "audio_indices": _packed("audio"),
            "text_indices": _packed("text"),
        },
    ),
    Example(
        "MiniMaxMusic3RVQDepthDecoder",
        "hidden_size=16 num_layers=2 num_attention_heads=2 intermediate_size=16 audio_vocab_size=8 num_codebooks=3",
        "inputs_embeds=~3x16",
    ),
    Example(
        "MiniMaxMusic3Transformer1DModel",
        f"{_HEADS} in_channels=4 condition_dim=8 num_layers=2 ff_inner_dim=16 rotary_dim=4 fourier_embedding_dim=8",
        "hidden_states=~4x6 encoder_hidden_states=~6x8 timestep=sigmas",
    ),
    Example(
        "MochiTransformer3DModel",
        f"{_HEADS} in_channels=4 num_layers=2 pooled_projection_dim=8 text_embed_dim=8 time_embed_dim=4 "
        "max_sequence_length=5",
        f"{_LATENTS} encoder_attention_mask=ones:5",
    ),
    Example(
        "MotifVideoTransformer3DModel",
        "in_channels=9 out_channels=4 num_attention_heads=2 attention_head_dim=12 num_layers=2 "
        "num_single_layers=2 num_decoder_layers=0 patch_size=1 patch_size_t=1 text_embed_dim=8 "
        "image_embed_dim=4 rope_axes_dim=(4,4,4) enable_text_cross_attention_dual=True "
        "enable_text_cross_attention_single=True",
        f"{_LATENTS} hidden_states=~9x2x2x2",
        precision="float32",
    ),
    Example(
        "SanaVideoTransformer3DModel",
        f"{_CHANNELS} num_attention_heads=2 attention_head_dim=12 num_layers=2 num_cross_attention_heads=2 "
        "cross_attention_head_dim=12 cross_attention_dim=24 caption_channels=8 sample_size=4 "
        "rope_max_seq_len=32",
        _LATENTS,
    ),
    Example(
        "SanaWMLTX2RefinerTransformer3DModel",
        f"{_HEADS} {_CHANNELS} num_layers=2 cross_attention_dim=16 audio_in_channels=4 audio_out_channels=4 "
        "audio_num_attention_heads=2 audio_attention_head_dim=4 audio_cross_attention_dim=8 "
        "caption_channels=8",
        "hidden_states=~4x4 encoder_hidden_states=~5x8 timestep=steps:4 encoder_attention_mask=ones:5",
        also={"video_rotary_emb": _refiner_rope},
    ),
    Example(
        "SanaWMTransformer3DModel",
        "in_channels=4 num_layers=2 hidden_size=24 num_attention_heads=2 softmax_every_n=2 "
        "linear_head_dim=12 caption_channels=8 chunk_plucker_channels=6",
        "hidden_states=~4x2x2x2 encoder_hidden_states=~1x5x8 encoder_attention_mask=ones:5",
        also={"timestep": lambda draw: draw.times(900.0)[:, None, None].expand(-1, 1, 2)},
    ),
    Example(
        "SkyReelsV2Transformer3DModel",
        _WAN,
        f"{_LATENTS} timestep=whole_steps",
    ),
    Example(
        "StableAudio3DiTModel",
        "io_channels=4 embed_dim=16 depth=2 num_heads=2 cond_token_dim=8 global_cond_dim=6 "
        "local_add_cond_dim=5 timestep_features_dim=8 ff_mult=2 num_memory_tokens=2",
        "hidden_states=~4x6 timestep=sigmas encoder_hidden_states=~5x8 global_hidden_states=~6",
    ),
    Example(
        "StableAudioDiTModel",
        f"{_HEADS} {_CHANNELS} sample_size=6 num_layers=2 num_key_value_attention_heads=1 cross_attention_dim=8 "
        "time_proj_dim=8 global_states_input_dim=6 cross_attention_input_dim=8",
        "hidden_states=~4x6 timestep=sigmas encoder_hidden_states=~5x8 global_hidden_states=~1x6",
        also={"rotary_embedding": lambda draw: (draw.fixed(7, 4), draw.fixed(7, 4))},
    ),
    Example(
        "T5FilmDecoder",
        "input_dims=4 targets_length=6 d_model=8 num_layers=2 num_heads=2 d_kv=4 d_ff=16",
        "decoder_input_tokens=~6x4 decoder_noise_time=sigmas",
        also={"encodings_and_masks": lambda draw: [(draw.normal(5, 8), torch.ones(draw.rows, 5, dtype=draw.dtype))]},
    ),
    Example(
        "TransformerSpatioTemporalModel",
        "num_attention_heads=4 attention_head_dim=8 in_channels=32 num_layers=2 cross_attention_dim=8",
        "",
        also={
            "hidden_states": lambda draw: draw.fixed(2 * draw.rows, 32, 2, 2),
            "encoder_hidden_states": lambda draw: draw.fixed(2 * draw.rows, 1, 8),
            "image_only_indicator": lambda draw: torch.zeros(draw.rows, 2),
        },
    ),
    Example(
        "TransformerTemporalModel",
        f"{_HEADS} in_channels=32 num_layers=2",
        "num_frames=2",
        also={"hidden_states": lambda draw: draw.fixed(2 * draw.rows, 32, 2, 2)},
    ),
    Example(
        "WanAnimate2Transformer3DModel",
        "text_len=5 in_dim=9 dim=24 ffn_dim=16 freq_dim=16 text_dim=8 out_dim=4 num_heads=2 num_layers=2",
        "hidden_states=[~4x2x4x4] timestep=steps encoder_hidden_states=[~5x8] condition_latents=[~5x2x4x4] "
        "encoder_hidden_states_image=~2x1280 kv_cache_mode=extract seq_len=8",
        also={"kv_cache": _animate_cache, "offset_grid_sizes": lambda draw: torch.tensor([[2, 2, 2]] * draw.rows)},
        max_rows=1,  # its cache belongs to one video
    ),
    Example(
        "WanAnimateTransformer3DModel",
        f"{_WAN} in_channels=12 latent_channels=4 image_dim=8 motion_encoder_channel_sizes={{'4':8,'8':8,'16':8}} "
        "motion_encoder_size=16 motion_style_dim=8 motion_dim=4 motion_encoder_dim=8 "
        "face_encoder_hidden_dim=8 face_encoder_num_heads=2 inject_face_latents_blocks=2",
        "hidden_states=~12x3x4x4 timestep=steps encoder_hidden_states=~5x8 "
        "encoder_hidden_states_image=~2x8 pose_hidden_states=~4x2x4x4 face_pixel_values=~3x5x16x16",
    ),
    Example(
        "WanTransformer3DModel",
        _WAN,
        _LATENTS,
    ),
    Example(
        "WanVACETransformer3DModel",
        f"{_WAN} num_layers=3 vace_layers=[0,2] vace_in_channels=6",
        f"{_LATENTS} control_hidden_states=~6x2x4x4",
        beside={"WanVACETransformerBlock": "it projects what it hands to the main blocks"},
    ),
)
