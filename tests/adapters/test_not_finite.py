"""Numbers that are not finite never pass for pictures: told of where a candidate may fail, else refused."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from canvas import Canvas, canvas_config, canvas_plugins
from closed_form import Hill, MemoryStore, Notes
from numpy.typing import NDArray
from PIL import Image
from schedulers import BUCKET, NAMED, PUBLISHED, STEPS, make
from stock_cases import CASES
from torch import nn
from trimpot.adapters import make_diffusers
from trimpot.adapters.decoding import Decoding, _another, _not_finite
from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluation import POOL, STAGES, Place
from trimpot.engine.loop import calibrate
from trimpot.engine.outputs import MAY_FAIL, NotFinite, checked, shown
from trimpot.engine.run import Run
from trimpot.ground.errors import ModelError, Notice
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config

LARGEST = float(np.finfo(np.float32).max)
PLACES = [*STAGES, *(stage + POOL for stage in STAGES)]


def frames_of(output: Any) -> list[NDArray[np.uint8]]:
    return [np.asarray(frame) for frame in (output if isinstance(output, list) else [output])]


# Pipelines


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_row_that_overflows_is_black_and_told_of_and_its_neighbours_are_what_they_were(
    name: str, tiny_folder: Any
) -> None:
    adapter = make(name, tiny_folder(name))
    neutral = adapter.space.defaults
    bad = np.full_like(neutral, LARGEST)
    [[first, second]] = adapter.generate(neutral[None], BUCKET)
    (good, worse) = adapter.generate(np.stack([neutral, bad]), BUCKET)
    for before, after in zip([first, second], good, strict=True):
        for one, other in zip(frames_of(before), frames_of(after), strict=True):
            assert one.any() and np.abs(one.astype(int) - other).mean() <= 1
    for output in worse:
        assert isinstance(output, NotFinite)
        assert "latents came out of the transformer as numbers that are not finite" in output.why
        assert "narrow the bounds low and high" in output.why
        black = frames_of(output.instead)
        assert len(black) == len(frames_of(first)) and black[0].shape == frames_of(first)[0].shape
        assert not any(frame.any() for frame in black)
    [[again, _]] = adapter.generate(neutral[None], BUCKET)
    assert all(map(np.array_equal, frames_of(first), frames_of(again)))
    adapter.close()
    assert "decode" not in vars(adapter.pipe.vae)


@pytest.mark.parametrize("harm", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", PUBLISHED)
def test_an_autoencoder_that_overflows_is_told_from_latents_that_do(name: str, harm: float, tiny_folder: Any) -> None:
    adapter = make(name, tiny_folder(name))
    *_, last = (each for each in adapter.pipe.vae.decoder.modules() if getattr(each, "bias", None) is not None)
    with torch.no_grad():
        last.bias.fill_(harm)
    [[output]] = adapter.generate(adapter.space.defaults[None], BUCKET.head(1))
    assert isinstance(output, NotFinite) and "the autoencoder decoded latents to" in output.why
    assert "float32 is wide enough" in output.why  # these are in float32; what a narrow dtype is told:
    assert "set vae_dtype: float32, not float16" in _another("float16", "vae_dtype")
    assert "set dtype: float32, not bfloat16" in _another("bfloat16", "dtype")
    adapter.close()


def test_every_pipeline_class_of_diffusers_has_something_to_look_at() -> None:
    """An autoencoder by a name that is looked for or, where the transformer makes pixels, a processor of them."""
    found, without = 0, []
    for name in filter(lambda each: each.endswith("Pipeline"), dir(diffusers)):
        kind = getattr(diffusers, name)
        if "transformer" in inspect.signature(kind.__init__).parameters:
            found += 1
            if not {"vae", "vqvae"} & set(inspect.signature(kind.__init__).parameters):
                without.append(name)
                assert "self.image_processor = " in inspect.getsource(kind.__init__)
    assert found >= 150 and without == ["PRXPixelPipeline"]


def test_every_autoencoder_class_is_looked_at_by_its_decode() -> None:
    from diffusers.models import autoencoders

    kinds = [kind for name, kind in vars(autoencoders).items() if inspect.isclass(kind) and name.startswith("Auto")]
    assert len(kinds) >= 20
    for kind in kinds:
        assert issubclass(kind, nn.Module) and callable(kind.decode)
        assert "return_dict" in inspect.signature(kind.decode).parameters or kind.__name__ == "AutoencoderVidTok"


class Plain(nn.Module):
    """An autoencoder that calls none of its parts a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2)

    def decode(self, z: torch.Tensor, return_dict: bool = True) -> Any:
        from diffusers.models.autoencoders.vae import DecoderOutput

        sample = self.up(z)
        return DecoderOutput(sample) if return_dict else (sample,)


