"""Parts that tiny pipelines share: tokenizers without files, text encoders, a VAE, and parameters that matter."""

from __future__ import annotations

import string
import warnings
from typing import Any

import torch
from torch import nn


def byte_tokenizer() -> Any:
    """A real CLIPTokenizer over single bytes."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16)


def clip(kind: str, tokenizer: Any, length: int = 16) -> Any:
    """A tiny CLIP text encoder, 16 wide; `kind` is its class name in transformers."""
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=8,
        max_position_embeddings=length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return getattr(transformers, kind)(config)


def letter_tokenizer() -> Any:
    """A real T5Tokenizer over single letters."""
    from transformers import T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)]
    pieces += [(letter, -2.0) for letter in string.ascii_lowercase + string.punctuation]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def t5(tokenizer: Any, width: int = 32, kind: str = "T5") -> Any:
    """A tiny text encoder of the T5 family; `kind` is T5 or UMT5."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    return getattr(transformers, f"{kind}EncoderModel")(config)


def piece_tokenizer(kind: str) -> Any:
    """A real tokenizer of a language model over single letters; `kind` is Gemma or Llama."""
    import transformers

    pieces = ["<pad>", "</s>", "<s>", "<unk>", "▁", *string.ascii_letters, *string.punctuation]
    names = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return getattr(transformers, f"{kind}Tokenizer")(vocab=vocabulary, merges=[], **names)


def chat_tokenizer() -> Any:
    """A real Qwen2Tokenizer over single bytes, with a template for what was said."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    vocabulary = {piece: index for index, piece in enumerate([*sorted(ByteLevel.alphabet()), "<|endoftext|>"])}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = (
        "{% for said in messages %}{% if said.content is string %}{{ said.content }}"
        "{% else %}{% for part in said.content %}{{ part.text }}{% endfor %}{% endif %}{% endfor %}"
    )
    return tokenizer


def language_model(kind: str, tokenizer: Any, width: int = 32) -> Any:
    """A tiny language model as a text encoder; `kind` is Gemma2, Qwen3 or Llama."""
    import transformers

    return getattr(transformers, f"{kind}Model")(
        getattr(transformers, f"{kind}Config")(**language_sizes(tokenizer, width))
    )


def language_sizes(tokenizer: Any, width: int = 32) -> dict[str, Any]:
    """What makes a language model tiny, in the words of its configuration."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": tokenizer.pad_token_id,
    }


def image_vae(levels: int = 3) -> Any:
    """A tiny AutoencoderKL of 4 latent channels at a quarter of the size, or with four levels at an eighth."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optional packages that nothing here needs
        from diffusers import AutoencoderKL
    return AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0,
        scaling_factor=1.0,
    )


def shake(model: nn.Module, scale: float = 0.3) -> None:
    """Give every parameter a visible value: freshly initialised transformers hardly react to their gates."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
