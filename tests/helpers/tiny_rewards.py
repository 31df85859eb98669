"""Every built-in reward that runs a model, on tiny checkpoints of its architecture as they are published."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from trimpot.objectives.text import REWARDS
from trimpot.proofs.rewards import (
    _chats,
    attending,
    geneval,
    hpsv3,
    sets_and_signals,
    unifiedreward,
    vqascore,
)
from trimpot.proofs.rewards._tiny import save_clip, save_reader, tensors
from trimpot.proofs.rewards.clip import clip_config, open_clip_state


@dataclass(frozen=True)
class Case:
    """A reward on its tiny checkpoint.

    Attributes:
        name: What a configuration calls it.
        places: Options that name folders.
        options: Others.
        prompts: What its pictures show.
        unquantized: Whether it has no linear layers to quantize.
    """

    name: str
    places: dict[str, str]
    options: dict[str, Any] = field(default_factory=dict)
    prompts: tuple[str, ...] = ("a cat", "two dogs", "a cat", "two dogs", "a cat")
    unquantized: bool = False


ANSWERS = {"max_new_tokens": 2, "unparsed": 0.0}
CASES = {
    "aesthetic": Case("aesthetic", {"model": "clip-l"}),
    "clipscore": Case("clipscore", {"model": "clip"}),
    "pickscore": Case("pickscore", {"model": "clip", "processor": "clip"}),
    "hpsv2": Case("hpsv2", {"model": "hpsv2", "clip": "hpsv2"}),
    "imagereward": Case("imagereward", {"model": "imagereward", "tokenizer": "imagereward"}),
    "mps": Case("mps", {"model": "mps", "clip": "mps"}),
    "dino-diversity": Case("dino-diversity", {"model": "dino"}),
    "lpips": Case("lpips", {"model": "lpips"}, unquantized=True),
    "hpsv3": Case("hpsv3", {"model": "hpsv3", "base": "base"}),
    "qalign": Case("qalign", {"model": "qwen3_5"}),
    "vqascore": Case("vqascore", {"model": "qwen2_5_vl"}),
    "clip-flant5": Case("vqascore", {"model": "flant5", "tokenizer": "flant5"}, {"architecture": "clip-flant5"}),
    "unifiedreward": Case("unifiedreward", {"model": "scorer"}, ANSWERS),
    "geneval": Case(
        "geneval",
        {"detector": "detector", "clip": "clip"},
        {"score": "soft", "threshold": geneval.LEAST, "counting_threshold": geneval.LEAST},
        ("a photo of three boats", "a photo of a kite", "a photo of a red boat", "a photo of nine boats"),
    ),
}
NEEDS_NO_MODEL = {
    "shapes-diversity",
    "bright-share",
    "dark-share",
    "edge-density",
    "entropy",
    "jpeg-size",
    "ocr",
    "remote",
    "saturation",
    "shapes",
    "value",
    *REWARDS,
}


def save_all(home: Path) -> Path:
    """One folder for each architecture."""
    save_small(home)
    for family in ("qwen2_5_vl", "qwen3_5"):
        _chats.save_chat(home / family, family)
    hpsv3.save_hpsv3(home)
    vqascore.save_clip_flant5(home)
    unifiedreward.save_scorer(home / "scorer")
    geneval.save_detector(home / "detector")
    return home


def save_small(home: Path) -> Path:
    """The same without the language models."""
    save_clip(home / "clip")
    save_clip(home / "clip-l", width=768)
    save_reader(home / "hpsv2", clip_config("gelu"))
    torch.save({"state_dict": tensors(open_clip_state())}, home / "hpsv2" / "HPS_v2.1_compressed.pt")
    attending.save_imagereward(home / "imagereward")
    attending.save_mps(home / "mps")
    sets_and_signals.save_dino(home / "dino")
    sets_and_signals.save_lpips(home / "lpips")
    return home
