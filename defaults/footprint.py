"""Measure how much memory the components of a model take, from their configurations alone.

Every component is built on the meta device, which holds shapes and no numbers, and its weights are counted. What is
computed with them is estimated, generously: it decides how many images a batch has, and a batch that does not fit after
all is halved when it runs (`ground.batches`).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..adapters.components import component_class, silent
from ..adapters.published import CHECKPOINTS, outlined
from ..adapters.sites import SECOND, find_sites
from ..adapters.sources import located
from ..ground.errors import ModelError, first_line
from ..ground.hub import hub_sentence
from ..ground.weights import quiet_import
from .model import Model

Role = Literal["transformer", "text encoder", "autoencoder", "other"]
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
QUANTIZED_BYTES = {  # of a quantized weight; in 4 bits, every 64 weights share a scale in float32
    "bitsandbytes-8bit": 1.0,
    "torchao-int8": 1.0,
    "torchao-float8": 1.0,
    "bitsandbytes-4bit": 0.5 + 4 / 64,
}
TOKEN_SIDE = 16  # pixels of a token's side, the least of all covered pipelines
TEXT_TOKENS = 512
LIVE_COPIES = 3  # of a block's widest inputs and outputs, alive at once
CHANNELS_ALIVE = 4  # full-size feature maps of the decoder, alive at once
FRAMES_TOGETHER = 4  # that a video decoder decodes at once


@dataclass(frozen=True)
class Component:
    """One component with weights.

    Attributes:
        role: Its part in the pipeline.
        weights: The number of its weights.
        kept: How many of them are kept in float32 whatever dtype is asked for.
        linear: How many of them belong to linear layers, which `quantization` is for.
        fixed: The bytes of weights that are quantized in the checkpoint already; None if they are not.
        largest: The largest number of weights of one layer.
    """

    role: Role
    weights: int
    kept: int = 0
    linear: int = 0
    fixed: int | None = None
    largest: int = 0

    def size(self, dtype: str, quantization: str | None = None) -> int:
        """Return its bytes in memory."""
        if self.fixed is not None:
            return self.fixed
        linear = self.linear if quantization and self.role == "transformer" else 0
        plain = self.weights - self.kept - linear
        quantized = linear * QUANTIZED_BYTES[quantization] if quantization else 0
        return math.ceil(plain * BYTES[dtype] + self.kept * BYTES["float32"] + quantized)


@dataclass(frozen=True)
class Footprint:
    """What a model takes of memory.

    Attributes:
        components: The components with weights, by name.
        per_token: The most numbers, inputs and outputs together, that a linear layer of the transformer has per token.
        channels: The feature maps of full size that the autoencoder makes.
        rows: The rows that the transformer computes for an output: two if guidance stacks them.
        height: In pixels.
        width: In pixels.
        frames: The number of frames of a video, 1 for a picture.
        slices: Whether the autoencoder can decode outputs one at a time.
        tiles: Whether the autoencoder can decode an output in tiles.
    """

    components: Mapping[str, Component]
    per_token: int
    channels: int
    rows: int
    height: int
    width: int
    frames: int
    slices: bool
    tiles: bool

    def weights(self, dtype: str, quantization: str | None = None) -> dict[str, int]:
        """Return the bytes of every component, by name."""
        return {name: each.size(dtype, quantization) for name, each in self.components.items()}

    def denoising(self, dtype: str) -> int:
        """Return the bytes that one output takes while the transformer computes."""
        frames = math.ceil(self.frames / FRAMES_TOGETHER)
        tokens = TEXT_TOKENS + math.ceil(self.height * self.width / TOKEN_SIDE**2) * frames
        return math.ceil(tokens * self.per_token * LIVE_COPIES * BYTES[dtype] * self.rows)

    def decoding(self, dtype: str, *, tiled: bool = False) -> int:
        """Return the bytes that one output takes while it is decoded."""
        pixels = min(self.height * self.width, 512 * 512) if tiled else self.height * self.width
        return math.ceil(pixels * min(self.frames, FRAMES_TOGETHER) * self.channels * CHANNELS_ALIVE * BYTES[dtype])


_published: dict[tuple[str, str | None, str], Footprint] = {}


def footprint(model: Model, options: Mapping[str, Any]) -> Footprint:
    """Measure a model.

    Args:
        model: The model.
        options: Options of its adapter that are given: `height`, `width`, `num_frames`, `transformer`, `blocks`.

    Raises:
        ModelError: If a configuration cannot be read or does not fit its class, or the transformer has no sites.
    """
    replaced = options.get("transformer") or model.transformer
    if replaced or model.is_local or model.source not in CHECKPOINTS:
        return _footprint(model, options)
    key = (
        model.source,
        model.revision,
        repr(sorted(options.items())),
    )  # what is published is in the package, and stays as it is
    if key not in _published:
        _published[key] = _footprint(model, options)
    return _published[key]


def _footprint(model: Model, options: Mapping[str, Any]) -> Footprint:
    components: dict[str, Component] = {}
    modules: dict[str, Any] = {}
    for name, entry in model.components.items():
        with quiet_import():
            kind = component_class(name, list(entry), model.source)
        if _has_weights(kind):
            config = model.config(name)
            modules[name] = module = _outline(model, name, kind, config)
            components[name] = _measured(name, module, config)
    for name in ("transformer", SECOND):
        if name in modules:
            find_sites(modules[name], options.get("blocks") or {})
    replaced = options.get("transformer") or model.transformer
    if replaced and (fixed := _file_size(str(replaced))):
        components["transformer"] = Component("transformer", 0, fixed=fixed)
    height, width, frames = _sizes(model, modules, options)
    vae = modules.get("vae")
    return Footprint(
        components,
        _widest(modules["transformer"]),
        _channels(vae),
        1 if model.adapter == "flux" else 2,
        height,
        width,
        frames,
        hasattr(vae, "enable_slicing"),
        hasattr(vae, "enable_tiling"),
    )


def _has_weights(kind: Any) -> bool:
    from diffusers import ModelMixin
    from transformers import PreTrainedModel

    return isinstance(kind, type) and issubclass(kind, (ModelMixin, PreTrainedModel))


def _outline(model: Model, name: str, kind: Any, config: Mapping[str, Any]) -> Any:
    """Build a component on the meta device."""
    import torch

    if name in ("transformer", SECOND):
        return outlined(kind.__name__, model.source, model.revision, name)
    left = {key: value for key, value in config.items() if key != "quantization_config"}
    try:
        with silent(), torch.device("meta"):
            if hasattr(kind, "config_class") and kind.config_class is not None:
                return kind(kind.config_class.from_dict(left))
            return kind.from_config(left)
    except Exception as error:  # configurations fail in many classes
        raise ModelError(f"the {name} of {model.given} does not fit its configuration: {first_line(error)}") from error


def _measured(name: str, module: Any, config: Mapping[str, Any]) -> Component:
    """Count the weights of a component that is on the meta device."""
    from torch import nn

    keep = (*(getattr(module, "_keep_in_fp32_modules", None) or ()),) if not _is_of_transformers(module) else ()
    keep += (*(getattr(module, "_keep_in_fp32_modules_strict", None) or ()),)
    sizes = {weight: value.numel() for weight, value in (*module.named_parameters(), *module.named_buffers())}
    linear = {id(each.weight): each.weight.numel() for each in module.modules() if isinstance(each, nn.Linear)}
    layers = (sum(p.numel() for p in each.parameters(recurse=False)) for each in module.modules())
    weights, many_linear = sum(sizes.values()), sum(linear.values())
    fixed = None
    if quantized := config.get("quantization_config"):
        per = QUANTIZED_BYTES["bitsandbytes-4bit" if "4" in str(_bits(quantized)) else "bitsandbytes-8bit"]
        fixed = math.ceil(many_linear * per + (weights - many_linear) * BYTES["bfloat16"])
    return Component(
        _role(name),
        weights,
        sum(count for weight, count in sizes.items() if any(part in weight for part in keep)),
        many_linear,
        fixed,
        max(layers, default=0),
    )


def _is_of_transformers(module: Any) -> bool:
    return type(module).__module__.startswith("transformers.")


def _bits(quantized: Mapping[str, Any]) -> object:
    """Return how many bits the weights of a quantized checkpoint have, as far as its configuration tells."""
    if quantized.get("load_in_4bit"):
        return 4
    return quantized.get("bits") or quantized.get("weights_dtype") or quantized.get("quant_type") or 8


def _role(name: str) -> Role:
    if name in ("transformer", SECOND):
        return "transformer"
    if name.startswith("text_encoder"):
        return "text encoder"
    return "autoencoder" if name.startswith("vae") else "other"


def _widest(transformer: Any) -> int:
    from torch import nn

    return max(each.in_features + each.out_features for each in transformer.modules() if isinstance(each, nn.Linear))


def _channels(vae: Any) -> int:
    """Return the channels of the autoencoder's full-size feature maps; those that arrive are twice as many."""
    if vae is None:
        return 256
    config = vae.config
    first = config.get("block_out_channels") or config.get("decoder_block_out_channels")
    narrow = first[0] if first else config.get("base_dim") or 128
    return 2 * int(narrow)


