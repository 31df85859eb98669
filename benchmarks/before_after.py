"""The README's picture: the first test prompts and seeds of a run, neutral above, calibrated below.

    python benchmarks/before_after.py trimpot-runs/shapes-1/calibration.json docs/before-after.png

The stock pipeline draws the images, with the calibration applied at strength 0 and 1 by `load_calibration`.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import torch
import trimpot
from PIL import Image, ImageDraw, ImageFont
from trimpot.engine.bucket import draw_bucket
from trimpot.engine.calibration import Calibration
from trimpot.objectives.shapes import prompts

SIDE, GAP, TEXT, COLUMNS = 96, 8, 58, 9


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("calibration", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    test = Calibration.load(options.calibration).provenance.config["test"]
    bucket = draw_bucket(prompts("test"), test["num_prompts"], test["seed"]).head(2 * COLUMNS)
    pipe = trimpot.load_pipeline(options.calibration)
    pipe.set_progress_bar_config(disable=True)
    rows = []
    with trimpot.load_calibration(pipe, options.calibration) as applied:
        for applied.strength in (0.0, 1.0):
            generators = [torch.Generator().manual_seed(seed) for seed in bucket.seeds]
            rows.append(pipe(prompt=list(bucket.prompts), generator=generators, **applied.recommended).images)
    block = TEXT + 2 * (SIDE + GAP // 2) + GAP
    sheet = Image.new("RGB", (COLUMNS * (SIDE + GAP) + GAP, 2 * block + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, prompt in enumerate(bucket.prompts):
        x, y = GAP + number % COLUMNS * (SIDE + GAP), GAP + number // COLUMNS * block
        pen.multiline_text((x, y), "\n".join(textwrap.wrap(prompt, 17)), fill="black", font=font, spacing=1)
        for row, images in enumerate(rows):
            enlarged = images[number].resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(enlarged, (x, y + TEXT + row * (SIDE + GAP // 2)))
    sheet.save(options.out)


if __name__ == "__main__":
    main()
