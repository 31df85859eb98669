"""Proofs of the rewards without text: diversity of sets, LPIPS, the size of files, plain statistics."""

from __future__ import annotations

import colorsys
import math
from collections import Counter
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image

from . import Proof
from ._by_hand import HF_VIT, Array, blocks, gelu, layer_norm, normalized, pair, patches, square_on_pil
from ._tiny import HEADS, ON_CPU, SIZE, library, pictures, save, score, tensors, weights

_MEAN = _STD = (0.5, 0.5, 0.5)
_SET = 5  # pictures of the first prompt; the second prompt has darker copies of them


def _both_sets() -> tuple[list[Image.Image], list[str]]:
    """Return the pictures of two prompts in alternation, so that the members of a set are not adjacent."""
    light = [picture.resize((48, 48)) for picture in pictures()]
    dark = [picture.point(lambda value: value // 3).rotate(90) for picture in light]
    mixed = [picture for both in zip(light, dark, strict=True) for picture in both]
    return mixed, ["light", "dark"] * _SET


def _published(distance: Array) -> float:
    """Return the mean over pairs."""
    return float(np.mean([distance[i, j] for i, j in combinations(range(len(distance)), 2)]))


def save_dino(folder: Path) -> dict[str, Array]:
    """Save a tiny ViT in the layout of the published DINO checkpoints, and return its weights."""
    wide, up = 32, 48
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, wide),
        "embeddings.position_embeddings": (1, (SIZE // 8) ** 2 + 1, wide),
        "embeddings.patch_embeddings.projection.weight": (wide, 3, 8, 8),
        "embeddings.patch_embeddings.projection.bias": (wide,),
        "layernorm.weight": (wide,),
        "layernorm.bias": (wide,),
    }
    for index in range(2):
        at = f"encoder.layer.{index}"
        for name in (*HF_VIT.qkv, HF_VIT.out):
            shapes |= {f"{at}.{name}.weight": (wide, wide), f"{at}.{name}.bias": (wide,)}
        for name in (HF_VIT.norm1, HF_VIT.norm2):
            shapes |= {f"{at}.{name}.weight": (wide,), f"{at}.{name}.bias": (wide,)}
        shapes |= {f"{at}.{HF_VIT.up}.weight": (up, wide), f"{at}.{HF_VIT.up}.bias": (up,)}
        shapes |= {f"{at}.{HF_VIT.down}.weight": (wide, up), f"{at}.{HF_VIT.down}.bias": (wide,)}
    state = weights(shapes, seed=7)
    sizes = {"hidden_size": wide, "intermediate_size": up, "num_hidden_layers": 2, "num_attention_heads": HEADS}
    library().ViTConfig(**sizes, image_size=SIZE, patch_size=8).save_pretrained(folder)
    square = {"height": SIZE, "width": SIZE}
    library().ViTImageProcessorPil(size=square, image_mean=_MEAN, image_std=_STD).save_pretrained(folder)
    save(state, folder / "model.safetensors")
    return state


def dino(folder: Path) -> float:
    """Compare with class tokens from NumPy; a set's mean score is the published mean over pairs."""
    state = save_dino(folder)
    outputs, prompts = _both_sets()
    found = []
    for picture in outputs:
        pixels = normalized(square_on_pil(picture, SIZE, Image.Resampling.BILINEAR), _MEAN, _STD)
        x = patches(pixels, *pair(state, "embeddings.patch_embeddings.projection"))
        x = np.vstack([state["embeddings.cls_token"][0], x]) + state["embeddings.position_embeddings"][0]
        x = blocks(state, "encoder.layer", HF_VIT, x, heads=HEADS, act=gelu, eps=1e-12)
        found.append(layer_norm(x[0], *pair(state, "layernorm"), 1e-12))
    differences = []
    scores = score("dino-diversity", {**ON_CPU, "model": str(folder)}, outputs, prompts)
    for begin in range(2):
        some = found[begin::2]
        cosines = np.array([[float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)) for b in some] for a in some])
        differences.append(abs(scores[begin::2].mean() - _published(1 - cosines)))
        others = [np.mean([1 - cosines[i, j] for j in range(_SET) if j != i]) for i in range(_SET)]
        differences.append(float(np.abs(scores[begin::2] - others).max()))
    return float(max(differences))


_ALEXNET = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


