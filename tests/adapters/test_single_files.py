"""A transformer in one file is the same transformer: under whatever names, scaled, quantized, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from authors import prefixed, sd3_by_its_authors, wan_by_its_authors
from safetensors.torch import load_file, save_file
from torch import Tensor
from trimpot.adapters.checkpoints import Loading, load_pipeline
from trimpot.ground.errors import ModelError

Folders = Callable[[str], Path]
State = dict[str, Tensor]


def load(folder: Path, **options: Any) -> Any:
    return load_pipeline(None, str(folder), Loading(**{"dtype": "float32", **options}))[0].transformer


def weights_of(folder: Path) -> State:
    return load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")


def saved(state: State, tmp_path: Path) -> str:
    path = tmp_path / "one.safetensors"
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return str(path)


SPELLINGS: dict[str, tuple[str, Callable[[State], State]]] = {
    "diffusers": ("wan", dict),
    "the authors'": ("wan", wan_by_its_authors),
    "the authors', in a whole checkpoint": ("wan", lambda state: prefixed(wan_by_its_authors(state))),
    "diffusers, in a whole checkpoint": ("sd3", prefixed),
    "the authors', fused": ("sd3", sd3_by_its_authors),
    "the authors', fused, in a whole checkpoint": ("sd3", lambda state: prefixed(sd3_by_its_authors(state))),
}


@pytest.mark.parametrize("case", SPELLINGS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_file_under_any_names_is_what_the_folder_is(
    tiny_folder: Folders, tmp_path: Path, case: str, dtype: str
) -> None:
    pipeline, spell = SPELLINGS[case]
    folder = tiny_folder(pipeline)
    more = {"vae.decoder.conv_in.weight": torch.ones(3)} if "whole" in case else {}
    given = saved({**spell(weights_of(folder)), **more}, tmp_path)
    one, other = load(folder, dtype=dtype, transformer=given), load(folder, dtype=dtype)
    for (name, value), expected in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert value.dtype == expected.dtype, name
        assert torch.equal(value, expected), name


@pytest.mark.parametrize("case", SPELLINGS)
def test_a_file_that_lacks_a_weight_or_has_one_too_many_is_refused_under_any_names(
    tiny_folder: Folders, tmp_path: Path, case: str
) -> None:
    pipeline, spell = SPELLINGS[case]
    folder = tiny_folder(pipeline)
    state = spell(weights_of(folder))
    name = sorted(state)[-1]
    for spoiled in (
        {key: value for key, value in state.items() if key != name},
        {**state, "more.of_it": torch.ones(2)},
    ):
        with pytest.raises(ModelError, match=r"lacks \d|does not use, first|not named as those") as error:
            load(folder, transformer=saved(spoiled, tmp_path))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("case", SPELLINGS)
@pytest.mark.parametrize("kind", ["torchao-int8", "torchao-float8"])
def test_a_file_is_quantized_as_the_folder_is(tiny_folder: Folders, tmp_path: Path, case: str, kind: str) -> None:
    pytest.importorskip("torchao")
    pipeline, spell = SPELLINGS[case]
    folder = tiny_folder(pipeline)
    given = saved(spell(weights_of(folder)), tmp_path)
    one = load(folder, dtype="bfloat16", quantization=kind, transformer=given)
    other = load(folder, dtype="bfloat16", quantization=kind)
    assert sum(type(value.data) is not Tensor for value in one.parameters()) > 10
    for (name, value), expected in zip(one.named_parameters(), other.parameters(), strict=True):
        assert type(value.data) is type(expected.data), name
        ones, others = (
            each if type(each.data) is Tensor else each.dequantize() for each in (value.detach(), expected.detach())
        )
        assert torch.equal(ones, others), name


# Scaled fp8.


def scaled(state: State, suffix: str, rows: bool, more: State) -> tuple[State, State]:
    """Linear weights in fp8 with their scales, and what they stand for."""
    packed, meant = dict(more), {}
    for name, value in state.items():
        if value.ndim != 2 or not name.endswith("weight"):
            packed[name] = meant[name] = value
            continue
        scale = value.abs().amax(dim=1, keepdim=True) / 448 if rows else (value.abs().max() / 448)
        eighth = (value / scale).to(torch.float8_e4m3fn)
        packed[name] = eighth
        packed[name.removesuffix("weight") + suffix] = scale.clone()
        packed[name.removesuffix("weight") + "input_scale"] = torch.tensor(3.0)
        meant[name] = eighth.float() * scale
    return packed, meant


MARK: State = {"scaled_fp8": torch.zeros(0, dtype=torch.float8_e4m3fn)}
NOTE: State = {
    "proj_out.comfy_quant": torch.tensor(list(json.dumps({"format": "float8_e4m3fn"}).encode()), dtype=torch.uint8)
}


@pytest.mark.parametrize("suffix", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("more", [{}, MARK, NOTE])
@pytest.mark.parametrize("pipeline", ["sd3", "flux", "qwen", "wan"])
def test_scaled_fp8_weights_are_multiplied_by_their_scales(
    tiny_folder: Folders, tmp_path: Path, pipeline: str, suffix: str, rows: bool, more: State
) -> None:
    folder = tiny_folder(pipeline)
    original = weights_of(folder)
    packed, meant = scaled(original, suffix, rows, more)
    held = load(folder, transformer=saved(packed, tmp_path)).state_dict()
    for name, value in meant.items():
        assert torch.equal(held[name], value), name
        assert (held[name] - original[name]).abs().max() <= 0.05 * original[name].abs().max(), name


def test_scaled_fp8_under_the_authors_names_is_multiplied_too(tiny_folder: Folders, tmp_path: Path) -> None:
    folder = tiny_folder("wan")
    packed, meant = scaled(wan_by_its_authors(weights_of(folder)), "scale_weight", rows=False, more=MARK)
    one = load(folder, transformer=saved(prefixed(packed), tmp_path)).state_dict()
    other = load(folder, transformer=saved(meant, tmp_path)).state_dict()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_fp8_without_scales_is_what_it_says(tiny_folder: Folders, tmp_path: Path) -> None:
    folder = tiny_folder("sd3")
    packed = {name: value.to(torch.float8_e4m3fn) for name, value in weights_of(folder).items()}
    held = load(folder, transformer=saved(packed, tmp_path)).state_dict()
    assert all(torch.equal(held[name], value.float()) for name, value in packed.items())


LINEAR = "transformer_blocks.0.attn.to_q"
UNREADABLE: dict[str, tuple[Callable[[State], object], str]] = {
    "a scale is missing": (lambda s: s.pop(f"{LINEAR}.scale_weight"), "lacks the scale of .*to_q.weight"),
    "a scale of nothing": (lambda s: s.update({"x.scale_weight": torch.ones(1)}), r"a scale of shape \(1,\) for x"),
    "scales by block": (
        lambda s: s.update({f"{LINEAR}.scale_weight": torch.ones(2, 2)}),
        "only one a weight or one a row",
    ),
    "two levels of scales": (
        lambda s: s.update({f"{LINEAR}.weight_scale_2": torch.ones(1)}),
        "quantized in a way that is not read here",
    ),
    "whole numbers": (
        lambda s: s.update({f"{LINEAR}.weight": torch.ones(16, 8, dtype=torch.uint8)}),
        "quantized in a way that is not read here",
    ),
    "bitsandbytes": (
        lambda s: s.update({f"{LINEAR}.weight.quant_state.bitsandbytes__nf4": torch.ones(3, dtype=torch.uint8)}),
        "quantized in a way that is not read here",
    ),
    "another format": (
        lambda s: s.update({f"{LINEAR}.comfy_quant": torch.tensor(list(b'{"format":"nvfp4"}'), dtype=torch.uint8)}),
        "quantized in a way that is not read here",
    ),
    "infinite": (lambda s: s.update({f"{LINEAR}.scale_weight": torch.tensor(float("inf"))}), "not finite"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_quantized_in_a_way_that_is_not_read_is_refused(
    tiny_folder: Folders, tmp_path: Path, case: str
) -> None:
    spoil, message = UNREADABLE[case]
    packed, _ = scaled(weights_of(tiny_folder("sd3")), "scale_weight", rows=False, more=MARK)
    spoil(packed)
    with pytest.raises(ModelError, match=message) as error:
        load(tiny_folder("sd3"), transformer=saved(packed, tmp_path))
    assert "\n" not in str(error.value)


def test_a_scaled_folder_is_refused(tiny_folder: Folders, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "config.json").write_text((tiny_folder("sd3") / "transformer" / "config.json").read_text())
    packed, _ = scaled(weights_of(tiny_folder("sd3")), "weight_scale", rows=False, more={})
    save_file(packed, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"that a SD3Transformer2DModel of this configuration does not use, first"):
        load(tiny_folder("sd3"), transformer=str(folder))


def test_a_gguf_that_lacks_a_weight_or_has_one_too_many_is_refused(tiny_folder: Folders, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    state = weights_of(tiny_folder("sd3"))
    for change, message in (("less", "lacks 1 of"), ("more", "does not use, first more")):
        path = tmp_path / f"{change}.gguf"
        writer = gguf.GGUFWriter(str(path), "sd3")
        changed = {**state, "more": torch.ones(2)}
        if change == "less":
            changed = {name: value for name, value in state.items() if name != "proj_out.bias"}
        for name, value in changed.items():
            writer.add_tensor(name, value.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with pytest.raises(ModelError, match=message):
            load(tiny_folder("sd3"), transformer=str(path))
