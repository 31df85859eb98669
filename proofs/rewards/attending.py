"""Proofs of the rewards with cross-attention between picture and prompt: ImageReward and MPS."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from . import Proof
from ._by_hand import (
    TIMM,
    Array,
    attention,
    blocks,
    gelu,
    hf_clip,
    layer_norm,
    linear,
    normalized,
    pair,
    patches,
    softmax,
    square_on_pil,
    unit,
)
from ._tiny import (
    HEADS,
    ON_CPU,
    PROMPTS,
    SIZE,
    byte_tokenizer,
    clip_config,
    clip_state,
    library,
    pictures,
    save,
    save_reader,
    score,
    tensors,
    weights,
)

_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "circle", "two", "blue", "squares", "on", "table", "owl")
_WIDTH = 64  # also the width of an attention head in ImageReward's vision tower
_LENGTH = 35
_CONDITION = (
    "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, structure, instance, "
    "texture, quantity, attributes, position, number, location, word, things."
)


def _layer(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def imagereward_state() -> dict[str, Array]:
    """Draw random weights of a tiny ImageReward in the published layout."""
    wide, up, vision, text = _WIDTH, 96, "blip.visual_encoder", "blip.text_encoder"
    shapes: dict[str, tuple[int, ...]] = {
        f"{vision}.cls_token": (1, 1, wide),
        f"{vision}.pos_embed": (1, (SIZE // 8) ** 2 + 1, wide),
        f"{vision}.patch_embed.proj.weight": (wide, 3, 8, 8),
        f"{vision}.patch_embed.proj.bias": (wide,),
        f"{text}.embeddings.word_embeddings.weight": (len(_WORDS), wide),
        f"{text}.embeddings.position_embeddings.weight": (_LENGTH, wide),
    } | _norm(f"{vision}.norm", wide) | _norm(f"{text}.embeddings.LayerNorm", wide)  # fmt: skip
    for index in range(2):
        at = f"{vision}.blocks.{index}"
        shapes |= _norm(f"{at}.norm1", wide) | _norm(f"{at}.norm2", wide) | _layer(f"{at}.attn.qkv", 3 * wide, wide)
        shapes |= _layer(f"{at}.attn.proj", wide, wide) | _layer(f"{at}.mlp.fc1", up, wide)
        shapes |= _layer(f"{at}.mlp.fc2", wide, up)
        at = f"{text}.encoder.layer.{index}"
        for looks in ("attention", "crossattention"):
            for name in ("self.query", "self.key", "self.value", "output.dense"):
                shapes |= _layer(f"{at}.{looks}.{name}", wide, wide)
            shapes |= _norm(f"{at}.{looks}.output.LayerNorm", wide)
        shapes |= _layer(f"{at}.intermediate.dense", up, wide) | _layer(f"{at}.output.dense", wide, up)
        shapes |= _norm(f"{at}.output.LayerNorm", wide)
    widths = {0: (_WIDTH, 40), 2: (40, 30), 4: (30, 20), 6: (20, 10), 7: (10, 1)}
    for number, (into, out) in widths.items():
        shapes |= _layer(f"mlp.layers.{number}", out, into)
    return weights(shapes, seed=3)


def save_imagereward(folder: Path) -> dict[str, Array]:
    """Save a tiny ImageReward in the published layout with a tokenizer of few words, and return its weights."""
    import torch

    state = imagereward_state()
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(tensors(state), folder / "ImageReward.pt")
    sizes = {"hidden_size": _WIDTH, "encoder_width": _WIDTH, "intermediate_size": 96, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": HEADS, "vocab_size": len(_WORDS), "max_position_embeddings": _LENGTH}
    (folder / "med_config.json").write_text(json.dumps({**sizes, "layer_norm_eps": 1e-12, "pad_token_id": 0}))
    vocabulary = {word: index for index, word in enumerate(_WORDS)}
    library().BertTokenizer(vocab=vocabulary, do_lower_case=True).save_pretrained(folder)
    return state


def imagereward(folder: Path) -> float:
    """Compare with a BLIP and its head in NumPy, in the published layout."""
    state, expected = save_imagereward(folder), []
    for prompt, picture in zip(PROMPTS, pictures(), strict=True):
        words = [_WORDS.index(word) if word in _WORDS else 1 for word in prompt.split()]
        x = _read(state, [2, *words, 3], _seen(state, picture))[0]
        for number in (0, 2, 4, 6, 7):
            x = linear(state, f"mlp.layers.{number}", x)
        expected.append((float(x[0]) - 0.16717362830052426) / 1.0333394966054072)
    options = {**ON_CPU, "model": str(folder), "tokenizer": str(folder)}
    return float(np.abs(score("imagereward", options, pictures(), list(PROMPTS)) - np.array(expected)).max())


def _seen(state: Mapping[str, Array], picture: Image.Image) -> Array:
    at = "blip.visual_encoder"
    pixels = normalized(square_on_pil(picture, SIZE))
    found = patches(pixels, *pair(state, f"{at}.patch_embed.proj"))
    x = np.vstack([state[f"{at}.cls_token"][0], found]) + state[f"{at}.pos_embed"][0]
    x = blocks(state, f"{at}.blocks", TIMM, x, heads=1, act=gelu, eps=1e-6)
    return layer_norm(x, *pair(state, f"{at}.norm"), 1e-6)


def _read(state: Mapping[str, Array], ids: list[int], seen: Array) -> Array:
    """Run a BERT with cross-attention to the picture after each self-attention, without padding tokens."""
    at = "blip.text_encoder.embeddings"
    x = state[f"{at}.word_embeddings.weight"][ids] + state[f"{at}.position_embeddings.weight"][: len(ids)]
    x = layer_norm(x, *pair(state, f"{at}.LayerNorm"), 1e-12)
    for index in range(2):
        at = f"blip.text_encoder.encoder.layer.{index}"
        for looks, other in (("attention", None), ("crossattention", seen)):
            source = x if other is None else other
            queries = linear(state, f"{at}.{looks}.self.query", x)
            keys, values = (linear(state, f"{at}.{looks}.self.{name}", source) for name in ("key", "value"))
            out = linear(state, f"{at}.{looks}.output.dense", attention(queries, keys, values, HEADS))
            x = layer_norm(x + out, *pair(state, f"{at}.{looks}.output.LayerNorm"), 1e-12)
        forward = linear(state, f"{at}.output.dense", gelu(linear(state, f"{at}.intermediate.dense", x)))
        x = layer_norm(x + forward, *pair(state, f"{at}.output.LayerNorm"), 1e-12)
    return x


def cross_state(width: int, head: int, heads: int, depth: int) -> dict[str, Array]:
    """Draw random weights of a cross model, with the published module's names."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index in range(depth):
        first, second = f"layers.{index}.0.fn", f"layers.{index}.1.fn"
        shapes |= {f"{name}.norm.weight": (width,) for name in (first, second)}
        shapes |= {f"{first}.to_q.weight": (heads * head, width), f"{first}.to_kv.weight": (2 * head, width)}
        shapes |= {f"{first}.to_out.weight": (width, heads * head), f"{first}.ff.0.weight": (8 * width, width)}
        shapes |= {f"{first}.ff.2.weight": (width, 4 * width)}
        shapes |= {f"{second}.fused_attn_ff_proj.weight": (heads * head + 2 * head + 8 * width, width)}
        shapes |= {f"{second}.attn_out.weight": (width, heads * head), f"{second}.ff_out.1.weight": (width, 4 * width)}
    return weights(shapes, seed=4)


