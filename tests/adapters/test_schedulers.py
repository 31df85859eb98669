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
import scheduler_classes
import torch
from closed_form import Hill, MemoryStore, Notes, hill_run
from numpy.typing import NDArray
from PIL import Image
from scheduler_classes import DREW, NO_LATENTS, PROVED, class_table
from schedulers import BUCKET, PUBLISHED, make, table, verdict
from trimpot.adapters import diffusion, make_sd3, stock
from trimpot.adapters.row_noise import row_noise
from trimpot.engine import proof
from trimpot.engine.bucket import Bucket
from trimpot.engine.loop import calibrate
from trimpot.ground.errors import ModelError

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


def test_every_scheduler_class_of_diffusers_is_proved_or_refused_or_steps_no_latents() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = dict(class_table())
    proved = [name for name, said in found.items() if said in (PROVED, DREW)]
    assert len(proved) >= 40 and [*found.values()].count(DREW) >= 25
    others = {name: said for name, said in found.items() if name not in proved}
    assert set(NO_LATENTS) <= set(others)
    assert {said.partition(":")[0] for said in others.values()} <= {*NO_LATENTS.values(), "needs torchsde", "refused"}
    assert not [name for name, said in others.items() if "refused" in said and name != "DPMSolverSDEScheduler"]
    assert torch.equal(before, torch.get_rng_state())


def test_every_class_that_draws_noise_is_refused_without_noise_of_the_row_s_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawing = [name for name, said in class_table() if said == DREW]
    monkeypatch.setattr(scheduler_classes, "row_noise", lambda _pipe, _generators: contextlib.nullcontext())
    kinds = scheduler_classes.scheduler_classes()
    for name in drawing:
        assert scheduler_classes.verdict(name, kinds[name], noisy=True).startswith("refused: asked for the same"), name


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
        ({"a": np.ones(3)}, {"a": np.ones(3)}, True), ({"a": np.ones(3)}, {"a": np.full(3, 1.01)}, False),
        ({"a": 1}, {"b": 1}, False), ((np.ones(3), "a"), (np.ones(3), "b"), False),
        ([np.ones(2), np.ones(3)], [np.ones(2), np.ones(3) * 2], False), (np.arange(3), np.arange(3) + 1, False),
        (np.array([10_000, 1]), np.array([10_000, 2]), False), (np.ones(3) * 1j, np.ones(3) * 1.01j, False),
        (object(), object(), True),
    ],
)  # fmt: skip
def test_outputs_of_every_kind_are_compared(one: Any, other: Any, alike: bool) -> None:
    assert proof.differ(one, other, proof.AGAIN, np.max) is not alike


@pytest.mark.parametrize(
    ("dtype", "computes", "allowed"),
    [
        ("float64", "", 3.4e-4), ("float32", "", 3.4e-4), ("float16", "", 0.031), ("bfloat16", "", 0.088),
        ("float32", "float16", 0.031), ("float32", "bfloat16", 0.088), ("bfloat16", "float32", 0.088),
        ("float32", "float32", 3.4e-4),
    ],
)  # fmt: skip
def test_numbers_agree_in_half_the_digits_of_the_coarsest_dtype_that_made_them(
    dtype: str, computes: str, allowed: float
) -> None:
    """Sound crosses zero, so it is the largest number of an array that counts."""
    sound = torch.sin(torch.linspace(0, 20, 64, dtype=torch.float64)) * 8
    for kind in (torch.Tensor, np.ndarray, list):
        if dtype == "bfloat16" and kind is np.ndarray:
            continue
        one, within, beyond = (
            (sound + 8 * shift).to(getattr(torch, dtype)) for shift in (0.0, 0.8 * allowed, 1.3 * allowed)
        )
        shown = {torch.Tensor: lambda x: x, np.ndarray: lambda x: x.numpy(), list: lambda x: list(x)}[kind]
        assert not proof.differ(shown(one), shown(within), proof.AGAIN, np.max, computes)
        assert proof.differ(shown(one), shown(beyond), proof.AGAIN, np.max, computes)


class _Leaky(Hill):
    """A thousandth of whoever is beside it gets into an output."""

    leak, dtype = 1e-3, ""

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[Any]]:
        made = np.array(list(super().generate(population, bucket)), dtype=np.float32)
        mixed = made + self.leak * (made.mean() - made)
        return iter([list(row) for row in mixed])

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "dtype": self.dtype}


def test_a_backbone_that_computes_coarsely_is_allowed_its_own_rounding_alone() -> None:
    exact, coarse = _Leaky(), _Leaky()
    exact.dtype, coarse.dtype = "float32", "bfloat16"
    with pytest.raises(ModelError, match="beside another candidate"):
        proof.prove(exact, BUCKET, lambda rows, bucket: list(exact.generate(rows, bucket)))
    proof.prove(coarse, BUCKET, lambda rows, bucket: list(coarse.generate(rows, bucket)))


def test_the_noise_of_a_row_is_that_of_the_stock_pipeline(sd3_folder: Path) -> None:
    """A scheduler that draws no noise makes the stock pipeline's images, to the bit; see the tests of each family."""
    adapter = make_sd3(model=str(sd3_folder), dtype="float32", device="cpu", num_inference_steps=2)
    generator, again = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    noise = adapter._noise(generator, torch.float32, torch.device("cpu"))
    assert torch.equal(noise, torch.randn(noise.shape, generator=again))
    assert torch.equal(generator.get_state(), again.get_state())
