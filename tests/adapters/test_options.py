"""Named adapters: their options, their published settings, and their knobs counted without weights."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimpot
from applied import calibrated, made
from trimpot.adapters import make_diffusers, make_flow_grpo, make_flux, make_qwen_image, make_sd3, make_shapes
from trimpot.adapters.components import component_class
from trimpot.adapters.loading import Loading
from trimpot.adapters.lora import FLOW_GRPO
from trimpot.adapters.published import CHECKPOINTS
from trimpot.engine.bucket import Bucket
from trimpot.engine.seams import Adapter
from trimpot.ground.errors import ConfigError, ModelError
from trimpot.setup.plugins import plugins

CONDITIONAL = {"members": ["conditional"]}
KEPT = {"dead": "keep"}


def outline(name: str, **options: Any) -> Adapter:
    """An adapter without weights, made as a configuration makes it."""
    made = plugins().make("adapters", name, {"outline": True, **options})
    assert isinstance(made, Adapter)
    return made


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("flux", {"granularity": "block", **KEPT}, 57),
        ("flux", {"granularity": "layer", **KEPT}, 76),
        ("flux", {"granularity": "gate"}, 114),
        ("flux", {"granularity": "block", "members": ["conditional"] * 2, **KEPT}, 116),
        ("flux", {"model": "black-forest-labs/FLUX.1-schnell", **KEPT}, 114),
        ("sd3", CONDITIONAL, 107),
        ("sd3", KEPT, 216),
        ("sd3", {"tie_members": True, **KEPT}, 109),
        ("sd3", {"model": "stabilityai/stable-diffusion-3-medium-diffusers", **CONDITIONAL, **KEPT}, 94),
        ("sd3", {"model": "stabilityai/stable-diffusion-3.5-large", **CONDITIONAL, **KEPT}, 150),
        ("flow-grpo", KEPT, 216),
        ("qwen-image", {**CONDITIONAL, **KEPT}, 240),
        ("qwen-image", KEPT, 482),
        pytest.param("qwen-image", CONDITIONAL, 238, marks=pytest.mark.slow),
    ],
)
def test_the_published_counts(name: str, options: dict[str, Any], count: int) -> None:
    """Calibri, tables 1 and 5, and the same less what cannot act; at their real size, without a weight."""
    assert len(outline(name, **options).space) == count


def test_an_outline_lists_and_does_not_generate() -> None:
    """It has names, ties and frozen knobs, and says in one sentence what it lacks."""
    adapter = outline("qwen-image")
    assert len(adapter.space) == 478
    assert adapter.frozen == tuple(f"member{m}.block.59.{branch}.text" for m in (1, 2) for branch in ("attn", "mlp"))
    assert len(adapter.tied("block")) == 2 * 60 + 2
    assert adapter.space.to_setting(adapter.space.defaults)["member1.weight"] == 4.0
    with pytest.raises(ModelError, match="no weights to generate with"):
        list(adapter.generate(adapter.space.defaults[None], Bucket(("a",), (1,))))


def test_an_outline_of_a_local_checkpoint_is_the_checkpoint_s(sd3_folder: Path) -> None:
    """A folder's own configuration is read, and its outline has the knobs of the loaded adapter."""
    loaded = make_sd3(model=str(sd3_folder), dtype="float32", device="cpu")
    assert outline("sd3", model=str(sd3_folder)).space.fingerprint == loaded.space.fingerprint


def test_an_outline_of_another_kind_is_refused(flux_folder: Path, tmp_path: Path) -> None:
    """A folder without a configuration, or one of another class, is one sentence."""
    with pytest.raises(ModelError, match="cannot outline the SD3Transformer2DModel"):
        outline("sd3", model=str(tmp_path))


def test_an_outline_of_any_pipeline_lists_its_knobs(wan_folder: Path) -> None:
    """The checkpoint says which transformer it has."""
    adapter = outline("diffusers", model=str(wan_folder))
    assert adapter.space.names[:3] == ("block.00.attn.image", "block.00.attn2.image", "block.00.mlp.image")
    with pytest.raises(ModelError, match="no checkpoint folder /nowhere"):
        outline("diffusers", model="/nowhere")


@pytest.mark.parametrize("model", list(CHECKPOINTS))
def test_a_published_configuration_has_known_keys(model: str) -> None:
    """Every value of the table is an argument of the transformer's class; a stray one would be dropped unseen."""
    import diffusers

    checkpoint = CHECKPOINTS[model]
    assert hasattr(diffusers, checkpoint.pipeline)
    parts = {"transformer": ("diffusers", checkpoint.transformer, checkpoint.config), **checkpoint.parts}
    for name, (library, kind, config) in parts.items():
        made = component_class(name, [library, kind], model)
        known = made if library == "diffusers" else made.config_class
        assert set(config) <= set(inspect.signature(known).parameters), name


def test_settings_come_from_the_user_the_checkpoint_and_the_publication(sd3_folder: Path, tmp_path: Path) -> None:
    """In this order: an option, the checkpoint's trimpot.json, the published protocol."""
    folder = tmp_path / "own"
    shutil.copytree(sd3_folder, folder)
    (folder / "trimpot.json").write_text('{"height": 16, "width": 16, "guidance_scale": 3.0}')
    adapter = make_sd3(model=str(folder), dtype="float32", device="cpu", height=32)
    described = adapter.describe()
    assert (described["height"], described["width"], described["num_steps"]) == (32, 16, 15)
    assert described["guidance_grid"][0] == 3.0
    (folder / "trimpot.json").write_text('{"heigth": 16}')
    with pytest.raises(ModelError, match=r"trimpot\.json: heigth"):
        make_sd3(model=str(folder), dtype="float32", device="cpu")


