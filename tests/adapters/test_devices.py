"""What only an accelerator shows: mixed devices, numbers it does not know, memory that ends, weights that wait."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from accelerator import accelerator, where
from generated import candidates, pixels
from stock_cases import CASES
from trimpot.adapters import make_diffusers, make_flow_grpo, make_flux, make_qwen_image, make_sd3
from trimpot.adapters.checkpoints import load_pipeline
from trimpot.adapters.compiling import Compile, check_compiling
from trimpot.adapters.loading import Loading, Offload, conflict
from trimpot.adapters.memory import advice
from trimpot.adapters.options import StockOptions
from trimpot.adapters.pipelines import PipelineAdapter
from trimpot.engine.bucket import Bucket
from trimpot.ground.errors import ConfigError, ModelError
from trimpot.setup.assembly import assemble
from trimpot.setup.config import Config
from trimpot.setup.plugins import plugins

BUCKET = Bucket(("a cat", "two dogs"), (11, 12))
NAMED: dict[str, tuple[Any, str]] = {
    "sd3": (make_sd3, "sd3"),
    "flux": (make_flux, "flux"),
    "qwen-image": (make_qwen_image, "qwen"),
}
Folders = Callable[[str], Path]


def made(name: str, tiny_folder: Folders, **options: Any) -> PipelineAdapter:
    """A named adapter, or any pipeline by the name of its tiny checkpoint."""
    make, folder, given = make_diffusers, name, {}
    if name in NAMED:
        make, folder = NAMED[name]
    else:
        given = CASES[name].given
    adapter = make(
        model=str(tiny_folder(folder)), dtype="float32", num_inference_steps=2, dead="keep", **given, **options
    )
    assert isinstance(adapter, PipelineAdapter)
    return adapter


def images(adapter: PipelineAdapter) -> Any:
    """What two candidates give, with members, scales and prompts of their own."""
    adapter.prepare(BUCKET.prompts)
    rows = adapter.generate(candidates(adapter, 2), BUCKET)
    return np.stack([np.stack(pixels(row)) for row in rows])


def offloads(names: Any) -> list[Any]:
    slow = pytest.mark.slow
    return [
        pytest.param(name, offload, marks=() if name in ("sd3", "wan22") else slow)
        for name in names
        for offload in ("model", "group", "sequential")
    ]


@pytest.mark.parametrize("kind", ["cuda", "mps"])
@pytest.mark.parametrize("name", [*NAMED, *CASES])
def test_images_are_made_on_the_device_alone(name: str, kind: str, tiny_folder: Folders) -> None:
    """No tensor of main memory meets one of the device, and MPS is given no float64."""
    expected = images(made(name, tiny_folder, device="cpu"))
    device = f"{kind}:{1 if kind == 'cuda' else 0}"
    with accelerator(kind, 2):
        adapter = made(name, tiny_folder, device=device)
        found = images(adapter)
        assert {str(where(weight)) for weight in adapter.transformer.parameters()} == {device}
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(("name", "offload"), offloads([*NAMED, *CASES]))
def test_images_of_offloaded_weights_are_the_same(name: str, offload: str, tiny_folder: Folders) -> None:
    """On the second device, with weights that wait elsewhere before and after."""
    expected = images(made(name, tiny_folder, device="cpu"))
    with accelerator("cuda", 2):
        adapter = made(name, tiny_folder, device="cuda:1", offload=offload)
        assert str(adapter.pipe._execution_device) == "cuda:1"
        found = images(adapter)
        waiting = {str(where(weight)) for weight in adapter.transformer.parameters()}
    assert waiting == {"meta" if offload == "sequential" else "cpu"}
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("offload", ["none", "model", "group", "sequential"])
def test_text_encoders_that_are_dropped_are_gone(offload: str, tiny_folder: Folders) -> None:
    """Also where the hooks of offloading knew of them; images are made without."""
    expected = images(made("sd3", tiny_folder, device="cpu"))
    with accelerator("cuda"):
        adapter = made("sd3", tiny_folder, device="cuda", offload=offload, release_text_encoders=True)
        dropped = weakref.ref(adapter.pipe.text_encoder)
        adapter.prepare(BUCKET.prompts)
        gc.collect()
        assert dropped() is None
        found = images(adapter)
    assert np.abs(found - expected).max() <= 1


def test_what_is_offloaded_leaves_the_device_before_a_smaller_batch_is_tried(tiny_folder: Folders) -> None:
    """A call that ends early leaves a model on the device, where the next one needs the room."""
    with accelerator("cuda"):
        adapter = made("sd3", tiny_folder, device="cuda", offload="model")
        expected = images(adapter)
        places = []

        def full(model: Any, _args: Any, kwargs: dict[str, Any]) -> None:
            places.append((len(kwargs["hidden_states"]), str(where(adapter.pipe.vae.decoder.conv_in.weight))))
            if len(kwargs["hidden_states"]) > 4:
                raise torch.OutOfMemoryError("CUDA out of memory")

        adapter.pipe.vae.to("cuda")
        adapter.transformer.register_forward_pre_hook(full, with_kwargs=True)
        assert np.abs(images(adapter) - expected).max() <= 1
        assert places[0] == (8, "cuda:0") and {place for _, place in places[1:]} == {"cpu"}


# Devices and options that cannot be had, before anything is loaded.


@pytest.mark.parametrize("make", [make_sd3, make_flux, make_qwen_image, make_flow_grpo, make_diffusers])
@pytest.mark.parametrize("device", ["gpu", "cuda:7", "mps", "xpu", "meta"])
def test_a_device_that_is_not_there_is_refused_before_weights_are_read(make: Any, device: str, tmp_path: Path) -> None:
    """The folder is empty, and nobody minds."""
    with pytest.raises(ModelError, match=f"^there is no device '{device}' here; choose cpu") as caught:
        make(model=str(tmp_path), device=device)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("at", ["adapter", "objective"])
def test_a_run_looks_for_every_device_before_it_loads_a_part(at: str) -> None:
    """Otherwise a slip in the last part would be told after the others have been loaded."""
    config = {
        "adapter": {"name": "sd3", "model": "/nowhere"},
        "objectives": {"hpsv2": {"model": "/nowhere"}, "pickscore": {"model": "/nowhere"}},
        "prompts": "shapes",
    }
    part: Any = config["adapter"] if at == "adapter" else config["objectives"]["pickscore"]  # type: ignore[index]
    part["device"] = "cuda:7"
    with pytest.raises(ConfigError, match="no device 'cuda:7' here"):
        assemble("run", Config.model_validate(config), plugins())


WORKS = {("off", "none"), ("off", "model"), ("off", "group"), ("off", "sequential")}
WORKS |= {("regional", "none"), ("regional", "model"), ("full", "none")}


@pytest.mark.parametrize("how", get_args(Compile))
@pytest.mark.parametrize("offload", get_args(Offload))
def test_what_is_compiled_stays_compiled_or_is_refused(how: Any, offload: Any, tmp_path: Path) -> None:
    """Before anything is loaded, by every named adapter."""
    if (how, offload) in WORKS:
        check_compiling(how, offload)
        return
    with pytest.raises(ModelError, match=f"compile: {how} .*offload: {offload}"):
        check_compiling(how, offload)
    for make in (make_sd3, make_diffusers):
        with pytest.raises(ModelError, match=f"compile: {how} .*offload: {offload}"):
            make(model=str(tmp_path), compile=how, offload=offload)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler, about itself
@pytest.mark.slow
def test_blocks_stay_compiled_while_the_model_comes_and_goes(
    tiny_folder: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later calls run through the graphs of the first, though hooks are put on anew after each."""
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: compile_(self, **{**how, "backend": "eager"}))
    torch._dynamo.reset()
    adapter = made("sd3", tiny_folder, device="cpu", compile="regional")
    adapter.pipe.enable_model_cpu_offload(device="cpu")
    counts = []
    for _ in range(3):
        images(adapter)
        counts.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert counts[0] > 0 and len(set(counts)) == 1
    torch._dynamo.reset()


