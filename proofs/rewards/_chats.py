"""Tiny vision-language models of the Qwen family in the published layout, and a Qwen2 decoder in NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...objectives.pretrained import transformers

Family = Literal["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5"]
Array = NDArray[np.float64]

_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_MERGES = [("Y", "e"), ("Ye", "s"), *(("\u0120", letter) for letter in "egfpb")]
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def pictures(*sizes: tuple[int, int]) -> list[Image.Image]:
    """Make random blotches of the given widths and heights, the same at every call."""
    rng = np.random.default_rng(7)
    return [
        Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
        for size in sizes
    ]


def tokenizer(extra: tuple[str, ...] = ()) -> Any:
    """Make a Qwen2Tokenizer of single bytes, a few merged pieces, the special tokens and `extra` whole pieces."""
    from tokenizers.pre_tokenizers import ByteLevel

    pieces = [*sorted(ByteLevel.alphabet()), *("".join(pair) for pair in _MERGES)]
    made = transformers().Qwen2Tokenizer(vocab={piece: index for index, piece in enumerate(pieces)}, merges=_MERGES)
    made.add_special_tokens({"additional_special_tokens": list(_SPECIAL)})
    made.add_tokens(list(extra))
    made.chat_template = _TEMPLATE
    return made


def save_chat(folder: Path, family: Family, *, spare: int = 0, extra: tuple[str, ...] = ()) -> Any:
    """Save a random model with its tokenizer and image processor.

    Args:
        folder: The folder to save in.
        family: The model's architecture.
        spare: Additional rows of the vocabulary without tokens, as published models have.
        extra: Pieces of text that are one token each.

    Returns:
        The model, in float32.
    """
    library = transformers()
    words = tokenizer(extra)
    config = _config(library, family, words, spare)
    made = shaken(library.AutoModelForImageTextToText.from_config(config))
    patch = made.config.vision_config.patch_size
    images = library.models.qwen2_vl.image_processing_pil_qwen2_vl.Qwen2VLImageProcessorPil(
        patch_size=patch, min_pixels=(2 * patch) ** 2, max_pixels=(8 * patch) ** 2
    )
    for part in (made, words, images):
        part.save_pretrained(folder)
    return made


def shaken(model: Any, scale: float = 0.15) -> Any:
    """Add noise to every parameter, because a freshly initialised model hardly reacts to its inputs."""
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
    return model.eval()


def _config(library: Any, family: Family, words: Any, spare: int) -> Any:
    ids = {name: words.convert_tokens_to_ids(name) for name in _SPECIAL}
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    text: dict[str, Any] = {
        "vocab_size": len(words) + spare, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "bos_token_id": None, "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"], "rope_parameters": rope,
    }  # fmt: skip
    vision: dict[str, Any] = {"depth": 2, "hidden_size": 32, "num_heads": 2, "patch_size": 14}
    if family == "qwen2_vl":
        vision |= {"embed_dim": 32}
    else:
        vision |= {"out_hidden_size": 32, "intermediate_size": 48}
    if family == "qwen2_5_vl":
        vision |= {"fullatt_block_indexes": [1], "window_size": 56}
    elif family == "qwen3_vl":
        text |= {"head_dim": 16}
        vision |= {"patch_size": 16, "deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    elif family == "qwen3_5":
        rope |= {"mrope_section": [1, 1, 2], "mrope_interleaved": True, "partial_rotary_factor": 0.5}
        text |= {
            "head_dim": 16, "layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 8,
            "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 2,
        }  # fmt: skip
        vision |= {"patch_size": 16, "num_position_embeddings": 16}
    return library.AutoConfig.for_model(
        family,
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )


def asked(
    model: Any, words: Any, picture: Image.Image, question: str, answer: str = ""
) -> tuple[list[int], Array, tuple[int, int]]:
    """Lay out one question by hand: tokens, embeddings (length, width) with the picture in place, merged grid.

    Args:
        model: A model of the family, whose own vision part is used.
        words: The tokenizer.
        picture: An RGB picture whose sides are multiples of a merged patch, so that it is not resized.
        question: The user's text.
        answer: The beginning of the answer.
    """
    import torch

    side = model.config.vision_config.patch_size
    height, width = picture.height // side, picture.width // side
    start, turn, begin, end = (words.convert_tokens_to_ids(_SPECIAL[index]) for index in (1, 2, 3, 4))
    slot = model.config.image_token_id

    def plain(text: str) -> list[int]:
        return list(words(text, add_special_tokens=False).input_ids)

    ids = [start, *plain("user\n"), begin, *[slot] * (height * width // 4), end, *plain(question), turn, *plain("\n")]
    ids += [start, *plain("assistant\n" + answer)]
    with torch.no_grad():
        grid = torch.tensor([[1, height, width]])
        seen = model.model.visual(torch.tensor(patches(picture, side)), grid_thw=grid)
        # Older and newer versions of transformers return the merged patches differently.
        seen = seen if isinstance(seen, torch.Tensor) else seen.pooler_output
        embeddings = model.get_input_embeddings()(torch.tensor(ids)).double().numpy()
    embeddings[np.array(ids) == slot] = seen.double().numpy()
    return ids, embeddings, (height // 2, width // 2)


def patches(picture: Image.Image, side: int) -> NDArray[np.float32]:
    """Return patches in the order of merged squares, each twice in time: (number, 3 x 2 x side x side)."""
    mean, spread = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    pixels = (np.asarray(picture) / 255 - mean) / spread
    rows = []
    for top in range(0, picture.height, 2 * side):
        for left in range(0, picture.width, 2 * side):
            for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
                patch = pixels[top + y * side :, left + x * side :][:side, :side].transpose(2, 0, 1)
                rows.append(np.stack([patch, patch], axis=1).ravel())
    return np.array(rows, dtype=np.float32)


def places(ids: list[int], slot: int, grid: tuple[int, int]) -> Array:
    """Return positions in time, rows and columns, shape (3, length); all patches of a picture share one time."""
    found, following = [], 0
    cells = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
    for index, token in enumerate(ids):
        if token != slot:
            found.append((following,) * 3)
            following += 1
            continue
        row, column = cells[index - ids.index(slot)]
        began = ids.index(slot)
        found.append((began, began + row, began + column))
        following = began + max(grid)
    positions: Array = np.array(found, dtype=np.float64).T
    return positions


def decoded(model: Any, embeddings: Array, positions: Array) -> Array:
    """Compute the last hidden states of a Qwen2 decoder in NumPy and float64, shape (length, width)."""
    text = model.config.text_config
    state = {name: value.double().numpy() for name, value in model.model.language_model.state_dict().items()}
    heads, size = text.num_attention_heads, text.hidden_size // text.num_attention_heads
    axis = np.repeat([0, 1, 2], text.rope_parameters["mrope_section"])
    speeds = text.rope_parameters["rope_theta"] ** (-2 * np.arange(size // 2) / size)
    turns = np.exp(1j * positions[axis].T * speeds)[:, None]

    def norm(x: Array, name: str) -> Array:
        normed: Array = x / np.sqrt((x**2).mean(-1, keepdims=True) + text.rms_norm_eps) * state[name]
        return normed

    def turned(x: Array) -> Array:
        pairs = (x[..., : size // 2] + 1j * x[..., size // 2 :]) * turns
        return np.concatenate([pairs.real, pairs.imag], axis=-1)

    hidden = embeddings
    later = np.triu(np.full((len(hidden),) * 2, -np.inf), 1)
    for number in range(text.num_hidden_layers):
        at = f"layers.{number}."
        x = norm(hidden, at + "input_layernorm.weight")
        query, key, value = (
            (x @ state[f"{at}self_attn.{part}_proj.weight"].T + state[f"{at}self_attn.{part}_proj.bias"]).reshape(
                len(x), -1, size
            )
            for part in "qkv"
        )
        query, key = turned(query), turned(key)
        mixed = []
        for head in range(heads):
            shared = head * text.num_key_value_heads // heads
            logits = query[:, head] @ key[:, shared].T / np.sqrt(size) + later
            chances = np.exp(logits - logits.max(-1, keepdims=True))
            mixed.append(chances / chances.sum(-1, keepdims=True) @ value[:, shared])
        hidden = hidden + np.concatenate(mixed, axis=-1) @ state[at + "self_attn.o_proj.weight"].T
        x = norm(hidden, at + "post_attention_layernorm.weight")
        gate = x @ state[at + "mlp.gate_proj.weight"].T
        inner = gate / (1 + np.exp(-gate)) * (x @ state[at + "mlp.up_proj.weight"].T)
        hidden = hidden + inner @ state[at + "mlp.down_proj.weight"].T
    return norm(hidden, "norm.weight")
