"""Before-and-after pictures of the first test prompts, which nobody selected."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..engine.bucket import Bucket
from ..engine.knobs import Setting, digest
from ..engine.seams import Adapter, Output
from ..ground.errors import StoreError

if TYPE_CHECKING:
    from ..engine.loop import Outcome

NUM_PROMPTS = 8
INDEX = "index.json"
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")  # others, such as CMYK, are converted


class Picture(NamedTuple):
    """A prompt and seed, with the files of its neutral and its calibrated image."""

    prompt: str
    seed: int
    neutral: Path
    calibrated: Path


def write_images(adapter: Adapter, outcome: Outcome, bucket: Bucket, folder: Path) -> None:
    """Generate and save neutral and calibrated images of the first test prompts.

    The folder appears complete or not at all, and is left unchanged if it holds exactly these images already.
    Nothing is written if the outputs are not images.

    Args:
        adapter: The backbone.
        outcome: The result of the run.
        bucket: The test bucket.
        folder: The folder for the images.

    Raises:
        StoreError: If the images cannot be written.
    """
    bucket = bucket.head(NUM_PROMPTS)
    neutral, calibrated = outcome.baseline.setting, outcome.calibrated
    identity = _identity(neutral, calibrated, bucket)
    if read_index(folder).get("identity") == identity:
        return
    pairs = _generate(adapter, neutral, calibrated, bucket)
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        for leftover in (partial, folder):
            if leftover.exists():
                shutil.rmtree(leftover)
        if not pairs:
            return
        partial.mkdir(parents=True)
        entries = []
        for number, (prompt, seed, images) in enumerate(zip(bucket.prompts, bucket.seeds, pairs, strict=True)):
            names = [f"{number:02d}-{side}.png" for side in ("neutral", "calibrated")]
            for name, image in zip(names, images, strict=True):
                (image if image.mode in PNG_MODES else image.convert("RGB")).save(partial / name)
            entries.append({"prompt": prompt, "seed": seed, "neutral": names[0], "calibrated": names[1]})
        index = {"identity": identity, "images": entries}
        (partial / INDEX).write_text(json.dumps(index, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.rename(folder)
    except OSError as error:
        raise StoreError(f"cannot write the images in {folder}: {error.strerror or error}") from None


def read_pictures(folder: Path) -> list[Picture]:
    """Return the pictures of a folder; none if the folder is absent or incomplete."""
    return [
        Picture(entry["prompt"], entry["seed"], folder / entry["neutral"], folder / entry["calibrated"])
        for entry in read_index(folder).get("images", [])
    ]


def read_index(folder: Path) -> dict[str, Any]:
    """Return the index of a folder, or an empty one if the folder is absent or incomplete."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        names = [entry[side] for entry in index["images"] for side in ("neutral", "calibrated")]
        if any(Path(name).name != name for name in names):  # a folder from elsewhere must not show other files
            return {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return dict(index) if all((folder / name).is_file() for name in names) else {}


def _generate(adapter: Adapter, neutral: Setting, calibrated: Setting, bucket: Bucket) -> list[tuple[Output, Output]]:
    """Generate a pair of images per prompt; return nothing if the outputs are not images."""
    from PIL.Image import Image

    population = np.stack([adapter.space.to_vector(setting) for setting in (neutral, calibrated)])
    sides = []
    for outputs in adapter.generate(population, bucket):
        if not all(isinstance(output, Image) for output in outputs):
            return []
        sides.append(outputs)
    before, after = sides
    return list(zip(before, after, strict=True))


def _identity(neutral: Setting, calibrated: Setting, bucket: Bucket) -> str:
    return digest([sorted(neutral.items()), sorted(calibrated.items()), bucket.fingerprint])
