"""A calibration is called as it was measured, and says so once if it is not."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimpot
from applied import BUCKET, CASES, SIZE, calibrated, made
from generated import candidates, drawn, pixels
from trimpot.adapters.pipelines import PipelineAdapter
from trimpot.engine.bucket import Bucket
from trimpot.ground.errors import CalibrationError, Notice


def file_of(adapter: PipelineAdapter, folder: Path) -> Path:
    [vector] = candidates(adapter, 1)
    file = calibrated(adapter, adapter.space.to_setting(vector), folder / "calibration.json")
    adapter.close()
    return file


@contextmanager
def silence() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("case", list(CASES))
def test_the_recommended_call_is_the_whole_call(request: pytest.FixtureRequest, case: str, tmp_path: Path) -> None:
    """With nothing but the prompt and `recommended`, a stock pipeline makes the images that the search saw."""
    adapter = made(case, request.getfixturevalue(f"{case.partition('-')[0]}_folder"))
    [vector] = candidates(adapter, 1)
    expected = [
        pixels(adapter.generate(vector[None], Bucket((prompt,), (seed,)))[0])[0]
        for prompt, seed in zip(BUCKET.prompts, BUCKET.seeds, strict=True)
    ]
    file = file_of(adapter, tmp_path)
    with trimpot.load_calibration(adapter.pipe, file) as applied, silence():
        found = drawn(adapter.pipe, BUCKET, **applied.recommended)
    for image, other in zip(found, expected, strict=True):
        assert np.abs(image - other).max() <= 1


# What a call may do otherwise, and what is said of it; None if it changes nothing.
DEPARTURES: list[tuple[str, dict[str, Any], str | None]] = [
    ("sd3", {}, None),
    ("sd3", {"guidance_scale": 7.0}, None),  # the ensemble replaces it
    ("sd3", {"num_inference_steps": 2}, "num_inference_steps=2, not 3"),
    ("sd3", {"height": 32}, "height=32, not 16"),
    ("sd3", {"max_sequence_length": 8}, "max_sequence_length=8, not 4"),
    ("sd3-alone", {"guidance_scale": 7.0}, "guidance_scale=7.0, not 1.0"),
    ("flux", {"guidance_scale": 2.0}, "guidance_scale=2.0, not 3.5"),
    ("flux", {"width": 32, "num_inference_steps": 1}, "num_inference_steps=1, not 3, width=32, not 16"),
    ("pixart", {"guidance_scale": 2.0}, "guidance_scale=2.0, not 3.0"),
]


@pytest.mark.parametrize(("case", "changes", "told"), DEPARTURES)
def test_a_call_that_departs_is_told_once(
    request: pytest.FixtureRequest, case: str, changes: dict[str, Any], told: str | None, tmp_path: Path
) -> None:
    sized = SIZE if case.startswith("flux") else {}
    adapter = made(case, request.getfixturevalue(f"{case.partition('-')[0]}_folder"), **_known(sized))
    with trimpot.load_calibration(adapter.pipe, file_of(adapter, tmp_path)) as applied:
        call = {**applied.recommended, **changes}
        if told:
            with pytest.warns(Notice, match="called with .* call it with \\*\\*calibration.recommended") as found:
                drawn(adapter.pipe, BUCKET, **call)
            assert [told in str(each.message) for each in found] == [True]
        with silence():
            drawn(adapter.pipe, BUCKET, **call)


def _known(call: dict[str, Any]) -> dict[str, Any]:
    return {name: call[name] for name in ("height", "width") if name in call}


def test_disabled_it_is_the_stock_pipeline_and_enabled_it_is_calibrated_again(sd3_folder: Path, tmp_path: Path) -> None:
    adapter = made("sd3", sd3_folder)
    file = file_of(adapter, tmp_path)
    call = {"num_inference_steps": 3, "height": 16, "width": 16, "max_sequence_length": 4, "guidance_scale": 3.0}
    before = drawn(adapter.pipe, BUCKET, **call)
    applied = trimpot.load_calibration(adapter.pipe, file)
    after = drawn(adapter.pipe, BUCKET, **call)
    assert np.not_equal(after, before).any()
    applied.disable()
    assert not applied.enabled
    applied.strength = 0.5  # of no effect until it is enabled
    np.testing.assert_array_equal(drawn(adapter.pipe, BUCKET, **call), before)
    applied.strength = 1.0
    applied.enable()
    np.testing.assert_array_equal(drawn(adapter.pipe, BUCKET, **call), after)
    applied.remove()
    np.testing.assert_array_equal(drawn(adapter.pipe, BUCKET, **call), before)
    applied.disable()
    with pytest.raises(CalibrationError, match="has been removed; load it again"):
        applied.enable()


def test_it_says_what_it_is(sd3_folder: Path, tmp_path: Path) -> None:
    adapter = made("sd3", sd3_folder)
    applied = trimpot.load_calibration(adapter.pipe, file_of(adapter, tmp_path), strength=0.5)
    said = f"<AppliedCalibration test-1: {len(adapter.space)} knobs of tiny-sd3, gain +0.100 [+0.050, +0.150], strength"
    assert repr(applied) == f"{said} 0.5>"
    applied.disable()
    assert repr(applied) == f"{said} 0.5, disabled>"
    applied.remove()
    assert repr(applied) == f"{said} 0.5, removed>"


def test_another_scheduler_is_told(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    adapter = made("sd3", tiny_folder("sd3"))
    file = file_of(adapter, tmp_path)
    kept = adapter.pipe.scheduler
    adapter.pipe.scheduler = type(kept).from_config(kept.config, shift=7.0)
    with pytest.warns(Notice, match="another scheduler: its scheduler's shift is 7.0, not 3.0"):
        trimpot.load_calibration(adapter.pipe, file).remove()
    adapter.pipe.scheduler = kept
    values = json.loads(file.read_text())
    values["backbone"]["scheduler"]["class"] = "HeunScheduler"
    file.write_text(json.dumps(values))
    with pytest.warns(Notice, match="its scheduler is a FlowMatchEulerDiscreteScheduler, not a HeunScheduler"):
        trimpot.load_calibration(adapter.pipe, file).remove()
