"""Any stock pipeline: images and videos, guided in one forward pass or in one for each side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated import candidates, one_by_one, pixels
from numpy.typing import NDArray
from PIL import Image
from stock_cases import CASES, Case
from trimpot.adapters import make_diffusers
from trimpot.adapters.rows import StackedRows, transformers
from trimpot.adapters.stock import StockAdapter
from trimpot.engine.bucket import Bucket
from trimpot.ground.errors import ModelError
from trimpot.testing import AdapterContract

STEPS = 2
BUCKET = Bucket(("a cat", "two dogs"), (11, 12))


Folders = Callable[[str], Path]


def make(folder: Path, **options: Any) -> StockAdapter:
    made = make_diffusers(model=str(folder), dtype="float32", device="cpu", num_inference_steps=STEPS, **options)
    assert isinstance(made, StockAdapter)
    return made


@pytest.fixture(scope="module", params=list(CASES))
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def case(name: str) -> Case:
    return CASES[name]


@pytest.fixture(scope="module")
def folder(tiny_folder: Folders, name: str) -> Path:
    return tiny_folder(name)


@pytest.fixture(scope="module")
def loaded(folder: Path, case: Case) -> StockAdapter:
    return make(folder, **case.given)


class TestStock(AdapterContract):
    """The adapter keeps the contract of every backbone, in front of pipelines of many kinds."""

    prompts = ("a cat", "two dogs")
    num_candidates = 2
    tolerance = 2.0  # of 255: batches of other sizes are computed by other kernels

    @pytest.fixture
    def adapter(self, loaded: StockAdapter) -> StockAdapter:
        return loaded

    def as_array(self, output: Any) -> NDArray[Any]:
        return np.asarray(output).astype(np.int16)


def stock(adapter: StockAdapter, bucket: Bucket, call: dict[str, Any]) -> list[Any]:
    """What the pipeline makes of a bucket when it is called as anybody would call it."""
    result = adapter.pipe(
        prompt=list(bucket.prompts),
        generator=[torch.Generator().manual_seed(seed) for seed in bucket.seeds],
        num_inference_steps=STEPS,
        output_type="pil",
        **call,
    )
    return pixels(result.frames if adapter.makes == "video" else result.images)


def alone(bucket: Bucket) -> list[Bucket]:
    return [Bucket((prompt,), (seed,)) for prompt, seed in zip(bucket.prompts, bucket.seeds, strict=True)]


def assert_close(made: list[Any], expected: list[Any], most: int = 2) -> None:
    for one, other in zip(made, expected, strict=True):
        assert np.abs(one - other).max() <= most


def test_the_neutral_setting_is_the_untouched_pipeline(folder: Path, case: Case, loaded: StockAdapter) -> None:
    """Every output equals what a pipeline without hooks makes of its prompt, to the bit; in batches but for rounding.

    (Prompts are encoded one by one, so that their encodings do not depend on the batch.)
    """
    bare = make(folder, **case.given)
    bare.close()
    expected = [made for single in alone(BUCKET) for made in stock(bare, single, case.called)]
    neutral = loaded.space.defaults
    np.testing.assert_array_equal(one_by_one(loaded, neutral, BUCKET), expected)
    assert_close(pixels(loaded.generate(neutral[None], BUCKET)[0]), stock(bare, BUCKET, case.called), 1)
    loaded.generate(candidates(loaded, 1), BUCKET)
    np.testing.assert_array_equal(stock(loaded, alone(BUCKET)[0], case.called), expected[:1])


def test_a_candidate_scales_every_row_of_its_outputs(folder: Path, case: Case) -> None:
    """Guidance included: a candidate in a batch equals a pipeline that has its scales for good, whatever it calls."""
    adapter = make(folder, **case.given)
    population = candidates(adapter, 2)
    made = adapter.generate(population, BUCKET)
    adapter.close()
    for candidate, outputs in zip(population, made, strict=True):
        scales, _ = adapter.layout.tables(candidate[None])
        rows = StackedRows(transformers(adapter.pipe), adapter.layout.sites)
        rows.set(torch.tensor(scales, dtype=torch.float32))
        expected = stock(adapter, BUCKET, case.called)
        rows.remove()
        assert_close(pixels(outputs), expected)


def test_a_video_is_a_list_of_frames(case: Case, loaded: StockAdapter) -> None:
    """One list of pictures an output, where the pipeline makes videos; one picture where it does not."""
    [outputs] = loaded.generate(loaded.space.defaults[None], BUCKET)
    if not case.frames:
        assert loaded.makes == "image" and all(isinstance(output, Image.Image) for output in outputs)
    else:
        assert loaded.makes == "video" and [len(output) for output in outputs] == [case.frames] * 2
        assert all(isinstance(frame, Image.Image) for output in outputs for frame in output)


def test_knobs_that_cannot_act_are_left_out(case: Case, loaded: StockAdapter) -> None:
    """They are found with the inputs of a real call: nothing reads CogVideoX's text stream after the last block."""
    assert loaded.frozen == case.frozen
    assert loaded.describe()["frozen"] == list(case.frozen)


