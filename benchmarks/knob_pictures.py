"""The pictures of docs/knobs.md: what a knob does to an image, drawn with the shipped shapes model.

    python benchmarks/knob_pictures.py docs/pictures

blocks.webp      one block turned from 0 to 2 while all others stay at 1; a row for a block
guidance.webp    the two members of guidance alone, and added with the weights g and 1 - g
granularity.svg  the knobs of one block at gate, layer and block granularity

Every column of a picture has the same noise. The number under an image is its `shapes` reward.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from trimpot.adapters.factories import make_shapes
from trimpot.engine.bucket import Bucket
from trimpot.objectives.shapes import check

STEPS, GUIDANCE, SIDE, GAP = 12, 4.0, 96, 6
BLOCKS = (0, 3, 4, 6, 8, 11)
TURNS = (0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
STRENGTHS = (1.5, 2.0, 3.0, 6.0, 9.0)
SCENES = (("a yellow triangle and a cyan cross", 1), ("three pink squares", 0))
LABEL, HEAD, FOOT = 84, 26, 20


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the pictures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    blocks(out / "blocks.webp")
    guidance(out / "guidance.webp")
    granularity(out / "granularity.svg")


def blocks(path: Path) -> None:
    """Turn one block at a time, in both members."""
    adapter = make_shapes(num_inference_steps=STEPS, guidance_scale=GUIDANCE, tie_members=True)
    names = [f"joint.{block:02d}" for block in BLOCKS]
    rows = []
    for name in names:
        settings = [{name: turn} for turn in TURNS]
        rows.append((name, images(adapter, settings, SCENES[0])))
    heads = [f"{turn:g}" for turn in TURNS]
    sheet(rows, heads, [SCENES[0][0]] * len(rows)).save(path, quality=88, method=6)


def guidance(path: Path) -> None:
    """Draw each member alone, and their weighted sums."""
    adapter = make_shapes(num_inference_steps=STEPS, guidance_scale=GUIDANCE)
    alone = [{"member1.weight": 1.0, "member2.weight": 0.0}, {"member1.weight": 0.0, "member2.weight": 1.0}]
    sums = [{"member1.weight": strength, "member2.weight": 1 - strength} for strength in STRENGTHS]
    heads = ["1, 0", "0, 1", *(f"{strength:g}, {1 - strength:g}" for strength in STRENGTHS)]
    rows = [(scene[0], images(adapter, [*alone, *sums], scene)) for scene in SCENES]
    sheet(rows, heads, [scene[0] for scene in SCENES]).save(path, quality=88, method=6)


def images(adapter: Any, settings: Sequence[dict[str, float]], scene: tuple[str, int]) -> list[Image.Image]:
    """Make one image for each setting, of the same prompt and noise."""
    neutral = adapter.space.to_setting(adapter.space.defaults)
    population = np.stack([adapter.space.to_vector({**neutral, **setting}) for setting in settings])
    made: Iterable[Sequence[Image.Image]] = adapter.generate(population, Bucket((scene[0],), (scene[1],)))
    return [image for [image] in made]


def sheet(rows: list[tuple[str, list[Image.Image]]], heads: list[str], prompts: list[str]) -> Image.Image:
    """Arrange rows of images under a line of heads, with the reward under each image."""
    cell, line = SIDE + GAP, SIDE + FOOT + GAP
    picture = Image.new("RGB", (LABEL + len(heads) * cell + GAP, HEAD + len(rows) * line + GAP), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    for column, head in enumerate(heads):
        pen.text((LABEL + column * cell + SIDE / 2, HEAD / 2), head, "black", font, anchor="mm")
    for row, ((label, made), prompt) in enumerate(zip(rows, prompts, strict=True)):
        top = HEAD + row * line
        pen.multiline_text((GAP, top + SIDE / 2), folded(label), "black", font, anchor="lm", spacing=3)
        scores = [check(image, prompt).score for image in made]
        for column, (image, score) in enumerate(zip(made, scores, strict=True)):
            left = LABEL + column * cell
            picture.paste(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, top))
            pen.text((left + SIDE / 2, top + SIDE + FOOT / 2), f"{score:.2f}", "#555555", font, anchor="mm")
    return picture


def folded(label: str, width: int = 10) -> str:
    """Break a label into lines of about `width` characters."""
    lines = [""]
    for word in label.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def granularity(path: Path) -> None:
    """Draw the knobs of block 5 of the shapes model, as the adapter ties them."""
    adapter = make_shapes(granularity="gate", tie_members=True)
    gates = [name for name in adapter.space.names if name.startswith("joint.05.")]
    rows = []
    for kind in ("gate", "layer", "block"):
        tied = {coarse: fine for coarse, fine in adapter.tied(kind).items() if set(fine) & set(gates)}
        rows.append((kind, tied))
    order = sorted(gates, key=lambda name: (".attn" not in name, name))
    width, height, left = 150, 34, 70
    parts = []
    for number, (kind, tied) in enumerate(rows):
        y = 12 + number * (height + 14)
        parts.append(f'<text x="12" y="{y + 22}">{kind}</text>')
        for coarse, fine in tied.items():
            begin, end = min(map(order.index, fine)), max(map(order.index, fine)) + 1
            assert end - begin == len(fine), "the gates of a knob stand side by side"
            x, wide = left + begin * width, (end - begin) * width - 10
            parts.append(f'<rect x="{x}" y="{y}" width="{wide}" height="{height}" rx="7"/>')
            parts.append(f'<text x="{x + wide / 2}" y="{y + 22}" text-anchor="middle">{coarse}</text>')
    size = f"0 0 {left + len(order) * width} {12 + len(rows) * (height + 14)}"
    style = "text{font:13px sans-serif;fill:#222}rect{fill:#dce9f7;stroke:#4a7fb5}.paper{fill:#fff;stroke:none}"
    paper = '<rect class="paper" width="100%" height="100%"/>'
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}"><style>{style}</style>{paper}'
        f"{''.join(parts)}</svg>\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