def pipe_of(**components: Any) -> Any:
    from diffusers.image_processor import VaeImageProcessor

    processor = VaeImageProcessor(vae_scale_factor=1)
    transformer = nn.Linear(1, 1, dtype=torch.bfloat16)
    return SimpleNamespace(components=components, transformer=transformer, image_processor=processor, **components)


def spoiled(num_rows: int, *rows: int) -> torch.Tensor:
    latents = torch.rand(num_rows, 3, 4, 4)
    for row in rows:
        latents[row, 1, 2, 2] = (float("nan"), float("inf"), -float("inf"))[row % 3]
    return latents


def draw(pipe: Any, latents: torch.Tensor, size: int | None = None, return_dict: bool = False) -> list[Any]:
    """As pipelines decode: `size` rows at a time."""
    parts = latents.split(size or len(latents))
    if vae := pipe.components.get("vae"):
        parts = [vae.decode(part, return_dict=return_dict)[0] for part in parts]
    return list(pipe.image_processor.postprocess(torch.cat(list(parts)), output_type="pil"))


@pytest.mark.parametrize("return_dict", [True, False])
@pytest.mark.parametrize("size", [None, 1, 2])
@pytest.mark.parametrize("with_vae", [True, False])
@pytest.mark.parametrize("rows", [(), (0,), (1, 3), (0, 1, 2, 3)])
def test_it_is_told_which_rows_are_not_finite(
    rows: tuple[int, ...], with_vae: bool, size: int | None, return_dict: bool
) -> None:
    pipe = pipe_of(**({"vae": Plain()} if with_vae else {}))
    decoding = Decoding(pipe)
    latents = spoiled(4, *rows)
    decoding.begin()
    settled = decoding.settle(draw(pipe, latents, size, return_dict))
    assert [at for at, output in enumerate(settled) if isinstance(output, NotFinite)] == list(rows)
    sound = draw(pipe, latents.nan_to_num(0, 0, 0), size, return_dict)
    for at, output in enumerate(settled):
        if at in rows:
            assert "set dtype: float32, not bfloat16" in output.why and not np.asarray(output.instead).any()
        else:
            assert np.array_equal(np.asarray(output), np.asarray(sound[at]))
    decoding.begin()
    assert not any(isinstance(output, NotFinite) for output in decoding.settle(draw(pipe, spoiled(4))))


def test_frames_that_are_decoded_as_rows_belong_to_their_video() -> None:
    pipe = pipe_of(vae=Plain())
    decoding = Decoding(pipe)
    for size in (None, 4, 1):  # videos of three frames: all at once, in chunks across them, one by one
        decoding.begin()
        frames = draw(pipe, spoiled(6, 4), size)
        first, second = decoding.settle([frames[:3], frames[3:]])
        assert first == frames[:3] and isinstance(second, NotFinite)
        assert len(second.instead) == 3 and not np.asarray(second.instead).any()


def test_parts_of_videos_that_are_decoded_one_after_another_belong_to_their_video() -> None:
    pipe = pipe_of(vae=Plain())
    decoding = Decoding(pipe)
    decoding.begin()
    parts = [draw(pipe, spoiled(3, *bad)) for bad in ((), (2,), (2,), ())]  # of three videos, a frame of each a call
    videos = [[part[row] for part in parts] for row in range(3)]
    *good, bad = decoding.settle(videos)
    assert good == videos[:2] and isinstance(bad, NotFinite) and len(bad.instead) == 4


def test_rows_that_are_decoded_in_another_order_are_refused_not_mistaken() -> None:
    pipe = pipe_of(vae=Plain())
    decoding = Decoding(pipe)
    decoding.begin()
    with pytest.raises(ModelError, match=r"which output this concerns cannot be told of a .*: set batch_size: 1"):
        decoding.settle(draw(pipe, spoiled(4, 0))[::-1])


