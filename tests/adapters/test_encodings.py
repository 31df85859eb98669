"""Encoded prompts in a file: every adapter makes the same images with and without it, first and again."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerator import accelerator
from generated import candidates, pixels
from stock_cases import CASES
from trimpot import adapters
from trimpot.adapters import encodings
from trimpot.adapters.pipelines import PipelineAdapter
from trimpot.engine.bucket import Bucket
from trimpot.ground.errors import ModelError, Notice

Folders = Callable[[str], Path]

BUCKET = Bucket(("a cat", "two dogs", "a cat"), (11, 12, 13))
OTHER = Bucket(("a red circle",), (14,))
NAMED: dict[str, dict[str, Any]] = {
    "sd3": {"max_sequence_length": 16},
    "flux": {},
    "qwen": {"height": 16, "width": 16, "max_sequence_length": 32},
}
ALL = [*NAMED, *(f"stock {name}" for name in CASES)]
FACTORIES = {"sd3": "make_sd3", "flux": "make_flux", "qwen": "make_qwen_image"}


def make(folders: Folders, name: str, **options: Any) -> PipelineAdapter:
    """A tiny adapter by its name in `ALL`."""
    stock = name.removeprefix("stock ")
    given = CASES[stock].given if stock != name else {**NAMED[name], "height": 16, "width": 16}
    factory = getattr(adapters, FACTORIES.get(name, "make_diffusers"))
    settings = {"dtype": "float32", "device": "cpu", "num_inference_steps": 1, **given, **options}
    made = factory(**{"model": str(folders(stock)), **settings})
    assert isinstance(made, PipelineAdapter)
    return made


@contextmanager
def encoded(adapter: PipelineAdapter) -> Iterator[list[int]]:
    """Counts the calls of a pipeline's first text encoder."""
    calls: list[int] = []
    handle = adapter.pipe.text_encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        yield calls
    finally:
        handle.remove()


def images(adapter: PipelineAdapter, bucket: Bucket = BUCKET) -> list[Any]:
    return [made for outputs in adapter.generate(candidates(adapter, 2), bucket) for made in pixels(outputs)]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.safetensors") if path.is_file())


