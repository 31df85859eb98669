"""A calibration is applied to a stock pipeline in one line, and taken off again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimpot
from applied import BUCKET, CASES, SD3_CALL, SIZE, calibrated, made, refused
from generated import candidates, drawn, pixels
from trimpot.adapters import make_diffusers
from trimpot.adapters.checkpoints import load_pipeline
from trimpot.adapters.pipelines import PipelineAdapter
from trimpot.engine.bucket import Bucket
from trimpot.ground.errors import Notice


@pytest.mark.parametrize("case", list(CASES))
def test_the_stock_pipeline_makes_the_calibrated_images(
    request: pytest.FixtureRequest, case: str, tmp_path: Path
) -> None:
    """One line, and a plain call makes what the search saw, whatever its guidance; afterwards all is as before."""
    adapter = made(case, request.getfixturevalue(f"{case.partition('-')[0]}_folder"))
    [vector] = candidates(adapter, 1)
    expected = [pixels(adapter.generate(vector[None], Bucket((p,), (s,)))[0])[0] for p, s in zip(*parts(), strict=True)]
    file = calibrated(adapter, adapter.space.to_setting(vector), tmp_path / "calibration.json")
    adapter.close()
    for call in CASES[case][2]:
        before = drawn(adapter.pipe, BUCKET, **call)
        with trimpot.load_calibration(adapter.pipe, file):
            found = drawn(adapter.pipe, BUCKET, **call)
        for image, other, untouched in zip(found, expected, before, strict=True):
            assert np.abs(image - other).max() <= 1
            assert (image != untouched).any()
        np.testing.assert_array_equal(drawn(adapter.pipe, BUCKET, **call), before)


def test_a_calibration_of_two_transformers_goes_to_both(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """A video is what the search saw; a pipeline without the second is refused and stays as it was."""
    call: dict[str, Any] = {**SIZE, "num_frames": 5, "max_sequence_length": 16}
    adapter = make_diffusers(model=str(tiny_folder("wan22")), dtype="float32", device="cpu", **call)
    assert isinstance(adapter, PipelineAdapter)
    [vector] = candidates(adapter, 1)
    expected = pixels(adapter.generate(vector[None], BUCKET)[0])
    second = np.array([name.startswith("transformer_2.") for name in adapter.space.names])
    halved = adapter.generate(np.where(second, adapter.space.defaults, vector)[None], BUCKET)
    file = calibrated(adapter, adapter.space.to_setting(vector), tmp_path / "calibration.json")
    adapter.close()
    generators = [torch.Generator().manual_seed(seed) for seed in BUCKET.seeds]
    with trimpot.load_calibration(adapter.pipe, file):
        found = adapter.pipe(prompt=list(BUCKET.prompts), generator=generators, output_type="pil", **call).frames
    for video, other, half in zip(pixels(found), expected, pixels(halved[0]), strict=True):
        assert np.abs(video - other).max() <= 1
        assert (video != half).any()
    with torch.no_grad():
        for value in adapter.pipe.transformer_2.parameters():
            value.mul_(1.1)
    with pytest.warns(Notice, match="weights are not those of"):
        trimpot.load_calibration(adapter.pipe, file).remove()
    adapter.pipe.transformer_2 = None
    refused(adapter.pipe, file, "has no module 'transformer_2")


def parts() -> tuple[tuple[str, ...], tuple[int, ...]]:
    return BUCKET.prompts, BUCKET.seeds


@pytest.fixture(scope="module")
def adapter(sd3_folder: Path) -> PipelineAdapter:
    found = made("sd3", sd3_folder)
    found.close()
    return found


@pytest.fixture
def file(adapter: PipelineAdapter, tmp_path: Path) -> Path:
    """A calibration file of a setting that visibly changes the model."""
    [vector] = candidates(adapter, 1)
    return calibrated(adapter, adapter.space.to_setting(vector), tmp_path / "calibration.json")


def test_strength_zero_is_the_neutral_model(adapter: PipelineAdapter, file: Path) -> None:
    """At strength 0 the pipeline is the neutral model at its best guidance, to the bit."""
    before = drawn(adapter.pipe, BUCKET, guidance_scale=3.0, **SD3_CALL)
    with trimpot.load_calibration(adapter.pipe, file, strength=0.0) as applied:
        assert applied.recommended == {**SD3_CALL, "guidance_scale": 1.0}
        np.testing.assert_array_equal(drawn(adapter.pipe, BUCKET, **SD3_CALL), before)


def test_a_negative_prompt_still_works(adapter: PipelineAdapter, file: Path) -> None:
    """With guidance on, the unconditional member sees the negative prompt."""
    with trimpot.load_calibration(adapter.pipe, file):
        plain = drawn(adapter.pipe, BUCKET, **SD3_CALL)
        negative = drawn(adapter.pipe, BUCKET, negative_prompt="a dog", **SD3_CALL)
    assert any((one != other).any() for one, other in zip(plain, negative, strict=True))


def test_one_step_of_the_same_latents_is_asked_anew(flux_folder: Path, tmp_path: Path) -> None:
    """A second call on the very same noise is a call of its own, not the guidance of the first."""
    adapter = made("flux-two", flux_folder)
    file = calibrated(adapter, dict.fromkeys(adapter.space.names, 0.5), tmp_path / "calibration.json")
    noise = adapter._noise(torch.Generator().manual_seed(3), torch.float32, torch.device("cpu"))  # type: ignore[attr-defined]
    adapter.close()
    call = {**SIZE, "num_inference_steps": 1, "max_sequence_length": 16, "latents": noise}
    with trimpot.load_calibration(adapter.pipe, file):
        [cat], [dog] = (pixels(adapter.pipe(prompt=prompt, **call).images) for prompt in ("a cat", "two dogs"))
    assert (cat != dog).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transformer": "FluxTransformer2DModel"}, "is for a FluxTransformer2DModel"),
        ({"members": []}, "same modules"),
        ({"members": [{"sees": "conditional"}]}, "weight"),
    ],
)
def test_a_calibration_of_another_model_is_refused(
    adapter: PipelineAdapter, file: Path, change: dict[str, Any], message: str
) -> None:
    """What does not fit is one sentence, and the model is untouched."""
    values = json.loads(file.read_text())
    values["apply"].update(change)
    file.write_text(json.dumps(values))
    refused(adapter.pipe, file, message)


def test_a_calibration_of_a_deeper_model_is_refused(adapter: PipelineAdapter, file: Path) -> None:
    """A module path that the pipeline lacks is named."""
    file.write_text(file.read_text().replace("transformer_blocks.2.", "transformer_blocks.9."))
    refused(adapter.pipe, file, r"no module 'transformer_blocks\.9")


def test_a_pipeline_without_a_transformer_is_refused(file: Path, adapter: PipelineAdapter) -> None:
    """It is told what the calibration is for."""
    refused(type("Other", (), {"_execution_device": "cpu"})(), file, "is for a SD3Transformer2DModel")


def test_a_pipeline_without_text_encoders_is_refused(sd3_folder: Path, file: Path) -> None:
    """The unconditional member needs the empty prompt encoded, before anything is hooked."""
    pipe, _ = load_pipeline("StableDiffusion3Pipeline", str(sd3_folder), dtype="float32", device="cpu")
    pipe.text_encoder = pipe.text_encoder_2 = None
    refused(pipe, file, "its text encoders have been dropped")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler, about itself
@pytest.mark.parametrize("how", ["block", "forward", "module"])
def test_a_compiled_pipeline_is_refused(sd3_folder: Path, file: Path, how: str) -> None:
    """Its hooks would silently be ignored; the sentence says to compile afterwards."""
    pipe, _ = load_pipeline("StableDiffusion3Pipeline", str(sd3_folder), dtype="float32", device="cpu")
    if how == "block":
        pipe.transformer.transformer_blocks[0].compile()
    elif how == "forward":
        pipe.transformer.forward = torch.compile(pipe.transformer.forward)
    else:
        pipe.transformer = torch.compile(pipe.transformer)
    refused(pipe, file, "apply the calibration, then compile")


def test_an_offloaded_pipeline_is_calibrated_as_it_is(sd3_folder: Path, adapter: PipelineAdapter, file: Path) -> None:
    """Weights that come layer by layer are scaled like any; the scales wait where the arithmetic happens."""
    accelerate = pytest.importorskip("accelerate")
    pipe, _ = load_pipeline("StableDiffusion3Pipeline", str(sd3_folder), dtype="float32", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    with trimpot.load_calibration(adapter.pipe, file):
        expected = drawn(adapter.pipe, BUCKET, **SD3_CALL)
    accelerate.cpu_offload(pipe.transformer, execution_device="cpu")
    assert pipe.transformer.device.type == "meta"
    with trimpot.load_calibration(pipe, file):
        np.testing.assert_array_equal(drawn(pipe, BUCKET, **SD3_CALL), expected)