def test_sound_is_no_part_of_an_output_and_tokens_are_finite() -> None:
    pipe = pipe_of(vqvae=Plain(), audio_vae=Plain(), tokenizer=SimpleNamespace(decode=str))
    decoding = Decoding(pipe)
    assert decoding.looks_at == 1
    decoding.begin()
    pipe.audio_vae.decode(spoiled(1, 0))
    pipe.vqvae.decode(torch.ones(1, 3, 2, 2, dtype=torch.float16))
    assert decoding.settle(["a picture"]) == ["a picture"]
    decoding.remove()
    assert "decode" not in vars(pipe.vqvae)


@pytest.mark.parametrize("name", ["flux", "sd3", "qwen", "wan"])
def test_an_autoencoder_may_have_a_dtype_of_its_own(name: str, tiny_folder: Any) -> None:
    options: dict[str, Any] = {"model": str(tiny_folder(name)), "dtype": "bfloat16", "device": "cpu",
                               "num_inference_steps": STEPS, "vae_dtype": "float32"}  # fmt: skip
    adapter: Any = NAMED[name](**options) if name in NAMED else make_diffusers(**options, **CASES[name].given)
    assert adapter.pipe.vae.dtype == torch.float32 and adapter.pipe.transformer.dtype == torch.bfloat16
    assert adapter.describe()["source"]["vae_dtype"] == "float32"
    [[image]] = adapter.generate(adapter.space.defaults[None], BUCKET.head(1))
    assert np.asarray(image[0] if isinstance(image, list) else image).std() > 0
    adapter.close()


# Runs


class Overflowing(Canvas):
    """Makes numbers that are not finite wherever the light is strong, in one of several ways."""

    def __init__(self, way: str, above: float = 1.2) -> None:
        self.way, self.above = way, above

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[Any]]:
        for (_, light), made in zip(population, super().generate(population, bucket), strict=True):
            yield [self._spoil(picture) if light > self.above else self._shown(picture) for picture in made]

    def _shown(self, picture: Image.Image) -> Any:
        levels = np.asarray(picture, dtype=np.float32) / 255
        return {"told": picture, "array": levels, "tensor": torch.from_numpy(levels), "frames": [levels, levels]}[
            self.way
        ]

    def _spoil(self, picture: Image.Image) -> Any:
        shown = self._shown(picture)
        if self.way == "told":
            return NotFinite(Image.new("L", picture.size), "latents overflowed; set dtype: float32")
        (shown[0] if self.way == "frames" else shown)[3, 3] = np.nan
        return shown


def overflowing_run(adapter: Any, run_id: str = "hill-1", **config: Any) -> Run:
    asked = load_config(canvas_config({"likeness": {}}, generations=4, **config))
    return replace(assemble("", asked, canvas_plugins(adapter)), id=run_id)


@pytest.mark.parametrize("sensitivity", [None, {}])
def test_a_search_goes_on_over_candidates_that_overflow_and_resumes_to_the_bit(sensitivity: Any) -> None:
    config = {} if sensitivity is None else {"sensitivity": {"num_prompts": 2, "step": 1.5}}
    store = MemoryStore()
    with pytest.warns(Notice, match="outputs are scored as black pictures") as caught:
        outcome = calibrate(overflowing_run(Overflowing("told"), **config), store, Notes())
    [said] = [str(each.message) for each in caught]
    assert ("sensitivity" if config else "search") in said and "candidate" in said
    assert "set dtype: float32" in said and "\n" not in said
    assert outcome.num_generations == 4
    broken = MemoryStore()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        for patience in (4, 7, 9):
            with pytest.raises(KeyboardInterrupt):
                calibrate(overflowing_run(Overflowing("told"), **config), broken, Notes(patience))
        assert calibrate(overflowing_run(Overflowing("told"), **config), broken, Notes()) == outcome
    assert broken.digest("hill-1") == store.digest("hill-1")


