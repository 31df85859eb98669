"""Pictures: whole or absent, made once, and only of outputs that are images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from trimpot.engine.bucket import Bucket
from trimpot.engine.knobs import Knob, KnobSpace
from trimpot.engine.seams import Adapter
from trimpot.ground.errors import StoreError
from trimpot.reports import write_images
from trimpot.reports.gallery import read_pictures

BUCKET = Bucket(tuple(f"prompt {number}" for number in range(12)), tuple(range(12)))


class Shade(Adapter):
    """Paints its only knob."""

    space = KnobSpace([Knob("shade", 0, 255, 10)])

    def __init__(self) -> None:
        self.num_calls = 0

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[Any]]:
        self.num_calls += 1
        for (shade,) in population:
            yield [Image.new("L", (4, 4), int(shade) + seed) for seed in bucket.seeds]

    def describe(self) -> dict[str, Any]:
        return {"id": "shade"}


def outcome(shade: float = 100.0) -> Any:
    return SimpleNamespace(calibrated={"shade": shade}, baseline=SimpleNamespace(setting={"shade": 10.0}))


def shades(folder: Path) -> list[tuple[int, ...]]:
    pictures = read_pictures(folder)
    return [tuple(Image.open(path).getpixel((0, 0)) for path in (p.neutral, p.calibrated)) for p in pictures]


def test_pairs_of_the_first_prompts_are_kept_in_order(tmp_path: Path) -> None:
    write_images(Shade(), outcome(), BUCKET, tmp_path / "images")
    assert [(p.prompt, p.seed) for p in read_pictures(tmp_path / "images")] == [(f"prompt {n}", n) for n in range(8)]
    assert shades(tmp_path / "images") == [(10 + n, 100 + n) for n in range(8)]


def test_a_complete_folder_is_left_alone_and_another_result_replaces_it(tmp_path: Path) -> None:
    adapter = Shade()
    write_images(adapter, outcome(), BUCKET, tmp_path / "images")
    write_images(adapter, outcome(), BUCKET, tmp_path / "images")
    assert adapter.num_calls == 1
    write_images(adapter, outcome(50.0), BUCKET, tmp_path / "images")
    assert shades(tmp_path / "images")[0] == (10, 50)


def test_what_a_kill_left_is_no_gallery_and_is_cleared(tmp_path: Path) -> None:
    partial = tmp_path / ".images.partial"
    partial.mkdir()
    (partial / "00-neutral.png").write_bytes(b"half a p")
    assert read_pictures(tmp_path / "images") == []
    write_images(Shade(), outcome(), BUCKET, tmp_path / "images")
    assert len(shades(tmp_path / "images")) == 8 and not partial.exists()


def test_a_folder_with_a_missing_picture_is_incomplete_and_made_again(tmp_path: Path) -> None:
    write_images(Shade(), outcome(), BUCKET, tmp_path / "images")
    (tmp_path / "images" / "03-calibrated.png").unlink()
    assert read_pictures(tmp_path / "images") == []
    write_images(Shade(), outcome(), BUCKET, tmp_path / "images")
    assert len(read_pictures(tmp_path / "images")) == 8


def test_outputs_that_are_no_images_leave_nothing(tmp_path: Path) -> None:
    class Numbers(Shade):
        def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[Any]]:
            yield from ([1.0] * len(bucket) for _ in population)

    write_images(Numbers(), outcome(), BUCKET, tmp_path / "images")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot write the pictures or answers in"):
        write_images(Shade(), outcome(), BUCKET, tmp_path / "file" / "images")
