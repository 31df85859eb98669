"""The sd3 adapter drives the stock pipeline, on a tiny checkpoint of the real classes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated import candidates, drawn, latents, one_by_one, pixels
from numpy.typing import NDArray
from trimpot.adapters import make_sd3
from trimpot.adapters.diffusion import DiffusionAdapter
from trimpot.adapters.ensemble import weighted_sum
from trimpot.engine.bucket import Bucket
from trimpot.engine.seams import Adapter
from trimpot.ground.errors import ModelError
from trimpot.testing import AdapterContract

STEPS = 3
GUIDANCE = 4.5
BUCKET = Bucket(("a cat", "two dogs", "a red circle"), (11, 12, 13))
CALL = {"num_inference_steps": STEPS, "height": 16, "width": 16, "max_sequence_length": 4}


def make(folder: Path, **options: Any) -> DiffusionAdapter:
    adapter = make_sd3(
        model=str(folder),
        device="cpu",
        **{"dtype": "float32", "num_inference_steps": STEPS, "guidance_scale": GUIDANCE, **options},
    )
    assert isinstance(adapter, DiffusionAdapter)
    return adapter


@pytest.fixture(scope="module")
def adapter(sd3_folder: Path) -> DiffusionAdapter:
    return make(sd3_folder)


ENSEMBLES: dict[str, Any] = {
    "guided": None,
    "alone": ["conditional"],
    "three": ["conditional", "unconditional", "conditional"],
}


@pytest.fixture(scope="module", params=list(ENSEMBLES))
def ensemble(request: pytest.FixtureRequest, sd3_folder: Path) -> DiffusionAdapter:
    return make(sd3_folder, members=ENSEMBLES[request.param], granularity="layer", num_inference_steps=2)


class TestSd3(AdapterContract):
    """The adapter keeps the contract of every backbone, whatever its ensemble."""

    prompts = ("a cat", "two dogs")
    num_candidates = 2
    tolerance = 1.0  # of 255: the decoder's batches of other sizes are computed by other kernels

    @pytest.fixture
    def adapter(self, ensemble: DiffusionAdapter) -> DiffusionAdapter:
        return ensemble

    @pytest.fixture
    def others(self, sd3_folder: Path, tmp_path: Path) -> list[Adapter]:
        """More steps, more guidance, coarser numbers, and one bit of one file."""
        edited = shutil.copytree(sd3_folder, tmp_path / sd3_folder.name)
        weights = next((edited / "transformer").glob("*.safetensors"))
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        changed: list[dict[str, Any]] = [{"num_inference_steps": 4}, {"guidance_scale": 5.0}, {"dtype": "bfloat16"}]
        return [make(sd3_folder, **each) for each in changed] + [make(edited)]

    def as_array(self, output: Any) -> NDArray[Any]:
        return np.asarray(output).astype(np.int16)

    def dead_knobs(self, adapter: Any) -> list[str]:
        """A third member has no weight while it is neutral, so its scales wait for one."""
        return [name for name in adapter.space.names if name.startswith("member3.") and name != "member3.weight"]


@pytest.mark.parametrize("guidance", [1.7, 4.5, 7.0])
@pytest.mark.parametrize("members", [None, ("unconditional", "conditional"), ENSEMBLES["three"]])
def test_the_neutral_setting_is_the_untouched_pipeline(sd3_folder: Path, guidance: float, members: Any) -> None:
    """At any guidance, in any ensemble, the neutral latents and images equal the stock pipeline's, to the bit."""
    adapter = make(sd3_folder, guidance_scale=guidance, members=members)
    with latents(adapter.pipe) as found:
        images = one_by_one(adapter, adapter.space.defaults, BUCKET)
    with latents(adapter.pipe) as expected:
        stock = drawn(adapter.pipe, BUCKET, guidance_scale=guidance, **CALL)
    assert len(found) == STEPS * len(BUCKET)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    np.testing.assert_array_equal(images, stock)


