"""Several calibrations are applied by name with weights; what is saved under them is the base, and said to be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimpot
from applied import BUCKET, calibrated, made
from generated import candidates, drawn, pixels
from trimpot.adapters.pipelines import PipelineAdapter
from trimpot.engine.bucket import Bucket
from trimpot.ground.errors import CalibrationError, Notice


@pytest.fixture(scope="module", params=["flux", "sd3"])
def adapter(request: pytest.FixtureRequest) -> PipelineAdapter:
    found = made(request.param, request.getfixturevalue(f"{request.param}_folder"))
    return found


def files(adapter: PipelineAdapter, folder: Path) -> tuple[list[np.ndarray], list[Path]]:
    vectors = list(candidates(adapter, 2))
    found = []
    for name, vector in zip(("one", "two"), vectors, strict=True):
        file = calibrated(adapter, adapter.space.to_setting(vector), folder / f"{name}.json")
        values = json.loads(file.read_text())
        values["provenance"]["run"] = name
        file.write_text(json.dumps(values))
        found.append(file)
    return vectors, found


def images(adapter: PipelineAdapter, vector: np.ndarray) -> list[np.ndarray]:
    """What the adapter makes of a setting, by the road of the search."""
    return [
        pixels(adapter.generate(vector[None], Bucket((prompt,), (seed,)))[0])[0]
        for prompt, seed in zip(BUCKET.prompts, BUCKET.seeds, strict=True)
    ]


def same(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return all(np.abs(one - other).max() <= 1 for one, other in zip(found, expected, strict=True))


def test_departures_from_neutral_are_summed_with_their_weights(adapter: PipelineAdapter, tmp_path: Path) -> None:
    (first, second), (one, two) = files(adapter, tmp_path)
    neutral = adapter.space.defaults
    expected = {
        (a, b): images(adapter, neutral + a * (first - neutral) + b * (second - neutral))
        for a, b in ((1.0, 0.0), (0.5, 0.5), (0.0, 1.0))
    }
    adapter._hooked.remove()
    applied = trimpot.load_calibration(adapter.pipe, one)
    applied.add(two, 0.0)
    for (a, b), images_ in expected.items():
        applied.weights = {"one": a, "two": b}
        assert applied.weights == {"one": a, "two": b}
        assert same(drawn(adapter.pipe, BUCKET, **applied.recommended), images_)
    applied.weights = {"two": 1.0}  # what is not named is off, as with set_adapters
    assert applied.weights == {"one": 0.0, "two": 1.0}
    assert "weights one 0, two 1" in repr(applied)
    for wrong, told in (({"three": 1.0}, "no calibration 'three'"), ({"one": float("nan")}, "the weight of 'one'")):
        with pytest.raises(CalibrationError, match=told):
            applied.weights = wrong
    with pytest.raises(CalibrationError, match="is applied already; give another name="):
        applied.add(two)
    applied.remove()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in adapter.pipe.transformer.modules())
    with pytest.raises(CalibrationError, match="has been removed"):
        applied.add(one, name="again")


def test_another_ensemble_is_not_added_and_nothing_changes(sd3_folder: Path, tmp_path: Path) -> None:
    alone, pair = made("sd3-alone", sd3_folder), made("sd3", sd3_folder)
    (tmp_path / "alone").mkdir()
    _, (single, _) = files(alone, tmp_path / "alone")
    _, (double, _) = files(pair, tmp_path)
    for each in (alone, pair):
        each.close()
    applied = trimpot.load_calibration(pair.pipe, double)
    before = drawn(pair.pipe, BUCKET, **applied.recommended)
    with pytest.raises(CalibrationError, match="cannot be added: their ensembles have other members"):
        applied.add(single, name="single")
    np.testing.assert_array_equal(drawn(pair.pipe, BUCKET, **applied.recommended), before)
    assert list(applied.weights) == ["one"]


def test_what_is_saved_is_the_base_model_and_is_said_to_be(flux_folder: Path, tmp_path: Path) -> None:
    adapter = made("flux", flux_folder)
    _, (one, _) = files(adapter, tmp_path)
    adapter.close()
    kept = {name: value.clone() for name, value in adapter.pipe.transformer.state_dict().items()}
    applied = trimpot.load_calibration(adapter.pipe, one)
    adapter.pipe.transformer.state_dict()  # is no saving
    with pytest.warns(Notice, match="saved without the calibration"):
        adapter.pipe.transformer.save_pretrained(str(tmp_path / "saved"))
    saved = type(adapter.pipe.transformer).from_pretrained(str(tmp_path / "saved"))
    assert all(torch.equal(value, kept[name]) for name, value in saved.state_dict().items())
    applied.remove()
    adapter.pipe.transformer.save_pretrained(str(tmp_path / "again"))


def test_a_lora_is_fused_under_a_calibration_as_before_it(flux_folder: Path, tmp_path: Path) -> None:
    """Fusing changes weights only: images are those of a LoRA that was fused first and calibrated then."""
    from peft import LoraConfig

    images_ = []
    for fuse_first in (True, False):
        adapter = made("flux", flux_folder)
        _, (one, _) = files(adapter, tmp_path)
        adapter.close()
        pipe = adapter.pipe
        torch.manual_seed(1)
        pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_out.0"], init_lora_weights=False))
        if fuse_first:
            pipe.fuse_lora(components=["transformer"])
            pipe.unload_lora_weights()
        with pytest.warns(Notice, match="made on another model"):
            applied = trimpot.load_calibration(pipe, one)
        if not fuse_first:
            pipe.fuse_lora(components=["transformer"])
            pipe.unload_lora_weights()
        images_.append(drawn(pipe, BUCKET, **applied.recommended))
    np.testing.assert_array_equal(images_[0], images_[1])