def test_guidance_is_the_pipeline_s_own(folder: Path, case: Case, loaded: StockAdapter) -> None:
    """The option goes to the call and changes what is made, and is described."""
    other = make(folder, **{**case.given, "guidance_scale": 6.0})
    neutral = loaded.space.defaults[None]
    first, second = (pixels(each.generate(neutral, BUCKET)[0]) for each in (loaded, other))
    assert any((one != another).any() for one, another in zip(first, second, strict=True))
    assert loaded.describe() != other.describe()
    assert other.describe()["call"]["guidance_scale"] == 6.0


def test_prompts_are_encoded_once_and_text_encoders_can_go(folder: Path, case: Case, loaded: StockAdapter) -> None:
    """What a prompt was encoded to serves every later call; without text encoders, known prompts give the same."""
    lean = make(folder, **case.given, release_text_encoders=True)
    encoders = [name for name in lean.pipe.components if name.startswith("text_encoder")]
    seen: list[int] = []
    for name in encoders:
        getattr(lean.pipe, name).register_forward_hook(lambda *_: seen.append(1))
    lean.prepare(BUCKET.prompts)
    assert seen and all(getattr(lean.pipe, name) is None for name in encoders)
    encoded, population = len(seen), candidates(loaded, 2)
    made, expected = (each.generate(population, BUCKET) for each in (lean, loaded))
    for one, other in zip(made, expected, strict=True):
        np.testing.assert_array_equal(pixels(one), pixels(other))
    assert len(seen) == encoded and "encode_prompt" not in vars(lean.pipe)
    with pytest.raises(ModelError, match=r"cannot encode the prompt \['a bird'\]: its text encoders have been dropped"):
        lean.generate(population[:1], Bucket(("a bird",), (1,)))
    assert "encode_prompt" not in vars(lean.pipe)


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


def test_a_pipeline_that_takes_one_prompt_at_a_time_says_so(wan_folder: Path) -> None:
    """Called as here it does; what would help is said before anything is generated, and helps."""
    options = {**CASES["wan"].given, "pipeline_options": {"negative_prompt": ["dull"]}}
    with pytest.raises(ModelError, match=r"takes no batch of prompts: .*; set batch_size: 1"):
        make(wan_folder, **options)
    adapter = make(wan_folder, **options, batch_size=1)
    assert len(adapter.generate(adapter.space.defaults[None], BUCKET)[0]) == 2


def test_the_number_of_steps_is_the_pipeline_s_unless_given(pixart_folder: Path) -> None:
    """A pipeline has a number of steps of its own, which `with_steps` changes."""
    adapter = make_diffusers(model=str(pixart_folder), dtype="float32", device="cpu", **CASES["pixart"].given)
    assert adapter.num_steps == 20
    assert adapter.with_steps(3).describe() == {**adapter.describe(), "num_steps": 3}


