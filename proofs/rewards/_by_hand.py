"""Transformers and image resizing in plain NumPy and float64, for comparison with the rewards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import erf
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
State = Mapping[str, Array]
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def gelu(x: Array) -> Array:
    """Return x times the standard normal distribution function of x."""
    return np.asarray(x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2))))


def quick_gelu(x: Array) -> Array:
    """Return OpenAI's approximation of `gelu`."""
    return np.asarray(x / (1 + np.exp(-1.702 * x)))


def layer_norm(x: Array, weight: Array, bias: Array | float, eps: float = 1e-5) -> Array:
    """Normalise the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + bias)


def softmax(x: Array) -> Array:
    """Return the softmax over the last axis."""
    shifted = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def attention(queries: Array, keys: Array, values: Array, heads: int, mask: Array | float = 0.0) -> Array:
    """Compute attention head by head; inputs of shape (length, width), mask added to scores (num_queries, num_keys)."""
    split = [np.split(x, heads, axis=1) for x in (queries, keys, values)]
    return np.concatenate(
        [softmax(q @ k.T / np.sqrt(q.shape[1]) + mask) @ v for q, k, v in zip(*split, strict=True)], axis=1
    )


@dataclass(frozen=True)
class Names:
    """A checkpoint's names for the parts of a pre-normalised block; `qkv` is one name or three."""

    norm1: str
    qkv: tuple[str, ...]
    out: str
    norm2: str
    up: str
    down: str


