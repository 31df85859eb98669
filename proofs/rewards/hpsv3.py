"""Proof of HPSv3 on a tiny Qwen2-VL whose checkpoint has the published names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from ...objectives.judges import make_hpsv3
from ...objectives.judges.hpsv3_prompt import QUESTION, REWARD
from . import Proof
from ._chats import asked, decoded, pictures, save_chat, tokenizer

# Long lines of the question are one token each, because the proof does not depend on how text is tokenized.
LINES = tuple(line for line in QUESTION.splitlines() if len(line) > 40 and "{}" not in line and REWARD not in line)
PROMPTS = ("a red circle", "two dogs left of a house")


def save_hpsv3(folder: Path) -> tuple[Path, Path, Any, dict[str, Any]]:
    """Save a base model and a bare state dict with the old names; return both paths, the model and its head."""
    import torch
    from safetensors.torch import save_file

    base, home = folder / "base", folder / "hpsv3"
    home.mkdir(parents=True)
    save_chat(base, "qwen2_vl", spare=29, extra=LINES)
    # The trained model has one token more than the tokenizer, but not the base model's spare rows.
    model = save_chat(folder / "trained", "qwen2_vl", spare=1, extra=LINES)
    generator = torch.Generator().manual_seed(3)
    shapes = {"0": (24, 32), "3": (8, 24), "5": (2, 8)}
    head = {f"rm_head.{n}.weight": torch.randn(s, generator=generator) for n, s in shapes.items()}
    head |= {f"rm_head.{n}.bias": torch.randn(s[0], generator=generator) for n, s in shapes.items()}
    named = {re.sub(r"^model\.language_model\.", "model.", name): value for name, value in model.state_dict().items()}
    named = {re.sub(r"^model\.visual\.", "visual.", name): value for name, value in named.items()}
    save_file({name: value.contiguous() for name, value in {**named, **head}.items()}, home / "HPSv3.safetensors")
    return home, base, model, {name: value.double().numpy() for name, value in head.items()}


def difference(folder: Path) -> float:
    """Compare with the decoder and the head in NumPy, at positions 0, 1, 2, ..."""
    home, base, model, head = save_hpsv3(folder)
    objective = make_hpsv3(model=str(home), base=str(base), dtype="float32", device="cpu")
    shown = pictures((448, 448), (896, 224))
    scores = objective.score(shown, PROMPTS)
    words = tokenizer(LINES)
    words.add_tokens([REWARD], special_tokens=True)
    by_hand = []
    for picture, prompt in zip(shown, PROMPTS, strict=True):
        ids, embeddings, _ = asked(model, words, picture, QUESTION.replace("{}", prompt))
        positions = np.tile(np.arange(len(ids), dtype=np.float64), (3, 1))
        x = decoded(model, embeddings, positions)[ids.index(words.convert_tokens_to_ids(REWARD))]
        for layer in "03":
            x = np.maximum(head[f"rm_head.{layer}.weight"] @ x + head[f"rm_head.{layer}.bias"], 0)
        by_hand.append((head["rm_head.5.weight"] @ x + head["rm_head.5.bias"])[0])
    return float(np.abs(scores - by_hand).max())


PROOFS = (
    Proof(
        "hpsv3", "arXiv 2508.03789, package hpsv3 1.0.0", "decoder and head in NumPy, plain positions", difference, 2e-4
    ),
)