# Memory.

CHOICES = {
    "offload": (*get_args(Offload),),
    "quantization": (None, "bitsandbytes-8bit", "bitsandbytes-4bit", "torchao-int8", "torchao-float8"),
    "transformer": (None, "x.gguf", "x.safetensors"),
    "dtype": ("float32", "bfloat16"),
    "lora": (None, "geneval"),
    "device": ("cpu", "cuda"),
    "vae_tiling": (False, True),
}


def every_choice() -> list[Loading]:
    """All that can be chosen of what helps, but for what is refused."""
    found: list[dict[str, Any]] = [{}]
    for name, values in CHOICES.items():
        found = [{**each, name: value} for each in found for value in values]
    return [loading for loading in (Loading(**each) for each in found) if conflict(loading) is None]


@pytest.mark.parametrize("making", [False, True])
@pytest.mark.parametrize("on_host", [False, True])
def test_advice_leaves_out_what_is_chosen_and_what_would_be_refused(making: bool, on_host: bool) -> None:
    """Whatever is advised changes the options to others that are accepted; something always is."""
    with accelerator("cuda"):
        every = every_choice()
        assert len(every) > 100
        for chosen in every:
            told = advice(chosen, making=making, on_host=on_host)
            assert told
            words = " ".join(told)
            for offload in get_args(Offload)[1:]:
                if f"offload: {offload}" in words or (offload in words and "offload" in words):
                    assert offload != chosen.offload and not on_host
                    assert conflict(chosen.model_copy(update={"offload": offload})) is None
            if "quantization" in words:
                assert chosen.quantization is None and chosen.transformer != "x.gguf"
                assert conflict(chosen.model_copy(update={"quantization": "torchao-int8"})) is None
            if "GGUF" in words:
                assert chosen.quantization is None and chosen.transformer != "x.gguf"
                assert conflict(chosen.model_copy(update={"transformer": "x.gguf"})) is None
            assert ("vae_tiling" in words) == (making and not chosen.vae_tiling)
            assert ("dtype" in words) == (chosen.dtype == "float32")
        plain = advice(Loading(device="cuda"), making=making)
        assert plain[:3] == ["offload: model or group or sequential", "quantization", "a GGUF file as transformer"]


