"""Tiny checkpoints of real classes, built in code, saved, and loaded through the real `from_pretrained`."""

from __future__ import annotations

from .flux import tiny_flux
from .parts import byte_tokenizer, letter_tokenizer, shake
from .qwen import tiny_qwen
from .sd3 import tiny_sd3, tiny_sd3_transformer
from .stock import tiny_cogvideox, tiny_ltx, tiny_pixart, tiny_wan

__all__ = [
    "byte_tokenizer",
    "letter_tokenizer",
    "shake",
    "tiny_cogvideox",
    "tiny_flux",
    "tiny_ltx",
    "tiny_pixart",
    "tiny_qwen",
    "tiny_sd3",
    "tiny_sd3_transformer",
    "tiny_wan",
]