def _sizes(model: Model, modules: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return height, width and frames of an output: as given, as published, or the pipeline's own."""
    takes = inspect.signature(model.pipeline.__call__).parameters
    own = {name: takes[name].default for name in ("height", "width", "num_frames", "video_length") if name in takes}
    config = modules["transformer"].config
    side = config.get("sample_size")
    usual = side * _scale(modules.get("vae")) if isinstance(side, int) else 1024

    def size(*names: str, otherwise: int) -> int:
        found = (options.get(names[0]), *(own.get(name) for name in names))
        return next((each for each in found if isinstance(each, int) and each > 0), otherwise)

    return (
        size("height", otherwise=usual),
        size("width", otherwise=usual),
        size("num_frames", "video_length", otherwise=1),
    )


def _scale(vae: Any) -> int:
    """Return how many pixels a side of the autoencoder's latent pixel has."""
    config = getattr(vae, "config", {})
    if blocks := config.get("block_out_channels") or config.get("decoder_block_out_channels"):
        return int(2 ** (len(blocks) - 1))
    return int(config.get("scale_factor_spatial") or config.get("spatial_compression_ratio") or 8)


def _file_size(name: str) -> int | None:
    """Return the bytes of a .gguf file, here or on the hub, whose weights stay as they are; None for any other file.

    Raises:
        ModelError: If there is no such file, or the hub cannot be asked for its size.
    """
    if not name.lower().endswith(".gguf"):
        return None
    place = located(name, "transformer", "a file, a folder or a hub id")
    if isinstance(place, Path):
        return place.stat().st_size
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    kept = try_to_load_from_cache(place.repository, place.inside, revision=place.revision)
    if isinstance(kept, str):
        return Path(kept).stat().st_size
    try:
        return get_hf_file_metadata(hf_hub_url(place.repository, place.inside, revision=place.revision)).size
    except Exception as error:  # as in `hub_file`
        raise ModelError(hub_sentence(place.repository, place.revision, error, place.inside)) from error
