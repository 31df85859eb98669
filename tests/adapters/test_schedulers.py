"""An image depends on its candidate, prompt and seed alone, whatever scheduler draws noise; or the run is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from closed_form import Hill, MemoryStore, Notes, hill_run
from numpy.typing import NDArray
from PIL import Image
from schedulers import BUCKET, PUBLISHED, STEPS, make, table, verdict
from trimpot.adapters import diffusion, make_sd3, stock
from trimpot.adapters.row_noise import row_noise
from trimpot.engine import outputs, proof
from trimpot.engine.bucket import Bucket
from trimpot.engine.errors import ModelError
from trimpot.engine.evaluation import Place
from trimpot.engine.loop import calibrate

STOCHASTIC = ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True})


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_scheduler_that_runs_is_proved(name: str, tmp_path: Path) -> None:
    found = list(table([name], tmp_path))
    assert len(found) >= 7
    assert not [row for row in found if row[3].startswith("refused")]
    published = [row for row in found if row[2]]
    assert len(published) == len(PUBLISHED[name]) and all(row[3] == "proved" for row in published)


@pytest.mark.parametrize("name", ["flux", "sd3", "qwen", "wan"])
def test_without_noise_of_the_row_s_own_the_proof_refuses_them(
    name: str, tiny_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (diffusion, stock):
        monkeypatch.setattr(module, "row_noise", lambda _pipe, _generators: contextlib.nullcontext())
    adapter = make(name, tiny_folder(name))
    found = verdict(adapter, *STOCHASTIC)
    assert found.startswith("refused: asked for the same candidate, prompt and seed again, the backbone made another")
    assert "its scheduler FlowMatchEulerDiscreteScheduler draws noise that no seed decides" in found
    assert verdict(adapter, "FlowMatchEulerDiscreteScheduler", {}) == "proved"


def test_a_stochastic_scheduler_gives_a_candidate_the_same_image_in_any_company(sd3_folder: Path) -> None:
    adapter = make("sd3", sd3_folder)
    kind = type(adapter.pipe.scheduler)
    adapter.pipe.scheduler = kind.from_config(adapter.pipe.scheduler.config, stochastic_sampling=True)
    neutral = adapter.space.defaults[None]
    [[first, second]] = adapter.generate(neutral, BUCKET)
    torch.manual_seed(99)
    [[alone]] = adapter.generate(neutral, BUCKET.head(1))
    [[swapped, _]] = adapter.generate(neutral, Bucket(BUCKET.prompts[::-1], BUCKET.seeds[::-1]))
    assert np.abs(np.asarray(alone).astype(int) - np.asarray(first)).max() <= 1
    assert np.abs(np.asarray(swapped).astype(int) - np.asarray(second)).max() <= 1
    [[other]] = adapter.generate(neutral, Bucket(BUCKET.prompts[:1], (12,)))
    assert np.abs(np.asarray(alone).astype(int) - np.asarray(other)).max() > 5


def test_global_random_state_is_neither_read_nor_written(sd3_folder: Path) -> None:
    adapter = make("sd3", sd3_folder)
    kind = type(adapter.pipe.scheduler)
    adapter.pipe.scheduler = kind.from_config(adapter.pipe.scheduler.config, stochastic_sampling=True)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    adapter.generate(adapter.space.defaults[None], BUCKET)
    assert torch.equal(before, torch.get_rng_state())


def test_a_generator_that_the_pipeline_gives_itself_is_left_alone(sd3_folder: Path) -> None:
    pipe = make("sd3", sd3_folder).pipe
    heard: list[Any] = []
    pipe.scheduler.step = lambda *args, generator=None: heard.append(generator)
    own, rows = torch.Generator(), [torch.Generator()]
    with row_noise(pipe, rows):
        pipe.scheduler.step(1, 2, 3)
        pipe.scheduler.step(1, 2, 3, generator=own)
    assert heard == [rows, own]


def test_a_copy_of_a_scheduler_steps_itself(sd3_folder: Path) -> None:
    """Pipelines with sound copy their scheduler within a call."""
    pipe = make("sd3", sd3_folder).pipe
    with row_noise(pipe, [torch.Generator().manual_seed(1)]):
        pipe.scheduler.set_timesteps(3)
        copied = deepcopy(pipe.scheduler)
        copied.step(torch.zeros(1, 4, 2, 2), copied.timesteps[0], torch.ones(1, 4, 2, 2))
        assert (copied.step_index, pipe.scheduler.step_index) == (1, None)


def test_schedulers_of_two_classes_are_two_backbones(sd3_folder: Path) -> None:
    from diffusers import FlowMatchHeunDiscreteScheduler

    adapter = make("sd3", sd3_folder)
    before = adapter.describe()["scheduler"]
    adapter.pipe.scheduler = FlowMatchHeunDiscreteScheduler.from_config(adapter.pipe.scheduler.config)
    assert adapter.describe()["scheduler"]["class"] == "FlowMatchHeunDiscreteScheduler" != before["class"]


# Any backbone


class _Restless(Hill):
    """Draws from a generator that no seed decides."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = np.random.default_rng(0)

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
        for made in super().generate(population, bucket):
            yield [value + self.noise.normal() for value in made]