HF_CLIP = Names(
    "layer_norm1",
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.out_proj",
    "layer_norm2",
    "mlp.fc1",
    "mlp.fc2",
)
OPEN_CLIP = Names("ln_1", ("attn.in_proj",), "attn.out_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
TIMM = Names("norm1", ("attn.qkv",), "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
HF_VIT = Names(
    "layernorm_before",
    ("attention.attention.query", "attention.attention.key", "attention.attention.value"),
    "attention.output.dense",
    "layernorm_after",
    "intermediate.dense",
    "output.dense",
)


def pair(state: State, name: str) -> tuple[Array, Array]:
    """Return the weight and bias of a layer; open_clip names those of its fused projection with an underscore."""
    joint = "_" if name.endswith("in_proj") else "."
    return state[f"{name}{joint}weight"], state[f"{name}{joint}bias"]


def linear(state: State, name: str, x: Array) -> Array:
    """Apply a linear layer."""
    weight, bias = pair(state, name)
    return np.asarray(x @ weight.T + bias)


def blocks(
    state: State,
    prefix: str,
    names: Names,
    x: Array,
    *,
    heads: int,
    act: Callable[[Array], Array],
    mask: Array | float = 0.0,
    eps: float = 1e-5,
) -> Array:
    """Apply every block `prefix.N` in turn; x of shape (length, width)."""
    depth = 1 + max(int(name[len(prefix) + 1 :].split(".")[0]) for name in state if name.startswith(prefix + "."))
    for index in range(depth):
        at = f"{prefix}.{index}"
        normed = layer_norm(x, *pair(state, f"{at}.{names.norm1}"), eps)
        projected = np.concatenate([linear(state, f"{at}.{name}", normed) for name in names.qkv], axis=1)
        queries, keys, values = np.split(projected, 3, axis=1)
        x = x + linear(state, f"{at}.{names.out}", attention(queries, keys, values, heads, mask))
        normed = layer_norm(x, *pair(state, f"{at}.{names.norm2}"), eps)
        x = x + linear(state, f"{at}.{names.down}", act(linear(state, f"{at}.{names.up}", normed)))
    return x


def patches(pixels: Array, kernel: Array, bias: Array | float = 0.0) -> Array:
    """Apply a convolution whose stride equals its kernel size; pixels (3, height, width) to (num_patches, width)."""
    size = kernel.shape[-1]
    rows, columns = pixels.shape[1] // size, pixels.shape[2] // size
    tiles = [
        pixels[:, size * r : size * (r + 1), size * c : size * (c + 1)].ravel()
        for r in range(rows)
        for c in range(columns)
    ]
    return np.asarray(np.stack(tiles) @ kernel.reshape(len(kernel), -1).T + bias)


def causal(length: int) -> Array:
    """Return the causal mask, which hides later tokens."""
    return np.triu(np.full((length, length), -np.inf), 1)


def unit(x: Array) -> Array:
    """Scale rows to length 1."""
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def hf_clip(state: State, heads: int, act: Callable[[Array], Array]) -> tuple[Any, Any]:
    """Return the text and vision towers of a CLIP with CLIPModel's names, as functions that return token features.

    The text tower takes token ids and normalises its features; the vision tower takes pixels and does not. Neither
    projects its features.
    """

    def text(ids: Sequence[int]) -> Array:
        at = "text_model.embeddings"
        x = state[f"{at}.token_embedding.weight"][list(ids)] + state[f"{at}.position_embedding.weight"][: len(ids)]
        x = blocks(state, "text_model.encoder.layers", HF_CLIP, x, heads=heads, act=act, mask=causal(len(ids)))
        return layer_norm(x, *pair(state, "text_model.final_layer_norm"))

    def vision(pixels: Array) -> Array:
        at = "vision_model.embeddings"
        x = np.vstack([state[f"{at}.class_embedding"], patches(pixels, state[f"{at}.patch_embedding.weight"])])
        x = layer_norm(x + state[f"{at}.position_embedding.weight"], *pair(state, "vision_model.pre_layrnorm"))
        return blocks(state, "vision_model.encoder.layers", HF_CLIP, x, heads=heads, act=act)

    return text, vision


def hf_clip_unit(
    state: State, heads: int, act: Callable[[Array], Array], ids: Sequence[int], pixels: Array
) -> tuple[Array, Array]:
    """Return unit embeddings of a text and a picture; the text's is at the first end token, the largest id."""
    text, vision = hf_clip(state, heads, act)
    end = text(ids)[int(np.argmax(ids))] @ state["text_projection.weight"].T
    seen = layer_norm(vision(pixels)[0], *pair(state, "vision_model.post_layernorm"))
    return unit(end), unit(seen @ state["visual_projection.weight"].T)


def square_on_pil(picture: Image.Image, size: int, how: Image.Resampling = Image.Resampling.BICUBIC) -> Array:
    """Resize the shorter edge to `size` with PIL and crop the middle square; in [0, 1], shape (3, size, size)."""
    width, height = picture.size
    short = min(width, height)
    resized = picture.resize((int(size * width / short), int(size * height / short)), how)
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    cut = resized.crop((left, top, left + size, top + size))
    pixels: Array = np.asarray(cut, dtype=np.float64).transpose(2, 0, 1) / 255
    return pixels


def normalized(pixels: Array, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> Array:
    """Subtract the mean of each channel and divide by its standard deviation."""
    return np.asarray((pixels - np.array(mean)[:, None, None]) / np.array(std)[:, None, None])


def cubic(x: Array) -> Array:
    """Return Keys' cubic kernel with a = -1/2, which reaches 2 to either side."""
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def triangle(x: Array) -> Array:
    """Return the bilinear kernel, which reaches 1 to either side."""
    height: Array = np.maximum(1 - np.abs(x), 0.0)
    return height


def resampling(old: int, new: int, kernel: Callable[[Array], Array], reach: float) -> Array:
    """Return the matrix (new, old) that resizes an axis with antialiasing, by a kernel scaled to the output pixel."""
    step = old / new
    wide = max(step, 1.0)
    matrix = np.zeros((new, old))
    for index in range(new):
        centre = (index + 0.5) * step
        first = max(int(centre - reach * wide + 0.5), 0)
        last = min(int(centre + reach * wide + 0.5), old)
        shares = kernel((np.arange(first, last, dtype=np.float64) + 0.5 - centre) / wide)
        matrix[index, first:last] = shares / shares.sum()
    return matrix


def resized(picture: Image.Image, height: int, width: int, kernel: Callable[[Array], Array], reach: float) -> Array:
    """Resize a picture without rounding; returns shape (3, height, width), approximately in [0, 1]."""
    pixels = np.asarray(picture, dtype=np.float64).transpose(2, 0, 1) / 255
    down = resampling(picture.height, height, kernel, reach)
    across = resampling(picture.width, width, kernel, reach)
    return np.asarray(down @ pixels @ across.T)
