"""Published checkpoints: their transformers' configurations and recommended settings.

From these, a transformer can be built without weights and its knobs can be counted, without a download.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..ground.errors import ModelError, first_line
from ..ground.hub import hub_sentence
from ..ground.weights import quiet_import
from .sites import SECOND
from .sources import located_checkpoint

if TYPE_CHECKING:
    from torch import nn


Part = tuple[str, str, Mapping[str, Any]]


@dataclass(frozen=True)
class Checkpoint:
    """One published checkpoint.

    Attributes:
        pipeline: The class of its pipeline in diffusers.
        transformer: The class of its transformer.
        config: The values of its transformer's configuration that differ from the defaults of the class.
        settings: The published settings that differ from those of its family.
        parts: Its other components with weights: library, class, and the configuration's values that differ from the
            defaults of the class.
    """

    pipeline: str
    transformer: str
    config: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)

    @property
    def index(self) -> dict[str, Any]:
        """The entries of its model_index.json that name a class with weights."""
        others = {name: [library, kind] for name, (library, kind, _) in self.parts.items()}
        return {"_class_name": self.pipeline, "transformer": ["diffusers", self.transformer], **others}


_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
_T5_XXL = {
    "d_model": 4096,
    "d_ff": 10240,
    "d_kv": 64,
    "num_layers": 24,
    "num_heads": 64,
    "vocab_size": 32128,
    "feed_forward_proj": "gated-gelu",
}
_QWEN_7B = {
    "text_config": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
    },
    "vision_config": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
    },
}
_KL = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "sample_size": 1024,
}
_KL_16 = {**_KL, "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
_DC_BLOCKS = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
_DC_CHANNELS, _DC_SCALES = (128, 256, 512, 512, 1024, 1024), ((), (), (), (5,), (5,), (5,))
_DC = {
    "latent_channels": 32,
    "encoder_block_types": _DC_BLOCKS,
    "decoder_block_types": _DC_BLOCKS,
    "encoder_block_out_channels": _DC_CHANNELS,
    "decoder_block_out_channels": _DC_CHANNELS,
    "encoder_qkv_multiscales": _DC_SCALES,
    "decoder_qkv_multiscales": _DC_SCALES,
    "encoder_layers_per_block": (2, 2, 2, 3, 3, 3),
    "decoder_layers_per_block": (3, 3, 3, 3, 3, 3),
    "downsample_block_type": "Conv",
    "upsample_block_type": "interpolate",
}

_SD3_MEDIUM = {
    "sample_size": 128,
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 192,
}
_SD3_PARTS: dict[str, Part] = {
    "text_encoder": ("transformers", "CLIPTextModelWithProjection", {**_CLIP_L, "projection_dim": 768}),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection", {**_CLIP_G, "projection_dim": 1280}),
    "text_encoder_3": ("transformers", "T5EncoderModel", _T5_XXL),
    "vae": ("diffusers", "AutoencoderKL", _KL_16),
}
_FLUX_PARTS: dict[str, Part] = {
    "text_encoder": ("transformers", "CLIPTextModel", _CLIP_L),
    "text_encoder_2": ("transformers", "T5EncoderModel", _T5_XXL),
    "vae": ("diffusers", "AutoencoderKL", _KL_16),
}
_WAN_PARTS: dict[str, Part] = {
    "text_encoder": ("transformers", "UMT5EncoderModel", {**_T5_XXL, "vocab_size": 256384}),
    "vae": ("diffusers", "AutoencoderKLWan", {}),
}
_FLUX = ("FluxPipeline", "FluxTransformer2DModel")
_SD3 = ("StableDiffusion3Pipeline", "SD3Transformer2DModel")
_WAN = ("WanPipeline", "WanTransformer3DModel")

CHECKPOINTS: dict[str, Checkpoint] = {
    "black-forest-labs/FLUX.1-dev": Checkpoint(*_FLUX, {"guidance_embeds": True}, parts=_FLUX_PARTS),
    "black-forest-labs/FLUX.1-schnell": Checkpoint(
        *_FLUX,
        settings={"num_inference_steps": 4, "guidance_scale": 0.0, "max_sequence_length": 256},
        parts=_FLUX_PARTS,
    ),
    "stabilityai/stable-diffusion-3-medium-diffusers": Checkpoint(*_SD3, _SD3_MEDIUM, parts=_SD3_PARTS),
    "stabilityai/stable-diffusion-3.5-medium": Checkpoint(
        *_SD3,
        {
            **_SD3_MEDIUM,
            "pos_embed_max_size": 384,
            "dual_attention_layers": tuple(range(13)),
            "qk_norm": "rms_norm",
        },
        parts=_SD3_PARTS,
    ),
    "stabilityai/stable-diffusion-3.5-large": Checkpoint(
        *_SD3,
        {
            "sample_size": 128,
            "num_layers": 38,
            "num_attention_heads": 38,
            "caption_projection_dim": 2432,
            "pos_embed_max_size": 192,
            "qk_norm": "rms_norm",
        },
        parts=_SD3_PARTS,
    ),
    "Qwen/Qwen-Image": Checkpoint(
        "QwenImagePipeline",
        "QwenImageTransformer2DModel",
        parts={
            "text_encoder": ("transformers", "Qwen2_5_VLForConditionalGeneration", _QWEN_7B),
            "vae": ("diffusers", "AutoencoderKLQwenImage", {}),
        },
    ),
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": Checkpoint(
        *_WAN, {"num_attention_heads": 12, "num_layers": 30, "ffn_dim": 8960}, parts=_WAN_PARTS
    ),
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": Checkpoint(*_WAN, parts=_WAN_PARTS),
    "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": Checkpoint(
        "PixArtSigmaPipeline",
        "PixArtTransformer2DModel",
        {"sample_size": 128, "caption_channels": 4096, "use_additional_conditions": False},
        parts={
            "text_encoder": ("transformers", "T5EncoderModel", _T5_XXL),
            "vae": ("diffusers", "AutoencoderKL", {**_KL, "latent_channels": 4}),
        },
    ),
    "Efficient-Large-Model/Sana_1600M_1024px_diffusers": Checkpoint(
        "SanaPipeline",
        "SanaTransformer2DModel",
        parts={
            "text_encoder": ("transformers", "Gemma2Model", {}),
            "vae": ("diffusers", "AutoencoderDC", _DC),
        },
    ),
}


def transformer_classes(model: str, revision: str | None = None) -> list[tuple[str, str, str]]:
    """List a checkpoint's transformers, one or two.

    Args:
        model: A hub id or a folder.
        revision: Branch, tag or commit on the hub.

    Returns:
        For each transformer, the prefix of its knobs' names, its component's name, and its class name in diffusers.

    Raises:
        ModelError: If the checkpoint cannot be read or has no transformer.
    """
    place = located_checkpoint(model, revision)
    with quiet_import():
        try:
            from diffusers import DiffusionPipeline

            if not isinstance(place, Path) and model in CHECKPOINTS:
                index: Mapping[str, Any] = CHECKPOINTS[model].index
            else:
                local = isinstance(place, Path)
                index = DiffusionPipeline.load_config(model, revision=revision, local_files_only=local)
        except Exception as error:  # hub and file errors come in many classes
            raise ModelError(f"cannot outline {model}: {_why(model, revision, error)}") from error
    components = (("", "transformer"), (f"{SECOND}.", SECOND))
    listed = [(prefix, name, *(index.get(name) or (None, None))) for prefix, name in components]
    found = [(prefix, name, str(kind)) for prefix, name, library, kind in listed if library == "diffusers" and kind]
    if not found or found[0][1] != "transformer":
        raise ModelError(f"{model} has no transformer of diffusers to calibrate")
    return found


def outlined(kind: str, model: str, revision: str | None = None, part: str = "transformer") -> nn.Module:
    """Build a transformer from its configuration alone, on the meta device.

    Args:
        kind: The transformer's class name in diffusers.
        model: A published checkpoint, another hub id, or a folder.
        revision: Branch, tag or commit on the hub.
        part: The transformer's component name in the checkpoint.

    Raises:
        ModelError: If the configuration cannot be read or does not fit the class.
    """
    import torch

    local = model not in CHECKPOINTS and isinstance(located_checkpoint(model, revision), Path)
    with quiet_import():
        import diffusers

        transformer = getattr(diffusers, kind)
        try:
            if model in CHECKPOINTS:
                config = dict(CHECKPOINTS[model].config)
            else:
                config = transformer.load_config(model, subfolder=part, revision=revision, local_files_only=local)
            if config.get("_class_name", kind) != kind:  # diffusers would use the keys that both classes have
                raise ModelError(f"{model} holds a {config['_class_name']}, not a {kind}; use the adapter made for it")
            with torch.device("meta"):
                made: nn.Module = transformer.from_config(config)
        except ModelError:
            raise
        except Exception as error:  # hub, file and shape errors come in many classes
            raise ModelError(f"cannot outline the {kind} of {model}: {_why(model, revision, error)}") from error
    return made


def _why(model: str, revision: str | None, error: Exception) -> str:
    return first_line(error) if Path(model).is_dir() else hub_sentence(model, revision, error)
