"""The qwen-image adapter: guidance with its norm rescaling, prompts of many lengths, knobs that cannot act."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated import candidates, drawn, latents, one_by_one, pixels
from numpy.typing import NDArray
from trimpot.adapters import make_qwen_image
from trimpot.adapters.diffusion import DiffusionAdapter
from trimpot.adapters.ensemble import with_norm_of
from trimpot.engine.bucket import Bucket
from trimpot.testing import AdapterContract

STEPS = 2
BUCKET = Bucket(("a cat", "two dogs in the rain", "a red circle"), (11, 12, 13))
CALL = {"num_inference_steps": STEPS, "height": 16, "width": 16}
DEAD = ("block.02.attn.text", "block.02.mlp.text")  # nothing reads the text stream of the last block


def make(folder: Path, **options: Any) -> DiffusionAdapter:
    made = make_qwen_image(model=str(folder), dtype="float32", device="cpu", num_inference_steps=STEPS, **options)
    assert isinstance(made, DiffusionAdapter)
    return made


@pytest.fixture(scope="module")
def loaded(qwen_folder: Path) -> DiffusionAdapter:
    return make(qwen_folder)


@pytest.fixture(scope="module")
def kept(qwen_folder: Path) -> DiffusionAdapter:
    return make(qwen_folder, dead="keep")


class TestQwenImage(AdapterContract):
    """The adapter keeps the contract of every backbone."""

    prompts = ("a cat", "two dogs in the rain")
    num_candidates = 2
    tolerance = 1.0  # of 255: prompts are filled up to the longest of a batch

    @pytest.fixture
    def adapter(self, loaded: DiffusionAdapter) -> DiffusionAdapter:
        return loaded

    def as_array(self, output: Any) -> NDArray[Any]:
        return np.asarray(output).astype(np.int16)


class TestQwenImageWithDeadKnobs(TestQwenImage):
    """Kept in the space, the knobs of the last block's text stream are the only ones that move nothing."""

    @pytest.fixture
    def adapter(self, kept: DiffusionAdapter) -> DiffusionAdapter:  # type: ignore[override]
        return kept

    def dead_knobs(self, adapter: Any) -> list[str]:
        return [f"member{member}.{name}" for member in (1, 2) for name in DEAD]


def test_dead_knobs_are_frozen_and_said(loaded: DiffusionAdapter, kept: DiffusionAdapter) -> None:
    """By default a knob that cannot reach the output is not searched; the description and the export still have it."""
    names = tuple(f"member{member}.{name}" for member in (1, 2) for name in DEAD)
    assert loaded.frozen == names and kept.frozen == ()
    assert set(kept.space.names) - set(loaded.space.names) == set(names)
    assert loaded.describe()["frozen"] == list(names)
    neutral = loaded.space.to_setting(loaded.space.defaults)
    scales = [member["scales"] for member in loaded.export(neutral, neutral)["members"]]
    assert scales[0].keys() == scales[1].keys() and len(scales[0]) == 12


@pytest.mark.parametrize("guidance", [1.3, 4.0])
def test_the_neutral_setting_is_the_untouched_pipeline(qwen_folder: Path, guidance: float) -> None:
    """With its true guidance and rescaled norm, neutral latents and images equal the stock pipeline's, to the bit."""
    adapter = make(qwen_folder, guidance_scale=guidance)
    with latents(adapter.pipe) as found:
        images = one_by_one(adapter, adapter.space.defaults, BUCKET)
    with latents(adapter.pipe) as expected:
        stock = drawn(adapter.pipe, BUCKET, true_cfg_scale=guidance, negative_prompt=" ", **CALL)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    np.testing.assert_array_equal(images, stock)


def test_one_member_is_the_pipeline_without_guidance(qwen_folder: Path) -> None:
    """An ensemble of one is neither guided nor rescaled."""
    adapter = make(qwen_folder, members=["conditional"])
    with latents(adapter.pipe) as found:
        one_by_one(adapter, adapter.space.defaults, BUCKET)
    with latents(adapter.pipe) as expected:
        drawn(adapter.pipe, BUCKET, true_cfg_scale=1.0, **CALL)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_prompts_of_many_lengths_share_a_batch(loaded: DiffusionAdapter) -> None:
    """Filled up and masked, a short prompt makes the image it makes by itself."""
    population = candidates(loaded, 2)
    for candidate, images in zip(population, loaded.generate(population, BUCKET), strict=True):
        for image, alone in zip(pixels(images), one_by_one(loaded, candidate, BUCKET), strict=True):
            assert np.abs(image - alone).max() <= 1


def test_every_token_has_the_conditional_norm() -> None:
    """Rescaling keeps directions and takes over norms; a prediction of nothing stays finite."""
    generator = torch.Generator().manual_seed(0)
    combined, conditional = torch.randn(2, 3, 5, 8, generator=generator)
    combined[0, 0] = 0
    rescaled = with_norm_of(combined, conditional)
    norms = torch.linalg.vector_norm(rescaled, dim=-1)
    assert norms[0, 0] == 0
    expected = torch.linalg.vector_norm(conditional, dim=-1)
    torch.testing.assert_close(norms.flatten()[1:], expected.flatten()[1:])
    torch.testing.assert_close(torch.cosine_similarity(rescaled, combined, dim=-1).flatten()[1:], torch.ones(14))


def test_a_token_of_zeros_stays_zeros_when_it_is_rescaled() -> None:
    combined = torch.zeros(1, 2, 4)
    combined[0, 1] = 1.0
    rescaled = with_norm_of(combined, torch.full((1, 2, 4), 1e3))
    assert torch.equal(rescaled[0, 0], torch.zeros(4))
    assert torch.allclose(rescaled[0, 1], torch.full((4,), 1e3))