def save_lpips(folder: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """Save a random AlexNet and random heads in the published layouts, and return both."""
    import torch

    rng = np.random.default_rng(8)
    alexnet, heads = {}, {}
    for place, (number, (out, into, size)) in enumerate(_ALEXNET.items()):
        alexnet[f"features.{number}.weight"] = (
            rng.standard_normal((out, into, size, size)) / (into * size * size) ** 0.5
        )
        alexnet[f"features.{number}.bias"] = rng.standard_normal(out) * 0.1
        heads[f"lin{place}.model.1.weight"] = rng.random((1, out, 1, 1))
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(tensors(alexnet), folder / "alexnet-owt-7be5be79.pth")
    torch.save(tensors(heads), folder / "alex.pth")
    return alexnet, heads


def lpips(folder: Path) -> float:
    """Compare with an AlexNet in NumPy and the published sum over layers, positions and channels, pair by pair."""
    alexnet, heads = save_lpips(folder)
    outputs, prompts = _both_sets()
    stacks = [_alexnet(alexnet, np.asarray(picture, dtype=np.float64).transpose(2, 0, 1) / 255) for picture in outputs]
    scores, differences = score("lpips", {**ON_CPU, "model": str(folder)}, outputs, prompts), []
    for begin in range(2):
        some = stacks[begin::2]
        distances = np.array([[_lpips(heads, a, b) for b in some] for a in some])
        differences.append(abs(scores[begin::2].mean() - _published(distances)))
        others = [np.mean([distances[i, j] for j in range(_SET) if j != i]) for i in range(_SET)]
        differences.append(float(np.abs(scores[begin::2] - others).max()))
    return float(max(differences))


def _lpips(heads: dict[str, Array], first: list[Array], second: list[Array]) -> float:
    total = 0.0
    for place, (a, b) in enumerate(zip(first, second, strict=True)):
        a, b = (x / (np.sqrt((x**2).sum(0)) + 1e-10) for x in (a, b))
        total += float((heads[f"lin{place}.model.1.weight"][0] * (a - b) ** 2).sum(0).mean())
    return total


def _alexnet(state: dict[str, Array], picture: Array) -> list[Array]:
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    x, found = (2 * picture - 1 - shift[:, None, None]) / scale[:, None, None], []
    steps = {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}
    for number, (stride, padding) in steps.items():
        x = _windows(x, 3, 2).max((-1, -2)) if number in (3, 6) else x
        weight = state[f"features.{number}.weight"]
        windows = _windows(np.pad(x, ((0, 0), (padding, padding), (padding, padding))), weight.shape[-1], stride)
        x = (
            np.einsum("oikl,ihwkl->ohw", weight, windows, optimize=True)
            + state[f"features.{number}.bias"][:, None, None]
        )
        x = np.maximum(x, 0)
        found.append(x)
    return found


def _windows(x: Array, size: int, stride: int) -> Array:
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]


def jpeg(direction: str, folder: Path) -> float:
    """Compare with the size of real files."""
    sizes = []
    for index, picture in enumerate(pictures()):
        picture.save(folder / f"{index}.jpg", quality=95)
        sizes.append((folder / f"{index}.jpg").stat().st_size / 1000)
    expected = np.array(sizes) if direction == "incompressible" else np.array(sizes) / -500
    found = score("jpeg-size", {"direction": direction}, pictures(), [""] * len(sizes))
    return float(np.abs(found - expected).max())


def statistic(name: str, folder: Path) -> float:
    """Compare with a computation pixel by pixel, in plain Python."""
    some = [picture.resize((24, 16)) for picture in pictures()]
    expected = [_statistic(name, picture) for picture in some]
    return float(np.abs(score(name, {}, some, [""] * len(some)) - np.array(expected)).max())


def _statistic(name: str, picture: Image.Image) -> float:
    rows = np.asarray(picture).tolist()
    lumas = [[(0.299 * r + 0.587 * g + 0.114 * b) / 255 for r, g, b in row] for row in rows]
    flat = [luma for row in lumas for luma in row]
    if name == "edge-density":
        edges = [
            math.hypot(lumas[y][x + 1] - lumas[y][x], lumas[y + 1][x] - lumas[y][x]) > 0.1
            for y in range(picture.height - 1)
            for x in range(picture.width - 1)
        ]
        return sum(edges) / len(edges)
    if name == "entropy":
        counts = Counter(round(luma * 255) for luma in flat)
        return -sum(count / len(flat) * math.log2(count / len(flat)) for count in counts.values()) / 8
    if name == "saturation":
        return sum(colorsys.rgb_to_hsv(*pixel)[1] for row in rows for pixel in row) / len(flat)
    marked = [luma < 0.1 if name == "dark-share" else luma > 0.9 for luma in flat]
    return float(sum(marked) / len(marked))


PROOFS = (
    Proof("dino-diversity", "arXiv 2104.14294", "ViT in NumPy, mean over pairs", dino, 1e-6),
    Proof("lpips", "arXiv 1801.03924", "AlexNet in NumPy, pair by pair", lpips, 1e-5),
    *(
        Proof(f"jpeg-size ({direction})", "arXiv 2305.13301", "files on disk", partial(jpeg, direction), 1e-12)
        for direction in ("incompressible", "compressible")
    ),
    *(
        Proof(name, "its docstring", "pixel by pixel in plain Python", partial(statistic, name), 1e-9)
        for name in ("edge-density", "entropy", "saturation", "dark-share", "bright-share")
    ),
)
