"""Proofs of the rewards from CLIP embeddings: PickScore, CLIPScore, the aesthetic score and HPS v2.1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from . import Proof
from ._by_hand import (
    CLIP_MEAN,
    OPEN_CLIP,
    Array,
    blocks,
    causal,
    cubic,
    gelu,
    hf_clip_unit,
    layer_norm,
    normalized,
    pair,
    patches,
    quick_gelu,
    resized,
    square_on_pil,
    triangle,
    unit,
)
from ._tiny import (
    HEADS,
    ON_CPU,
    PROMPTS,
    SIZE,
    byte_tokenizer,
    clip_config,
    pictures,
    save_clip,
    save_reader,
    score,
    tensors,
    weights,
)

_FORMULAS: dict[tuple[str, str], tuple[str, Callable[[Array], Array]]] = {
    ("pickscore", "logits"): ("", lambda cos: 100 * cos),
    ("pickscore", "per26"): ("", lambda cos: 100 * cos / 26),
    ("clipscore", "hessel"): ("A photo depicts ", lambda cos: 2.5 * np.maximum(cos, 0)),
    ("clipscore", "torchmetrics"): ("", lambda cos: 100 * np.maximum(cos, 0)),
    ("clipscore", "flow-grpo"): ("", lambda cos: 100 * cos / 30),
}


def bilinear_square(picture: Image.Image, size: int) -> Array:
    """Resize the shorter edge to `size`, bilinear and unrounded, and crop the middle square."""
    short = min(picture.size)
    height, width = int(size * picture.height / short), int(size * picture.width / short)
    top, left = round((height - size) / 2), round((width - size) / 2)
    return resized(picture, height, width, triangle, 1)[:, top : top + size, left : left + size]


def _angles(state: Mapping[str, Array], prefix: str, pixels: Callable[[Image.Image, int], Array]) -> Array:
    tokenizer, cosines = byte_tokenizer(), []
    for prompt, picture in zip(PROMPTS, pictures(), strict=True):
        ids = tokenizer(prefix + prompt).input_ids
        text, seen = hf_clip_unit(state, HEADS, quick_gelu, ids, normalized(pixels(picture, SIZE)))
        cosines.append(float(text @ seen))
    return np.array(cosines)


def angle(objective: str, convention: str, folder: Path) -> float:
    """Compare PickScore or CLIPScore with towers, preprocessing and formula in NumPy."""
    state = save_clip(folder)
    options = {**ON_CPU, "convention": convention, "model": str(folder)}
    if objective == "pickscore":
        options["processor"] = str(folder)
    prefix, formula = _FORMULAS[objective, convention]
    pixels = bilinear_square if convention == "flow-grpo" else square_on_pil
    expected = formula(_angles(state, prefix, pixels))
    return float(np.abs(score(objective, options, pictures(), list(PROMPTS)) - expected).max())


def aesthetic(folder: Path) -> float:
    """Compare with a random head of five layers, applied one by one to embeddings from NumPy."""
    import torch

    state = save_clip(folder, width=24)
    widths = (24, 40, 30, 20, 10, 1)
    shapes: dict[str, tuple[int, ...]] = {}
    for index, (wide, narrow) in zip((0, 2, 4, 6, 7), pairwise(widths), strict=True):
        shapes |= {f"layers.{index}.weight": (narrow, wide), f"layers.{index}.bias": (narrow,)}
    head = weights(shapes, seed=1)
    torch.save(tensors(head), folder / "head.pth")
    expected = []
    for picture in pictures():
        ids = byte_tokenizer()("").input_ids
        _, x = hf_clip_unit(state, HEADS, quick_gelu, ids, normalized(square_on_pil(picture, SIZE)))
        for index in (0, 2, 4, 6, 7):
            x = head[f"layers.{index}.weight"] @ x + head[f"layers.{index}.bias"]
        expected.append(float(x[0]))
    options = {**ON_CPU, "model": str(folder), "head": str(folder / "head.pth")}
    return float(np.abs(score("aesthetic", options, pictures(), list(PROMPTS)) - np.array(expected)).max())


def open_clip_state() -> dict[str, Array]:
    """Draw random weights of a tiny CLIP in the layout of the published HPS checkpoint."""
    width, narrow = 32, 24
    shapes: dict[str, tuple[int, ...]] = {
        "visual.class_embedding": (width,),
        "visual.positional_embedding": ((SIZE // 8) ** 2 + 1, width),
        "visual.proj": (width, narrow),
        "visual.conv1.weight": (width, 3, 8, 8),
        "positional_embedding": (77, width),
        "text_projection": (width, narrow),
        "token_embedding.weight": (514, width),
    }
    for norm in ("visual.ln_pre", "visual.ln_post", "ln_final"):
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    for tower in ("visual.transformer", "transformer"):
        for index in range(2):
            at = f"{tower}.resblocks.{index}"
            shapes |= {f"{at}.{norm}.{kind}": (width,) for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")}
            shapes |= {f"{at}.attn.in_proj_weight": (3 * width, width), f"{at}.attn.in_proj_bias": (3 * width,)}
            shapes |= {f"{at}.attn.out_proj.weight": (width, width), f"{at}.attn.out_proj.bias": (width,)}
            shapes |= {f"{at}.mlp.c_fc.weight": (48, width), f"{at}.mlp.c_fc.bias": (48,)}
            shapes |= {f"{at}.mlp.c_proj.weight": (width, 48), f"{at}.mlp.c_proj.bias": (width,)}
    return {**weights(shapes, seed=2), "logit_scale": np.array(np.log(100.0))}


def hpsv2(folder: Path) -> float:
    """Compare with the published layout in NumPy, on the whole picture resized in NumPy onto black."""
    import torch

    state = open_clip_state()
    save_reader(folder, clip_config("gelu"))
    torch.save({"epoch": 1, "state_dict": tensors(state)}, folder / "HPS_v2.1_compressed.pt")
    tokenizer, expected = byte_tokenizer(), []
    for prompt, picture in zip(PROMPTS, pictures(), strict=True):
        ids = tokenizer(prompt).input_ids
        x = state["token_embedding.weight"][ids] + state["positional_embedding"][: len(ids)]
        x = blocks(state, "transformer.resblocks", OPEN_CLIP, x, heads=HEADS, act=gelu, mask=causal(len(ids)))
        text = unit(layer_norm(x[-1], *pair(state, "ln_final")) @ state["text_projection"])
        pixels = patches(normalized(_on_black(picture)), state["visual.conv1.weight"])
        x = np.vstack([state["visual.class_embedding"], pixels]) + state["visual.positional_embedding"]
        x = layer_norm(x, *pair(state, "visual.ln_pre"))
        x = blocks(state, "visual.transformer.resblocks", OPEN_CLIP, x, heads=HEADS, act=gelu)
        seen = unit(layer_norm(x[0], *pair(state, "visual.ln_post")) @ state["visual.proj"])
        expected.append(float(text @ seen))
    options = {**ON_CPU, "model": str(folder), "clip": str(folder)}
    return float(np.abs(score("hpsv2", options, pictures(), list(PROMPTS)) - np.array(expected)).max())


def _on_black(picture: Image.Image) -> Array:
    longer = max(picture.size)
    height, width = round(picture.height * SIZE / longer), round(picture.width * SIZE / longer)
    canvas = np.zeros((len(CLIP_MEAN), SIZE, SIZE))
    top, left = (SIZE - height) // 2, (SIZE - width) // 2
    canvas[:, top : top + height, left : left + width] = resized(picture, height, width, cubic, 2)
    return canvas


_SOURCES = {"pickscore": "arXiv 2305.01569", "clipscore": "arXiv 2104.08718"}
_TOLERANCES = {"pickscore": 1e-4, "clipscore": 1e-4}

PROOFS = (
    *(
        Proof(
            f"{objective} ({convention})",
            _SOURCES[objective],
            "CLIP in NumPy",
            partial(angle, objective, convention),
            _TOLERANCES[objective],
        )
        for objective, convention in _FORMULAS
    ),
    Proof("aesthetic", "improved-aesthetic-predictor", "CLIP and five layers in NumPy", aesthetic, 1e-5),
    Proof("hpsv2", "arXiv 2306.09341", "open_clip layout in NumPy", hpsv2, 1e-5),
)