def save_mps(folder: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """Save a tiny MPS in the converted layout, and return the weights of its CLIP and of its cross model."""
    config = clip_config("gelu")
    clip, crossing = clip_state(config, seed=6), cross_state(width=24, head=8, heads=3, depth=2)
    clip["text_model.final_layer_norm.bias"] *= 0  # a bias common to all tokens would leave every token unmasked
    save_reader(folder, config)
    joined = {f"model.{name}": value for name, value in clip.items()}
    save(joined | {f"cross_model.{name}": value for name, value in crossing.items()}, folder / "mps.safetensors")
    return clip, crossing


def mps(threshold: float, folder: Path) -> float:
    """Compare with towers, mask and cross model in NumPy, one picture at a time."""
    clip, crossing = save_mps(folder)
    text, vision = hf_clip(clip, HEADS, gelu)
    tokenizer = byte_tokenizer()

    def read(prompt: str) -> tuple[Array, int]:
        made = tokenizer(prompt, truncation=True, max_length=77).input_ids
        padded = made + [tokenizer.pad_token_id] * (77 - len(made))
        return text(padded) @ clip["text_projection.weight"].T, int(np.argmax(padded))

    condition, expected = read(_CONDITION)[0], []
    for prompt, picture in zip(PROMPTS, pictures(), strict=True):
        tokens, end = read(prompt)
        near = (tokens @ condition.T).max(1)
        mask = np.where(near / near.max() > threshold, 0.0, -np.inf)
        seen = vision(normalized(square_on_pil(picture, SIZE))) @ clip["visual_projection.weight"].T
        crossed = crossed_by_hand(crossing, seen, tokens, mask, heads=3)
        expected.append(100 * float(unit(crossed[0]) @ unit(tokens[end])))
    options = {**ON_CPU, "model": str(folder), "clip": str(folder), "threshold": threshold}
    return float(np.abs(score("mps", options, pictures(), list(PROMPTS)) - np.array(expected)).max())


def crossed_by_hand(state: Mapping[str, Array], x: Array, context: Array, mask: Array, heads: int) -> Array:
    """Run the cross model head by head; x (num_query, width), context (num_context, width), mask (num_context,)."""
    depth = 1 + max(int(name.split(".")[1]) for name in state)
    for index in range(depth):
        first, second = f"layers.{index}.0.fn", f"layers.{index}.1.fn"
        normed = layer_norm(x, state[f"{first}.norm.weight"], 0.0)
        keys, values = np.split(context @ state[f"{first}.to_kv.weight"].T, 2, axis=1)
        queries = np.split(normed @ state[f"{first}.to_q.weight"].T, heads, axis=1)
        looked = np.hstack([softmax(q @ keys.T / np.sqrt(q.shape[1]) + mask) @ values for q in queries])
        forward = _gated(normed @ state[f"{first}.ff.0.weight"].T) @ state[f"{first}.ff.2.weight"].T
        x = x + looked @ state[f"{first}.to_out.weight"].T + forward
        normed = layer_norm(x, state[f"{second}.norm.weight"], 0.0)
        fused = normed @ state[f"{second}.fused_attn_ff_proj.weight"].T
        inner, head = state[f"{second}.attn_out.weight"].shape[1], keys.shape[1]
        parts = np.split(fused, [inner, inner + head, inner + 2 * head], axis=1)
        queries, key = [_turned(q) for q in np.split(parts[0], heads, axis=1)], _turned(parts[1])
        looked = np.hstack([softmax(q @ key.T / np.sqrt(head)) @ parts[2] for q in queries])
        x = x + looked @ state[f"{second}.attn_out.weight"].T + _gated(parts[3]) @ state[f"{second}.ff_out.1.weight"].T
    return x


def _gated(x: Array) -> Array:
    values, gate = np.split(x, 2, axis=1)
    return np.asarray(values * gate / (1 + np.exp(-gate)))


def _turned(x: Array) -> Array:
    """Apply rotary positions by multiplying complex numbers."""
    half = x.shape[1] // 2
    rates = 10000.0 ** (-np.arange(half) / half)
    turned = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * np.arange(len(x))[:, None] * rates)
    return np.hstack([turned.real, turned.imag])


PROOFS = (
    Proof("imagereward", "arXiv 2304.05977", "BLIP, BERT and head in NumPy", imagereward, 3e-5),
    *(
        Proof(
            f"mps (threshold {threshold})",
            "arXiv 2405.14705",
            "towers and cross model in NumPy",
            partial(mps, threshold),
            1e-4,
        )
        for threshold in (0.01, 0.3)
    ),
)
