"""The sd3 adapter drives the stock pipeline, on a tiny checkpoint of the real classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from trimpot.adapters import make_sd3
from trimpot.adapters.diffusion import DiffusionAdapter
from trimpot.adapters.ensemble import Ensemble, weighted_sum
from trimpot.engine.bucket import Bucket
from trimpot.engine.errors import ModelError

STEPS = 3
GUIDANCE = 4.5
BUCKET = Bucket(("a cat", "two dogs", "a red circle"), (11, 12, 13))


def make(folder: Path, **options: Any) -> DiffusionAdapter:
    adapter = make_sd3(
        model=str(folder),
        dtype="float32",
        device="cpu",
        **{"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, **options},
    )
    assert isinstance(adapter, DiffusionAdapter)
    return adapter


@pytest.fixture(scope="module")
def adapter(sd3_folder: Path) -> DiffusionAdapter:
    return make(sd3_folder)


def stock(adapter: DiffusionAdapter, bucket: Bucket, guidance: float = GUIDANCE) -> list[NDArray[np.uint8]]:
    """What the stock pipeline makes of a bucket, prompt by prompt, when nobody has touched it."""
    images = []
    for prompt, seed in zip(bucket.prompts, bucket.seeds, strict=True):
        result = adapter.pipe(
            prompt=prompt,
            generator=torch.Generator().manual_seed(seed),
            guidance_scale=guidance,
            num_inference_steps=STEPS,
            height=16,
            width=16,
            max_sequence_length=4,
        )
        images.append(np.asarray(result.images[0]))
    return images


def one_by_one(adapter: DiffusionAdapter, setting: NDArray[np.float64], bucket: Bucket) -> list[NDArray[np.uint8]]:
    """What the adapter makes of a bucket, prompt by prompt, so that both sides compute in batches of one size."""
    parts = [Bucket((prompt,), (seed,)) for prompt, seed in zip(bucket.prompts, bucket.seeds, strict=True)]
    return [np.asarray(adapter.generate(setting[None], part)[0][0]) for part in parts]


def pixels(images: list[Any]) -> list[NDArray[np.uint8]]:
    return [np.asarray(image) for image in images]


def candidates(adapter: DiffusionAdapter, number: int = 3) -> NDArray[np.float64]:
    generator = np.random.default_rng(0)
    low, high = adapter.space.bounds
    moved = adapter.space.defaults + generator.normal(0, 0.3, (number, len(adapter.space)))
    return np.clip(moved, low, high)


@pytest.mark.parametrize("guidance", [1.7, 4.5, 7.0])
def test_the_neutral_setting_is_the_untouched_pipeline(sd3_folder: Path, guidance: float) -> None:
    """At any guidance, the neutral setting's images equal the stock pipeline's own, to the bit."""
    adapter = make(sd3_folder, guidance_scale=guidance)
    images = one_by_one(adapter, adapter.space.defaults, BUCKET)
    for image, expected in zip(images, stock(adapter, BUCKET, guidance), strict=True):
        np.testing.assert_array_equal(image, expected)


def test_neutral_latents_are_bit_identical(adapter: DiffusionAdapter) -> None:
    """Not only the rounded pixels: the latents of ensemble and stock guidance agree in every bit."""
    pipe = adapter.pipe
    prompt, pooled = (adapter._encoded("a cat")[name] for name in ("prompt_embeds", "pooled_prompt_embeds"))
    empty, empty_pooled = (adapter._encoded("")[name] for name in ("prompt_embeds", "pooled_prompt_embeds"))
    call = {
        "prompt_embeds": prompt,
        "pooled_prompt_embeds": pooled,
        "latents": adapter._noise(5),
        "num_inference_steps": STEPS,
        "height": 16,
        "width": 16,
        "output_type": "latent",
    }
    expected = pipe(
        **call,
        negative_prompt_embeds=empty,
        negative_pooled_prompt_embeds=empty_pooled,
        guidance_scale=GUIDANCE,
    ).images
    ensemble = Ensemble(pipe.transformer, adapter._sites, adapter._members, adapter.family.conditioning)
    ensemble.unconditional = adapter._unconditional()
    ensemble.set(*adapter._tables(adapter.space.defaults[None]))
    found = pipe(**call, guidance_scale=1.0).images
    ensemble.remove()
    assert torch.equal(found, expected)


def test_a_candidate_in_a_crowd_is_the_candidate_alone(adapter: DiffusionAdapter) -> None:
    """Rows of different candidates share a batch, and each comes out as if it were alone."""
    population = candidates(adapter)
    together = adapter.generate(population, BUCKET)
    for candidate, images in zip(population, together, strict=True):
        [alone] = adapter.generate(candidate[None], BUCKET)
        for one, other in zip(pixels(images), pixels(alone), strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_image_depends_on_its_prompt_and_seed_alone(adapter: DiffusionAdapter) -> None:
    """Neither neighbours nor their order in the bucket change an image."""
    population = candidates(adapter, 1)
    [straight] = adapter.generate(population, BUCKET)
    backwards = Bucket(BUCKET.prompts[::-1], BUCKET.seeds[::-1])
    [reverse] = adapter.generate(population, backwards)
    for one, other in zip(pixels(straight), pixels(reverse)[::-1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_small_batch_makes_the_same_images(sd3_folder: Path, adapter: DiffusionAdapter) -> None:
    """The batch size is a matter of memory, not of results."""
    population = candidates(adapter, 2)
    for one, other in zip(
        adapter.generate(population, BUCKET),
        make(sd3_folder, batch_size=2).generate(population, BUCKET),
        strict=True,
    ):
        for first, second in zip(pixels(one), pixels(other), strict=True):
            assert np.abs(first.astype(int) - second).max() <= 1  # batches of one row use other kernels


def test_every_knob_moves_an_image(adapter: DiffusionAdapter) -> None:
    """Scales of both members and both weights act."""
    [neutral] = adapter.generate(adapter.space.defaults[None], BUCKET)
    population = np.repeat(adapter.space.defaults[None], len(adapter.space), axis=0)
    np.fill_diagonal(population, adapter.space.defaults + 0.6)
    for name, images in zip(adapter.space.names, adapter.generate(population, BUCKET), strict=True):
        same = [np.array_equal(one, other) for one, other in zip(pixels(neutral), pixels(images), strict=True)]
        assert not all(same), name


def test_generating_leaves_the_pipeline_untouched(adapter: DiffusionAdapter) -> None:
    """Between two groups the pipeline is the stock pipeline again."""
    before = stock(adapter, BUCKET)
    adapter.generate(candidates(adapter, 1), BUCKET)
    np.testing.assert_array_equal(stock(adapter, BUCKET), before)
    assert not any(module._forward_hooks for module in adapter.pipe.transformer.modules())


@pytest.mark.parametrize(("granularity", "count"), [("block", 3), ("layer", 6), ("gate", 11)])
def test_knobs_of_two_members_and_their_weights(sd3_folder: Path, granularity: str, count: int) -> None:
    """Guidance is an ensemble of two: 2 d + 2 knobs, or d + 2 where the members share their scales."""
    assert len(make(sd3_folder, granularity=granularity).space) == 2 * count + 2
    assert len(make(sd3_folder, granularity=granularity, tie_members=True).space) == count + 2


def test_tied_members_move_together(sd3_folder: Path) -> None:
    """A shared scale does what the same scale in both members does."""
    tied, free = (
        make(sd3_folder, granularity="block", tie_members=True),
        make(sd3_folder, granularity="block"),
    )
    one = {"joint.01": 0.4}
    both = {"member1.joint.01": 0.4, "member2.joint.01": 0.4}
    [first] = tied.generate(tied.space.to_vector(one)[None], BUCKET)
    [second] = free.generate(free.space.to_vector(both)[None], BUCKET)
    for image, other in zip(pixels(first), pixels(second), strict=True):
        np.testing.assert_array_equal(image, other)


def test_neutrals_are_the_guidance_grid(sd3_folder: Path) -> None:
    """What a calibration is measured against: the untouched model at every guidance worth trying."""
    adapter = make(sd3_folder, guidance_grid=(1.0, 4.5, 7.0))
    assert list(adapter.neutrals()) == ["guidance 4.5", "guidance 1", "guidance 7"]
    for guidance, setting in zip((4.5, 1.0, 7.0), adapter.neutrals().values(), strict=True):
        images = one_by_one(adapter, adapter.space.to_vector(setting), BUCKET)
        for image, expected in zip(images, stock(adapter, BUCKET, guidance), strict=True):
            np.testing.assert_array_equal(image, expected)


def test_more_steps_are_more_steps(adapter: DiffusionAdapter) -> None:
    """`with_steps` changes the number of steps and nothing else, and leaves the original as it is."""
    other = adapter.with_steps(5)
    assert (other.num_steps, adapter.num_steps) == (5, STEPS)
    calls = []
    handle = adapter.pipe.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    other.generate(adapter.space.defaults[None], BUCKET)
    handle.remove()
    assert len(calls) == 5


def test_prompts_are_encoded_once(sd3_folder: Path) -> None:
    """However many candidates see a prompt, the text encoder sees it once."""
    adapter = make(sd3_folder)
    calls = []
    handle = adapter.pipe.text_encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    adapter.generate(candidates(adapter), BUCKET)
    adapter.generate(candidates(adapter), BUCKET)
    handle.remove()
    assert len(calls) == len(BUCKET) + 1  # and the empty prompt


def test_other_weights_are_another_checkpoint(sd3_folder: Path, tmp_path: Path) -> None:
    """A changed weight file changes what the adapter says of itself, and so the run's fingerprint."""
    import shutil

    copy = tmp_path / sd3_folder.name
    shutil.copytree(sd3_folder, copy)
    same = make(copy).describe()
    weights = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert make(sd3_folder).describe() == same
    assert make(copy).describe() != same


