"""Loading: every option does what it says or is refused in a sentence, and scales act on whatever was loaded."""

from __future__ import annotations

import contextlib
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerator import accelerator
from safetensors.torch import load_file, save_file
from trimpot.adapters.checkpoints import Loading, load_pipeline
from trimpot.adapters.loading import place, set_decoding
from trimpot.adapters.scaling import Scaling
from trimpot.adapters.sites import find_sites
from trimpot.ground.errors import MissingError, ModelError

NO_GPU = not torch.cuda.is_available()


def load(folder: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    return load_pipeline("StableDiffusion3Pipeline", str(folder), Loading(**{"dtype": "float32", **options}))


def inputs(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        "hidden_states": torch.randn(2, 4, 4, 4, generator=generator).to(dtype),
        "encoder_hidden_states": torch.randn(2, 6, 32, generator=generator).to(dtype),
        "pooled_projections": torch.randn(2, 16, generator=generator).to(dtype),
        "timestep": torch.tensor([500.0, 500.0]),
    }


@torch.no_grad()
def forward(model: Any, **changes: torch.Tensor) -> torch.Tensor:
    output: torch.Tensor = model(**{**inputs(model.dtype), **changes}).sample
    return output


def is_one_sentence(error: pytest.ExceptionInfo[ModelError]) -> bool:
    return "\n" not in str(error.value) and not str(error.value).endswith(".")


def test_the_checkpoint_names_its_own_class_and_nothing_of_it_changes(sd3_folder: Path) -> None:
    named, _ = load(sd3_folder)
    picked, source = load_pipeline(None, str(sd3_folder), Loading(dtype="float32"))
    assert type(picked).__name__ == "StableDiffusion3Pipeline"
    assert set(source) == {"id", "weights"}
    assert source["id"] == sd3_folder.name
    saved = load_file(sd3_folder / "transformer" / "diffusion_pytorch_model.safetensors")
    for pipe in (named, picked):
        weights = pipe.transformer.state_dict()
        assert all(torch.equal(weights[name], value) for name, value in saved.items())


def test_dtypes_are_those_asked_for(sd3_folder: Path) -> None:
    assert load(sd3_folder)[0].transformer.dtype == torch.float32
    assert load_pipeline(None, str(sd3_folder), Loading())[0].transformer.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("pipeline", "model", "message"),
    [
        (None, "/no/such/folder", "no checkpoint folder /no/such/folder"),
        (None, "./here", "no checkpoint folder ./here"),
        (None, "nothing", "no checkpoint folder nothing"),
        ("StableDiffusion3Pipelin", "{}", "did you mean 'StableDiffusion3Pipeline'"),
        ("FluxPipeline", "{}", "holds a StableDiffusion3Pipeline, not a FluxPipeline"),
    ],
)
def test_what_is_not_there_is_said_in_a_sentence(
    sd3_folder: Path, pipeline: str | None, model: str, message: str
) -> None:
    with pytest.raises(ModelError, match=message) as error:
        load_pipeline(pipeline, model.format(sd3_folder), Loading(dtype="float32"))
    assert is_one_sentence(error)