def test_what_is_kept_of_a_candidate_that_overflows_is_the_black_picture() -> None:
    kept: list[Any] = []

    class Keeping(MemoryStore):
        @property
        def keeper(self) -> Any:
            return lambda outputs: kept.extend(outputs) or [repr(each) for each in outputs]

    with pytest.warns(Notice):
        calibrate(overflowing_run(Overflowing("told"), keep="all"), Keeping(), Notes())
    assert all(isinstance(each, Image.Image) for each in kept)
    assert any(not np.asarray(each).any() for each in kept)


@pytest.mark.parametrize("way", ["array", "tensor", "frames"])
def test_pictures_of_any_type_that_are_not_finite_are_black_pictures_of_that_type(way: str) -> None:
    adapter = Overflowing(way)
    bucket = Bucket(("a 1", "b 2"), (1, 2))
    [made] = adapter.generate(np.array([[1.0, 1.9]]), bucket)
    sound = shown(checked(adapter, made, bucket, Place("search", 0, 1)))
    for before, after in zip(made, sound, strict=True):
        assert type(before) is type(after) and np.shape(before) == np.shape(after) and not np.any(np.asarray(after))


@pytest.mark.parametrize("stage", PLACES)
def test_only_the_search_s_own_candidates_may_fail(stage: str) -> None:
    adapter, bucket = Overflowing("told"), Bucket(("a 1", "b 2"), (1, 2))
    [made] = adapter.generate(np.array([[1.0, 1.9]]), bucket)
    if stage in MAY_FAIL:
        assert stage in ("search", "sensitivity")
        assert not np.asarray(shown(checked(adapter, made, bucket, Place(stage, 0, 1)))).any()
    else:
        with pytest.raises(ModelError, match=f"{stage} generation 0, candidate 1: of prompt 'a 1', .*dtype: float32"):
            checked(adapter, made, bucket, Place(stage, 0, 1))


def test_a_neutral_model_that_overflows_is_refused_before_anything_is_recorded() -> None:
    store = MemoryStore()
    with pytest.raises(ModelError, match="latents overflowed; set dtype: float32"):
        calibrate(overflowing_run(Overflowing("told", above=0.5)), store, Notes())
    assert not store.keys


@pytest.mark.parametrize("made", [float("nan"), np.array([1.0, np.inf]), {"a": np.array([np.nan])}, [1.0, float("nan")],
                                  np.array([1 + 1j * np.inf]), torch.tensor([float("nan")], dtype=torch.bfloat16),
                                  [torch.tensor([float("nan")], dtype=torch.bfloat16)]])  # fmt: skip
def test_other_outputs_that_are_not_finite_are_refused_since_nobody_knows_what_they_show(made: Any) -> None:
    with pytest.raises(ModelError, match="not finite; narrow the bounds of its knobs, or let the adapter") as caught:
        checked(Hill(), [made], Bucket(("a",), (1,)), Place("search", 0, 1))
    assert "search generation 0, candidate 1" in str(caught.value)


@pytest.mark.parametrize("instead", [None, "nothing", np.full((2, 2), np.nan)])
def test_what_stands_in_place_is_looked_at_too(instead: Any) -> None:
    with pytest.raises(ModelError):
        checked(Canvas(), [NotFinite(instead, "it overflowed")], Bucket(("a 1",), (1,)), Place("search", 0, 1))


# Pictures of nothing


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
        checked(adapter, made, Bucket(("a", "b"), (1, 2)), Place("baseline", 0, 0))
    assert "\n" not in str(caught.value)


def test_a_candidate_may_draw_badly() -> None:
    adapter = Hill()
    adapter.makes = "image"
    checked(adapter, [_picture(0.0)] * 2, Bucket(("a", "b"), (1, 2)), Place("search", 3, 1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_row_is_told_by_what_it_holds_whatever_its_numbers_add_up_to(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    rows = torch.zeros(6, 3, dtype=dtype)
    rows[1], rows[4] = largest, -largest
    assert _not_finite(rows[:2]) == _not_finite(rows) == []
    rows[2, 0], rows[2, 1], rows[3, 2], rows[5, 0] = torch.inf, -torch.inf, torch.nan, torch.inf
    assert _not_finite(rows) == [2, 3, 5]
    assert _not_finite(torch.full((2, 2), torch.inf, dtype=dtype)) == [0, 1]