class _OneGenerator(Hill):
    """Draws the noise of a whole bucket from its first seed: right in the first row alone."""

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
        noise = np.random.default_rng(bucket.seeds[0]).normal(size=len(bucket))
        for made in super().generate(population, bucket):
            yield [value + more for value, more in zip(made, noise, strict=True)]


@dataclass(eq=True)
class _WithoutHash(_Restless):
    """Plugin authors write dataclasses."""

    def __init__(self) -> None:
        super().__init__()


class _Crowded(Hill):
    """What it makes depends on who else is in the call."""

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
        for made in super().generate(population, bucket):
            yield [value + 0.1 * len(bucket) for value in made]


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        (_Restless, "and seed again, the backbone made another"),
        (_WithoutHash, "and seed again, the backbone made another"),
        (_Crowded, "beside another candidate"),
        (_OneGenerator, "beside another candidate"),
    ],
)
def test_a_run_on_a_backbone_that_no_seed_decides_is_refused_before_anything_is_recorded(
    adapter: type[Hill], said: str
) -> None:
    store = MemoryStore()
    with pytest.raises(ModelError, match=said) as caught:
        calibrate(hill_run(adapter=adapter()), store, Notes())
    assert "\n" not in str(caught.value) and not store.keys


def test_a_proof_costs_six_outputs_once_for_an_adapter_and_nothing_for_a_run_that_goes_on() -> None:
    adapter = Hill()
    calibrate(hill_run(adapter=adapter), store := MemoryStore(), Notes())
    assert adapter.calls[:3] == [1, 2, 1]
    made = len(adapter.calls)
    calibrate(hill_run({"seed": 1}, adapter=adapter, run_id="hill-2"), store, Notes())
    assert len(adapter.calls) < 2 * made - 2
    calibrate(hill_run(adapter=(fresh := Hill())), store, Notes())
    assert fresh.calls == []


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (Image.new("RGB", (4, 4), 100), Image.new("RGB", (4, 4), 101), True),
        (Image.new("RGB", (4, 4), 100), Image.new("RGB", (4, 4), 110), False),
        ([Image.new("RGB", (4, 4))] * 3, [Image.new("RGB", (4, 4))] * 2, False),
        (1.0, 1.0 + 1e-9, True), (1.0, 1.1, False), ("a text", "a text", True), ("a text", "another", False),
        (torch.ones(3), torch.ones(3), True), (np.ones(3), np.zeros(3), False), ({"a": 1}, {"a": 2}, False),
        (object(), object(), True),
    ],
)  # fmt: skip
def test_outputs_of_every_kind_are_compared(one: Any, other: Any, alike: bool) -> None:
    assert proof.differ(one, other, proof.AGAIN, np.max) is not alike


# Pictures of nothing


def spoiled(adapter: Any, part: str) -> None:
    """Make a component's numbers not finite, as an overflow would."""
    module = adapter.pipe.vae.decoder if part == "vae" else adapter.pipe.transformer
    with torch.no_grad():
        next(iter(module.parameters())).fill_(float("nan"))


