"""The cost of a reward in another process: CLIPScore of 512 x 512 images, in this process and served.

    python benchmarks/remote.py [--images 16] [--rounds 9] [--device cpu]

The model is CLIP ViT-B/32 with random weights, which take as long as trained ones. Both ways are timed alternately and
must give the same scores, bit for bit. The second table times the transport alone, at every compression.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from trimpot.setup.plugins import Plugins

SIZE = 512


def checkpoint(folder: Path) -> None:
    """Save CLIP ViT-B/32 with random weights, and a tokenizer of single letters."""
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(0)
    letters = list(string.ascii_lowercase + string.digits)
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    end = vocabulary["<|endoftext|>"]
    config = CLIPConfig(text_config={"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end})
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)


def photographs(number: int) -> list[Image.Image]:
    """Return images of smooth colours with a little noise, which compress like photographs."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(number):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=float)
        made.append(Image.fromarray(np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)))
    return made


def seconds(work: Callable[[], Any]) -> float:
    """Return the wall time of one call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def serve(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """Start a server in a process of its own; return the process and the server's address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trimpot", "serve", *arguments, "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    found = re.search(r"http://\S+", process.stdout.readline())
    assert found is not None, "the server did not start"
    return process, found[0]


def main() -> None:
    """Time both ways alternately, so that a change of the machine's speed affects both equally."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    images, prompts = photographs(options.images), [f"photograph {index}" for index in range(options.images)]
    known = Plugins()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint(Path(folder))
        process, url = serve("clipscore", "-o", f"model={folder}", "-o", f"device={options.device}")
        try:
            here = known.make("objectives", "clipscore", {"model": folder, "device": options.device})
            there = known.make("objectives", "remote", {"url": url})
            assert np.array_equal(here.score(images, prompts), there.score(images, prompts))
            pairs = [
                (seconds(lambda: here.score(images, prompts)), seconds(lambda: there.score(images, prompts)))
                for _ in range(options.rounds)
            ]
        finally:
            process.terminate()
            process.communicate()
    in_process, remote = (statistics.median(times) / options.images for times in zip(*pairs, strict=True))
    print(f"CLIPScore ViT-B/32, {options.images} images of {SIZE} x {SIZE}, medians of {options.rounds}")
    print(f"in process  {in_process * 1e3:7.1f} ms an image")
    print(f"remote      {remote * 1e3:7.1f} ms an image, ratio {remote / in_process:.3f}")
    way(images, known, options.rounds)


def way(images: list[Image.Image], known: Plugins, rounds: int) -> None:
    """Time the transport: a nearly free reward, served, minus its time in this process."""
    prompts = [""] * len(images)
    process, url = serve("dark-share")
    try:
        here = known.make("objectives", "dark-share", {})
        for compression in (0, 1, 6):
            there = known.make("objectives", "remote", {"url": url, "compression": compression})
            times = [
                seconds(lambda: there.score(images, prompts)) - seconds(lambda: here.score(images, prompts))  # noqa: B023
                for _ in range(rounds)
            ]
            median = statistics.median(times) / len(images)
            print(f"the way alone, compression {compression}  {median * 1e3:5.1f} ms an image")
    finally:
        process.terminate()
        process.communicate()


if __name__ == "__main__":
    main()
