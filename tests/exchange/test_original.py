"""A calibration baked into a copy of the file that a model came from: what the fold changes, and not a bit more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from applied import calibrated
from authors import State, prefixed, sd3_by_its_authors, wan_by_its_authors
from generated import candidates
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from trimpot.adapters import make_diffusers, make_flux, make_qwen_image, make_sd3
from trimpot.engine.calibration import Calibration
from trimpot.exchange.original import Entry, source_rows
from trimpot.exchange.roads import difference, export, road_of
from trimpot.ground.errors import CalibrationError

Folders = Callable[[str], Path]
SMALL = {"height": 16, "width": 16}
BACKBONES: dict[str, tuple[Any, dict[str, Any]]] = {
    "sd3": (make_sd3, {"members": ["conditional"]}),
    "wan": (make_diffusers, {**SMALL, "num_frames": 5, "max_sequence_length": 16}),
    "qwen": (make_qwen_image, {"members": ["conditional"]}),
    "flux": (make_flux, {}),
    "pixart": (
        make_diffusers,
        {**SMALL, "guidance_scale": 3.0, "pipeline_options": {"use_resolution_binning": False, "clean_caption": False}},
    ),
}
VAE = {"first_stage_model.decoder.conv_in.weight": torch.ones(3, dtype=torch.float16)}
LAYOUTS: dict[str, tuple[str, Callable[[State], State]]] = {
    "fused projections and swapped halves": ("sd3", sd3_by_its_authors),
    "fused, in a whole checkpoint": ("sd3", lambda state: {**prefixed(sd3_by_its_authors(state)), **VAE}),
    "other names": ("wan", wan_by_its_authors),
    "other names, in a whole checkpoint": ("wan", lambda state: prefixed(wan_by_its_authors(state))),
    "the names of diffusers": ("qwen", dict),
    "the names of diffusers, of a class that has others": ("flux", dict),
}


class Case:
    """A tiny pipeline with a random calibration."""

    def __init__(self, folder: Path, backbone: str, tmp_path: Path, dtype: str = "float32") -> None:
        make, options = BACKBONES[backbone]
        adapter = make(model=str(folder), dtype=dtype, device="cpu", num_inference_steps=3, **options)
        [vector] = candidates(adapter, 1)
        self.file = calibrated(adapter, adapter.space.to_setting(vector), tmp_path / "calibration.json")
        adapter.close()
        self.pipe = adapter.pipe
        self.calibration = Calibration.load(self.file)
        self.tmp_path = tmp_path
        self.weights = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")

    def saved(self, state: State, name: str = "original.safetensors") -> Path:
        path = self.tmp_path / name
        save_file({key: value.contiguous() for key, value in state.items()}, path, metadata={"by": "its authors"})
        return path

    def exported(self, original: Path) -> Path:
        return export(self.pipe, self.calibration, "baked", self.tmp_path / "out", single_file=original)


@pytest.fixture
def case(tiny_folder: Folders, tmp_path: Path) -> Callable[..., Case]:
    return lambda backbone, dtype="float32": Case(tiny_folder(backbone), backbone, tmp_path, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_baked_copy_of_the_original_makes_what_the_calibration_makes(case: Callable[..., Case], layout: str) -> None:
    backbone, spell = LAYOUTS[layout]
    one = case(backbone)
    original = one.saved(spell(one.weights))
    before = {name: value.clone() for name, value in one.pipe.transformer.state_dict().items()}
    folder = one.exported(original)
    assert all(torch.equal(value, before[name]) for name, value in one.pipe.transformer.state_dict().items())
    assert road_of(folder) == "baked"
    assert difference(one.pipe, one.file, folder) <= 1e-6
    check_only_folds_changed(one, original, folder / original.name, spell)


def check_only_folds_changed(one: Case, original: Path, copy: Path, spell: Callable[[State], State]) -> None:
    """The copy is, to the bit, what the authors' layout of the baked folder's weights is."""
    baked = export(one.pipe, one.calibration, "baked", one.tmp_path / "folder") / "transformer"
    expected = spell(load_file(baked / "diffusion_pytorch_model.safetensors"))
    found, old = load_file(copy), load_file(original)
    assert list(found) == list(old)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert 0 < sum(not torch.equal(found[name], old[name]) for name in old) < len(old)
    with safe_open(copy, framework="pt") as file:
        assert file.metadata() == {"by": "its authors"}
    assert copy.stat().st_size == original.stat().st_size


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rows_are_rounded_once_to_the_dtype_of_the_file(case: Callable[..., Case], dtype: torch.dtype) -> None:
    one = case("wan", str(dtype).removeprefix("torch."))
    narrow = {name: value.to(dtype) for name, value in one.weights.items()}
    folder = one.exported(one.saved(wan_by_its_authors(narrow)))
    found = load_file(folder / "original.safetensors")
    scales = one.calibration.apply["members"][0]["scales"]
    scale = scales["blocks.0.attn1"]
    old = narrow["blocks.0.attn1.to_out.0.weight"]
    assert torch.equal(found["blocks.0.self_attn.o.weight"], (old.float() * scale).to(dtype))


# A FLUX of the published width: the converter of diffusers knows no other.


def test_rows_of_the_published_flux_are_found_without_its_weights() -> None:
    """Fused projections are cut at the published width, halves of the last modulation are swapped."""
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        model = FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True)
    width, entries = 3072, {}

    def add(name: str, rows: int, columns: int) -> None:
        entries[f"{name}.weight"] = Entry((rows, columns), 0)
        entries[f"{name}.bias"] = Entry((rows,), 0)

    for name, columns in (("time_in", 256), ("vector_in", 768), ("guidance_in", 256)):
        add(f"{name}.in_layer", width, columns)
        add(f"{name}.out_layer", width, width)
    add("txt_in", width, 4096)
    add("img_in", width, 64)
    for stream in ("img", "txt"):
        add(f"double_blocks.0.{stream}_mod.lin", 6 * width, width)
        add(f"double_blocks.0.{stream}_attn.qkv", 3 * width, width)
        add(f"double_blocks.0.{stream}_attn.proj", width, width)
        add(f"double_blocks.0.{stream}_mlp.0", 4 * width, width)
        add(f"double_blocks.0.{stream}_mlp.2", width, 4 * width)
        for each in ("query", "key"):
            entries[f"double_blocks.0.{stream}_attn.norm.{each}_norm.scale"] = Entry((128,), 0)
    add("single_blocks.0.modulation.lin", 3 * width, width)
    add("single_blocks.0.linear1", 7 * width, width)
    add("single_blocks.0.linear2", width, 5 * width)
    for each in ("query", "key"):
        entries[f"single_blocks.0.norm.{each}_norm.scale"] = Entry((128,), 0)
    add("final_layer.linear", 64, width)
    add("final_layer.adaLN_modulation.1", 2 * width, width)
    rows = source_rows(model, entries, "flux1-dev.safetensors")

    def source(name: str, row: int) -> tuple[str, int]:
        numbers = rows.arrived[name]
        assert numbers is not None
        return rows.source(int(numbers[row]))

    gate = "transformer_blocks.0.norm1_context.linear.weight"
    assert source(gate, 2 * width) == ("double_blocks.0.txt_mod.lin.weight", 2 * width)
    assert source("single_transformer_blocks.0.norm.linear.bias", 9000) == ("single_blocks.0.modulation.lin.bias", 9000)
    assert source("single_transformer_blocks.0.attn.to_v.weight", 5) == (
        "single_blocks.0.linear1.weight", 2 * width + 5
    )  # fmt: skip
    assert source("single_transformer_blocks.0.proj_mlp.bias", 5) == ("single_blocks.0.linear1.bias", 3 * width + 5)
    assert source("norm_out.linear.weight", 5) == ("final_layer.adaLN_modulation.1.weight", width + 5)


# What cannot be baked is one sentence, and nothing is written.


def halved(state: State) -> State:
    return {name: value[: len(value) // 2] if value.ndim > 1 else value for name, value in state.items()}


def eighth(state: State) -> State:
    return {name: value.to(torch.float8_e4m3fn) if value.ndim > 1 else value for name, value in state.items()}


def nudged(state: State) -> State:
    """Another fine-tune: one number of a weight that no scale is folded into differs."""
    name = "blocks.0.self_attn.q.weight"
    return {**state, name: state[name] + 1e-3 * torch.eye(*state[name].shape)}


REFUSED: dict[str, tuple[str, Callable[[State], State], str]] = {
    "another model's": ("wan", lambda _: {"a": torch.ones(1)}, "lacks .* of a Wan|cannot convert"),
    "a fine-tune": ("wan", lambda s: nudged(wan_by_its_authors(s)), "does not hold the weights of this pipeline"),
    "of another size": ("sd3", lambda s: halved(sd3_by_its_authors(s)), "does not hold|cannot convert"),
    "quantized": ("qwen", eighth, "as float8_e4m3fn, and only unquantized weights"),
    "without a weight": (
        "wan",
        lambda s: {name: value for name, value in wan_by_its_authors(s).items() if name != "head.head.bias"},
        "lacks proj_out.bias",
    ),
    "of a class that has no single files": ("pixart", dict, "diffusers loads no PixArtTransformer2DModel from"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_that_cannot_be_baked_is_one_sentence(case: Callable[..., Case], what: str) -> None:
    backbone, spoil, message = REFUSED[what]
    one = case(backbone)
    with pytest.raises(CalibrationError, match=message) as error:
        one.exported(one.saved(spoil(one.weights)))
    assert "\n" not in str(error.value)
    assert "export it as baked without an original file" in str(error.value)
    assert sorted(path.name for path in one.tmp_path.iterdir()) == ["calibration.json", "original.safetensors"]


def headed(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


DAMAGED: dict[str, tuple[str, bytes, str]] = {
    "a pickle": ("model.ckpt", b"PK", "is not a .safetensors file"),
    "a gguf": ("model.gguf", b"GGUF", "is not a .safetensors file"),
    "nothing": ("model.safetensors", b"", "damaged or incomplete"),
    "text": ("model.safetensors", b"version https://git-lfs.github.com/spec/v1", "damaged or incomplete"),
    "no weights": ("model.safetensors", headed(b"{}"), "is empty"),
    "a list": ("model.safetensors", headed(b"[]"), "damaged or incomplete"),
    "the beginning of it": (
        "model.safetensors",
        headed(b'{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}'),
        "damaged or incomplete",
    ),
    "places that are words": (
        "model.safetensors",
        headed(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]}}'),
        "damaged or incomplete",
    ),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_is_one_sentence_before_a_pipeline_is_asked_for(tmp_path: Path, what: str) -> None:
    name, content, message = DAMAGED[what]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match=message) as error:
        export(None, None, "baked", tmp_path / "out", single_file=path)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_a_single_file_that_is_missing_or_of_another_format_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"no\.safetensors cannot be read: no such file"):
        export(None, None, "baked", tmp_path / "out", single_file=tmp_path / "no.safetensors")  # type: ignore[arg-type]
    with pytest.raises(CalibrationError, match="only baked writes a copy of a single file, not ia3"):
        export(None, None, "ia3", tmp_path / "out", single_file=tmp_path / "no.safetensors")  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def without_remarks() -> Iterator[None]:
    import logging

    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
