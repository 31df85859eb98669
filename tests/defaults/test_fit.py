"""The rule that places a model on a device: its answers, its arithmetic, and what it says if nothing fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trimpot.adapters.checkpoints import Loading, load_pipeline
from trimpot.adapters.published import CHECKPOINTS
from trimpot.defaults.fit import BATCHES, RULE, fit, fits, in_main, on_device, placements, usable
from trimpot.defaults.footprint import Footprint, footprint
from trimpot.defaults.machine import GB, Machine, described, parse_memory
from trimpot.defaults.model import find_model
from trimpot.defaults.rewards import HPSV3, PICKSCORE, leading, worth_watching
from trimpot.defaults.table import SIZES, markdown
from trimpot.ground.errors import ModelError

DOCS = Path(__file__).parents[2] / "docs" / "models.md"
#: Published sizes of the weights on the hub in 16 bits, in GB, by hand from the model pages.
PUBLISHED_GB = {
    ("black-forest-labs/FLUX.1-dev", "transformer"): 23.8,
    ("black-forest-labs/FLUX.1-dev", "text_encoder_2"): 9.52,
    ("black-forest-labs/FLUX.1-dev", "vae"): 0.168,
    ("stabilityai/stable-diffusion-3.5-medium", "transformer"): 4.94,
    ("stabilityai/stable-diffusion-3.5-medium", "text_encoder_2"): 1.39,
    ("stabilityai/stable-diffusion-3.5-large", "transformer"): 16.3,
    ("stabilityai/stable-diffusion-3-medium-diffusers", "transformer"): 4.17,
    ("Qwen/Qwen-Image", "transformer"): 40.9,
    ("Qwen/Qwen-Image", "text_encoder"): 16.6,
    ("Wan-AI/Wan2.1-T2V-14B-Diffusers", "transformer"): 28.6,
    ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "transformer"): 2.84,
    ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "text_encoder"): 11.4,
    ("PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", "transformer"): 1.22,
    ("Efficient-Large-Model/Sana_1600M_1024px_diffusers", "transformer"): 3.21,
    ("Efficient-Large-Model/Sana_1600M_1024px_diffusers", "vae"): 0.625,
}


@cache
def measured(model: str, side: int = 512) -> Footprint:
    return footprint(find_model(model), {"height": side, "width": side, "num_frames": 1})


@pytest.mark.parametrize(("model", "part"), PUBLISHED_GB)
def test_components_weigh_what_their_files_weigh(model: str, part: str) -> None:
    size = measured(model).weights("bfloat16")[part]
    assert size / GB == pytest.approx(PUBLISHED_GB[model, part], rel=0.01)


@pytest.mark.parametrize("name", ["flux", "sd3", "qwen", "wan", "wan22", "pixart", "sana"])
def test_a_footprint_is_what_the_loaded_pipeline_holds(tiny_folder: Callable[[str], Path], name: str) -> None:
    """By an independent route: the bytes of every weight and buffer of the pipeline that diffusers loads."""
    folder = tiny_folder(name)
    found = footprint(find_model(str(folder)), {})
    pipe, _ = load_pipeline(None, str(folder), Loading(dtype="float32"))
    held = {
        part: sum(each.nbytes for each in (*module.parameters(), *module.buffers()))
        for part, module in pipe.components.items()
        if isinstance(module, torch.nn.Module)
    }
    assert set(found.components) == set(held)
    for part, size in found.weights("float32").items():
        assert size == pytest.approx(held[part], rel=0.02), part


def test_the_rule_is_what_the_documentation_says_with_its_answers() -> None:
    """docs/models.md holds the rule and the table as `python -m trimpot.defaults` prints them."""
    text = DOCS.read_text(encoding="utf-8")
    assert RULE in text
    assert markdown() in text


PLACED: list[tuple[str, str, dict[str, Any]]] = [
    ("black-forest-labs/FLUX.1-dev", "8GB", {"offload": "group", "quantization": None}),
    ("black-forest-labs/FLUX.1-dev", "12GB", {"offload": "model", "quantization": "bitsandbytes-4bit"}),
    ("black-forest-labs/FLUX.1-dev", "24GB", {"offload": "model", "quantization": "torchao-int8"}),
    ("black-forest-labs/FLUX.1-dev", "48GB", {"offload": "model", "quantization": None}),
    ("black-forest-labs/FLUX.1-dev", "80GB", {"offload": "none", "quantization": None, "rewards_wait": False}),
    ("stabilityai/stable-diffusion-3.5-medium", "12GB", {"offload": "model", "quantization": None}),
    ("stabilityai/stable-diffusion-3.5-medium", "24GB", {"offload": "none", "rewards_wait": True}),
    ("stabilityai/stable-diffusion-3.5-large", "24GB", {"offload": "model", "quantization": None}),
    ("Qwen/Qwen-Image", "12GB", {"offload": "group"}),
    ("Qwen/Qwen-Image", "48GB", {"offload": "model", "quantization": None}),
]


@pytest.mark.parametrize(("model", "memory", "expected"), PLACED)
def test_known_models_on_known_cards_are_placed_as_people_place_them(
    model: str, memory: str, expected: dict[str, Any]
) -> None:
    machine = described(parse_memory(memory))
    lead, _ = leading(machine)
    found = fit(measured(model), machine, [lead], worth_watching(lead)).placement
    assert {key: getattr(found, key) for key in expected} == expected


def test_the_arithmetic_by_hand() -> None:
    """FLUX.1-dev with PickScore, which waits: 24 GB leave (24 - 1) x 0.95 = 21.85 GB, and 8 bits take 11.9 GB."""
    machine = described(24 * GB)
    assert usable(machine) == 21_850_000_000
    found = fit(measured("black-forest-labs/FLUX.1-dev"), machine, [PICKSCORE])
    tokens = 512 + 512 * 512 // 16**2
    batch = 16 * tokens * (3072 + 18432) * 3 * 2
    assert found.batch_size == 16
    assert found.device == pytest.approx(11.92e9 + batch, rel=0.01)
    assert found.main == pytest.approx(11.92e9 + 9.52e9 + 0.25e9 + 0.17e9 + 3.94e9, rel=0.01)


@given(model=st.sampled_from(list(CHECKPOINTS)), memory=st.integers(8 * GB, 300 * GB), more=st.integers(0, 100 * GB))
def test_what_is_chosen_fits_and_more_memory_never_makes_it_worse(model: str, memory: int, more: int) -> None:
    what, rank = measured(model), {}
    for size in (memory, memory + more):
        machine = described(size)
        found = fit(what, machine, [PICKSCORE], worth_watching(PICKSCORE))
        assert found.device <= usable(machine) < machine.memory
        assert found.batch_size in BATCHES
        rewards = [PICKSCORE, *found.watched]
        assert found.device == on_device(what, found.placement, found.batch_size, found.vae_slicing, rewards)
        rank[size] = placements(machine, {}, quantizable=True).index(found.placement)
    assert rank[memory + more] <= rank[memory] or found.batch_size >= 2


GIVEN: list[dict[str, Any]] = [
    {"offload": "none"},
    {"offload": "model"},
    {"offload": "group"},
    {"offload": "sequential"},
    {"quantization": None},
    {"quantization": "torchao-int8"},
    {"quantization": "torchao-float8"},
    {"quantization": "bitsandbytes-4bit", "offload": "none"},
    {"dtype": "float32"},
    {"dtype": "float16"},
    {"batch_size": 3},
    {"batch_size": 64},
]


@pytest.mark.parametrize("given", GIVEN, ids=str)
def test_a_given_option_is_kept(given: dict[str, Any]) -> None:
    found = fit(measured("stabilityai/stable-diffusion-3.5-medium"), described(80 * GB), [PICKSCORE], given=given)
    chosen = {**vars(found.placement), "batch_size": found.batch_size}
    assert {key: chosen[key] for key in given} == given


def test_a_lora_is_never_quantized() -> None:
    found = fit(measured("black-forest-labs/FLUX.1-dev"), described(24 * GB), [PICKSCORE], given={"lora": "x"})
    assert found.placement.quantization is None and found.placement.offload == "group"


def test_rewards_are_watched_unless_nothing_fits_with_them() -> None:
    what = measured("stabilityai/stable-diffusion-3.5-medium")
    found = fit(what, described(24 * GB), [PICKSCORE], worth_watching(PICKSCORE))
    assert [each.name for each in found.watched] == ["imagereward", "aesthetic"]
    tight = fit(what, described(24 * GB), [PICKSCORE], [replace(HPSV3, bytes=40 * GB)])
    assert tight.watched == ()


def test_the_best_reward_comes_with_48_gb() -> None:
    assert leading(described(48 * GB))[0] is HPSV3
    assert leading(described(40 * GB))[0] is PICKSCORE
    assert leading(Machine("cpu", 512 * GB, 512 * GB, "this machine"))[0] is PICKSCORE
    for lead in (HPSV3, PICKSCORE):
        assert lead not in worth_watching(lead) and worth_watching(lead)


def test_main_memory_counts_for_what_waits_there() -> None:
    what = measured("black-forest-labs/FLUX.1-dev")
    small = replace(described(24 * GB), main=32 * GB)
    found = fit(what, small, [PICKSCORE])
    assert found.placement.offload == "model"
    assert in_main(what, found.placement, [PICKSCORE]) <= small.main * 0.95
    assert not fits(what, replace(small, main=16 * GB), found.placement, 1, True, [PICKSCORE])
    with pytest.raises(ModelError, match=r"of main memory for what waits there, and there are 16 GB"):
        fit(what, replace(small, main=16 * GB), [PICKSCORE])


def test_each_of_several_gpus_has_weights_that_wait() -> None:
    what = measured("black-forest-labs/FLUX.1-dev")
    one = replace(described(24 * GB), main=64 * GB)
    assert fit(what, one, [PICKSCORE]).placement.quantization == "torchao-int8"
    assert fit(what, replace(one, many=2), [PICKSCORE]).placement.quantization == "torchao-int8"
    with pytest.raises(ModelError, match="of main memory"):
        fit(what, replace(one, many=4), [PICKSCORE])


def test_a_gpu_without_bfloat16_computes_in_float16() -> None:
    old = replace(described(24 * GB), bfloat16=False)
    assert fit(measured("stabilityai/stable-diffusion-3.5-medium"), old, [PICKSCORE]).placement.dtype == "float16"


@pytest.mark.parametrize(("memory", "dtype", "bits"), [(64, "float32", None), (20, "bfloat16", None)])
def test_on_a_cpu_nothing_is_offloaded(memory: int, dtype: str, bits: str | None) -> None:
    machine = Machine("cpu", memory * GB, memory * GB, "this machine's main memory")
    found = fit(measured("PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"), machine, [PICKSCORE]).placement
    assert (found.dtype, found.offload, found.quantization, found.rewards_wait) == (dtype, "none", bits, False)


TOO_SMALL: list[tuple[str, Machine, dict[str, Any], str]] = [
    ("black-forest-labs/FLUX.1-dev", described(24 * GB), {"offload": "none"}, "adapter.offload=model would fit"),
    ("black-forest-labs/FLUX.1-dev", described(8 * GB), {"offload": "model"}, "adapter.offload=group would fit"),
    ("black-forest-labs/FLUX.1-dev", described(16 * GB), {"dtype": "float32", "offload": "model"}, "dtype=bfloat16"),
    ("Qwen/Qwen-Image", described(48 * GB), {"batch_size": 512}, "adapter.batch_size=8 would fit"),
    ("Qwen/Qwen-Image", described(3 * GB), {}, "a GPU with 8 GB would do"),
    ("Qwen/Qwen-Image", Machine("cpu", 24 * GB, 24 * GB, "this machine's main memory"), {}, "a GPU with 8 GB would do"),
]


@pytest.mark.parametrize(("model", "machine", "given", "nearest"), TOO_SMALL)
def test_what_cannot_fit_is_told_the_nearest_setting_that_would(
    model: str, machine: Machine, given: dict[str, Any], nearest: str
) -> None:
    with pytest.raises(ModelError) as error:
        fit(measured(model), machine, [PICKSCORE], (), given, "it")
    said = str(error.value)
    assert said.startswith("it needs at least ") and said.count(";") == 1 and nearest in said
    assert "\n" not in said


def test_a_smaller_picture_is_the_nearest_if_it_would_fit() -> None:
    large = measured("PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", 4096)
    with pytest.raises(ModelError, match=r"adapter\.height=\d+ adapter\.width=\d+ would fit"):
        fit(large, described(16 * GB), [PICKSCORE], (), {}, "it")


def test_of_a_long_video_fewer_frames_are_the_nearest() -> None:
    video = replace(measured("Wan-AI/Wan2.1-T2V-14B-Diffusers"), frames=401)
    with pytest.raises(ModelError, match=r"adapter\.num_frames=17 would fit"):
        fit(video, described(24 * GB), [PICKSCORE], (), {}, "it")


def test_the_table_has_a_cell_for_every_model_and_size() -> None:
    rows = [
        line.strip("|").split("|") for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")
    ]
    named = {row[0].strip(): row[1:] for row in rows}
    for model in CHECKPOINTS:
        cells = named[model.rpartition("/")[2]]
        assert len(cells) == len(SIZES) and all(cell.count(";") == 2 for cell in cells)
