"""The shipped backbone: a real checkpoint of the real classes, driven by the very adapter of SD-3.5."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from accelerator import accelerator, where
from numpy.typing import NDArray
from trimpot.adapters import make_shapes
from trimpot.adapters.checkpoints import load_pipeline, shipped
from trimpot.adapters.diffusion import DiffusionAdapter
from trimpot.engine.bucket import Bucket
from trimpot.engine.seams import Adapter
from trimpot.ground.errors import ModelError
from trimpot.objectives.shapes import check, prompts
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plugins import plugins
from trimpot.testing import AdapterContract


@pytest.fixture(scope="module")
def loaded() -> Adapter:
    return make_shapes(num_inference_steps=2)


class TestShapes(AdapterContract):
    """The shapes adapter keeps the contract of every backbone."""

    prompts = ("a red circle", "two blue stars", "a green square left of a pink cross")
    num_candidates = 2
    tolerance = 1.0  # of 255: batches of one row are computed by other kernels

    @pytest.fixture
    def adapter(self, loaded: Adapter) -> Adapter:
        return loaded

    def as_array(self, output: Any) -> NDArray[Any]:
        return np.asarray(output).astype(np.int16)


@pytest.fixture(scope="module")
def pipe() -> Iterator[Any]:
    loaded, _ = load_pipeline(
        "StableDiffusion3Pipeline", str(shipped("shapes")), revision=None, dtype="float32", device="cpu"
    )
    loaded.set_progress_bar_config(disable=True)
    yield loaded


def test_it_is_small_and_free_of_pickles() -> None:
    """The checkpoint is at most five megabytes of safetensors and JSON."""
    files = [path for path in shipped("shapes").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 5_000_000
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt"}


def test_it_is_built_of_the_real_classes(pipe: Any) -> None:
    """Joint blocks, some with dual attention, the last without a text stream: what SD-3.5-medium is made of."""
    blocks = pipe.transformer.transformer_blocks
    assert type(pipe).__name__ == "StableDiffusion3Pipeline"
    assert type(pipe.transformer).__name__ == "SD3Transformer2DModel"
    assert {type(block).__name__ for block in blocks} == {"JointTransformerBlock"}
    assert 0 < sum(block.use_dual_attention for block in blocks) < len(blocks)
    assert [block.context_pre_only for block in blocks] == [False] * (len(blocks) - 1) + [True]
    assert type(pipe.text_encoder).__name__ == "CLIPTextModelWithProjection"
    assert type(pipe.vae).__name__ == "AutoencoderKL"


def test_the_stock_pipeline_draws_what_it_is_asked(pipe: Any) -> None:
    """Called as anybody would call it, the checkpoint draws a red circle that the checker accepts."""
    images = pipe(
        prompt=["a red circle"] * 8,
        num_inference_steps=12,
        guidance_scale=4.0,
        height=32,
        width=32,
        max_sequence_length=1,
        generator=[torch.Generator().manual_seed(seed) for seed in range(8)],
    ).images
    assert sum(check(image, "a red circle").strict for image in images) >= 5


def test_it_is_driven_by_the_adapter_of_sd3(loaded: Adapter) -> None:
    """There is no special path: the shapes adapter is the sd3 adapter on a checkpoint of its own."""
    assert type(loaded) is DiffusionAdapter
    assert loaded.family.pipeline == "StableDiffusion3Pipeline"


@pytest.mark.parametrize(("options", "place"), [({}, "cpu"), ({"device": "cuda"}, "cuda")])
def test_it_is_on_the_cpu_unless_another_device_is_named(options: dict[str, Any], place: str) -> None:
    with accelerator("cuda"):
        adapter = make_shapes(num_inference_steps=2, **options)
        assert isinstance(adapter, DiffusionAdapter)
        assert {where(value).type for value in adapter.pipe.transformer.parameters()} == {place}
        adapter.prepare(["a red circle"])
        [[image]] = adapter.generate(adapter.space.defaults[None], Bucket(("a red circle",), (1,)))
    assert image.size == (32, 32)


def test_no_prompt_is_cut_off(pipe: Any) -> None:
    """Every prompt of every split fits the tokenizer."""
    for split in ("train", "validation", "test"):
        for prompt in prompts(split):  # type: ignore[arg-type]
            assert len(pipe.tokenizer(prompt)["input_ids"]) <= pipe.tokenizer.model_max_length, prompt


def test_one_step_of_a_stretched_schedule_is_refused_before_a_run(loaded: Adapter) -> None:
    """The scheduler would divide by zero; the generic adapter looks at a call of as many steps as it will make."""
    said = "stretches its schedule .shift_terminal., which takes at least 2 denoising steps, not 1"
    options: dict[str, Any] = {"model": str(shipped("shapes")), "dtype": "float32", "device": "cpu"}
    stock = plugins().make("adapters", "diffusers", options)
    assert len(stock.generate(stock.space.defaults[None], Bucket(("a red circle",), (0,)))[0]) == 1
    for adapter in (loaded, stock):
        assert adapter.with_steps(2).num_steps == 2
        with pytest.raises(ModelError, match=said):
            adapter.with_steps(1)
    for name, given in (("shapes", {}), ("diffusers", options)):
        with pytest.raises(ModelError, match=said):
            plugins().make("adapters", name, {**given, "num_inference_steps": 1})
    with pytest.raises(ModelError, match=said):
        assemble("", load_config("shapes", ["by_steps.steps=[1, 8]"]), plugins())