def test_rows_that_cannot_be_told_apart_are_refused(wan_folder: Path) -> None:
    """A pipeline that gives its transformer some rows only is answered with what would help."""
    adapter = make(wan_folder, **CASES["wan"].given)
    adapter._hooked.set(torch.ones(4, 1, len(adapter.layout.sites)), None)
    with pytest.raises(ModelError, match=r"with 3 rows for 4 outputs.*batch_size: 1"):
        adapter.pipe.transformer(torch.zeros(3, 1))


def test_both_transformers_are_quantized(tiny_folder: Folders) -> None:
    """The option is of a pipeline's transformers, and each is still the same model."""
    pytest.importorskip("torchao")
    plain, rough = (
        make(tiny_folder("wan22"), **CASES["wan22"].given, quantization=how) for how in (None, "torchao-int8")
    )
    for one, other in zip(*(transformers(each.pipe).values() for each in (plain, rough)), strict=True):
        assert type(one.blocks[0].ffn.net[2].weight) is not type(other.blocks[0].ffn.net[2].weight)
    made, exact = (pixels(each.generate(each.space.defaults[None], BUCKET)[0]) for each in (rough, plain))
    assert_close(made, exact, 60)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler, about itself
def test_two_transformers_have_knobs_each(tiny_folder: Folders) -> None:
    """The second's are told by their name; an outline lists them all, and a compiled second one is refused too."""
    adapter = make(tiny_folder("wan22"), **CASES["wan22"].given)
    first = [name for name in adapter.space.names if not name.startswith("transformer_2.")]
    assert adapter.space.names == (*first, *(f"transformer_2.{name}" for name in first))
    outline = make_diffusers(model=str(tiny_folder("wan22")), outline=True)
    assert outline.space.names == adapter.space.names
    assert len(adapter.tied("block")) == 4
    adapter.close()
    adapter.pipe.transformer_2.blocks[0].compile()
    with pytest.raises(ModelError, match="compiled already"):
        StackedRows(transformers(adapter.pipe), adapter.layout.sites)
    assert not adapter.pipe.transformer._forward_pre_hooks


def test_outputs_that_would_depend_on_their_neighbours_are_refused(tiny_folder: Folders) -> None:
    """Latte cuts a prompt's text off where it is alone, and not in a batch: one at a time it is calibrated still."""
    options = {**CASES["latte"].given, "pipeline_options": {"video_length": 3, "clean_caption": False}}
    with pytest.raises(ModelError, match=r"a LattePipeline encodes a prompt differently .* set batch_size: 1"):
        make(tiny_folder("latte"), **options)
    adapter = make(tiny_folder("latte"), **options, batch_size=1)
    population = candidates(adapter, 2)
    made = adapter.generate(population, BUCKET)
    for candidate, outputs in zip(population, made, strict=True):
        np.testing.assert_array_equal(pixels(outputs), one_by_one(adapter, candidate, BUCKET))


def test_prompts_of_several_lengths_are_left_to_the_pipeline(qwen_folder: Path) -> None:
    """Where embeddings are as long as their prompts, a batch is encoded as ever, and text encoders must stay."""
    options: dict[str, Any] = {"height": 16, "width": 16}
    adapter = make(qwen_folder, **options)
    made = pixels(adapter.generate(adapter.space.defaults[None], BUCKET)[0])
    adapter.close()
    np.testing.assert_array_equal(made, stock(adapter, BUCKET, options))
    with pytest.raises(ModelError, match="set batch_size: 1, or leave out release_text_encoders"):
        make(qwen_folder, **options, release_text_encoders=True).prepare(BUCKET.prompts)
    lean = make(qwen_folder, **options, release_text_encoders=True, batch_size=1)
    lean.prepare(BUCKET.prompts)
    assert lean.pipe.text_encoder is None
    assert_close(pixels(lean.generate(lean.space.defaults[None], BUCKET)[0]), made)