def test_a_folder_must_be_a_pipeline(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a diffusers pipeline: it has no model_index"):
        load(tmp_path)
    (tmp_path / "model_index.json").write_text("[")
    with pytest.raises(ModelError, match=r"model_index\.json is not JSON; download it again"):
        load(tmp_path)
    (tmp_path / "model_index.json").write_text("[]")
    with pytest.raises(ModelError, match="not a JSON mapping"):
        load(tmp_path)


def test_a_variant_is_other_weights(sd3_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(sd3_folder, folder)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    half = {name: value / 2 for name, value in load_file(weights).items()}
    save_file(half, weights.with_suffix(".half.safetensors"), metadata={"format": "pt"})
    whole, _ = load(folder)
    pipe, source = load(folder, variant="half")
    assert source["variant"] == "half"
    assert torch.equal(pipe.transformer.proj_out.weight * 2, whole.transformer.proj_out.weight)
    with pytest.raises(ModelError, match="variant=quarter"):
        load(folder, variant="quarter")


# What was loaded can be scaled.


def save_gguf(weights: dict[str, torch.Tensor], path: Path) -> None:
    """Write weights as GGUF, those whose rows are whole blocks of 32 in eight bits."""
    import gguf

    writer = gguf.GGUFWriter(str(path), "sd3")
    for name, value in weights.items():
        array = value.float().contiguous().numpy()
        if value.ndim == 2 and value.shape[-1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantized(folder: Path, tmp_path: Path, kind: str) -> tuple[Any, dict[str, Any]]:
    if kind != "gguf":
        pytest.importorskip("torchao")
        return load(folder, quantization=kind)
    pytest.importorskip("gguf")
    path = tmp_path / "tiny.gguf"
    save_gguf(load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors"), path)
    return load(folder, transformer=str(path))


@pytest.mark.parametrize("kind", ["torchao-int8", "torchao-float8", "gguf"])
def test_scales_act_on_quantized_weights_as_on_any(sd3_folder: Path, tmp_path: Path, kind: str) -> None:
    pipe, source = quantized(sd3_folder, tmp_path, kind)
    model = pipe.transformer
    plain = forward(load(sd3_folder)[0].transformer)
    untouched = forward(model)
    difference = (untouched - plain).abs().max()
    assert 0 < difference < 0.2 * plain.abs().max(), "it is quantized, and still the same model"
    assert source["transformer"]["id"] == "tiny.gguf" if kind == "gguf" else source["quantization"] == kind

    sites = find_sites(model)
    block = next(index for index, each in enumerate(model.transformer_blocks) if each.context_pre_only is False)
    of_block = [site.path.startswith(f"transformer_blocks.{block}.") for site in sites]
    scaling = Scaling(model, sites)
    try:
        scaling.set(torch.ones(1, len(sites)))
        assert torch.equal(forward(model), untouched), "neutral scales leave the output as it was, bit for bit"
        scaling.set(torch.where(torch.tensor(of_block), 0.0, 1.0)[None])
        zeroed = forward(model)
    finally:
        scaling.remove()
    kept = list(model.transformer_blocks)
    del model.transformer_blocks[block]
    assert torch.equal(zeroed, forward(model)), "a block whose sites are all zero is as good as absent"
    model.transformer_blocks = torch.nn.ModuleList(kept)
    assert torch.equal(forward(model), untouched)
    assert not torch.equal(zeroed, untouched)


def test_a_quantized_pipeline_makes_images(sd3_folder: Path, tmp_path: Path) -> None:
    pipe, _ = quantized(sd3_folder, tmp_path, "torchao-int8")
    pipe.set_progress_bar_config(disable=True)
    image = pipe("red", height=16, width=16, num_inference_steps=2, max_sequence_length=4, output_type="pt").images
    assert torch.isfinite(image).all()


def offloaded(pipe: Any, mode: str) -> None:
    """Offload to where the arithmetic happens too: on a CPU, everything but the place is as on a GPU."""
    if mode == "sequential":
        from accelerate import cpu_offload

        cpu_offload(pipe.transformer, torch.device("cpu"))  # what the pipeline's own method does to each component
    else:
        place(pipe, "cpu", mode)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["model", "group", "sequential"])
def test_scales_act_on_offloaded_weights_as_on_any(sd3_folder: Path, mode: str) -> None:
    resident, _ = load(sd3_folder)
    moved, _ = load(sd3_folder)
    offloaded(moved, mode)
    sites = find_sites(resident.transformer)
    scales = torch.rand(2, len(sites), generator=torch.Generator().manual_seed(0)) * 3 - 1
    outputs = []
    for pipe in (resident, moved):
        scaling = Scaling(pipe.transformer, sites)
        outputs.append([])
        for value in (None, torch.ones(1, len(sites)), scales):
            scaling.set(value)
            outputs[-1].append(forward(pipe.transformer))
        scaling.remove()
    if mode == "sequential":
        assert moved.transformer.proj_out.weight.is_meta, "the weights wait elsewhere"
    for one, other in zip(*outputs, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    idle, neutral, scaled = outputs[1]
    assert torch.equal(idle, neutral)
    assert (scaled - idle).abs().max() > 0.01


# Decoding.


def test_the_autoencoder_decodes_in_tiles_and_one_by_one_when_asked(sd3_folder: Path) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    images = {}
    for option in ({}, {"vae_tiling": True}, {"vae_slicing": True}):
        pipe, source = load(sd3_folder, **option)
        assert {name: value for name, value in source.items() if name.startswith("vae")} == option
        sizes: list[tuple[int, ...]] = []
        hook = pipe.vae.decoder.register_forward_pre_hook(lambda _, args, sizes=sizes: sizes.append(args[0].shape))
        with torch.no_grad():
            images["".join(option)] = pipe.vae.decode(latents).sample
        hook.remove()
        tallest, widest = max(size[0] for size in sizes), max(size[2] for size in sizes)
        assert (tallest, widest) == (1 if "vae_slicing" in option else 2, 4 if "vae_tiling" in option else 8)
    assert not torch.equal(images[""], images["vae_tiling"])
    assert torch.allclose(images[""], images["vae_slicing"], atol=1e-5)


def test_an_autoencoder_that_has_no_tiles_says_so() -> None:
    with pytest.raises(ModelError, match="Linear offers no vae_tiling"):
        set_decoding(SimpleNamespace(vae=torch.nn.Linear(1, 1)), tiling=True, slicing=False)


# Another transformer.


@pytest.fixture
def other(sd3_folder: Path, tmp_path: Path) -> Path:
    """A transformer folder of the same sizes with other weights."""
    folder = tmp_path / "other"
    shutil.copytree(sd3_folder / "transformer", folder)
    weights = folder / "diffusion_pytorch_model.safetensors"
    save_file({name: value * 0.5 for name, value in load_file(weights).items()}, weights, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("single", [False, True])
def test_another_transformer_takes_the_place_of_the_checkpoint_s(sd3_folder: Path, other: Path, single: bool) -> None:
    path = other / "diffusion_pytorch_model.safetensors" if single else other
    pipe, source = load(sd3_folder, transformer=str(path))
    saved = load_file(other / "diffusion_pytorch_model.safetensors")
    weights = pipe.transformer.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in saved.items())
    assert source["transformer"]["id"] == path.name
    assert len(source["transformer"]["weights"]) == 16
    assert torch.isfinite(forward(pipe.transformer)).all()


def test_a_transformer_that_lacks_weights_is_refused(sd3_folder: Path, other: Path) -> None:
    path = other / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["proj_out.bias"]
    save_file(weights, path, metadata={"format": "pt"})
    for transformer in (path, other):
        with pytest.raises(ModelError, match=r"lacks 1 of the .* weights, first proj_out\.bias"):
            load(sd3_folder, transformer=str(transformer))


def test_a_transformer_of_another_shape_is_refused(sd3_folder: Path, other: Path) -> None:
    path = other / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["proj_out.bias"] = torch.zeros(3)
    save_file(weights, path, metadata={"format": "pt"})
    for transformer in (path, other):
        with pytest.raises(ModelError, match="cannot load") as error:
            load(sd3_folder, transformer=str(transformer))
        assert is_one_sentence(error)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/such/file.gguf", "no transformer /no/such/file.gguf"),
        ("word", "no transformer word"),
        ("owner/file.gguf", "owner/name/file.gguf"),
        ("weights.ckpt", "may hold a pickle"),
    ],
)
def test_a_transformer_that_is_not_there_is_said_in_a_sentence(sd3_folder: Path, name: str, message: str) -> None:
    if name.endswith(".gguf"):
        pytest.importorskip("gguf")
    with pytest.raises(ModelError, match=message):
        load(sd3_folder, transformer=name)


def test_a_folder_without_a_config_is_no_transformer(sd3_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load(sd3_folder, transformer=str(tmp_path))


# Refusals, before anything is loaded.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"offload": "model"}, "there is no GPU", marks=pytest.mark.skipif(not NO_GPU, reason="a GPU")),
        ({"offload": "group", "device": "cpu"}, "there is no GPU"),
        ({"quantization": "torchao-int8", "offload": "sequential"}, "choose model or group"),
        ({"transformer": "x.gguf", "offload": "sequential"}, "choose model or group"),
        ({"transformer": "x.gguf", "quantization": "torchao-int8"}, "quantized already"),
        ({"transformer": "x.gguf", "lora": "geneval"}, "LoRA cannot be merged"),
        ({"quantization": "torchao-int8", "lora": "geneval"}, "LoRA cannot be merged"),
    ],
)
def test_options_that_exclude_each_other_are_refused(sd3_folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as error:
        load(sd3_folder, **options)
    assert is_one_sentence(error)


@pytest.mark.parametrize(
    ("package", "options"),
    [
        ("torchao", {"quantization": "torchao-int8"}),
        ("bitsandbytes", {"quantization": "bitsandbytes-4bit"}),
        ("gguf", {"transformer": "x.gguf"}),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    sd3_folder: Path, monkeypatch: pytest.MonkeyPatch, package: str, options: dict[str, Any]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    there = accelerator("cuda") if package == "bitsandbytes" else contextlib.nullcontext()  # which needs a GPU
    with there, pytest.raises(MissingError, match=rf"{package}; install it with: .*'trimpot\[quantization\]'"):
        load(sd3_folder, **options)


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
def test_bitsandbytes_without_a_gpu_is_refused(sd3_folder: Path) -> None:
    with pytest.raises(ModelError, match="needs a GPU"):
        load(sd3_folder, quantization="bitsandbytes-8bit")
