"""Tiny checkpoints of the published architectures, and pictures and prompts to score with them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ...setup.plugins import plugins

Array = NDArray[np.float64]
PROMPTS = ("a red circle", "two blue squares on a table", "fog", "a green triangle", "an owl")
SIZE = 32  # input size of the tiny CLIPs, in pixels
HEADS = 2
ON_CPU: Mapping[str, Any] = {"device": "cpu", "batch_size": 2}  # two at a time, so that five pictures need three


def pictures() -> list[Image.Image]:
    """Make five different pictures: portrait, landscape, square, small, large."""
    rng = np.random.default_rng(5)
    made = []
    for width, height in ((48, 80), (90, 46), (64, 64), (24, 20), (100, 100)):
        picture = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((width, height))
        pen = ImageDraw.Draw(picture)
        left, top = rng.integers(0, min(width, height) // 2, 2)
        pen.ellipse((left, top, left + width // 3, top + height // 3), fill=tuple(rng.integers(0, 256, 3).tolist()))
        made.append(picture)
    return made


def score(objective: str, options: Mapping[str, Any], outputs: list[Image.Image], prompts: list[str]) -> Array:
    """Score outputs with a registered objective, made in the same way as from a configuration."""
    made = plugins().make("objectives", objective, options)
    return np.asarray(made.score(outputs, prompts), dtype=np.float64)


def weights(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Array]:
    """Draw random weights, large enough to matter; those of norms are near 1."""
    rng = np.random.default_rng(seed)
    made = {name: rng.standard_normal(shape) * 0.25 for name, shape in shapes.items()}
    norms = [name for name in made if name.endswith("weight") and any(n in name.lower() for n in ("norm", "ln_"))]
    return {name: value + 1 if name in norms else value for name, value in made.items()}


def save(state: Mapping[str, Array], path: Path) -> Path:
    """Write a state dict as float32 safetensors."""
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.array(value, dtype=np.float32, order="C") for name, value in state.items()}, path)
    return path


def tensors(state: Mapping[str, Array]) -> dict[str, Any]:
    """Convert a state dict to float32 tensors."""
    import torch

    return {name: torch.tensor(np.asarray(value), dtype=torch.float32) for name, value in state.items()}


def library() -> Any:
    """Import the library transformers without its notices."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers
    return transformers


def byte_tokenizer(length: int = 77) -> Any:
    """Make a CLIPTokenizer whose words are single bytes."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return library().CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=length)


def clip_config(act: str = "quick_gelu", width: int = 24) -> Any:
    """Configure a CLIP with two layers per tower; as in published files, the end token is the largest id, written 2."""
    tower = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": HEADS, "intermediate_size": 48}
    ends = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    text = {**tower, **ends, "vocab_size": 514, "max_position_embeddings": 77, "hidden_act": act}
    vision = {**tower, "image_size": SIZE, "patch_size": 8, "hidden_act": act}
    return library().CLIPConfig(text_config=text, vision_config=vision, projection_dim=width)


def clip_state(config: Any, seed: int = 0) -> dict[str, Array]:
    """Draw random weights of a CLIP, with CLIPModel's names and the logit scale of a trained CLIP."""
    import torch

    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in library().CLIPModel(config).state_dict().items()}
    return {**weights(shapes, seed), "logit_scale": np.array(np.log(100.0))}


def save_reader(folder: Path, config: Any) -> Path:
    """Save the configuration, tokenizer and image processor of a CLIP, without its weights."""
    config.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    square = {"height": SIZE, "width": SIZE}
    library().CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=square).save_pretrained(folder)
    return folder


def save_clip(folder: Path, act: str = "quick_gelu", width: int = 24) -> dict[str, Array]:
    """Save a complete tiny CLIP, and return its weights."""
    config = clip_config(act, width)
    state = clip_state(config)
    save_reader(folder, config)
    save(state, folder / "model.safetensors")
    return state
