"""A LoRA in any layout that people publish is merged as the formula says, or refused: no key of it is left unused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from trimpot.adapters.checkpoints import Loading, load_pipeline
from trimpot.adapters.lora import merge_lora
from trimpot.adapters.lora_files import read_lora
from trimpot.ground.errors import ModelError

Folders = Callable[[str], Path]
Layers = dict[str, tuple[Tensor, Tensor]]  # a layer's name in a file to its A and B
State = dict[str, Tensor]

PIPELINES = sorted(
    name.removeprefix("tiny_")
    for name in tiny_models.__all__
    if name.startswith("tiny_") and not name.endswith("_transformer")
)
RANK, ALPHA = 4, 10.0


def transformer(folder: Path) -> Any:
    return load_pipeline(None, str(folder), Loading(dtype="float32"))[0].transformer


def random_layers(sizes: Mapping[str, tuple[int, int]], rank: int = RANK) -> Layers:
    """Random matrices for layers of (out_features, in_features)."""
    generator = torch.Generator().manual_seed(7)
    return {
        name: (torch.randn(rank, columns, generator=generator), torch.randn(rows, rank, generator=generator))
        for name, (rows, columns) in sizes.items()
    }


def linear_layers(model: nn.Module, count: int = 12) -> Layers:
    """Matrices for some of a model's linear layers, spread over it."""
    sizes = {name: module.weight.shape for name, module in model.named_modules() if type(module) is nn.Linear}
    names = sorted(sizes)[:: max(1, len(sizes) // count)]
    return random_layers({name: tuple(sizes[name]) for name in names})


def is_the_formula(model: nn.Module, before: State, layers: Layers, scaling: float) -> None:
    """Every weight is W + scaling * B @ A in float64, and all others are as they were."""
    for name, value in model.state_dict().items():
        layer = name.removesuffix(".weight")
        if not name.endswith(".weight") or layer not in layers:
            assert torch.equal(value, before[name]), name
            continue
        down, up = layers[layer]
        expected = before[name].double() + scaling * (up.double() @ down.double())
        assert torch.allclose(value.double(), expected, rtol=0, atol=2e-5), name
        assert not torch.equal(value, before[name]), name


def spelled(layers: Layers, sides: tuple[str, str], name: Callable[[str], str], alpha: float | None = None) -> State:
    """A file's tensors: how a layer is called, its two matrices, and its alpha."""
    state = {}
    for layer, matrices in layers.items():
        for side, matrix in zip(sides, matrices, strict=True):
            state[f"{name(layer)}.{side}.weight"] = matrix.clone()
        if alpha is not None:
            state[f"{name(layer)}.alpha"] = torch.tensor(alpha)
    return state


AB, DOWN_UP, OLD = ("lora_A", "lora_B"), ("lora_down", "lora_up"), ("lora.down", "lora.up")
METADATA = {"transformer.r": RANK, "transformer.lora_alpha": ALPHA}


def flat(prefix: str) -> Callable[[str], str]:
    return lambda layer: prefix + layer.replace(".", "_")


def after(prefix: str) -> Callable[[str], str]:
    return lambda layer: prefix + layer


LAYOUTS: dict[str, tuple[tuple[str, str], Callable[[str], str], float | None, dict[str, Any] | None]] = {
    # sides, how a layer is called, alpha, metadata
    "diffusers": (AB, after("transformer."), None, None),
    "diffusers with alphas": (AB, after("transformer."), ALPHA, None),
    "diffusers with metadata": (AB, after("transformer."), None, METADATA),
    "diffusers, rank-stabilised": (AB, after("transformer."), None, {**METADATA, "transformer.use_rslora": True}),
    "diffusers of old": (OLD, after("transformer."), None, None),
    "bare": (AB, after(""), None, None),
    "PEFT's adapters by name": (("lora_A.default", "lora_B.default"), after("transformer."), None, None),
    "PEFT, with alphas": (AB, after("base_model.model."), ALPHA, None),
    "ComfyUI": (DOWN_UP, after("diffusion_model."), ALPHA, None),
    "ComfyUI from PEFT": (AB, after("diffusion_model."), None, None),
    "kohya": (DOWN_UP, flat("lora_unet_"), ALPHA, None),
    "kohya without alphas": (DOWN_UP, flat("lora_unet_"), None, None),
    "OneTrainer": (DOWN_UP, flat("lora_transformer_"), ALPHA, None),
    "LyCORIS": (DOWN_UP, flat("lycoris_"), ALPHA, None),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_file_in_any_layout_is_merged_into_any_transformer(
    tiny_folder: Folders, tmp_path: Path, pipeline: str, layout: str
) -> None:
    sides, name, alpha, settings = LAYOUTS[layout]
    model = transformer(tiny_folder(pipeline))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    layers = linear_layers(model)
    path = tmp_path / "lora.safetensors"
    metadata = None if settings is None else {"lora_adapter_metadata": json.dumps(settings)}
    save_file(spelled(layers, sides, name, alpha), path, metadata=metadata)
    described = merge_lora(model, path)
    scaling = ALPHA / RANK if alpha or settings else 1.0
    if settings and "transformer.use_rslora" in settings:
        scaling = ALPHA / math.sqrt(RANK)
    is_the_formula(model, before, layers, scaling)
    assert described["num_modules"] == len(layers) >= 8
    assert (described["id"], described["rank"], described["alpha"]) == ("lora.safetensors", RANK, scaling * RANK)


# Names that a model's authors gave its layers, which diffusers translates: each stands for one layer or for several.

Names = dict[str, tuple[str, ...]]


def flux_names(block: int) -> Names:
    double, ours = f"double_blocks.{block}.", f"transformer_blocks.{block}."
    return {
        f"{double}img_attn.qkv": tuple(f"{ours}attn.to_{each}" for each in "qkv"),
        f"{double}txt_attn.qkv": tuple(f"{ours}attn.add_{each}_proj" for each in "qkv"),
        f"{double}img_attn.proj": (f"{ours}attn.to_out.0",),
        f"{double}txt_attn.proj": (f"{ours}attn.to_add_out",),
        f"{double}img_mlp.0": (f"{ours}ff.net.0.proj",),
        f"{double}img_mlp.2": (f"{ours}ff.net.2",),
        f"{double}txt_mlp.0": (f"{ours}ff_context.net.0.proj",),
        f"{double}txt_mlp.2": (f"{ours}ff_context.net.2",),
        f"{double}img_mod.lin": (f"{ours}norm1.linear",),
        f"{double}txt_mod.lin": (f"{ours}norm1_context.linear",),
        f"single_blocks.{block}.linear2": (f"single_transformer_blocks.{block}.proj_out",),
        f"single_blocks.{block}.modulation.lin": (f"single_transformer_blocks.{block}.norm.linear",),
        "img_in": ("x_embedder",),
        "txt_in": ("context_embedder",),
        "time_in.in_layer": ("time_text_embed.timestep_embedder.linear_1",),
        "vector_in.out_layer": ("time_text_embed.text_embedder.linear_2",),
        "guidance_in.in_layer": ("time_text_embed.guidance_embedder.linear_1",),
        "final_layer.linear": ("proj_out",),
    }


def wan_names() -> Names:
    names: Names = {}
    for block in range(2):
        for theirs, ours in (("self_attn", "attn1"), ("cross_attn", "attn2")):
            for one, other in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0")):
                names[f"blocks.{block}.{theirs}.{one}"] = (f"blocks.{block}.{ours}.{other}",)
        names[f"blocks.{block}.ffn.0"] = (f"blocks.{block}.ffn.net.0.proj",)
        names[f"blocks.{block}.ffn.2"] = (f"blocks.{block}.ffn.net.2",)
    return names


XLABS: Names = {
    "double_blocks.0.processor.qkv_lora1": tuple(f"transformer_blocks.0.attn.to_{each}" for each in "qkv"),
    "double_blocks.0.processor.qkv_lora2": tuple(f"transformer_blocks.0.attn.add_{each}_proj" for each in "qkv"),
    "double_blocks.0.processor.proj_lora1": ("transformer_blocks.0.attn.to_out.0",),
    "double_blocks.0.processor.proj_lora2": ("transformer_blocks.0.attn.to_add_out",),
    "single_blocks.0.processor.proj_lora": ("single_transformer_blocks.0.proj_out",),
}
ORIGINAL: dict[str, tuple[str, Names, tuple[str, str], Callable[[str], str], float | None]] = {
    "FLUX, kohya": ("flux", flux_names(0), DOWN_UP, flat("lora_unet_"), ALPHA),
    "FLUX, kohya without alphas": ("flux", flux_names(0), DOWN_UP, flat("lora_unet_"), None),
    "FLUX, BFL": ("flux", flux_names(0), AB, after(""), None),
    "FLUX, BFL with alphas": ("flux", flux_names(0), AB, after(""), ALPHA),
    "FLUX, fal": ("flux", flux_names(0), AB, after("base_model.model."), None),
    "FLUX, ComfyUI": ("flux", flux_names(0), DOWN_UP, after("diffusion_model."), ALPHA),
    "FLUX, whole checkpoint": ("flux", flux_names(0), AB, after("model.diffusion_model."), None),
    "FLUX, XLabs": ("flux", XLABS, ("down", "up"), after(""), None),
    "Wan, musubi": ("wan", wan_names(), DOWN_UP, flat("lora_unet_"), ALPHA),
    "Wan, ComfyUI": ("wan", wan_names(), DOWN_UP, after("diffusion_model."), ALPHA),
    "Wan, from PEFT": ("wan", wan_names(), AB, after("diffusion_model."), None),
    "Wan, bare": ("wan", wan_names(), AB, after(""), ALPHA),
}


@pytest.mark.parametrize("case", ORIGINAL)
def test_names_of_a_model_s_authors_are_translated_and_every_alpha_counts(
    tiny_folder: Folders, tmp_path: Path, case: str
) -> None:
    pipeline, names, sides, name, alpha = ORIGINAL[case]
    model = transformer(tiny_folder(pipeline))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    sizes = {key.removesuffix(".weight"): value.shape for key, value in before.items() if value.ndim == 2}
    theirs = random_layers({each: (sum(sizes[o][0] for o in ours), sizes[ours[0]][1]) for each, ours in names.items()})
    ours = {}
    for each, (down, up) in theirs.items():
        rows = [sizes[one][0] for one in names[each]]
        ours |= {one: (down, part) for one, part in zip(names[each], up.split(rows), strict=True)}
    path = tmp_path / "lora.safetensors"
    save_file(spelled(theirs, sides, name, alpha), path)
    merge_lora(model, path)
    is_the_formula(model, before, ours, 1.0 if alpha is None else alpha / RANK)


def test_flux_s_fused_single_blocks_are_split_as_they_are_meant(tmp_path: Path) -> None:
    """Only of the width that is published: its converter knows no other."""
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        model = FluxTransformer2DModel(num_layers=0, num_single_layers=1)
    theirs = random_layers({"single_blocks.0.linear1": (21504, 3072)}, rank=2)
    (down, up) = theirs["single_blocks.0.linear1"]
    for sides, name in ((DOWN_UP, flat("lora_unet_")), (AB, after("")), (AB, after("base_model.model."))):
        path = tmp_path / "lora.safetensors"
        save_file(spelled(theirs, sides, name, 1.0), path)
        pairs = read_lora(path, None, model)
        rows = {"attn.to_q": 3072, "attn.to_k": 3072, "attn.to_v": 3072, "proj_mlp": 12288}
        for part, (layer, _) in zip(up.split(list(rows.values())), rows.items(), strict=True):
            pair = pairs.pop(f"single_transformer_blocks.0.{layer}")
            got = pair.scaling * (pair.up[::97].double() @ pair.down.double())
            assert torch.allclose(got, 0.5 * (part[::97].double() @ down.double()), atol=1e-5)
        assert not pairs


# What would be left unused.


def sd3_file(tmp_path: Path, change: Callable[[State], object]) -> Path:
    layers = linear_layers(tiny_models.tiny_sd3_transformer(), 6)
    state = spelled(layers, AB, after("transformer."))
    change(state)
    path = tmp_path / "lora.safetensors"
    save_file(state, path)
    return path


FIRST = "transformer.transformer_blocks.0.attn.to_q"
UNUSED: dict[str, tuple[dict[str, Tensor], str]] = {
    "a text encoder": (
        {f"text_encoder.text_model.layers.0.q.{side}.weight": torch.ones(4, 4) for side in AB},
        "also changes text encoders \\(1 layers",
    ),
    "kohya's text encoder": (
        {f"lora_te1_text_model_layers_0_q.{side}.weight": torch.ones(4, 4) for side in DOWN_UP},
        "also changes text encoders",
    ),
    "another model": (
        {f"transformer.joint_blocks.0.x_block.attn.qkv.{side}.weight": torch.ones(4, 4) for side in AB},
        "has no module joint_blocks.0.x_block.attn.qkv",
    ),
    "a DoRA": ({f"{FIRST}.dora_scale": torch.ones(4, 1)}, "is a DoRA"),
    "a LoHa": ({f"{FIRST}.hada_w1_a": torch.ones(4, 4)}, "is not a LoRA but a related"),
    "a LoKr": ({f"{FIRST}.lokr_w1": torch.ones(4, 4)}, "is not a LoRA but a related"),
    "a Tucker": ({f"{FIRST}.lora_mid.weight": torch.ones(4, 4)}, "is not a LoRA but a related"),
    "a bias": ({"diffusion_model.blocks.0.diff_b": torch.ones(4)}, "also changes whole weights or biases"),
    "a weight": ({"diffusion_model.blocks.0.diff": torch.ones(4)}, "also changes whole weights or biases"),
    "a bias of B": ({f"{FIRST}.lora_B.bias": torch.ones(4)}, "also changes whole weights or biases"),
    "a norm": ({"double_blocks.0.img_attn.norm.query_norm.scale": torch.ones(4)}, "also changes whole weights"),
    "something": ({"something": torch.ones(4)}, "that no linear layer's LoRA uses: something"),
    "half a pair": ({"transformer.proj_x.lora_A.weight": torch.ones(4, 4)}, "only half of the LoRA of transformer"),
    "an alpha alone": ({"transformer.proj_x.alpha": torch.ones(())}, "an alpha but no matrices for transformer.proj_x"),
    "infinity": ({"transformer.proj_x.alpha": torch.tensor(math.inf)}, "not finite, first in transformer.proj_x.alpha"),
}


@pytest.mark.parametrize("case", UNUSED)
def test_what_would_be_left_unused_is_refused_and_nothing_is_merged(tmp_path: Path, case: str) -> None:
    more, message = UNUSED[case]
    model = tiny_models.tiny_sd3_transformer()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ModelError, match=message) as error:
        merge_lora(model, sd3_file(tmp_path, lambda state: state.update(more)))
    assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("case", ["a text encoder", "a bias", "a weight", "a bias of B", "another model"])
def test_what_is_zero_changes_nothing_and_is_no_error(tmp_path: Path, case: str) -> None:
    zeros = {key: torch.zeros_like(value) for key, value in UNUSED[case][0].items()}
    model = tiny_models.tiny_sd3_transformer()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    merge_lora(model, sd3_file(tmp_path, lambda state: state.update(zeros)))
    is_the_formula(model, before, linear_layers(tiny_models.tiny_sd3_transformer(), 6), 1.0)


def test_what_a_converter_loses_is_found_out(
    tiny_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers.loaders.lora_pipeline as loaders

    model = transformer(tiny_folder("flux"))
    theirs = random_layers({"double_blocks.0.img_attn.proj": (16, 16), "double_blocks.0.txt_attn.proj": (16, 16)})
    save_file(spelled(theirs, AB, after("")), tmp_path / "lora.safetensors")
    convert = loaders.FluxLoraLoaderMixin.lora_state_dict
    monkeypatch.setattr(
        loaders.FluxLoraLoaderMixin,
        "lora_state_dict",
        lambda state: {key: value for key, value in convert(state).items() if "to_add_out" not in key},
    )
    with pytest.raises(ModelError, match="diffusers cannot convert all layer names"):
        merge_lora(model, tmp_path / "lora.safetensors")


def test_peft_s_file_needs_the_configuration_that_says_how_much_it_counts(tmp_path: Path) -> None:
    layers = linear_layers(tiny_models.tiny_sd3_transformer(), 6)
    for name in ("adapter_model.safetensors", "other.safetensors"):
        path = tmp_path / name
        save_file(spelled(layers, AB, after("base_model.model.")), path)
        with pytest.raises(ModelError, match=r"has no adapter_config\.json"):
            merge_lora(tiny_models.tiny_sd3_transformer(), path)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    model = tiny_models.tiny_sd3_transformer()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    merge_lora(model, path)
    is_the_formula(model, before, layers, ALPHA / RANK)


def test_an_amount_that_is_said_twice_is_refused(tmp_path: Path) -> None:
    layers = linear_layers(tiny_models.tiny_sd3_transformer(), 6)
    path = tmp_path / "lora.safetensors"
    state = spelled(layers, AB, after("transformer."), ALPHA)
    save_file(state, path, metadata={"lora_adapter_metadata": json.dumps(METADATA)})
    with pytest.raises(ModelError, match="gives the LoRA's scaling twice"):
        merge_lora(tiny_models.tiny_sd3_transformer(), path)


def test_metadata_that_is_no_configuration_is_refused(tmp_path: Path) -> None:
    layers = linear_layers(tiny_models.tiny_sd3_transformer(), 6)
    path = tmp_path / "lora.safetensors"
    for text in ("{", "[]", "{}", '{"transformer.r": 4}', '{"transformer.r": "4", "transformer.lora_alpha": 1}'):
        save_file(spelled(layers, AB, after("transformer.")), path, metadata={"lora_adapter_metadata": text})
        with pytest.raises(ModelError, match="must give rank and alpha"):
            merge_lora(tiny_models.tiny_sd3_transformer(), path)


def test_layers_of_different_ranks_are_all_described(tmp_path: Path) -> None:
    names = ("transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_k")
    layers = random_layers({names[0]: (16, 16)}, 2) | random_layers({names[1]: (16, 16)}, 3)
    path = tmp_path / "lora.safetensors"
    save_file(spelled(layers, AB, after("transformer.")), path)
    described = merge_lora(tiny_models.tiny_sd3_transformer(), path)
    assert (described["rank"], described["alpha"]) == ([2, 3], [2, 3])


# Folders.


def test_a_folder_with_one_file_is_that_file(tmp_path: Path) -> None:
    layers = linear_layers(tiny_models.tiny_sd3_transformer(), 6)
    save_file(spelled(layers, AB, after("transformer.")), tmp_path / "pytorch_lora_weights.safetensors")
    described = merge_lora(tiny_models.tiny_sd3_transformer(), tmp_path)
    assert described["id"] == tmp_path.name
    save_file(spelled(layers, AB, after("transformer.")), tmp_path / "another.safetensors")
    with pytest.raises(ModelError, match=r"holds 2 files, another\.safetensors and others; give one of the files"):
        merge_lora(tiny_models.tiny_sd3_transformer(), tmp_path)
    with pytest.raises(ModelError, match=r"is not a LoRA; give a \.safetensors file"):
        (tmp_path / "lora.txt").write_text("x")
        merge_lora(tiny_models.tiny_sd3_transformer(), tmp_path / "lora.txt")


def test_a_checkpoint_with_two_transformers_takes_no_lora(tiny_folder: Folders, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has two transformers, and a LoRA belongs to one"):
        load_pipeline(None, str(tiny_folder("wan22")), Loading(dtype="float32", lora=str(sd3_file(tmp_path, len))))
