"""Tiny checkpoints of real classes, built in code, saved, and loaded through the real `from_pretrained`."""

from __future__ import annotations

from .cogvideox import tiny_cogvideox
from .flux import tiny_flux
from .flux2 import tiny_flux2
from .hunyuan_video import tiny_hunyuan_video
from .latte import tiny_latte
from .ltx import tiny_ltx
from .lumina2 import tiny_lumina2
from .parts import byte_tokenizer, letter_tokenizer, shake
from .pixart import tiny_pixart
from .qwen import tiny_qwen
from .sana import tiny_sana
from .sd3 import tiny_sd3, tiny_sd3_transformer
from .wan import tiny_wan, tiny_wan22
from .zimage import tiny_zimage

__all__ = [
    "byte_tokenizer",
    "letter_tokenizer",
    "shake",
    "tiny_cogvideox",
    "tiny_flux",
    "tiny_flux2",
    "tiny_hunyuan_video",
    "tiny_latte",
    "tiny_ltx",
    "tiny_lumina2",
    "tiny_pixart",
    "tiny_qwen",
    "tiny_sana",
    "tiny_sd3",
    "tiny_sd3_transformer",
    "tiny_wan",
    "tiny_wan22",
    "tiny_zimage",
]