def test_one_member_is_the_pipeline_without_guidance(sd3_folder: Path) -> None:
    """An ensemble of one has no weight, and its neutral setting is the unguided pipeline."""
    adapter = make(sd3_folder, members=["conditional"])
    assert not any(name.endswith("weight") for name in adapter.space.names)
    expected = drawn(adapter.pipe, BUCKET, guidance_scale=1.0, **CALL)
    np.testing.assert_array_equal(one_by_one(adapter, adapter.space.defaults, BUCKET), expected)


@pytest.mark.parametrize(("layers", "strength"), [([1], 2.8), ([0, 1], 1.5)])
def test_skip_layer_guidance_is_a_setting(sd3_folder: Path, layers: list[int], strength: float) -> None:
    """A third member with skipped blocks at 0 and weights (g + s, 1 - g, -s) is what diffusers calls skip guidance."""
    adapter = make(sd3_folder, members=["conditional", "unconditional", "conditional"], granularity="block")
    setting = {f"member3.joint.{layer:02d}": 0.0 for layer in layers}
    weights = {"member1.weight": GUIDANCE + strength, "member2.weight": 1 - GUIDANCE, "member3.weight": -strength}
    with latents(adapter.pipe) as found:
        one_by_one(adapter, adapter.space.to_vector({**setting, **weights}), BUCKET)
    with latents(adapter.pipe) as expected:
        drawn(
            adapter.pipe,
            BUCKET,
            guidance_scale=GUIDANCE,
            skip_guidance_layers=layers,
            skip_layer_guidance_scale=strength,
            skip_layer_guidance_start=-1,  # begins after this step, and so with the first one
            skip_layer_guidance_stop=1,
            **CALL,
        )
    plain = drawn(adapter.pipe, BUCKET, guidance_scale=GUIDANCE, **CALL)
    skipped = one_by_one(adapter, adapter.space.to_vector({**setting, **weights}), BUCKET)
    assert any((one != other).any() for one, other in zip(plain, skipped, strict=True))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


def test_small_changes_act_in_bfloat16(sd3_folder: Path) -> None:
    """Scales are float32 whatever the model is: 1.003 moves latents, although in bfloat16 it is 1."""
    adapter = make(sd3_folder, dtype="bfloat16", granularity="block")
    neutral = adapter.space.defaults
    moved = np.where([name.endswith("weight") for name in adapter.space.names], neutral, neutral * 1.003)
    with latents(adapter.pipe) as seen:
        adapter.generate(neutral[None], BUCKET)
        adapter.generate(moved[None], BUCKET)
    assert seen[0].dtype == torch.bfloat16
    assert any(not torch.equal(one, other) for one, other in zip(seen[:STEPS], seen[STEPS:], strict=True))


def test_a_candidate_in_a_crowd_is_the_candidate_alone(adapter: DiffusionAdapter) -> None:
    """Rows of different candidates share a batch, and each comes out as if it were alone."""
    population = candidates(adapter)
    together = adapter.generate(population, BUCKET)
    for candidate, images in zip(population, together, strict=True):
        [alone] = adapter.generate(candidate[None], BUCKET)
        np.testing.assert_array_equal(pixels(images), pixels(alone))


def test_an_image_depends_on_its_prompt_and_seed_alone(adapter: DiffusionAdapter) -> None:
    """Neither neighbours nor their order in the bucket change an image."""
    population = candidates(adapter, 1)
    [straight] = adapter.generate(population, BUCKET)
    [reverse] = adapter.generate(population, Bucket(BUCKET.prompts[::-1], BUCKET.seeds[::-1]))
    np.testing.assert_array_equal(pixels(straight), pixels(reverse)[::-1])


