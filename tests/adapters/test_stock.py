"""Any stock pipeline: images and videos, guided in one forward pass or in one for each side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated import candidates, pixels
from numpy.typing import NDArray
from PIL import Image
from trimpot.adapters import make_diffusers
from trimpot.adapters.stock import StackedRows, StockAdapter
from trimpot.engine.bucket import Bucket
from trimpot.engine.errors import ModelError
from trimpot.testing import AdapterContract

STEPS = 2
BUCKET = Bucket(("a cat", "two dogs"), (11, 12))
VIDEO = {"num_frames": 5, "max_sequence_length": 16, "guidance_scale": 3.0}
OPTIONS: dict[str, dict[str, Any]] = {
    "wan": {"height": 16, "width": 16, **VIDEO},
    "ltx": {"height": 32, "width": 32, **VIDEO, "pipeline_options": {"frame_rate": 8}},
    "cogvideox": {"height": 16, "width": 16, **VIDEO},
    "pixart": {
        "height": 16,
        "width": 16,
        "max_sequence_length": 16,
        "guidance_scale": 3.0,
        "pipeline_options": {"use_resolution_binning": False, "clean_caption": False, "negative_prompt": "dull"},
    },
}


def make(folder: Path, **options: Any) -> StockAdapter:
    made = make_diffusers(model=str(folder), dtype="float32", device="cpu", num_inference_steps=STEPS, **options)
    assert isinstance(made, StockAdapter)
    return made


@pytest.fixture(scope="module", params=list(OPTIONS))
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, name: str) -> Path:
    found: Path = request.getfixturevalue(f"{name}_folder")
    return found


@pytest.fixture(scope="module")
def loaded(folder: Path, name: str) -> StockAdapter:
    return make(folder, **OPTIONS[name])


class TestStock(AdapterContract):
    """The adapter keeps the contract of every backbone, in front of pipelines of three kinds."""

    prompts = ("a cat", "two dogs")
    num_candidates = 2
    tolerance = 2.0  # of 255: batches of other sizes are computed by other kernels

    @pytest.fixture
    def adapter(self, loaded: StockAdapter) -> StockAdapter:
        return loaded

    def as_array(self, output: Any) -> NDArray[Any]:
        return np.asarray(output).astype(np.int16)


def stock(adapter: StockAdapter, bucket: Bucket, options: dict[str, Any]) -> list[Any]:
    """What the pipeline makes of a bucket when it is called as anybody would call it."""
    call = {**options, **options.get("pipeline_options", {})}
    call.pop("pipeline_options", None)
    result = adapter.pipe(
        prompt=list(bucket.prompts),
        generator=[torch.Generator().manual_seed(seed) for seed in bucket.seeds],
        num_inference_steps=STEPS,
        output_type="pil",
        **call,
    )
    return pixels(result.frames if adapter.makes == "video" else result.images)


def test_the_neutral_setting_is_the_untouched_pipeline(folder: Path, name: str, loaded: StockAdapter) -> None:
    """Every output equals what a pipeline without hooks makes, to the bit."""
    bare = make(folder, **OPTIONS[name])
    bare.close()
    expected = stock(bare, BUCKET, OPTIONS[name])
    np.testing.assert_array_equal(pixels(loaded.generate(loaded.space.defaults[None], BUCKET)[0]), expected)
    loaded.generate(candidates(loaded, 1), BUCKET)
    np.testing.assert_array_equal(stock(loaded, BUCKET, OPTIONS[name]), expected)


def test_a_candidate_scales_every_row_of_its_outputs(folder: Path, name: str) -> None:
    """Guidance included: a candidate in a batch equals a pipeline that has its scales for good, whatever it calls."""
    adapter = make(folder, **OPTIONS[name])
    population = candidates(adapter, 2)
    made = adapter.generate(population, BUCKET)
    adapter.close()
    for candidate, outputs in zip(population, made, strict=True):
        scales, _ = adapter.layout.tables(candidate[None])
        rows = StackedRows(adapter.pipe.transformer, adapter.layout.sites)
        rows.set(torch.tensor(scales, dtype=torch.float32))
        expected = stock(adapter, BUCKET, OPTIONS[name])
        rows.remove()
        for one, other in zip(pixels(outputs), expected, strict=True):
            assert np.abs(one - other).max() <= 2


def test_a_video_is_a_list_of_frames(name: str, loaded: StockAdapter) -> None:
    """One list of pictures an output, where the pipeline makes videos; one picture where it does not."""
    [outputs] = loaded.generate(loaded.space.defaults[None], BUCKET)
    if name == "pixart":
        assert loaded.makes == "image" and all(isinstance(output, Image.Image) for output in outputs)
    else:
        num_frames = 8 if name == "cogvideox" else 5
        assert loaded.makes == "video" and [len(output) for output in outputs] == [num_frames] * 2
        assert all(isinstance(frame, Image.Image) for output in outputs for frame in output)


def test_knobs_that_cannot_act_are_left_out(name: str, loaded: StockAdapter) -> None:
    """They are found with the inputs of a real call: nothing reads CogVideoX's text stream after the last block."""
    dead = ("block.01.attn.text", "block.01.mlp.text") if name == "cogvideox" else ()
    assert loaded.frozen == dead
    assert loaded.describe()["frozen"] == list(dead)


def test_guidance_is_the_pipeline_s_own(folder: Path, name: str, loaded: StockAdapter) -> None:
    """The option goes to the call and changes what is made, and is described."""
    other = make(folder, **{**OPTIONS[name], "guidance_scale": 6.0})
    neutral = loaded.space.defaults[None]
    first, second = (pixels(each.generate(neutral, BUCKET)[0]) for each in (loaded, other))
    assert any((one != another).any() for one, another in zip(first, second, strict=True))
    assert loaded.describe() != other.describe()
    assert other.describe()["call"]["guidance_scale"] == 6.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 5}, "takes no num_frames"),
        ({"pipeline_options": {"prompt": "a cat"}}, "pipeline_options sets prompt"),
        ({"height": 16, "pipeline_options": {"height": 8}}, "pipeline_options sets height"),
        ({"pipeline_options": {"negativ_prompt": "a"}}, "did you mean 'negative_prompt'"),
        ({"height": 17, "width": 16, "pipeline_options": {"use_resolution_binning": False}}, "divisible by 8"),
        ({"pipeline": "PixArtSigmPipeline"}, "did you mean"),
    ],
)
def test_what_the_pipeline_does_not_take_is_one_sentence(
    pixart_folder: Path, options: dict[str, Any], message: str
) -> None:
    """It is said before anything is generated."""
    with pytest.raises(ModelError, match=message):
        make(pixart_folder, **options)


def test_the_number_of_steps_is_the_pipeline_s_unless_given(pixart_folder: Path) -> None:
    """A pipeline has a number of steps of its own, which `with_steps` changes."""
    adapter = make_diffusers(model=str(pixart_folder), dtype="float32", device="cpu", **OPTIONS["pixart"])
    assert adapter.num_steps == 20
    assert adapter.with_steps(3).describe() == {**adapter.describe(), "num_steps": 3}


def test_rows_that_cannot_be_told_apart_are_refused(loaded: StockAdapter) -> None:
    """A pipeline that gives its transformer some rows only is answered with what would help."""
    loaded._hooked.set(torch.ones(4, 1, len(loaded.layout.sites)), None)
    try:
        with pytest.raises(ModelError, match=r"with 3 rows for 4 outputs.*batch_size: 1"):
            loaded.pipe.transformer(torch.zeros(3, 1))
    finally:
        loaded._hooked.set(None, None)
