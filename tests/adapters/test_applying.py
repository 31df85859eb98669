"""A calibration is applied to a stock pipeline in one line, and taken off again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimpot
from trimpot.adapters import make_sd3
from trimpot.adapters.diffusion import DiffusionAdapter
from trimpot.engine.bucket import Bucket
from trimpot.engine.calibration import Calibration, GainRecord, Provenance
from trimpot.engine.errors import CalibrationError

STEPS = 3
BUCKET = Bucket(("a cat", "two dogs"), (21, 22))
CALL = {"num_inference_steps": STEPS, "height": 16, "width": 16, "max_sequence_length": 4}


@pytest.fixture(scope="module")
def adapter(sd3_folder: Path) -> DiffusionAdapter:
    made = make_sd3(model=str(sd3_folder), dtype="float32", device="cpu", num_inference_steps=STEPS, guidance_scale=3.0)
    assert isinstance(made, DiffusionAdapter)
    return made


@pytest.fixture
def setting(adapter: DiffusionAdapter) -> dict[str, float]:
    """A setting that visibly changes the model."""
    generator = np.random.default_rng(4)
    return adapter.space.to_setting(adapter.space.defaults + generator.normal(0, 0.3, len(adapter.space)))


@pytest.fixture
def file(adapter: DiffusionAdapter, setting: dict[str, float], tmp_path: Path) -> Path:
    """Its calibration file."""
    gain = GainRecord(mean=0.1, low=0.05, high=0.15, num_images=10)
    calibration = Calibration(
        backbone=adapter.describe(),
        num_steps=STEPS,
        setting=setting,
        apply=adapter.export(setting, adapter.space.to_setting(adapter.space.defaults)),
        objectives={"shapes": {}},
        neutral_label="guidance 3",
        gain=gain,
        by_steps=(),
        provenance=Provenance(
            run="test-1",
            created="2026-01-01T00:00:00+00:00",
            digest="0",
            stop_reason="done",
            num_evaluations=1,
            num_images=1,
            versions={},
            config={},
        ),
    )
    path = tmp_path / "calibration.json"
    calibration.save(path)
    return path


def draw(pipe: Any, **call: Any) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    return [
        np.asarray(pipe(prompt=prompt, generator=torch.Generator().manual_seed(seed), **{**CALL, **call}).images[0])
        for prompt, seed in zip(BUCKET.prompts, BUCKET.seeds, strict=True)
    ]


@pytest.mark.parametrize("guidance", [1.0, 7.0])
def test_the_stock_pipeline_makes_the_calibrated_images(
    adapter: DiffusionAdapter, setting: dict[str, float], file: Path, guidance: float
) -> None:
    """One line, and a plain call makes what the search saw, whatever guidance_scale it is called with."""
    [expected] = adapter.generate(adapter.space.to_vector(setting)[None], BUCKET)
    applied = trimpot.load_calibration(adapter.pipe, file)
    found = draw(adapter.pipe, guidance_scale=guidance)
    applied.remove()
    for image, other in zip(found, expected, strict=True):
        assert np.abs(image.astype(int) - np.asarray(other)).max() <= 1


def test_removal_gives_the_stock_pipeline_back(adapter: DiffusionAdapter, file: Path) -> None:
    """After `remove`, and after a `with` block, every pixel is as before."""
    before = draw(adapter.pipe, guidance_scale=3.0)
    with trimpot.load_calibration(adapter.pipe, file):
        assert any((one != other).any() for one, other in zip(before, draw(adapter.pipe), strict=True))
    for one, other in zip(before, draw(adapter.pipe, guidance_scale=3.0), strict=True):
        np.testing.assert_array_equal(one, other)


def test_strength_zero_is_the_neutral_model(adapter: DiffusionAdapter, file: Path) -> None:
    """At strength 0 the pipeline is the neutral model at its best guidance, to the bit."""
    before = draw(adapter.pipe, guidance_scale=3.0)
    with trimpot.load_calibration(adapter.pipe, file, strength=0.0) as applied:
        assert applied.num_inference_steps == STEPS
        for one, other in zip(before, draw(adapter.pipe), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_negative_prompt_still_works(adapter: DiffusionAdapter, file: Path) -> None:
    """With guidance on, the unconditional member sees the negative prompt."""
    with trimpot.load_calibration(adapter.pipe, file):
        plain, negative = draw(adapter.pipe), draw(adapter.pipe, negative_prompt="a dog")
    assert any((one != other).any() for one, other in zip(plain, negative, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transformer": "FluxTransformer2DModel"}, "is for a FluxTransformer2DModel"),
        ({"members": []}, "same modules"),
        ({"members": [{"sees": "conditional"}]}, "weight"),
    ],
)
def test_a_calibration_of_another_model_is_refused(
    adapter: DiffusionAdapter, file: Path, change: dict[str, Any], message: str
) -> None:
    """What does not fit is one sentence, and the model is untouched."""
    values = json.loads(file.read_text())
    values["apply"].update(change)
    file.write_text(json.dumps(values))
    with pytest.raises(CalibrationError, match=message):
        trimpot.load_calibration(adapter.pipe, file)
    assert not any(module._forward_hooks for module in adapter.pipe.transformer.modules())


def test_a_calibration_of_a_deeper_model_is_refused(adapter: DiffusionAdapter, file: Path) -> None:
    """A module path that the pipeline lacks is named, and the model is untouched."""
    text = file.read_text().replace("transformer_blocks.2.", "transformer_blocks.9.")
    file.write_text(text)
    with pytest.raises(CalibrationError, match=r"no module 'transformer_blocks\.9"):
        trimpot.load_calibration(adapter.pipe, file)
    assert not any(module._forward_hooks for module in adapter.pipe.transformer.modules())