@pytest.mark.parametrize("name", ALL)
def test_images_are_the_same_to_the_bit_without_a_file_with_one_and_on_return(
    name: str, tiny_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is held in main memory, so every prompt is read from the file; on return none is encoded."""
    expected = images(make(tiny_folder, name))
    monkeypatch.setattr(encodings, "RECENT", 0)
    for again in (False, True):
        adapter = make(tiny_folder, name)
        adapter.keep_in(tmp_path)
        adapter.prepare([*BUCKET.prompts, "never asked for"])
        with encoded(adapter) as calls:
            np.testing.assert_array_equal(images(adapter), expected)
            assert bool(calls) is not again
        [named] = {path.stem for path in tmp_path.iterdir() if path.suffix != ".lock"} - {""}
        assert len(files(tmp_path / named)) == (0 if again else len(adapter_prompts(name)))


def adapter_prompts(name: str) -> set[str]:
    """The prompts that a job with `BUCKET` needs: its own, and the empty one of a guided ensemble."""
    return {*BUCKET.prompts, *([""] if name in ("sd3", "qwen") else [])}


@pytest.mark.parametrize("name", [*NAMED, "stock pixart", "stock wan"])
def test_only_what_a_job_needs_is_encoded(name: str, tiny_folder: Folders) -> None:
    """A thousand prompts take no time at the start; each is encoded once when it is met, for every number of steps."""
    adapter = make(tiny_folder, name)
    with encoded(adapter) as calls:
        adapter.prepare([f"prompt {number}" for number in range(1000)])
        assert len(calls) <= 1  # the empty one
        images(adapter)
        number = len(calls)
        images(adapter.with_steps(2))
        images(adapter)
        assert len(calls) == number > 0


@pytest.mark.parametrize("name", [*NAMED, "stock pixart", "stock wan"])
def test_text_encoders_go_when_all_is_in_the_file(name: str, tiny_folder: Folders, tmp_path: Path) -> None:
    """It is one file then, and a resume encodes nothing; unknown prompts are refused as ever."""
    expected = images(make(tiny_folder, name, batch_size=1))
    for again in (False, True):
        adapter = make(tiny_folder, name, release_text_encoders=True, batch_size=1)
        adapter.keep_in(tmp_path)
        with encoded(adapter) as calls:
            adapter.prepare([*BUCKET.prompts, *OTHER.prompts])
            assert bool(calls) is not again
        assert adapter.pipe.text_encoder is None
        assert len(files(tmp_path)) == 1
        np.testing.assert_array_equal(images(adapter), expected)
        with pytest.raises(ModelError, match="its text encoders have been dropped"):
            images(adapter, Bucket(("unknown",), (1,)))
        adapter.keep_in(tmp_path / "elsewhere")  # as where another run shares the adapter
        adapter.prepare(BUCKET.prompts)
        np.testing.assert_array_equal(images(adapter), expected)
    adapter = make(tiny_folder, name, release_text_encoders=True, batch_size=1)
    adapter.prepare(BUCKET.prompts)
    adapter.keep_in(tmp_path / "too late")
    np.testing.assert_array_equal(images(adapter), expected)


@pytest.mark.parametrize("offload", ["none", "model", "group", "sequential"])
@pytest.mark.parametrize("name", ["sd3", "stock pixart"])
def test_an_accelerator_and_offloading_find_it_too(
    name: str, offload: str, tiny_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However weights wait, the file is the same one, is read into main memory and goes from there to the device."""
    monkeypatch.setattr(encodings, "RECENT", 0)
    with accelerator("cuda"):
        first = make(tiny_folder, name, device="cuda")
        expected = images(first)
        first.keep_in(tmp_path)
        images(first, OTHER)
        images(first)
        adapter = make(tiny_folder, name, device="cuda", offload=offload)
        adapter.keep_in(tmp_path)
        with encoded(adapter) as calls:
            np.testing.assert_array_equal(images(adapter), expected)
        assert not calls
    assert len(files(tmp_path)) == 1 and files(tmp_path)[0].parent == tmp_path


# What changes an encoding, or might, gives another file; what does not shares it.
OTHERWISE: dict[str, tuple[str, dict[str, Any]]] = {
    "dtype": ("sd3", {"dtype": "bfloat16"}),
    "length": ("sd3", {"max_sequence_length": 8}),
    "another pipeline": ("flux", {}),
    "the stock pipeline": ("stock flux2", {}),
}
ALIKE: dict[str, dict[str, Any]] = {
    "steps": {"num_inference_steps": 2},
    "size": {"height": 32, "width": 32},
    "guidance": {"guidance_scale": 2.0},
    "knobs": {"granularity": "block"},
    "members": {"members": ["conditional"]},
    "batches": {"batch_size": 1},
    "tiles": {"vae_tiling": True},
}


def name_of(adapter: PipelineAdapter, folder: Path) -> str:
    """The name of the file that an adapter keeps in a folder."""
    adapter.keep_in(folder)
    images(adapter, OTHER)
    [found] = {path.name for path in folder.iterdir() if path.is_dir()}
    return found


@pytest.fixture(scope="module")
def ordinary(tiny_folder: Folders, tmp_path_factory: pytest.TempPathFactory) -> str:
    return name_of(make(tiny_folder, "sd3"), tmp_path_factory.mktemp("ordinary"))


@pytest.mark.parametrize("case", OTHERWISE)
def test_what_encodes_otherwise_has_another_file(
    case: str, ordinary: str, tiny_folder: Folders, tmp_path: Path
) -> None:
    name, options = OTHERWISE[case]
    assert name_of(make(tiny_folder, name, **options), tmp_path) != ordinary


@pytest.mark.parametrize("case", ALIKE)
def test_what_encodes_alike_shares_a_file(case: str, ordinary: str, tiny_folder: Folders, tmp_path: Path) -> None:
    assert name_of(make(tiny_folder, "sd3", **ALIKE[case]), tmp_path) == ordinary


def _weights(adapter: PipelineAdapter) -> None:
    with torch.no_grad():
        next(iter(adapter.pipe.text_encoder.parameters())).mul_(1.001)


def _second_weights(adapter: PipelineAdapter) -> None:
    with torch.no_grad():
        list(adapter.pipe.text_encoder_2.parameters())[-1].mul_(1.001)


def _vocabulary(adapter: PipelineAdapter) -> None:
    adapter.pipe.tokenizer.add_tokens(["zebra"])


def _revision(adapter: PipelineAdapter) -> None:
    adapter._source["weights"] = "0" * 16


CHANGES = {"weights": _weights, "last weights": _second_weights, "vocabulary": _vocabulary, "files": _revision}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_pipeline_that_was_changed_has_another_file(
    change: Callable[[PipelineAdapter], None], ordinary: str, tiny_folder: Folders, tmp_path: Path
) -> None:
    """What it is made of is looked at as it stands, and what it makes of a prompt too."""
    adapter = make(tiny_folder, "sd3")
    change(adapter)
    assert name_of(adapter, tmp_path) != ordinary


@pytest.mark.parametrize("package", encodings.PACKAGES[:5])
def test_another_library_has_another_file(
    package: str, ordinary: str, tiny_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = importlib.metadata.version
    adapter = make(tiny_folder, "sd3")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0" if name == package else known(name))
    assert name_of(adapter, tmp_path) != ordinary


def test_another_device_has_another_file(
    ordinary: str, tiny_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make(tiny_folder, "sd3")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NONE")
    assert name_of(adapter, tmp_path) != ordinary


def test_arguments_of_a_stock_call_give_another_file(tiny_folder: Folders, tmp_path: Path) -> None:
    """A negative prompt is encoded beside the prompt, and nobody knows what else a pipeline looks at."""
    call = CASES["pixart"].call
    others = ({}, {"guidance_scale": 6.0}, {"pipeline_options": {**call, "negative_prompt": "grey"}})
    names = [
        name_of(make(tiny_folder, "stock pixart", **other), tmp_path / str(number))
        for number, other in enumerate(others)
    ]
    assert len(set(names)) == len(others)


@pytest.mark.parametrize("name", ["sd3", "stock pixart"])
def test_a_damaged_file_changes_no_image(
    name: str, tiny_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, encoded again, and mended."""
    monkeypatch.setattr(encodings, "RECENT", 0)
    adapter = make(tiny_folder, name)
    adapter.keep_in(tmp_path)
    expected = images(adapter)
    for path in files(tmp_path):
        content = bytearray(path.read_bytes())
        content[-20] ^= 1
        path.write_bytes(content)
    adapter = make(tiny_folder, name)
    adapter.keep_in(tmp_path)
    with pytest.warns(Notice, match="is damaged; its prompt is encoded again"):
        np.testing.assert_array_equal(images(adapter), expected)
    adapter = make(tiny_folder, name)
    adapter.keep_in(tmp_path)
    np.testing.assert_array_equal(images(adapter), expected)


@pytest.mark.parametrize("release", [False, True])
def test_where_nothing_can_be_written_all_is_held_in_main_memory(
    release: bool, tiny_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One notice, and the same images."""
    monkeypatch.setattr(encodings, "RECENT", 0)
    (tmp_path / "file").write_text("not a folder")
    expected = images(make(tiny_folder, "sd3"))
    adapter = make(tiny_folder, "sd3", release_text_encoders=release)
    adapter.keep_in(tmp_path / "file")
    with pytest.warns(Notice, match="cannot be kept in") as said:
        adapter.prepare(BUCKET.prompts)
        np.testing.assert_array_equal(images(adapter), expected)
    assert len(said) == 1


def test_main_memory_holds_what_was_used_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a file no more than so many bytes; without one, everything, since it is nowhere else."""
    monkeypatch.setattr(encodings, "RECENT", 10 * 400)
    kept, held = encodings.Encodings(), encodings.Encodings()
    kept.keep_in(tmp_path, dict)
    for number in range(50):
        for each in (kept, held):
            each.get(str(number), lambda value=float(number): torch.full((1, 100), value))
    assert list(kept._held) == [str(number) for number in range(40, 50)] and len(held._held) == 50
    kept.get("40", lambda: pytest.fail("it is held"))
    found = kept.get("7", lambda: pytest.fail("it is in the file"))
    assert torch.equal(found, torch.full((1, 100), 7.0))
    assert list(kept._held) == [*map(str, range(42, 50)), "40", "7"]
