"""How a pipeline is loaded: dtype, device, offloading, quantization, another transformer.

Scales act under all of these options. The offloading of accelerate and diffusers wraps a module's `forward`, and the
hooks that scale sites run outside that wrapper. Quantization replaces linear layers, but not the modules that return
gates.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ..engine.hooks import Source
from ..ground.devices import narrow, resolve
from ..ground.errors import ModelError
from ..ground.extras import require

Dtype = Literal["float32", "bfloat16", "float16"]
Offload = Literal["none", "model", "sequential", "group"]
Quantization = Literal["bitsandbytes-8bit", "bitsandbytes-4bit", "torchao-int8", "torchao-float8"]


class Loading(BaseModel):
    """How to load a pipeline.

    Attributes:
        revision: Branch, tag or commit on the hub.
        variant: The checkpoint's weight files to load: `fp16` for `*.fp16.safetensors`.
        dtype: The dtype of the weights in memory; for quantized weights, the dtype of the arithmetic.
        vae_dtype: The dtype of the autoencoder if it differs, such as `float32` if decoding overflows.
        device: `cpu`, `cuda`, `cuda:1`, `mps` or `xpu`; None takes a CUDA GPU if there is one.
        offload: The unit that waits in main memory until it is needed: whole components (`model`), layers (`group`)
            or single layers from a copy (`sequential`); `none` keeps everything on the device.
        vae_tiling: Whether large images are decoded in tiles.
        vae_slicing: Whether images are decoded one at a time.
        quantization: The method that quantizes the transformer's linear layers during loading.
        transformer: A replacement for the checkpoint's transformer: a `.gguf` or `.safetensors` file, a folder with
            a config.json, a hub id, a file or folder on the hub as `owner/name/file.gguf`, or the address of its
            page. In a checkpoint with two transformers, it replaces the first.
        lora: A LoRA to merge into the transformer; see `merge_lora`.
        lora_revision: The LoRA's branch, tag or commit on the hub.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str | None = None
    variant: str | None = None
    dtype: Dtype = "bfloat16"
    vae_dtype: Dtype | None = None
    device: str | None = None
    offload: Offload = "none"
    vae_tiling: bool = False
    vae_slicing: bool = False
    quantization: Quantization | None = None
    transformer: Source | None = None
    lora: Source | None = None
    lora_revision: str | None = None


def check_loading(loading: Loading) -> None:
    """Refuse options that cannot work, before anything is loaded.

    Raises:
        ModelError: If the device does not exist, or options exclude each other.
        MissingError: If a package is missing.
    """
    resolve(loading.device, ModelError)
    problem = conflict(loading)
    if problem is not None:  # before packages: nobody should install a package for options that are refused
        raise ModelError(problem)
    if (loading.transformer or "").endswith(".gguf"):
        require("a GGUF file", "gguf")
    if loading.quantization:
        require(f"quantization: {loading.quantization}", loading.quantization.partition("-")[0])


def conflict(loading: Loading) -> str | None:
    """Return a sentence that names options that exclude each other or the device; None if there are none."""
    if loading.lora_revision is not None and loading.lora is None:
        return "lora_revision is of a LoRA, and there is none; give lora, or leave lora_revision out"
    gguf = (loading.transformer or "").endswith(".gguf")
    quantized = "a GGUF file" if gguf else loading.quantization
    if gguf and loading.quantization:
        return f"a GGUF file is quantized already; leave out quantization: {loading.quantization}"
    if quantized and loading.offload == "sequential":
        return f"offload: sequential cannot carry the weights of {quantized}; choose model or group"
    if quantized and loading.lora:
        return (
            f"a LoRA cannot be merged into the weights of {quantized}; leave out quantization, or give a "
            "transformer that already has the LoRA merged"
        )
    if execution_device(loading) != "cpu":
        return None
    if loading.offload != "none":
        return (
            f"offload: {loading.offload} moves weights between main memory and a GPU, and there is no GPU to use; "
            "choose offload: none"
        )
    if (loading.quantization or "").startswith("bitsandbytes"):
        return (
            f"quantization: {loading.quantization} needs a GPU, and there is none to use; choose torchao-int8, or none"
        )
    return None


def execution_device(loading: Loading) -> str:
    """Return the device that computes.

    Raises:
        ModelError: If the device does not exist.
    """
    return resolve(loading.device, ModelError)


def quantization_config(quantization: Quantization, dtype: Dtype) -> Any:
    """Return the quantization config for diffusers."""
    import diffusers
    import torch

    if quantization == "bitsandbytes-8bit":
        return diffusers.BitsAndBytesConfig(load_in_8bit=True)
    if quantization == "bitsandbytes-4bit":
        return diffusers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, dtype)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchao warns if its compiled parts are missing
        from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig
    kind = Int8WeightOnlyConfig if quantization == "torchao-int8" else Float8WeightOnlyConfig
    return diffusers.TorchAoConfig(kind())


def place(pipe: Any, device: str, offload: Offload) -> None:
    """Move a pipeline to its device, or set up its offloading.

    Group offloading works on single layers (`leaf_level`), which every component supports. It uses no streams, because
    streams record an order of execution that tiled decoding breaks.
    """
    import torch

    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            narrow(component, device)
    if offload == "none":
        pipe.to(device)
    elif offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.enable_group_offload(onload_device=torch.device(device), offload_type="leaf_level")


def set_decoding(pipe: Any, *, tiling: bool, slicing: bool) -> None:
    """Set the autoencoder to decode in tiles, or one image at a time.

    Raises:
        ModelError: If the autoencoder does not support the option.
    """
    vae = getattr(pipe, "vae", None)
    for wanted, method, option in (
        (tiling, "enable_tiling", "vae_tiling"),
        (slicing, "enable_slicing", "vae_slicing"),
    ):
        if not wanted:
            continue
        if not hasattr(vae, method):
            raise ModelError(f"{type(vae).__name__} offers no {option}; leave the option out")
        getattr(vae, method)()
