# /// script
# requires-python = ">=3.10"
# dependencies = ["pillow==11.3.0"]
# ///
"""Serve the negative size of an image as JPEG of quality 95, in kilobytes. This is the smallest server.

    uv run servers/jpeg_size.py --port 8200

It needs no model and only Pillow, in a fixed version because the size depends on the encoder. Use it as a template for
your own server, or to try a server.
"""

from __future__ import annotations

import argparse
import io
from typing import Any

import PIL
from reward_server import Scorer, main


def score(outputs: list[Any], prompts: list[str]) -> list[float]:
    """Return the negative size of every image in kilobytes (1000 bytes); the prompts are ignored."""
    sizes = []
    for image in outputs:
        file = io.BytesIO()
        image.convert("RGB").save(file, "JPEG", quality=95)
        sizes.append(-len(file.getvalue()) / 1000)
    return sizes


def load(options: argparse.Namespace) -> Scorer:
    """Make the scorer; there is no model to load."""
    return Scorer("jpeg-size", score, {"quality": 95, "unit": "kB", "pillow": PIL.__version__})


if __name__ == "__main__":
    main(load, argparse.ArgumentParser(prog="jpeg_size.py", description=__doc__.splitlines()[0]))
