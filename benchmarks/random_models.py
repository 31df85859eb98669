"""Pipelines with random weights at any size, for `backbones.py`: real classes and tokenizers, without a download."""

from __future__ import annotations

import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from trimpot.adapters.families import FLUX, QWEN_IMAGE, SD3
from trimpot.adapters.published import CHECKPOINTS
from trimpot.ground.weights import quiet_import

with quiet_import():
    import diffusers
    import transformers
    from diffusers import FluxPipeline, QwenImagePipeline, StableDiffusion3Pipeline  # noqa: F401  # all loaded lazily
diffusers.logging.set_verbosity_error()
transformers.logging.set_verbosity_error()

FAMILIES = {"flux": FLUX, "sd3": SD3, "qwen": QWEN_IMAGE}
PUBLISHED = {
    "flux": "black-forest-labs/FLUX.1-dev",
    "sd3": "stabilityai/stable-diffusion-3.5-medium",
    "qwen": "Qwen/Qwen-Image",
}
CLIP_TOKENS = 77


@dataclass(frozen=True)
class Size:
    """The size of a model and its images.

    Attributes:
        side: Side length of the latents; the number of image tokens is side * side / 4.
        text_tokens: Number of tokens of the T5 encoder; Stable Diffusion 3 adds 77 tokens of CLIP before them.
        layers: Number of blocks of the transformer; None for the published number.
        width: Width of the transformer and the text encoders; None for the published width.
        text_layers: Number of layers of the text encoders; None for the published number.
    """

    side: int
    text_tokens: int
    layers: int | None = None
    width: int | None = None
    text_layers: int | None = None


SIZES = {
    "compute": Size(side=32, text_tokens=77, layers=6, width=128, text_layers=4),
    "overhead": Size(side=8, text_tokens=48, layers=6, width=16, text_layers=4),
    "real": Size(side=64, text_tokens=256),
}


@contextmanager
def made_on(device: str, dtype: torch.dtype) -> Iterator[None]:
    """Create parameters on a device and in a dtype, with the same random values every time."""
    default = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(default)


