"""The flux adapter drives the stock pipeline; ensembles of a distilled model are weighted sums of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated import candidates, drawn, latents, one_by_one, pixels
from numpy.typing import NDArray
from torch import Tensor
from trimpot.adapters import make_flux
from trimpot.adapters.diffusion import DiffusionAdapter
from trimpot.adapters.scaling import Scaling
from trimpot.adapters.sites import find_sites
from trimpot.engine.bucket import Bucket
from trimpot.testing import AdapterContract

STEPS = 2
BUCKET = Bucket(("a cat", "two dogs", "a red circle"), (11, 12, 13))
CALL = {"num_inference_steps": STEPS, "height": 16, "width": 16, "max_sequence_length": 16}
MEMBERS = {"one": ["conditional"], "two": ["conditional"] * 2, "three": ["conditional"] * 3}


def make(folder: Path, **options: Any) -> DiffusionAdapter:
    made = make_flux(model=str(folder), dtype="float32", device="cpu", num_inference_steps=STEPS, **options)
    assert isinstance(made, DiffusionAdapter)
    return made


@pytest.fixture(scope="module", params=["one", "two"])
def ensemble(request: pytest.FixtureRequest, flux_folder: Path) -> DiffusionAdapter:
    return make(flux_folder, members=MEMBERS[request.param])


class TestFlux(AdapterContract):
    """The adapter keeps the contract of every backbone, alone and in an ensemble of two."""

    prompts = ("a cat", "two dogs")
    num_candidates = 2
    tolerance = 1.0  # of 255: batches of other sizes are computed by other kernels

    @pytest.fixture
    def adapter(self, ensemble: DiffusionAdapter) -> DiffusionAdapter:
        return ensemble

    def as_array(self, output: Any) -> NDArray[Any]:
        return np.asarray(output).astype(np.int16)

    def dead_knobs(self, adapter: Any) -> list[str]:
        """A second member has no weight while it is neutral, so its scales wait for one."""
        return [name for name in adapter.space.names if name.startswith("member2.") and name != "member2.weight"]


@pytest.mark.parametrize("guidance", [None, 1.5])
@pytest.mark.parametrize("members", list(MEMBERS))
def test_the_neutral_setting_is_the_untouched_pipeline(flux_folder: Path, members: str, guidance: float | None) -> None:
    """In any ensemble, the neutral latents and images equal the stock pipeline's, to the bit; 3.5 is the guidance."""
    adapter = make(flux_folder, members=MEMBERS[members], guidance_scale=guidance)
    with latents(adapter.pipe) as found:
        images = one_by_one(adapter, adapter.space.defaults, BUCKET)
    with latents(adapter.pipe) as expected:
        stock = drawn(adapter.pipe, BUCKET, guidance_scale=guidance or 3.5, **CALL)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    np.testing.assert_array_equal(images, stock)


@pytest.mark.parametrize("num_members", [2, 3])
def test_an_ensemble_is_a_weighted_sum_of_calls(flux_folder: Path, num_members: int) -> None:
    """M members with M * d scales and M weights equal M separately scaled calls of the bare model, summed."""
    adapter = make(flux_folder, members=["conditional"] * num_members, guidance_scale=2.0)
    [setting] = candidates(adapter, 1)
    with latents(adapter.pipe) as found:
        adapter.generate(setting[None], BUCKET)
    adapter.close()

    pipe, values = adapter.pipe, adapter.space.to_setting(setting)
    sites = find_sites(pipe.transformer)
    members = [
        ([values[f"member{number}.{site.name}"] for site in sites], values[f"member{number}.weight"])
        for number in range(1, num_members + 1)
    ]
    assert len(adapter.space) == num_members * (len(sites) + 1)
    untouched = pipe.transformer.forward
    scaling = Scaling(pipe.transformer, sites)

    def summed(**inputs: Any) -> tuple[Tensor]:
        total: Any = 0
        for scales, weight in members:
            scaling.set(torch.tensor([scales], dtype=torch.float32))
            total = total + weight * untouched(**inputs)[0]
        return (total,)

    pipe.transformer.forward = summed
    with latents(pipe) as expected:
        pipe(
            prompt=list(BUCKET.prompts),
            generator=[torch.Generator().manual_seed(seed) for seed in BUCKET.seeds],
            guidance_scale=2.0,
            **CALL,
        )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


def test_guidance_by_two_prompts_can_be_asked_for(flux_folder: Path) -> None:
    """A member that sees the empty prompt, with weights (g, 1 - g), is the pipeline's own true guidance."""
    adapter = make(flux_folder, members=["conditional", "unconditional"])
    guided = {"member1.weight": 2.5, "member2.weight": -1.5}
    images = one_by_one(adapter, adapter.space.to_vector(guided), BUCKET)
    stock = drawn(adapter.pipe, BUCKET, guidance_scale=3.5, true_cfg_scale=2.5, negative_prompt="", **CALL)
    np.testing.assert_array_equal(images, stock)
    assert adapter.space.to_setting(adapter.space.defaults)["member2.weight"] == 0


def test_a_model_without_distilled_guidance(tmp_path: Path) -> None:
    """What schnell is made of: no guidance goes in, and neutral is the stock pipeline."""
    import warnings

    import tiny_models

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what saving says is of no interest here
        folder = tiny_models.tiny_flux(tmp_path / "schnell", guidance=False)
    adapter = make(folder, guidance_scale=0.0)
    stock = drawn(adapter.pipe, BUCKET, guidance_scale=0.0, **CALL)
    np.testing.assert_array_equal(one_by_one(adapter, adapter.space.defaults, BUCKET), stock)


def test_a_crowd_changes_nothing_visible(flux_folder: Path) -> None:
    """A candidate among others is the candidate alone, to the arithmetic of batches."""
    adapter = make(flux_folder, members=MEMBERS["two"], batch_size=4)
    population = candidates(adapter)
    together = adapter.generate(population, BUCKET)
    for candidate, images in zip(population, together, strict=True):
        [alone] = adapter.generate(candidate[None], BUCKET)
        for one, other in zip(pixels(images), pixels(alone), strict=True):
            assert np.abs(one - other).max() <= 1


def test_distilled_guidance_is_described(flux_folder: Path) -> None:
    """It changes every image, so it is in the description; and it is no knob, so there is no grid of it."""
    first, second = make(flux_folder), make(flux_folder, guidance_scale=2.0)
    assert (first.describe()["guidance_scale"], second.describe()["guidance_scale"]) == (3.5, 2.0)
    assert list(first.neutrals()) == ["neutral"]
