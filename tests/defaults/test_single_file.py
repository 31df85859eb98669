"""A transformer's single file: the checkpoint that it belongs to is known by its weights' names and shapes."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hub import COMMIT, cached
from safetensors.numpy import save_file
from trimpot.adapters.published import CHECKPOINTS, outlined
from trimpot.adapters.sources import OnHub
from trimpot.defaults.model import find_model, is_configuration
from trimpot.defaults.proposal import propose
from trimpot.defaults.single_file import base_of
from trimpot.ground.errors import ModelError
from trimpot.setup.config import load_config

# What diffusers' own inference looks at in files with their authors' names; one small weight each will do.
AUTHORS: dict[str, dict[str, tuple[int, ...]]] = {
    "black-forest-labs/FLUX.1-dev": {
        "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
        "guidance_in.in_layer.bias": (8,),
        "img_in.weight": (8, 64),
    },
    "black-forest-labs/FLUX.1-schnell": {"double_blocks.0.img_attn.norm.key_norm.scale": (128,)},
}


def sparse(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Path:
    """A .safetensors file of fp8 weights that takes no room: a header, and a hole."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        header[name] = {"dtype": "F8_E4M3", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)
    return path


@pytest.mark.parametrize("model", CHECKPOINTS)
def test_a_file_with_diffusers_names_belongs_to_the_published_checkpoint_with_its_shapes(
    model: str, tmp_path: Path
) -> None:
    weights = outlined(CHECKPOINTS[model].transformer, model).state_dict()
    file = sparse(tmp_path / "some.safetensors", {name: tuple(value.shape) for name, value in weights.items()})
    assert base_of(file) == model


@pytest.mark.parametrize("model", AUTHORS)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_file_with_its_authors_names_is_inferred(model: str, prefix: str, tmp_path: Path) -> None:
    file = tmp_path / "my-tune.safetensors"
    save_file({f"{prefix}{name}": np.zeros(shape, np.float16) for name, shape in AUTHORS[model].items()}, file)
    assert base_of(file) == model
    proposal = propose(str(file), memory="24GB")
    config = load_config(proposal.values)
    assert config.adapter.options["transformer"] == str(file)
    assert config.adapter.options["model"] == model
    assert config.name == "my-tune"


def test_a_gguf_file_is_inferred_too_and_weighs_what_it_has(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    file = tmp_path / "flux-q8.gguf"
    writer = gguf.GGUFWriter(file, "flux")
    for name, shape in AUTHORS["black-forest-labs/FLUX.1-dev"].items():
        writer.add_tensor(name, np.zeros(shape, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    proposal = propose(str(file), memory="12GB")
    assert proposal.model.source == "black-forest-labs/FLUX.1-dev"
    assert proposal.footprint.components["transformer"].size("bfloat16") == file.stat().st_size
    assert "quantization" not in proposal.values["adapter"]  # it is quantized already


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("typed", ["MODEL", "adapter.transformer"])
def test_a_gguf_file_on_the_hub_weighs_what_it_has(tmp_path: Path, hub_cache: Path, typed: str) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "flux-q4.gguf").write_bytes(b"GGUF" + bytes(996))
    cached(hub_cache, "owner/gguf", tmp_path / "files")
    dev, file = "black-forest-labs/FLUX.1-dev", "owner/gguf/flux-q4.gguf"
    page = f"https://huggingface.co/owner/gguf/blob/{COMMIT}/flux-q4.gguf?download=true"
    by_page = propose(page, memory="12GB", overrides=[f"adapter.model={dev}"])
    assert (by_page.values["adapter"]["transformer"], by_page.values["name"]) == (page, "flux-q4")
    assert "revision" not in by_page.values["adapter"]
    model, given = (file, f"adapter.model={dev}") if typed == "MODEL" else (dev, f"adapter.transformer={file}")
    proposal = propose(model, memory="12GB", overrides=[given])
    assert proposal.values["adapter"]["transformer"] == file
    assert proposal.footprint.components["transformer"].size("bfloat16") == 1000
    assert "quantization" not in proposal.values["adapter"]
    with pytest.raises(ModelError, match="the hub cannot be reached and owner/gguf is not wholly in its cache"):
        propose(dev, memory="12GB", overrides=["adapter.transformer=owner/gguf/another.gguf"])


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth", ".bin", ".pkl"])
def test_a_pickle_is_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"model{suffix}").write_bytes(b"anything")
    assert not is_configuration(str(tmp_path / f"model{suffix}"))
    with pytest.raises(ModelError, match=r"as a pickle, which can run code; save them as \.safetensors"):
        find_model(str(tmp_path / f"model{suffix}"))


def test_the_checkpoint_may_be_named_by_the_user(tiny_folder: Callable[[str], Path]) -> None:
    folder = tiny_folder("sd3")
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    proposal = propose(str(file), memory="24GB", overrides=[f"adapter.model={folder}"])
    assert proposal.values["adapter"]["name"] == "sd3"
    assert proposal.values["adapter"]["transformer"] == str(file)


def test_without_it_a_file_of_no_known_model_says_what_to_give(tmp_path: Path) -> None:
    save_file({"weight": np.zeros((2, 2), np.float16)}, tmp_path / "own.safetensors")
    with pytest.raises(ModelError, match=r"of no known model; name the model they belong to, such as adapter\.model="):
        find_model(str(tmp_path / "own.safetensors"))
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="damaged or incomplete"):
        find_model(str(tmp_path / "broken.safetensors"))
    with pytest.raises(ModelError, match="is one file on the hub"):
        base_of(OnHub("owner/name", "file.gguf"))
    with pytest.raises(ModelError, match="is a file too; give the folder or the hub id"):
        find_model(str(tmp_path / "own.safetensors"), base=str(tmp_path / "broken.safetensors"))


def test_a_file_of_a_unet_is_refused_by_its_kind(tmp_path: Path) -> None:
    names = {"model.diffusion_model.input_blocks.0.0.weight": (4, 4)}
    save_file({name: np.zeros(shape, np.float16) for name, shape in names.items()}, tmp_path / "sd15.safetensors")
    with pytest.raises(ModelError, match="are those of a UNet; trimpot calibrates transformers"):
        find_model(str(tmp_path / "sd15.safetensors"))