def test_videos_and_text_encoders_have_advice_of_their_own() -> None:
    chosen = StockOptions(model="x", device="cpu", num_frames=17)
    assert {"fewer num_frames", "release_text_encoders"} <= set(advice(chosen, making=True))
    assert "release_text_encoders" not in advice(chosen.model_copy(update={"release_text_encoders": True}), making=True)


@pytest.mark.parametrize("offload", get_args(Offload))
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory"),
    ],
)
def test_no_room_for_the_weights_is_one_sentence_with_what_helps(
    offload: str, error: Exception, sd3_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise error

    import diffusers

    for name in ("to", "enable_model_cpu_offload", "enable_sequential_cpu_offload", "enable_group_offload"):
        monkeypatch.setattr(diffusers.DiffusionPipeline, name, full)
    with accelerator("cuda"), pytest.raises(ModelError, match=r"to load .* and place it on cuda") as told:
        load_pipeline("StableDiffusion3Pipeline", str(sd3_folder), device="cuda", offload=offload, dtype="bfloat16")
    sentence = str(told.value).partition("; ")[2]
    assert "\n" not in str(told.value)
    assert ("offload" in sentence) == (offload in ("none", "model"))
    assert f"offload: {offload}" not in sentence
    assert ("quantization" in sentence) == ("GGUF" in sentence) == (offload != "sequential")


def test_no_room_in_main_memory_is_not_answered_with_offloading(
    sd3_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers

    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr(diffusers.StableDiffusion3Pipeline, "from_pretrained", full)
    with accelerator("cuda"), pytest.raises(ModelError, match="not enough memory to load") as told:
        load_pipeline("StableDiffusion3Pipeline", str(sd3_folder), device="cuda", dtype="bfloat16")
    assert "offload" not in str(told.value) and "quantization" in str(told.value)


@pytest.mark.parametrize("name", ["sd3", "pixart"])
def test_no_room_for_prompts_and_outputs_is_one_sentence_with_what_helps(name: str, tiny_folder: Folders) -> None:
    """Prompts are encoded one at a time, and of outputs one at a time is tried; neither is a traceback."""
    adapter = made(name, tiny_folder, device="cpu")

    def full(*_: Any) -> None:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")

    handle = adapter.pipe.text_encoder.register_forward_pre_hook(full)
    with pytest.raises(ModelError, match="not enough memory to encode"):
        adapter.generate(candidates(adapter, 1), Bucket(("a horse",), (1,)))
    handle.remove()
    adapter.generate(candidates(adapter, 1), BUCKET)
    adapter.transformer.register_forward_pre_hook(full)
    with pytest.raises(ModelError, match=r"for one output at a time; choose .*vae_tiling.*CUDNN_STATUS_ALLOC_FAILED"):
        adapter.generate(candidates(adapter, 2), BUCKET)