def test_schnell_has_its_own_protocol() -> None:
    """Four steps without guidance, where dev has fifteen at 3.5."""
    schnell, dev = outline("flux", model="black-forest-labs/FLUX.1-schnell", **KEPT), outline("flux", **KEPT)
    assert (schnell.num_steps, dev.num_steps) == (4, 15)


@pytest.mark.parametrize("make", [make_flux, make_sd3, make_qwen_image, make_flow_grpo, make_diffusers, make_shapes])
def test_a_factory_is_its_own_schema(make: Any) -> None:
    """Every option is a keyword with an annotation, and the first line says what the adapter is for."""
    parameters = inspect.signature(make).parameters.values()
    assert all(each.kind is each.KEYWORD_ONLY and each.annotation is not each.empty for each in parameters)
    assert len((inspect.getdoc(make) or "").partition("\n")[0]) > 20


def test_named_adapters_take_every_loading_option() -> None:
    """How a checkpoint is loaded can be said to each; shapes is loaded in one way, on any device, LoRA or no LoRA."""
    for make in (make_flux, make_sd3, make_qwen_image, make_flow_grpo, make_diffusers):
        assert set(Loading.model_fields) <= set(inspect.signature(make).parameters)
    assert set(Loading.model_fields) & set(inspect.signature(make_shapes).parameters) == {"device", "lora"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sd3", {"granularty": "gate"}, "did you mean 'granularity'"),
        ("sd3", {"members": []}, "1 or more entries"),
        ("sd3", {"members": ["conditioned"]}, "'conditional' or 'unconditional'"),
        ("sd3", {"batch_size": 0}, "at least 1"),
        ("flux", {"guidance_grid": [3.5]}, "takes no option 'guidance_grid'"),
        ("shapes", {"model": "x"}, "takes no option 'model'"),
        ("diffusers", {}, "needs the option 'model'"),
    ],
)
def test_a_wrong_option_is_said_before_anything_is_loaded(name: str, options: dict[str, Any], message: str) -> None:
    """Names and types are checked against the shared options."""
    with pytest.raises(ConfigError, match=message):
        plugins().make("adapters", name, options)


NAMED = ("flux", "sd3", "qwen-image", "flow-grpo", "diffusers", "shapes")
BEYOND: dict[str, tuple[Any, ...]] = {
    "low": (-100.5, -1e9, float("-inf"), float("nan")),
    "high": (100.5, 1e9, float("inf"), float("nan")),
    "num_inference_steps": (0, 10_001),
    "max_sequence_length": (0, 8193),
    "members": (["conditional"] * 65,),
    "guidance_grid": ([20.5], [3.0, -20.5], [float("nan")]),
}


@pytest.mark.parametrize("option", BEYOND)
@pytest.mark.parametrize("name", NAMED)
def test_what_no_calibration_file_may_hold_is_refused_before_the_run(name: str, option: str) -> None:
    """A run that ended in a file which cannot be applied would be for nothing."""
    known = plugins().options("adapters", name)
    if not any(each.split("=")[0].split(":")[0].strip() == option for each in known):
        return
    model = {"model": "/nowhere"} if name == "diffusers" else {}
    for value in BEYOND[option]:
        with pytest.raises(ConfigError, match=f"option '{option}|{option}") as caught:
            plugins().make("adapters", name, {**model, option: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [-100.0, 100.0])
def test_the_widest_bounds_end_in_a_file_that_can_be_applied(sd3_folder: Path, tmp_path: Path, scale: float) -> None:
    adapter = made("sd3", sd3_folder, low=-100.0, high=100.0, members=["conditional", "unconditional"])
    setting = dict.fromkeys(adapter.space.names, scale)
    setting |= {"member1.weight": 20.0, "member2.weight": -20.0}
    file = calibrated(adapter, setting, tmp_path / "calibration.json")
    adapter.close()
    trimpot.load_calibration(adapter.pipe, file).remove()


def test_flow_grpo_is_sd3_with_a_lora_merged(sd3_folder: Path, tmp_path: Path) -> None:
    """By folder as by name: its images are those of the base model with merged weights, and it is described."""
    peft = pytest.importorskip("peft")
    import torch

    base = make_sd3(model=str(sd3_folder), dtype="float32", device="cpu", num_inference_steps=2)
    base.close()
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"], init_lora_weights=False)
    torch.manual_seed(0)
    model = peft.get_peft_model(base.pipe.transformer, config)
    model.save_pretrained(tmp_path / "lora")
    base.pipe.transformer = model.merge_and_unload()
    expected = base.pipe(
        prompt="a cat",
        generator=torch.Generator().manual_seed(3),
        num_inference_steps=2,
        guidance_scale=4.5,
        height=16,
        width=16,
        max_sequence_length=4,
    ).images[0]
    adapter = make_flow_grpo(
        model=str(sd3_folder), lora=str(tmp_path / "lora"), dtype="float32", device="cpu", num_inference_steps=2
    )
    [[image]] = adapter.generate(adapter.space.defaults[None], Bucket(("a cat",), (3,)))
    assert np.abs(np.asarray(image).astype(int) - np.asarray(expected)).max() <= 1
    assert adapter.describe()["source"]["lora"]
    assert {"pickscore", "geneval"} < set(FLOW_GRPO)