def test_the_pipeline_is_the_stock_pipeline_between_two_groups(sd3_folder: Path) -> None:
    """Hooks stay attached, idle: the pipeline makes what it made before there were any; `close` takes them off."""
    adapter = make(sd3_folder)
    begun = drawn(adapter.pipe, BUCKET, guidance_scale=GUIDANCE, **CALL)
    adapter.generate(candidates(adapter, 1), BUCKET)
    np.testing.assert_array_equal(drawn(adapter.pipe, BUCKET, guidance_scale=GUIDANCE, **CALL), begun)
    adapter.close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in adapter.pipe.transformer.modules())
    np.testing.assert_array_equal(drawn(adapter.pipe, BUCKET, guidance_scale=GUIDANCE, **CALL), begun)
    with pytest.raises(ModelError, match="closed"):
        adapter.generate(candidates(adapter, 1), BUCKET)


def test_the_pipeline_is_idle_after_a_failure(adapter: DiffusionAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that fails half-way leaves nothing set behind."""
    begun = drawn(adapter.pipe, BUCKET, guidance_scale=GUIDANCE, **CALL)
    with monkeypatch.context() as broken:
        broken.setattr(adapter.pipe.vae, "decode", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            adapter.generate(candidates(adapter, 1), BUCKET)
    np.testing.assert_array_equal(drawn(adapter.pipe, BUCKET, guidance_scale=GUIDANCE, **CALL), begun)


@pytest.mark.parametrize(("granularity", "count"), [("block", 3), ("layer", 6), ("gate", 11)])
def test_knobs_of_two_members_and_their_weights(sd3_folder: Path, granularity: str, count: int) -> None:
    """Guidance is an ensemble of two: 2 d + 2 knobs, or d + 2 where the members share their scales."""
    assert len(make(sd3_folder, granularity=granularity).space) == 2 * count + 2
    assert len(make(sd3_folder, granularity=granularity, tie_members=True).space) == count + 2


def test_tied_members_move_together(sd3_folder: Path) -> None:
    """A shared scale does what the same scale in both members does."""
    tied = make(sd3_folder, granularity="block", tie_members=True)
    free = make(sd3_folder, granularity="block")
    [first] = tied.generate(tied.space.to_vector({"joint.01": 0.4})[None], BUCKET)
    both = {"member1.joint.01": 0.4, "member2.joint.01": 0.4}
    [second] = free.generate(free.space.to_vector(both)[None], BUCKET)
    np.testing.assert_array_equal(pixels(first), pixels(second))


def test_neutrals_are_the_guidance_grid(sd3_folder: Path) -> None:
    """What a calibration is measured against: the untouched model at every guidance worth trying."""
    adapter = make(sd3_folder, guidance_grid=(1.0, 4.5, 7.0))
    assert list(adapter.neutrals()) == ["guidance 4.5", "guidance 1", "guidance 7"]
    for guidance, setting in zip((4.5, 1.0, 7.0), adapter.neutrals().values(), strict=True):
        images = one_by_one(adapter, adapter.space.to_vector(setting), BUCKET)
        np.testing.assert_array_equal(images, drawn(adapter.pipe, BUCKET, guidance_scale=guidance, **CALL))


def test_more_steps_are_more_steps(adapter: DiffusionAdapter) -> None:
    """`with_steps` changes the number of steps and nothing else, and leaves the original as it is."""
    other = adapter.with_steps(5)
    assert (other.num_steps, adapter.num_steps) == (5, STEPS)
    assert {**other.describe(), "num_steps": STEPS} == adapter.describe()
    with latents(adapter.pipe) as seen:
        other.generate(adapter.space.defaults[None], BUCKET)
    assert len(seen) == 5


def test_prompts_are_encoded_once(sd3_folder: Path) -> None:
    """However many candidates see a prompt, the text encoder sees it once, when it is first met."""
    adapter = make(sd3_folder)
    calls = []
    adapter.pipe.text_encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    adapter.prepare(BUCKET.prompts)
    assert len(calls) == 1  # the empty prompt, which every batch needs
    adapter.generate(candidates(adapter), BUCKET)
    adapter.with_steps(2).generate(candidates(adapter), BUCKET)
    assert len(calls) == len(BUCKET) + 1


def test_text_encoders_can_be_released(sd3_folder: Path, adapter: DiffusionAdapter) -> None:
    """Without its text encoders the pipeline makes the same images, of the prompts it was prepared for."""
    lean = make(sd3_folder, release_text_encoders=True)
    lean.prepare(BUCKET.prompts)
    assert lean.pipe.text_encoder is None and lean.pipe.text_encoder_2 is None
    population = candidates(adapter, 1)
    np.testing.assert_array_equal(
        pixels(lean.generate(population, BUCKET)[0]), pixels(adapter.generate(population, BUCKET)[0])
    )
    with pytest.raises(ModelError, match="cannot encode the prompt 'a pig': its text encoders have been dropped"):
        lean.generate(population, Bucket(("a pig",), (1,)))


def test_other_weights_are_another_checkpoint(sd3_folder: Path, tmp_path: Path) -> None:
    """A changed weight file changes what the adapter says of itself, and so the run's fingerprint."""
    copy = tmp_path / sd3_folder.name
    shutil.copytree(sd3_folder, copy)
    same = make(copy).describe()
    weights = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert make(sd3_folder).describe() == same
    assert make(copy).describe() != same


@pytest.mark.parametrize(
    "options",
    [
        {"height": 24},
        {"max_sequence_length": 2},
        {"guidance_grid": (2.0,)},
        {"granularity": "block"},
        {"members": ["conditional"]},
        {"vae_slicing": True},
        {"compile": "regional"},
        {"num_inference_steps": 4},
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler, about itself
def test_what_changes_an_image_is_described(
    sd3_folder: Path, adapter: DiffusionAdapter, options: dict[str, Any]
) -> None:
    """Two adapters that may differ in a pixel describe themselves differently."""
    assert make(sd3_folder, **options).describe() != adapter.describe()


@pytest.mark.parametrize(("model", "message"), [("./nowhere", "no checkpoint folder"), ("/tmp", "no model_index.json")])
def test_a_missing_checkpoint_is_one_sentence(model: str, message: str) -> None:
    """A folder that is absent or holds no pipeline is said before anything is loaded."""
    with pytest.raises(ModelError, match=message):
        make_sd3(model=model)


def test_a_broken_checkpoint_is_one_sentence(sd3_folder: Path, tmp_path: Path) -> None:
    """A truncated weight file is a ModelError, not a traceback of somebody else's."""
    copy = tmp_path / "broken"
    shutil.copytree(sd3_folder, copy)
    weights = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot load"):
        make(copy)


def test_an_ensemble_that_never_sees_the_prompt_is_refused(sd3_folder: Path) -> None:
    """There must be a conditional member."""
    with pytest.raises(ModelError, match="at least one 'conditional'"):
        make(sd3_folder, members=["unconditional"])


def test_the_weighted_sum_is_the_guidance_formula_bit_for_bit() -> None:
    """Weights (g, 1 - g) give `uncond + g (cond - uncond)` exactly, for any g, and members of no weight add nothing."""
    generator = torch.Generator().manual_seed(0)
    for guidance in (0.3, 1.1, 2.7, 4.5, 7.3, 15.9):
        cond, uncond, third = torch.randn(3, 3, 4, generator=generator)
        expected = uncond + guidance * (cond - uncond)
        weights = torch.tensor([[guidance, 1 - guidance]], dtype=torch.float64)
        assert torch.equal(weighted_sum(torch.stack([cond, uncond]), weights), expected)
        weights = torch.tensor([[guidance, 1 - guidance, 0.0]], dtype=torch.float64)
        assert torch.equal(weighted_sum(torch.stack([cond, uncond, third]), weights, around=1), expected)


@pytest.mark.parametrize("around", [0, 1, 2, -1])
def test_the_weighted_sum_is_a_weighted_sum(around: int) -> None:
    """For weights that do not sum to one, and a row each, it is the sum that einsum computes."""
    generator = torch.Generator().manual_seed(0)
    members = torch.randn(3, 5, 4, 2, generator=generator, dtype=torch.float64)
    weights = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    expected = torch.einsum("mrab,rm->rab", members, weights)
    torch.testing.assert_close(weighted_sum(members, weights, around), expected, rtol=0, atol=1e-12)
