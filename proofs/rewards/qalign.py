"""Proof of Q-ReAlign on a tiny Qwen3.5."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...objectives.judges import make_qalign
from . import Proof
from ._chats import patches, pictures, save_chat, tokenizer


def difference(folder: Path) -> float:
    """Compare with the logits of the first generated token, one picture at a time, weighted word by word."""
    import torch

    model = save_chat(folder, "qwen3_5")
    shown = pictures((64, 64), (96, 64), (64, 64))
    scores = make_qalign(model=str(folder), dtype="float32", device="cpu").score(shown, ["anything"] * 3)
    words = tokenizer()
    by_hand = []
    for picture in shown:
        slots = "<|image_pad|>" * (picture.width // 32 * picture.height // 32)
        text = f"<|im_start|>user\n<|vision_start|>{slots}<|vision_end|>How would you rate the quality of this image?"
        ids = words(
            text + "<|im_end|>\n<|im_start|>assistant\nThe quality of the image is", return_tensors="pt"
        ).input_ids
        made = model.generate(
            input_ids=ids, mm_token_type_ids=(ids == model.config.image_token_id).int(),
            pixel_values=torch.tensor(patches(picture, 16)), attention_mask=torch.ones_like(ids),
            image_grid_thw=torch.tensor([[1, picture.height // 16, picture.width // 16]]),
            max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        logits = made.logits[0][0].double().numpy()
        odds = {
            word: np.exp(logits[words(" " + word).input_ids[0]])
            for word in ("excellent", "good", "fair", "poor", "bad")
        }
        weighed = 4 * odds["excellent"] + 3 * odds["good"] + 2 * odds["fair"] + odds["poor"]
        by_hand.append(weighed / 4 / sum(odds.values()))
    return float(np.abs(scores - by_hand).max())


PROOFS = (
    Proof("qalign", "github.com/Q-Future/Q-ReAlign", "generation's first logits, word by word", difference, 1e-5),
)
