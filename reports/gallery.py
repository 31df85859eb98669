"""Before-and-after pictures or answers of the first test prompts, which nobody selected."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..engine.answer import Answer, text_of
from ..engine.bucket import Bucket
from ..engine.knobs import Setting, digest
from ..engine.seams import Adapter, Output
from ..ground.errors import StoreError

if TYPE_CHECKING:
    from ..engine.loop import Outcome

NUM_PROMPTS = 8
INDEX = "index.json"
SIDES = ("neutral", "calibrated")
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")  # others, such as CMYK, are converted


class Picture(NamedTuple):
    """A prompt and seed, with the files of its neutral and its calibrated image."""

    prompt: str
    seed: int
    neutral: Path
    calibrated: Path


class Said(NamedTuple):
    """A prompt, with its neutral and its calibrated answer."""

    prompt: str
    neutral: str
    calibrated: str


def write_images(adapter: Adapter, outcome: Outcome, bucket: Bucket, folder: Path) -> None:
    """Generate and save neutral and calibrated images, or answers, of the first test prompts.

    The folder appears complete or not at all, and is left unchanged if it holds exactly these already. Images are files
    of their own, answers stand in the index. Nothing is written if the outputs are neither.

    Args:
        adapter: The backbone.
        outcome: The result of the run.
        bucket: The test bucket.
        folder: The folder for the images or answers.

    Raises:
        StoreError: If they cannot be written.
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
        entries, said = [], []
        for number, (prompt, seed, pair) in enumerate(zip(bucket.prompts, bucket.seeds, pairs, strict=True)):
            if is_text(pair[0]):
                said.append(Said(prompt, *map(text_of, pair))._asdict())
                continue
            names = [f"{number:02d}-{side}.png" for side in SIDES]
            for name, image in zip(names, pair, strict=True):
                (image if image.mode in PNG_MODES else image.convert("RGB")).save(partial / name)
            entries.append({"prompt": prompt, "seed": seed, "neutral": names[0], "calibrated": names[1]})
        index = {"identity": identity, "images": entries, **({"answers": said} if said else {})}
        (partial / INDEX).write_text(json.dumps(index, indent=2, ensure_ascii=bool(said)) + "\n", encoding="utf-8")
        partial.rename(folder)
    except OSError as error:
        raise StoreError(f"cannot write the pictures or answers in {folder}: {error.strerror or error}") from None


def read_pictures(folder: Path) -> list[Picture]:
    """Return the pictures of a folder; none if the folder is absent or incomplete."""
    return [
        Picture(entry["prompt"], entry["seed"], folder / entry["neutral"], folder / entry["calibrated"])
        for entry in read_index(folder).get("images", [])
    ]


def read_answers(folder: Path) -> list[Said]:
    """Return the answers of a folder; none if the folder is absent, incomplete or holds something else."""
    found = read_index(folder).get("answers", [])
    entries = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    texts: list[list[Any]] = [[entry.get(name) for name in Said._fields] for entry in entries]
    return [Said(*each) for each in texts if all(isinstance(text, str) for text in each)]


def read_index(folder: Path) -> dict[str, Any]:
    """Return the index of a folder, or an empty one if the folder is absent or incomplete."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        names = [entry[side] for entry in index["images"] for side in SIDES]
        if any(Path(name).name != name for name in names):  # a folder from elsewhere must not show other files
            return {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return dict(index) if all((folder / name).is_file() for name in names) else {}


def _generate(adapter: Adapter, neutral: Setting, calibrated: Setting, bucket: Bucket) -> list[tuple[Output, Output]]:
    """Generate a pair of outputs per prompt; return nothing if they are neither images nor answers."""
    from PIL.Image import Image

    population = np.stack([adapter.space.to_vector(setting) for setting in (neutral, calibrated)])
    sides = []
    for outputs in adapter.generate(population, bucket):
        if not (all(isinstance(output, Image) for output in outputs) or all(map(is_text, outputs))):
            return []
        sides.append(outputs)
    before, after = sides
    return list(zip(before, after, strict=True))


def is_text(output: Output) -> bool:
    """Return whether an output is an answer."""
    return isinstance(output, (str, Answer))


def _identity(neutral: Setting, calibrated: Setting, bucket: Bucket) -> str:
    return digest([sorted(neutral.items()), sorted(calibrated.items()), bucket.fingerprint])
