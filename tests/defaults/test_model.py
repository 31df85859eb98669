"""A name is a folder, a file, a hub id or a page; what cannot be calibrated is refused before anything is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hub import COMMIT, cached
from trimpot.adapters.families import FAMILIES
from trimpot.defaults.model import find_model, is_configuration
from trimpot.defaults.proposal import propose
from trimpot.ground.errors import ConfigError, ModelError, TrimpotError
from trimpot.setup.config import load_config, presets

ADAPTERS = {
    "flux": "flux",
    "sd3": "sd3",
    "qwen": "qwen-image",
    "wan": "diffusers",
    "wan22": "diffusers",
    "pixart": "diffusers",
    "sana": "diffusers",
    "flux2": "diffusers",
    "lumina2": "diffusers",
    "zimage": "diffusers",
    "ltx": "diffusers",
    "cogvideox": "diffusers",
    "latte": "diffusers",
    "hunyuan_video": "diffusers",
}
Folders = Callable[[str], Path]


def configurations_of(folder: Path, to: Path) -> Path:
    """A copy of a checkpoint without its weights."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.safetensors"))
    return to


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_folder_s_pipeline_decides_the_adapter_and_no_weights_are_needed(
    tiny_folder: Folders, tmp_path: Path, name: str
) -> None:
    folder = configurations_of(tiny_folder(name), tmp_path / "bare")
    proposal = propose(str(folder), memory="24GB")
    config = load_config(proposal.values)
    assert config.adapter.name == ADAPTERS[name]
    assert config.adapter.options["model"] == str(folder)


def test_every_family_has_a_named_adapter_of_its_own() -> None:
    names = [family.adapter for family in FAMILIES.values()]
    assert len(set(names)) == len(names) and "diffusers" not in names


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("given", "revision"),
    [
        ("owner/tiny", None),
        ("https://huggingface.co/owner/tiny", None),
        (f"https://hf.co/owner/tiny/tree/{COMMIT}", COMMIT),
    ],
)
def test_of_a_checkpoint_on_the_hub_only_small_files_are_read(
    tiny_folder: Folders, tmp_path: Path, hub_cache: Path, given: str, revision: str | None
) -> None:
    cached(hub_cache, "owner/tiny", configurations_of(tiny_folder("pixart"), tmp_path / "bare"))
    proposal = propose(given, memory="24GB")
    assert proposal.values["adapter"]["model"] == "owner/tiny"
    assert proposal.values["adapter"].get("revision") == revision
    assert proposal.values["name"] == "tiny"


