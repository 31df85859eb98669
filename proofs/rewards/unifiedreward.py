"""Proof of UnifiedReward on a tiny Qwen2.5-VL that generates almost nothing but scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...objectives.judges import make_unifiedreward
from ...objectives.judges.unifiedreward import QUESTIONS
from . import Proof
from ._chats import asked, patches, pictures, save_chat, tokenizer

SAYINGS = tuple(f"Final Score: {number}" for number in ("1.5", "2", "3.25", "4", "5"))
_LINES = tuple(line for line in QUESTIONS["v1"].splitlines() if len(line) > 40)
PROMPTS = ("a red circle", "two dogs", "a house", "a blue bird", "a red circle", "three trees")
SIZES = ((56, 56), (84, 56), (112, 112), (56, 84), (112, 56), (84, 84))


def save_scorer(folder: Path) -> Any:
    """Save a model that always answers with a row of scores, one score for each of the first five examples.

    The last layer is built from the differences between the examples' hidden states; all other words are equally
    unlikely.
    """
    import torch

    model = save_chat(folder, "qwen2_5_vl", extra=(*SAYINGS, *_LINES))
    words = tokenizer((*SAYINGS, *_LINES))
    states = []
    for picture, prompt in zip(pictures(*SIZES), PROMPTS[: len(SAYINGS)], strict=False):
        ids, _, _ = asked(model, words, picture, QUESTIONS["v1"].replace("{}", prompt))
        states.append(_seen(model.model, ids, picture).last_hidden_state[0, -1])
    unlike = torch.stack(states) - torch.stack(states).mean(0)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[words.convert_tokens_to_ids(list(SAYINGS))] = 10 * unlike
    model.save_pretrained(folder)
    return model


def _seen(part: Any, ids: list[int], picture: Image.Image) -> Any:
    """Run a forward pass over a whole row."""
    import torch

    row = torch.tensor([ids])
    with torch.no_grad():
        return part(
            input_ids=row,
            mm_token_type_ids=(row == part.config.image_token_id).int(),
            pixel_values=torch.tensor(patches(picture, 14)),
            image_grid_thw=torch.tensor([[1, picture.height // 14, picture.width // 14]]),
        )


def difference(folder: Path) -> float:
    """Compare with generating one token at a time, each from a full forward pass over all earlier tokens."""
    model = save_scorer(folder)
    shown = pictures(*SIZES)
    objective = make_unifiedreward(model=str(folder), dtype="float32", device="cpu", max_new_tokens=3)
    scores = objective.score(shown, PROMPTS)
    words = tokenizer((*SAYINGS, *_LINES))
    by_hand = []
    for picture, prompt in zip(shown, PROMPTS, strict=True):
        ids, _, _ = asked(model, words, picture, QUESTIONS["v1"].replace("{}", prompt))
        began = len(ids)
        for _ in range(3):
            ids.append(int(_seen(model, ids, picture).logits[0, -1].argmax()))
        said = words.decode(ids[began:])
        by_hand.append(float(said.split("Final Score: ")[1][:4].rstrip("F")))
    return float(np.abs(scores - by_hand).max())


PROOFS = (Proof("unifiedreward", "arXiv 2503.05236, its point-score script", "greedy, without a cache", difference, 0),)
