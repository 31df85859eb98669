"""A finished run's folder, as it is published: a calibration file with before-and-after pictures."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image
from trimpot.engine.calibration import Calibration, GainRecord, Provenance, StepsRecord

PROMPTS = ("a red circle | and <b>more</b>", "two `blue` squares")


def published_run(folder: Path, gain: tuple[float, float, float] = (0.1, 0.05, 0.15)) -> Path:
    """Write the folder; return the calibration file."""
    mean, low, high = gain
    record = GainRecord(mean=mean, low=low, high=high, num_prompts=40, num_images=64)
    calibration = Calibration(
        backbone={"id": "shapes", "source": {"id": "shapes", "weights": "0"}, "transformer": "SD3Transformer2DModel"},
        num_steps=4,
        setting={"joint.00.attn.image": 1.2},
        objectives={"shapes": {"made_of": {"name": "shapes", "version": "1", "code": "c0de"}}, "entropy": {}},
        neutral_label="guidance 3",
        gain=record,
        by_steps=(
            StepsRecord(
                num_steps=4,
                neutral_label="guidance 3",
                neutral=0.5,
                calibrated=0.5 + mean,
                gain=record,
                gain_at_calibrated_steps=record,
            ),
        ),
        provenance=Provenance(
            run=folder.name,
            created="2026-01-01T00:00:00+00:00",
            digest="c0ffee",
            stop_reason="all 16 generations are done",
            num_evaluations=10,
            num_images=100,
            versions={"torch": "2.13", "trimpot": "0.1.0"},
            config={
                "adapter": {"name": "shapes"},
                "objectives": {"shapes": {"name": None, "weight": 1.0}, "entropy": {"weight": 0.0}},
                "prompts": {"name": "files", "train": "/home/somebody/secret/train.txt"},
            },
        ),
    )
    images = folder / "images"
    images.mkdir(parents=True)
    entries = []
    for number, prompt in enumerate(PROMPTS):
        names = [f"{number:02d}-{side}.png" for side in ("neutral", "calibrated")]
        for shade, name in enumerate(names):
            Image.new("RGB", (8, 8), (100 * shade, 50, 50)).save(images / name)
        entries.append({"prompt": prompt, "seed": number, "neutral": names[0], "calibrated": names[1]})
    (images / "index.json").write_text(json.dumps({"identity": "0", "images": entries}))
    calibration.save(folder / "calibration.json")
    return folder / "calibration.json"