def transformer(kind: str, size: Size, device: str, dtype: torch.dtype) -> nn.Module:
    """Return a transformer of the published configuration, with the layers and the width that the size sets."""
    config = dict(CHECKPOINTS[PUBLISHED[kind]].config)
    if size.width is not None:
        head = min(size.width, 32)
        rope = 2 * (head * 7 // 32)
        own = {"attention_head_dim": head, "num_attention_heads": size.width // head, "joint_attention_dim": size.width}
        config |= own | ({} if kind == "sd3" else {"axes_dims_rope": (head - 2 * rope, rope, rope)})
        config |= {"caption_projection_dim": size.width} if kind == "sd3" else {}
        config |= {} if kind == "qwen" else {"pooled_projection_dim": size.width}
    if size.layers is not None:
        config["num_layers"] = size.layers // 2 if kind == "flux" else size.layers
        config |= {"num_single_layers": size.layers - size.layers // 2} if kind == "flux" else {}
        config |= {"dual_attention_layers": tuple(range(size.layers // 2))} if kind == "sd3" else {}
    with made_on(device, dtype):
        model: nn.Module = getattr(diffusers, FAMILIES[kind].transformer).from_config(config)
    return model.eval()


def inputs(kind: str, model: Any, size: Size, rows: int) -> dict[str, Any]:
    """Return the keyword arguments of a forward pass; every row has a different prompt and noise."""
    config, side = model.config, size.side // 2
    with made_on(str(model.device), model.dtype):
        width = config.joint_attention_dim
        if kind == "sd3":
            return {
                "hidden_states": torch.randn(rows, config.in_channels, size.side, size.side),
                "timestep": torch.full((rows,), 500.0),
                "encoder_hidden_states": torch.randn(rows, CLIP_TOKENS + size.text_tokens, width),
                "pooled_projections": torch.randn(rows, config.pooled_projection_dim),
            }
        both: dict[str, Any] = {
            "hidden_states": torch.randn(rows, side * side, config.in_channels),
            "timestep": torch.full((rows,), 0.5),
            "encoder_hidden_states": torch.randn(rows, size.text_tokens, width),
        }
        if kind == "qwen":
            return {**both, "img_shapes": [[(1, side, side)]] * rows}
        places = torch.cartesian_prod(torch.arange(1), torch.arange(side), torch.arange(side))
        return {
            **both,
            "guidance": torch.full((rows,), 3.5),
            "pooled_projections": torch.randn(rows, config.pooled_projection_dim),
            "img_ids": places.to(model.dtype),
            "txt_ids": torch.zeros(size.text_tokens, 3),
        }


def pipeline(kind: str, size: Size, device: str, dtype: torch.dtype) -> Any:
    """Return a whole pipeline of the kind `flux` or `sd3`, with text encoders and autoencoder."""
    body = transformer(kind, size, device, dtype)
    bytes_, letters = _byte_tokenizer(), _letter_tokenizer()
    sdxl = kind == "sd3"  # sd3 has a second CLIP, and both have a projection
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    with made_on(device, dtype):
        parts: dict[str, Any] = {
            "transformer": body,
            "scheduler": scheduler,
            "vae": _autoencoder(size),
            "text_encoder": _clip("CLIPTextModelWithProjection" if sdxl else "CLIPTextModel", bytes_, size, 768, 12),
            "tokenizer": bytes_,
        }
        encoder = _t5(letters, size)
        if sdxl:
            parts["text_encoder_2"] = _clip("CLIPTextModelWithProjection", bytes_, size, 1280, 32)
            parts |= {"tokenizer_2": bytes_, "text_encoder_3": encoder, "tokenizer_3": letters}
        else:
            parts |= {"text_encoder_2": encoder, "tokenizer_2": letters}
        pipe = getattr(diffusers, FAMILIES[kind].pipeline)(**parts)
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            part.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _autoencoder(size: Size) -> Any:
    """Return an autoencoder with 16 latent channels, as published; it enlarges 8 times, or 4 in a small model."""
    channels = (128, 256, 512, 512) if size.width is None else (16, 16, 16)
    return diffusers.AutoencoderKL(
        block_out_channels=channels,
        down_block_types=["DownEncoderBlock2D"] * len(channels),
        up_block_types=["UpDecoderBlock2D"] * len(channels),
        layers_per_block=2 if size.width is None else 1,
        latent_channels=16,
        norm_num_groups=32 if size.width is None else 4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0,
        scaling_factor=1.0,
    )


def _clip(kind: str, tokenizer: Any, size: Size, width: int, layers: int) -> Any:
    """Return a CLIP text encoder; in a small model each of two has half the width, so together they have all of it."""
    if size.width is not None:
        width = size.width if kind == "CLIPTextModel" else size.width // 2
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        projection_dim=width,
        intermediate_size=4 * width,
        num_hidden_layers=size.text_layers or layers,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=CLIP_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return getattr(transformers, kind)(config)


def _t5(tokenizer: Any, size: Size) -> Any:
    """Return a text encoder like T5 XXL."""
    width = size.width or 4096
    config = transformers.T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_ff=width * 5 // 2,
        d_kv=min(64, width),
        num_heads=max(1, width // 64),
        num_layers=size.text_layers or 24,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
    )
    return transformers.T5EncoderModel(config)


def _byte_tokenizer() -> Any:
    """Return a CLIP tokenizer over single bytes."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=CLIP_TOKENS)


def _letter_tokenizer() -> Any:
    """Return a T5 tokenizer over single letters and digits."""
    from transformers import T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)]
    return T5Tokenizer(
        vocab=pieces + [(letter, -2.0) for letter in string.ascii_lowercase + string.digits], extra_ids=0
    )


def flops(model: nn.Module, arguments: dict[str, Tensor]) -> int:
    """Return the number of floating-point operations of one forward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**arguments)
    return int(counter.get_total_flops())