@pytest.mark.parametrize(("model", "message"), [("./nowhere", "no checkpoint folder"), ("/tmp", "no model_index.json")])
def test_a_missing_checkpoint_is_one_sentence(model: str, message: str) -> None:
    """A folder that is absent or holds no pipeline is said before anything is loaded."""
    with pytest.raises(ModelError, match=message):
        make_sd3(model=model)


def test_a_broken_checkpoint_is_one_sentence(sd3_folder: Path, tmp_path: Path) -> None:
    """A truncated weight file is a ModelError, not a traceback of somebody else's."""
    import shutil

    copy = tmp_path / "broken"
    shutil.copytree(sd3_folder, copy)
    weights = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot load"):
        make(copy)


def test_the_weighted_sum_is_the_guidance_formula_bit_for_bit() -> None:
    """Weights (g, 1 - g) give `uncond + g (cond - uncond)` exactly, for any g."""
    generator = torch.Generator().manual_seed(0)
    for guidance in (0.3, 1.1, 2.7, 4.5, 7.3, 15.9):
        cond, uncond = torch.randn(2, 3, 4, generator=generator)
        weights = torch.tensor([[guidance, 1 - guidance]], dtype=torch.float64)
        assert torch.equal(weighted_sum(torch.stack([cond, uncond]), weights), uncond + guidance * (cond - uncond))


def test_the_weighted_sum_is_a_weighted_sum() -> None:
    """For weights that do not sum to one, and a row each, it is the sum that einsum computes."""
    generator = torch.Generator().manual_seed(0)
    members = torch.randn(3, 5, 4, 2, generator=generator, dtype=torch.float64)
    weights = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    expected = torch.einsum("mrab,rm->rab", members, weights)
    torch.testing.assert_close(weighted_sum(members, weights), expected, rtol=0, atol=1e-12)