@pytest.mark.parametrize(("part", "said"), [("transformer", "set dtype: "), ("vae", "set vae_dtype: float32")])
@pytest.mark.parametrize("name", ["flux", "sd3", "qwen", "wan", "pixart", "sana"])
def test_numbers_that_are_not_finite_never_become_black_pictures(
    name: str, part: str, said: str, tiny_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make(name, tiny_folder(name))
    spoiled(adapter, part)
    with pytest.raises(ModelError, match="not finite, so that their pictures would be black") as caught:
        adapter.generate(adapter.space.defaults[None], BUCKET.head(1))
    assert "float32 is wide enough" in str(caught.value)  # these are in float32; what a narrow dtype is told:
    from trimpot.adapters.decoding import _another

    assert said in _another("float16", "dtype" if part == "transformer" else "vae_dtype")
    adapter.close()


@pytest.mark.parametrize("name", ["flux", "sd3", "qwen", "wan"])
def test_an_autoencoder_may_have_a_dtype_of_its_own(name: str, tiny_folder: Any) -> None:
    from schedulers import NAMED
    from stock_cases import CASES
    from trimpot.adapters import make_diffusers

    options: dict[str, Any] = {"model": str(tiny_folder(name)), "dtype": "bfloat16", "device": "cpu",
                               "num_inference_steps": STEPS, "vae_dtype": "float32"}  # fmt: skip
    adapter: Any = NAMED[name](**options) if name in NAMED else make_diffusers(**options, **CASES[name].given)
    assert adapter.pipe.vae.dtype == torch.float32 and adapter.pipe.transformer.dtype == torch.bfloat16
    assert adapter.describe()["source"]["vae_dtype"] == "float32"
    [[image]] = adapter.generate(adapter.space.defaults[None], BUCKET.head(1))
    assert np.asarray(image[0] if isinstance(image, list) else image).std() > 0
    adapter.close()


def _picture(value: float) -> NDArray[np.float64]:
    return np.full((4, 4, 3), value)


NOISE = np.random.default_rng(0).uniform(size=(2, 4, 4, 3))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([NOISE[0], _picture(np.nan)], "holds numbers that are not finite"),
        ([NOISE[0], _picture(np.inf)], "holds numbers that are not finite"),
        ([NOISE[0], NOISE[0]], "made the same picture of every prompt"),
        ([_picture(0.0), _picture(1.0)], "has a single colour"),
        ([NOISE[0], "a picture"], "says it makes images, and made a str"),
        ([NOISE[0], None], "says it makes images, and made a NoneType"),
        ([NOISE[0], np.zeros((0, 4, 3))], "says it makes images, and made a ndarray"),
        ([NOISE[0]], "made 1 outputs for 2 prompts"),
    ],
)
def test_the_neutral_model_s_pictures_are_looked_at_before_they_are_scored(made: list[Any], said: str) -> None:
    adapter = Hill()
    adapter.makes = "image"
    with pytest.raises(ModelError, match=said) as caught:
        outputs.checked(adapter, made, Bucket(("a", "b"), (1, 2)), Place("baseline", 0, 0))
    assert "\n" not in str(caught.value)


def test_a_candidate_may_draw_badly() -> None:
    adapter = Hill()
    adapter.makes = "image"
    outputs.checked(adapter, [_picture(0.0)] * 2, Bucket(("a", "b"), (1, 2)), Place("search", 3, 1))


def test_the_noise_of_a_row_is_that_of_the_stock_pipeline(sd3_folder: Path) -> None:
    """A scheduler that draws no noise makes the stock pipeline's images, to the bit; see the tests of each family."""
    adapter = make_sd3(model=str(sd3_folder), dtype="float32", device="cpu", num_inference_steps=2)
    generator, again = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    noise = adapter._noise(generator, torch.float32)
    assert torch.equal(noise, torch.randn(noise.shape, generator=again))
    assert torch.equal(generator.get_state(), again.get_state())
