# /// script
# requires-python = ">=3.10"
# dependencies = ["pillow==11.3.0"]
# ///
"""Serve how little an image weighs as JPEG: minus its kilobytes at quality 95. The smallest server there is.

    uv run servers/jpeg_size.py --port 8200

No model and nothing but Pillow, pinned, since the size depends on the encoder: a template for a server of your
own, and a way to see one work.
"""

from __future__ import annotations

import argparse
import io
from typing import Any

import PIL
from reward_server import Scorer, main


def score(outputs: list[Any], prompts: list[str]) -> list[float]:
    """Minus the kilobytes (1000 bytes) of every image; the prompts are not looked at."""
    sizes = []
    for image in outputs:
        file = io.BytesIO()
        image.convert("RGB").save(file, "JPEG", quality=95)
        sizes.append(-len(file.getvalue()) / 1000)
    return sizes


def load(options: argparse.Namespace) -> Scorer:
    """There is nothing to load."""
    return Scorer("jpeg-size", score, {"quality": 95, "unit": "kB", "pillow": PIL.__version__})


if __name__ == "__main__":
    main(load, argparse.ArgumentParser(prog="jpeg_size.py", description=__doc__.splitlines()[0]))