@pytest.mark.parametrize("preset", presets())
def test_presets_and_yaml_files_are_no_models(preset: str, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("adapter: shapes")
    assert is_configuration(preset) and is_configuration("absent.yaml") and is_configuration(str(tmp_path / "run"))
    for model in ("owner/name", str(tmp_path), "https://huggingface.co/owner/name", "x.gguf", "a" * 5000, "\0"):
        assert not is_configuration(model)


def _without_index(folder: Path) -> None:
    (folder / "model_index.json").unlink()


def _lora(folder: Path) -> None:
    _without_index(folder)
    (folder / "adapter_config.json").write_text("{}")


def _indexed(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "model_index.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def _of_a_unet(folder: Path) -> None:
    index = {"_class_name": "StableDiffusionXLPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))


def _configured(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "transformer" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def _written(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(text)

    return change


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no index": (_without_index, "has no model_index.json, so it is no pipeline of diffusers; if it is a transformer"),
    "a LoRA": (_lora, "looks like a LoRA; give the model it belongs to, and adapter.lora="),
    "a damaged index": (_written("model_index.json", "{"), "model_index.json is not JSON; download it again"),
    "an index of a list": (_written("model_index.json", "[]"), "is not a JSON mapping; download the checkpoint again"),
    "no class": (_indexed(_class_name=None), "names no pipeline class"),
    "an unknown class": (_indexed(_class_name="FluxPipelin"), "did you mean 'FluxPipeline"),
    "a UNet": (_of_a_unet, "has a unet and no transformer; trimpot calibrates transformers"),
    "no transformer": (_indexed(transformer=[None, None]), "has no transformer; trimpot calibrates transformers"),
    "pictures needed": (_indexed(_class_name="CogVideoXImageToVideoPipeline"), "also needs image, which a prompt file"),
    "code of its own": (_indexed(transformer=["custom", "Mine"]), "runs no code that comes with a checkpoint"),
    "no such part": (_indexed(text_encoder=["transformers", "CLIPTextModell"]), "has no class CLIPTextModell"),
    "no configuration": (
        lambda folder: (folder / "vae" / "config.json").unlink(),
        "has no vae/config.json, although its model_index.json names a vae",
    ),
    "a damaged configuration": (_written("vae/config.json", "{"), "config.json is not JSON; download it again"),
    "sizes that do not fit": (_configured(num_attention_heads="many"), "cannot outline the FluxTransformer2DModel"),
    "a transformer of another class": (
        _configured(_class_name="SD3Transformer2DModel"),
        "not a FluxTransformer2DModel",
    ),
    "broken settings": (_written("trimpot.json", "[]"), "is not a JSON mapping of settings"),
    "rewards with options": (
        _written("trimpot.json", '{"objectives": {"remote": {"url": "http://x"}}}'),
        "objectives must be the name of one that is installed",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_checkpoint_that_cannot_be_calibrated_is_refused_in_one_sentence(
    tiny_folder: Folders, tmp_path: Path, fault: str
) -> None:
    breaks, message = BROKEN[fault]
    folder = configurations_of(tiny_folder("flux"), tmp_path / "broken")
    breaks(folder)
    with pytest.raises(TrimpotError) as error:
        propose(str(folder), memory="24GB")
    assert message in str(error.value)
    assert "\n" not in str(error.value) and not str(error.value).endswith(".")


def test_a_transformer_without_sites_is_refused_before_anything_is_loaded(tiny_folder: Folders, tmp_path: Path) -> None:
    folder = configurations_of(tiny_folder("pixart"), tmp_path / "bare")
    _indexed(transformer=["diffusers", "UNet2DModel"])(folder)
    (folder / "transformer" / "config.json").write_text(
        json.dumps(
            {"block_out_channels": [32, 64], "down_block_types": ["DownBlock2D"] * 2}
            | {"up_block_types": ["UpBlock2D"] * 2}
        )
    )
    with pytest.raises(ModelError, match="UNet2DModel"):
        propose(str(folder), memory="24GB")


UNKNOWN = {
    "shaps": "did you mean 'shapes'",
    "nowhere": "no model nowhere; give a preset, a YAML file, a folder",
    "/no/where": "no model /no/where",
    "./here": "no model ./here",
    "": "the name of the model is ''",
    " ": "the name of the model is ' '",
    "a\0b": "the name of the model is",
    "ftp://host/file": "is not a page of the hub",
    "x" * 5000: "cannot be looked for",
    "~nobody-of-that-name/x": "cannot be looked for",
    "weights.safetensors": "no model weights.safetensors",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_name_of_nothing_says_what_can_be_given(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        find_model(name)
    assert UNKNOWN[name] in str(error.value) and "\n" not in str(error.value)


def test_a_folder_takes_no_second_checkpoint_and_a_part_of_a_repository_is_no_model(tiny_folder: Folders) -> None:
    with pytest.raises(ConfigError, match=r"is the model already; leave out adapter\.model=owner/other"):
        propose(str(tiny_folder("flux")), overrides=["adapter.model=owner/other"])
    with pytest.raises(ModelError, match="owner/tiny/transformer is a part of owner/tiny"):
        find_model("owner/tiny/transformer")


def test_a_named_adapter_of_another_pipeline_is_refused(tiny_folder: Folders) -> None:
    with pytest.raises(ModelError, match="holds a FluxPipeline, not a StableDiffusion3Pipeline"):
        propose(str(tiny_folder("flux")), overrides=["adapter=sd3"])
