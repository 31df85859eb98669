"""Every component of every pipeline runs with all of its weights, and with the very weights that were asked for."""

from __future__ import annotations

import inspect
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file
from trimpot.adapters.checkpoints import Loading, load_pipeline
from trimpot.adapters.components import check_keys
from trimpot.adapters.inspection import inspect as inspect_pipeline
from trimpot.ground.errors import ModelError
from trimpot.ground.weights import quiet_import

Folders = Callable[[str], Path]
Weights = dict[str, torch.Tensor]

PIPELINES = sorted(
    name.removeprefix("tiny_")
    for name in tiny_models.__all__
    if name.startswith("tiny_") and not name.endswith("_transformer")
)


def load(folder: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    return load_pipeline(None, str(folder), Loading(**{"dtype": "float32", **options}))


def is_one_sentence(error: pytest.ExceptionInfo[ModelError]) -> bool:
    return "\n" not in str(error.value) and not str(error.value).endswith(".")


def linked(folder: Path, home: Path, component: str) -> Path:
    """A checkpoint of links, but for one component, which a test may spoil."""
    home.mkdir()
    for each in folder.iterdir():
        if each.name == component:
            shutil.copytree(each, home / each.name)
        else:
            (home / each.name).symlink_to(each)
    return home


def components(folder: Path) -> list[str]:
    """Names of the components that have weights."""
    return sorted(path.parent.name for path in folder.glob("*/*.safetensors"))


def lacking(weights: Weights, name: str) -> None:
    del weights[name]


def having_more(weights: Weights, name: str) -> None:
    weights[f"{name}.more"] = torch.ones(1)


def misnamed(weights: Weights, name: str) -> None:
    weights[f"{name}_"] = weights.pop(name)


def misshapen(weights: Weights, name: str) -> None:
    weights[name] = torch.zeros(*weights[name].shape, 2)


SPOILS = {
    lacking: r"lacks \d of the",
    having_more: r"has a weight that a .* of this configuration does not use",
    misnamed: r"lacks \d of the",
    misshapen: r"cannot load|lacks \d of the",
}


@pytest.mark.parametrize("name", PIPELINES)
def test_no_component_of_any_pipeline_runs_with_a_weight_missing_left_over_misnamed_or_misshapen(
    tiny_folder: Folders, tmp_path: Path, name: str
) -> None:
    whole = tiny_folder(name)
    tried = 0
    for component in components(whole):
        folder = linked(whole, tmp_path / component, component)
        (path,) = (folder / component).glob("*.safetensors")
        weights = load_file(path)
        keys = sorted(weights)
        for spoil, message in SPOILS.items():
            for key in {keys[0], keys[len(keys) // 2], keys[-1]} if spoil is lacking else {keys[len(keys) // 2]}:
                spoiled = dict(weights)
                spoil(spoiled, key)
                save_file(spoiled, path, metadata={"format": "pt"})
                with pytest.raises(ModelError, match=message) as error:
                    load(folder)
                assert is_one_sentence(error)
                assert f"the {component} of" in str(error.value)
                tried += 1
        save_file(weights, path, metadata={"format": "pt"})
        load(folder)
    assert tried >= 6 * 3


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_weight_of_every_component_is_the_one_in_the_file_in_the_dtype_asked_for(
    tiny_folder: Folders, name: str, dtype: str
) -> None:
    folder = tiny_folder(name)
    pipe, _ = load(folder, dtype=dtype)
    wanted = getattr(torch, dtype)
    for component in components(folder):
        (path,) = (folder / component).glob("*.safetensors")
        held = getattr(pipe, component).state_dict()
        for key, value in load_file(path).items():
            if key not in held:  # the library has other names for it
                assert any(torch.equal(each, value.to(each.dtype)) for each in held.values()), key
                continue
            if not value.is_floating_point():
                assert torch.equal(held[key], value), key
                continue
            kept = held[key].dtype == torch.float32
            assert torch.equal(held[key], value.to(torch.float32 if kept else wanted)), key
            keep = getattr(pipe, component)._keep_in_fp32_modules or ()
            assert held[key].dtype == wanted or any(part in key for part in keep), key


def test_an_autoencoder_in_a_dtype_of_its_own_has_every_digit_of_its_file(tiny_folder: Folders) -> None:
    folder = tiny_folder("sd3")
    pipe, _ = load(folder, dtype="bfloat16", vae_dtype="float32")
    (path,) = (folder / "vae").glob("*.safetensors")
    held = pipe.vae.state_dict()
    assert all(torch.equal(held[key], value) for key, value in load_file(path).items())
    assert pipe.transformer.dtype == torch.bfloat16


@pytest.mark.parametrize("name", PIPELINES)
def test_quantization_quantizes_every_transformer_of_every_pipeline_and_nothing_else(
    tiny_folder: Folders, name: str
) -> None:
    pytest.importorskip("torchao")
    pipe, _ = load(tiny_folder(name), quantization="torchao-int8", dtype="bfloat16")
    for component, model in pipe.components.items():
        if isinstance(model, torch.nn.Module):
            kinds = {type(module.weight.data) for module in model.modules() if type(module) is torch.nn.Linear}
            quantized = kinds - {torch.Tensor, torch.nn.Parameter}
            assert bool(quantized) == component.startswith("transformer"), component


# What a pipeline is given, it uses.


def classes_that_can_do_without_a_transformer() -> Iterator[Any]:
    with quiet_import():
        import diffusers

        for name in dir(diffusers):
            kind = getattr(diffusers, name) if name.endswith("Pipeline") else None
            taken = inspect.signature(kind.__init__).parameters if kind is not None else {}
            if "transformer" in taken and (
                taken["transformer"].default is not inspect.Parameter.empty
                or "transformer" in kind._optional_components
            ):
                yield kind


def test_every_pipeline_class_that_can_do_without_a_transformer_uses_the_one_it_is_given(
    tiny_folder: Folders, tmp_path: Path
) -> None:
    from trimpot.adapters.checkpoints import _assembled, pipeline_class

    wan = tiny_folder("wan")
    given = load(wan)[0].transformer
    kinds = list(classes_that_can_do_without_a_transformer())
    assert len(kinds) >= 4
    for kind in kinds:
        folder = tmp_path / kind.__name__
        folder.mkdir()
        (folder / "transformer").symlink_to(wan / "transformer")
        parts = set(inspect.signature(kind.__init__).parameters) - {"self", "transformer"}
        switches = {part for part in parts if part.startswith(("boundary", "expand", "is_"))}
        index = {part: [None, None] for part in parts - switches}
        index |= {"_class_name": kind.__name__, "transformer": ["diffusers", "WanTransformer3DModel"]}
        (folder / "model_index.json").write_text(json.dumps(index))
        nothing = dict.fromkeys(parts - switches)
        pipe = _assembled(pipeline_class(None, index, "it"), folder, "it", {**nothing, "transformer": given})
        inspect_pipeline(pipe, {"transformer": given}, Loading(dtype="float32"))
        assert pipe.transformer is given


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_runs_with_the_transformer_it_is_given(tiny_folder: Folders, tmp_path: Path, name: str) -> None:
    folder = tiny_folder(name)
    other = shutil.copytree(folder / "transformer", tmp_path / "other")
    path = other / "diffusion_pytorch_model.safetensors"
    halves = {key: value * 0.5 for key, value in load_file(path).items()}
    save_file(halves, path, metadata={"format": "pt"})
    for given in (other, path):
        pipe, source = load(folder, transformer=str(given))
        held = pipe.transformer.state_dict()
        assert all(torch.equal(held[key], value) for key, value in halves.items())
        assert source["transformer"]["id"] == given.name


def test_what_a_pipeline_does_not_use_is_found_out(tiny_folder: Folders) -> None:
    pipe, _ = load(tiny_folder("sd3"))
    other, _ = load(tiny_folder("sd3"))
    with pytest.raises(ModelError, match="does not use the transformer that it is given"):
        inspect_pipeline(pipe, {"transformer": other.transformer}, Loading(dtype="float32"))
    with pytest.raises(ModelError, match="was loaded as float32 although bfloat16 was asked for"):
        inspect_pipeline(pipe, {}, Loading(dtype="bfloat16"))
    with pytest.raises(ModelError, match="quantization: torchao-int8 left the transformer"):
        inspect_pipeline(pipe, {}, Loading(dtype="float32", quantization="torchao-int8"))


# What is known to be harmless, and what is not to be had.


@pytest.mark.parametrize(
    ("key", "harmless"),
    [
        ("text_model.embeddings.position_ids", True),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", True),
        ("vision_model.encoder.layers.0.mlp.fc1.weight", True),
        ("lm_head.weight", True),
        ("decoder.block.0.layer.0.SelfAttention.q.weight", True),
        ("decoder.block.0.layer.1.weight", True),
        ("proj.more.weight", False),
        ("transformer_blocks.19.attn.to_q.weight", False),
        ("text_model.encoder.layers.12.mlp.fc1.weight", False),
        ("blocks.0.attn.weight_scale", False),
    ],
)
def test_keys_that_belong_to_other_parts_are_no_error(key: str, harmless: bool) -> None:
    if harmless:
        check_keys(torch.nn.Linear, "it", (), [key], ["proj.weight"])
    else:
        with pytest.raises(ModelError, match="does not use, first"):
            check_keys(torch.nn.Linear, "it", (), [key], ["proj.weight"])
    part = key.partition(".")[0]
    if harmless and "." in key and not key.endswith(("position_ids", "inv_freq")):
        with pytest.raises(ModelError, match="does not use, first"):  # of a part that the model has
            check_keys(torch.nn.Linear, "it", (), [key], [f"{part}.weights"])


def test_a_text_encoder_cut_out_of_a_larger_model_loads_without_the_rest(tiny_folder: Folders, tmp_path: Path) -> None:
    folder = linked(tiny_folder("sd3"), tmp_path / "sd3", "text_encoder")
    path = folder / "text_encoder" / "model.safetensors"
    more = {"text_model.embeddings.position_ids": torch.arange(4)[None], "visual_projection.weight": torch.ones(2)}
    save_file({**load_file(path), **more}, path, metadata={"format": "pt"})
    load(folder)


@pytest.mark.parametrize("component", ["text_encoder", "vae", "transformer"])
def test_weights_that_are_only_there_as_a_pickle_are_refused(
    tiny_folder: Folders, tmp_path: Path, component: str
) -> None:
    folder = linked(tiny_folder("sd3"), tmp_path / "sd3", component)
    (path,) = (folder / component).glob("*.safetensors")
    names = {"text_encoder": "pytorch_model.bin"}
    torch.save(load_file(path), path.with_name(names.get(component, "diffusion_pytorch_model.bin")))
    load(folder)
    path.unlink()
    with pytest.raises(ModelError, match=r"holds its weights as a pickle \(.*\.bin\), which can run code") as error:
        load(folder)
    assert is_one_sentence(error)
    if component == "transformer":
        with pytest.raises(ModelError, match="pickle"):
            load(tiny_folder("sd3"), transformer=str(folder / component))


def test_a_checkpoint_that_is_quantized_already_is_not_quantized_again(tiny_folder: Folders, tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    folder = linked(tiny_folder("sd3"), tmp_path / "sd3", "transformer")
    path = folder / "transformer" / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"] = {"quant_method": "gguf", "compute_dtype": "bfloat16"}
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match="quantized already"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(folder, quantization="torchao-int8")
