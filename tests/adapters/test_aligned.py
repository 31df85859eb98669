"""The LoRA that is shipped for the shipped checkpoint: a real one, in diffusers' layout, that makes a better model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_models
from trimpot.adapters import make_shapes
from trimpot.adapters.checkpoints import load_pipeline, shipped
from trimpot.adapters.loading import Loading
from trimpot.adapters.lora import SHIPPED, merge_lora
from trimpot.engine.bucket import Bucket
from trimpot.ground.errors import ModelError
from trimpot.objectives.shapes import check, prompts
from trimpot.setup.config import load_config, presets
from trimpot.setup.plugins import plugins

FILE = "pytorch_lora_weights.safetensors"
SHAPES = str(shipped("shapes"))
HELD_OUT = Bucket(tuple(prompts("validation")[:24]), tuple(range(24)))


def drawn(**options: Any) -> tuple[Any, list[Any]]:
    """The adapter, and its images of held-out prompts at the guidance that suits it, neutral otherwise."""
    adapter = make_shapes(granularity="block", num_inference_steps=4, **options)
    [images] = adapter.generate(adapter.space.defaults[None], HELD_OUT)
    return adapter, list(images)


@pytest.fixture(scope="module")
def aligned() -> tuple[Any, list[Any]]:
    return drawn(lora="aligned", guidance_scale=2.0)


@pytest.fixture(scope="module")
def base() -> tuple[Any, list[Any]]:
    return drawn(guidance_scale=3.0)


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_small_and_in_the_layout_of_diffusers(name: str) -> None:
    """One file of at most a megabyte, which diffusers named and which holds PEFT's configuration."""
    from safetensors import safe_open

    [file] = shipped(name).iterdir()
    assert file.name == FILE and file.stat().st_size <= 1_000_000
    with safe_open(file, framework="pt") as opened:
        assert all(key.startswith("transformer.") for key in opened.keys())  # noqa: SIM118
        assert "transformer.lora_alpha" in opened.metadata()["lora_adapter_metadata"]


def test_it_is_what_diffusers_and_peft_make_of_the_file(aligned: tuple[Any, list[Any]]) -> None:
    """Loaded by its name and merged, the model draws what a stock pipeline draws that loaded the file by itself."""
    pytest.importorskip("peft")
    _, images = aligned
    pipe, _ = load_pipeline(None, SHAPES, Loading(dtype="float32", device="cpu"))
    pipe.load_lora_weights(str(shipped("aligned")))
    pipe.set_progress_bar_config(disable=True)
    import torch

    expected = pipe(
        prompt=HELD_OUT.prompts[0],
        generator=torch.Generator().manual_seed(HELD_OUT.seeds[0]),
        num_inference_steps=4,
        guidance_scale=2.0,
        height=32,
        width=32,
        max_sequence_length=1,
    ).images[0]
    assert np.abs(np.asarray(images[0]).astype(int) - np.asarray(expected)).max() <= 1


def test_an_aligned_model_says_so_and_its_base_is_the_same_as_ever(
    aligned: tuple[Any, list[Any]], base: tuple[Any, list[Any]]
) -> None:
    adapter, plain = aligned[0], base[0]
    source = adapter.describe()["source"]
    lora = source.pop("lora")
    assert source == plain.describe()["source"]
    assert lora["id"] == "aligned" and len(lora["weights"]) == 16 and lora["rank"] == lora["alpha"] == 8
    assert adapter.space.names == plain.space.names


def test_alignment_raises_the_score_of_prompts_that_it_never_saw(
    aligned: tuple[Any, list[Any]], base: tuple[Any, list[Any]]
) -> None:
    """Over the base at its own best guidance, on the same prompts and seeds."""
    after, before = aligned[1], base[1]
    scores = [
        np.mean([check(image, prompt).score for image, prompt in zip(images, HELD_OUT.prompts, strict=True)])
        for images in (after, before)
    ]
    assert scores[0] > scores[1] + 0.05


def test_the_preset_is_that_of_the_base_with_the_lora() -> None:
    assert "shapes-aligned" in presets()
    base, own = (load_config(name).model_dump(mode="json") for name in ("shapes", "shapes-aligned"))
    grids = [each["adapter"].pop("guidance_grid") for each in (base, own)]
    assert own["adapter"].pop("lora") == "aligned" and min(grids[1]) < min(grids[0])
    assert {**own, "name": base["name"]} == base


def test_a_name_nearly_right_is_suggested_and_another_model_refuses_it() -> None:
    with pytest.raises(ModelError, match="no LoRA is named 'alignd'; did you mean 'aligned'"):
        plugins().make("adapters", "shapes", {"lora": "alignd"})
    transformer = tiny_models.tiny_sd3_transformer()
    with pytest.raises(ModelError, match=r"does not fit|has no module"):
        merge_lora(transformer, "aligned")
