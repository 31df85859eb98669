"""A proposal is a configuration that loads, with a reason for every choice and every given key kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimpot.adapters.published import CHECKPOINTS
from trimpot.defaults.proposal import GIVEN, PROMPTS, Proposal, propose
from trimpot.ground.errors import ConfigError, ModelError, TrimpotError
from trimpot.setup.config import load_config, read_values
from trimpot.setup.parts import check_parts
from trimpot.setup.plugins import plugins

DEV = "black-forest-labs/FLUX.1-dev"
WAN = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
Folders = Callable[[str], Path]


def proposed(model: str, *overrides: str, memory: str = "24GB") -> Proposal:
    return propose(model, memory=memory, overrides=overrides)


def bare(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.safetensors"))
    return to


def leaves(values: Mapping[str, Any], place: str = "") -> set[str]:
    """The dotted keys of a configuration; a mapping of rewards or prompts counts as one."""
    found = set()
    for key, value in values.items():
        deeper = isinstance(value, Mapping) and f"{place}{key}" not in ("objectives", "prompts")
        found |= leaves(value, f"{place}{key}.") if deeper else {f"{place}{key}"}
    return found


@pytest.mark.parametrize("model", CHECKPOINTS)
def test_every_choice_has_one_short_reason(model: str) -> None:
    proposal = proposed(model)
    assert set(proposal.reasons) == leaves(proposal.values)
    for key, reason in proposal.reasons.items():
        assert reason and "\n" not in reason and len(reason) < 200 and not reason.endswith("."), key
    assert list(proposal.reasons) == sorted(proposal.reasons, key=list(_order(proposal.values)).index)


def _order(values: Mapping[str, Any], place: str = "") -> Any:
    for key, value in values.items():
        yield f"{place}{key}"
        if isinstance(value, Mapping):
            yield from _order(value, f"{place}{key}.")


def test_the_defaults_are_compositional_prompts_pickscore_and_an_alarm() -> None:
    values = proposed(DEV).values
    assert values["prompts"] == PROMPTS == "compositional"
    assert [name for name, each in values["objectives"].items() if each.get("weight", 1)] == ["pickscore"]
    assert {name for name, each in values["objectives"].items() if each.get("weight") == 0} == {
        "imagereward",
        "aesthetic",
    }
    assert next(iter(proposed(DEV, memory="48GB").values["objectives"])) == "hpsv3"


#: Overrides, and what must come of them.
KEPT: list[tuple[str, dict[str, Any]]] = [
    ("adapter.offload=group", {"adapter.offload": "group"}),
    ("adapter.dtype=float16", {"adapter.dtype": "float16"}),
    ("adapter.quantization=bitsandbytes-4bit", {"adapter.quantization": "bitsandbytes-4bit"}),
    ("adapter.batch_size=3", {"adapter.batch_size": 3}),
    ("adapter.vae_slicing=false", {"adapter.vae_slicing": False}),
    ("adapter.num_inference_steps=4", {"adapter.num_inference_steps": 4}),
    ("adapter.height=1024", {"adapter.height": 1024}),
    ("adapter.granularity=block", {"adapter.granularity": "block"}),
    ("adapter.revision=main", {"adapter.revision": "main"}),
    ("adapter=diffusers", {"adapter.name": "diffusers"}),
    ("adapter.name=diffusers", {"adapter.name": "diffusers"}),
    ("objectives=entropy", {"objectives": "entropy"}),
    ("objectives={hpsv2: {weight: 2}}", {"objectives": {"hpsv2": {"weight": 2}}}),
    ("objectives.aesthetic.weight=0.5", {"objectives.aesthetic.weight": 0.5}),
    ("objectives.hpsv2.weight=0.5", {"objectives.hpsv2.weight": 0.5, "objectives.hpsv2.offload": "model"}),
    ("prompts=geneval", {"prompts": "geneval"}),
    ("generations=7", {"generations": 7}),
    ("validation.num_prompts=9", {"validation.num_prompts": 9, "test.num_prompts": 256}),
    ("test.num_prompts=9", {"test.num_prompts": 9}),
    ("optimizer.population_size=8", {"optimizer.population_size": 8, "optimizer.sigma0": 0.1}),
    ("protocol=published", {"protocol": "published"}),
    ("seed=5", {"seed": 5}),
    ("name=mine", {"name": "mine"}),
    ("workers=2", {"workers": 2}),
    ("by_steps.steps=[4, 8]", {"by_steps.steps": [4, 8]}),
]


@pytest.mark.parametrize(("override", "expected"), KEPT)
def test_a_given_key_is_kept_and_said_to_be_given(override: str, expected: dict[str, Any]) -> None:
    proposal = proposed(DEV, override)
    for key, value in expected.items():
        found: Any = proposal.values
        for part in key.split("."):
            found = found[part]
        assert found == value
    typed = override.partition("=")[0]
    typed = "adapter.name" if typed == "adapter" else typed
    mine = [key for key, reason in proposal.reasons.items() if reason == GIVEN]
    assert any(typed == key or typed.startswith(f"{key}.") or key.startswith(f"{typed}.") for key in mine), mine
    again, _ = read_values(proposal.values, ["adapter.name=diffusers" if override == "adapter=diffusers" else override])
    whole = load_config(proposal.values)
    assert load_config(again) == whole, "giving it once more changes nothing"


def test_what_else_is_chosen_suits_what_is_given() -> None:
    """A larger picture has a smaller batch; rewards that stay leave less room; a LoRA is not quantized."""
    assert proposed("Qwen/Qwen-Image", "adapter.height=2048", "adapter.width=2048", memory="80GB").fit.batch_size < 16
    assert proposed(DEV, "adapter.lora=owner/lora").values["adapter"].get("quantization") is None
    large = "stabilityai/stable-diffusion-3.5-large"
    assert proposed(large, memory="12GB").values["adapter"]["quantization"] == "torchao-int8"
    assert "quantization" not in proposed(large, "adapter=flow-grpo", memory="12GB").values["adapter"]
    assert proposed(DEV, "objectives={hpsv3: {}}", memory="48GB").fit.placement.rewards_wait is False


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("adapter.offlod=model", "did you mean 'offload'"),
        ("adapter={name: flux, offload: model}", "adapter takes a name here"),
        ("adapter=fluks", "did you mean 'flux'"),
        ("objectives=picscore", "did you mean 'pickscore'"),
        ("generations", "is not of the form key=value"),
        ("generations=+5", "a plus sign extends a run"),
        ("generatons=5", "did you mean 'generations'"),
        ("adapter.batch_size=none", "option 'batch_size'"),
        ("adapter.batch_size=0", "batch_size"),
        ("adapter.batch_size=-1", "batch_size"),
        ("adapter.batch_size=2.5", "batch_size"),
        ("adapter.height=tall", "height"),
        ("adapter.height=0", "height"),
        ("adapter.dtype=int3", "dtype"),
        ("adapter.offload=sometimes", "offload"),
        ("adapter.quantization=2bit", "quantization"),
        ("adapter.model=5", "adapter.model is a text, not 5"),
        ("adapter.revision=5", "adapter.revision is a text, not 5"),
        ("adapter.device=5", "adapter.device is a text, not 5"),
        ("adapter.device=tpu", "there is no device 'tpu'"),
        ("adapter.pipeline_options=5", "pipeline_options"),
        ("adapter.blocks=5", "blocks"),
        ("adapter.transformer=5", "transformer"),
        ("adapter.lora=5", "lora"),
        ("objectives=5", "objectives"),
        ("objectives=[]", "objectives"),
        ("objectives.pickscore=5", "objectives"),
        ("adapter=null", "adapter"),
        ("adapter.name=null", "adapter"),
        ("adapter.name=5", "adapter takes a name here"),
    ],
)
def test_a_wrong_key_is_refused_as_in_a_file(override: str, message: str) -> None:
    with pytest.raises(TrimpotError) as error:
        check_parts(load_config(proposed(DEV, override).values), plugins())
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["wan", "wan22", "ltx", "cogvideox", "hunyuan_video", "latte"])
def test_a_video_pipeline_makes_single_frames_for_rewards_of_pictures(
    tiny_folder: Folders, tmp_path: Path, name: str
) -> None:
    folder = str(bare(tiny_folder(name), tmp_path / "bare"))
    adapter = proposed(folder).values["adapter"]
    assert adapter.get("num_frames", adapter.get("pipeline_options", {}).get("video_length")) == 1
    own = proposed(folder, "objectives=my-video-reward").values
    assert own["adapter"].get("num_frames", own["adapter"].get("pipeline_options", {}).get("video_length")) == 17
    assert own["generations"] == 20 and own["test"]["num_prompts"] == 32
    kept = proposed(folder, "adapter.pipeline_options={video_length: 5}" if name == "latte" else "adapter.num_frames=5")
    assert 5 in [kept.values["adapter"].get("num_frames"), *kept.values["adapter"].get("pipeline_options", {}).values()]


def test_steps_and_sizes_are_the_published_ones_or_the_pipeline_s_own() -> None:
    assert (
        proposed(DEV).values["adapter"].items()
        >= {
            "num_inference_steps": 15,
            "height": 512,
            "width": 512,
            "guidance_scale": 3.5,
        }.items()
    )
    schnell = proposed("black-forest-labs/FLUX.1-schnell").values["adapter"]
    assert (schnell["num_inference_steps"], schnell["guidance_scale"]) == (4, 0.0)
    assert proposed(WAN).values["adapter"]["num_inference_steps"] == 20
    assert "height" not in proposed(WAN).values["adapter"]


def test_a_local_flux_without_guidance_is_made_in_few_steps(tmp_path: Path) -> None:
    from tiny_models import tiny_flux

    folder = bare(tiny_flux(tmp_path / "own", guidance=False), tmp_path / "bare")
    adapter = proposed(str(folder)).values["adapter"]
    assert (adapter["num_inference_steps"], adapter["guidance_scale"], adapter["height"]) == (4, 0.0, 16)


def test_a_checkpoint_s_own_file_chooses_its_sizes_reward_and_prompts(tiny_folder: Folders, tmp_path: Path) -> None:
    folder = bare(tiny_folder("sd3"), tmp_path / "own")
    chosen = {"height": 32, "width": 32, "num_inference_steps": 6, "objectives": "shapes", "prompts": "shapes"}
    (folder / "trimpot.json").write_text(json.dumps(chosen))
    config = load_config(proposed(str(folder)).values)
    assert list(config.objectives) == ["shapes"] and config.prompts.name == "shapes"
    assert config.adapter.options.items() >= {"height": 32, "width": 32, "num_inference_steps": 6}.items()
    other = load_config(proposed(str(folder), "objectives=entropy", "prompts=geneval").values)
    assert list(other.objectives) == ["entropy"] and other.prompts.name == "geneval"


@given(st.text(st.characters(blacklist_categories=("Cs",)), max_size=120))
def test_every_name_of_a_folder_gives_a_valid_name_of_a_run(title: str) -> None:
    from trimpot.defaults.proposal import _name

    name = _name(title) or "flux"
    load_config({"name": name, "adapter": "shapes", "objectives": "shapes", "prompts": "shapes"})


def test_a_run_here_is_checked_before_it_begins(tiny_folder: Folders) -> None:
    folder = str(tiny_folder("pixart"))
    propose(folder).check_here()
    with pytest.raises(ModelError, match="there is no GPU to use"):
        propose(folder, overrides=["adapter.offload=model"]).check_here()
    with pytest.raises(ConfigError, match="give less"):
        propose(folder, memory="9TB", here=True)
