"""Proof of GenEval on a tiny Mask2Former and a tiny CLIP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...objectives.judges import make_geneval
from ...objectives.judges.geneval_scenes import COLOURS, NAMES
from ...objectives.pretrained import transformers
from . import Proof
from ._by_hand import Array, hf_clip_unit, normalized, quick_gelu, resampling, softmax, square_on_pil, triangle
from ._chats import pictures, shaken
from ._tiny import HEADS, SIZE, byte_tokenizer, save_clip

LEAST = 0.2
SIZES = ((96, 64), (64, 64), (64, 96))


def save_detector(folder: Path) -> Any:
    """Save a Mask2Former with ten queries that mostly detects a few of COCO's eighty classes."""
    import torch

    library = transformers()
    config = library.Mask2FormerConfig(
        backbone_config=library.SwinConfig(
            image_size=32, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, num_labels=80,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16, dim_feedforward=16,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, num_queries=10, num_labels=80,
    )  # fmt: skip
    torch.manual_seed(0)
    model = shaken(library.Mask2FormerForUniversalSegmentation(config), 0.2)
    with torch.no_grad():
        # Bias the model towards three classes, and towards masks that are neither empty nor full.
        model.class_predictor.bias[[NAMES.index(name) for name in ("boat", "dog", "kite")]] += 4.0
        model.model.pixel_level_module.decoder.mask_projection.bias.zero_()
    model.save_pretrained(folder)
    kind = library.models.mask2former.image_processing_pil_mask2former.Mask2FormerImageProcessorPil
    kind(size={"shortest_edge": 64, "longest_edge": 128}, size_divisor=32, num_labels=80).save_pretrained(folder)
    return model


def save_metadata(path: Path) -> list[str]:
    """Save metadata that ask for boats, with one number and one colour per prompt, and return the prompts."""
    entries = []
    for count in range(4, 9):
        for colour in ("green", "red"):
            wanted = {"class": "boat", "count": count, "color": colour}
            entries.append({"tag": "any", "include": [wanted], "prompt": f"{count} {colour} boats"})
    path.write_text("\n".join(json.dumps(entry) for entry in entries))
    return [str(entry["prompt"]) for entry in entries]


def difference(folder: Path) -> float:
    """Compare Flow-GRPO's soft score with boats detected in NumPy and coloured by a CLIP in NumPy."""
    detector, clip = save_detector(folder / "detector"), save_clip(folder / "clip")
    prompts = save_metadata(folder / "metadata.jsonl")
    objective = make_geneval(
        detector=str(folder / "detector"), clip=str(folder / "clip"), score="soft", threshold=LEAST,
        metadata=folder / "metadata.jsonl", device="cpu",
    )  # fmt: skip
    named, worst = _named(clip), 0.0
    for picture in pictures(*SIZES):
        scores = objective.score([picture] * len(prompts), prompts)
        seen = [_colour(crop, clip, named) for crop in _boats(detector, picture)]
        for score, prompt in zip(scores, prompts, strict=True):
            count, colour = int(prompt[0]), prompt.split()[1]
            right = 1 - abs(count - seen.count(colour)) / count if len(seen) == count else 0.0
            worst = max(worst, abs(float(score) - (1 - abs(count - len(seen)) / count + right) / 2))
    return worst


def _boats(model: Any, picture: Image.Image) -> list[Image.Image]:
    """Cut out each boat on a grey background; the sizes are chosen so that nothing is resized."""
    import torch

    mean, spread = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = np.asarray(picture)
    shown = ((pixels / 255 - mean) / spread).transpose(2, 0, 1)[None]
    with torch.no_grad():
        made = model(pixel_values=torch.tensor(shown, dtype=torch.float32))
    chances = softmax(made.class_queries_logits[0].double().numpy())[:, NAMES.index("boat")]
    found = []
    for chance, coarse in zip(chances, made.masks_queries_logits[0].double().numpy(), strict=True):
        down = resampling(coarse.shape[0], picture.height, triangle, 1)
        across = resampling(coarse.shape[1], picture.width, triangle, 1)
        logits = down @ coarse @ across.T
        inside = logits > 0
        if chance * np.mean(1 / (1 + np.exp(-logits[inside]))) > LEAST:
            cut = np.where(inside[..., None], pixels, np.uint8(153))
            ys, xs = np.nonzero(inside)
            found.append(Image.fromarray(cut[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]))
    return found


def _named(clip: dict[str, Array]) -> dict[str, Array]:
    """Return the text embedding of each colour of a boat."""
    words, blank = byte_tokenizer(), np.zeros((3, SIZE, SIZE))
    found = {}
    for colour in COLOURS:
        texts = (f"a photo of a {colour} boat", f"a photo of a {colour}-colored boat", f"a photo of a {colour} object")
        units = [hf_clip_unit(clip, HEADS, quick_gelu, words(text).input_ids, blank)[0] for text in texts]
        found[colour] = np.sum(units, axis=0) / np.linalg.norm(np.sum(units, axis=0))
    return found


def _colour(crop: Image.Image, clip: dict[str, Array], named: dict[str, Array]) -> str:
    seen = hf_clip_unit(clip, HEADS, quick_gelu, [0, 513], normalized(square_on_pil(crop, SIZE)))[1]
    return max(named, key=lambda colour: float(named[colour] @ seen))


PROOFS = (
    Proof(
        "geneval soft", "arXiv 2310.11513; Flow-GRPO's reward server", "detections and CLIP in NumPy", difference, 1e-9
    ),
)
