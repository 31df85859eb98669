"""Find the checkpoint that a transformer's single file belongs to, by the names and shapes of its weights.

Only the file's header is read. A file with the names of diffusers is compared with the transformers of the published
checkpoints; for the names that authors use, diffusers has its own inference.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..adapters.published import CHECKPOINTS, outlined
from ..adapters.sources import OnHub, cannot_load
from ..ground.errors import ModelError
from ..ground.weights import quiet_import

_UNKNOWN = "v1"  # diffusers' answer if it recognizes nothing
_UNET = "model.diffusion_model.input_blocks."


def base_of(place: Path | OnHub) -> str:
    """Return the hub id of the checkpoint that a file belongs to.

    Args:
        place: A .safetensors or .gguf file, here or on the hub.

    Raises:
        ModelError: If the file cannot be read, is on the hub, or fits no known checkpoint.
    """
    example = f"adapter.model={next(iter(CHECKPOINTS))}"
    if isinstance(place, OnHub):
        raise ModelError(
            f"{place} is one file on the hub, and what model it belongs to is only known once it is here; name that "
            f"model too, such as {example}, or download the file"
        )
    shapes = shapes_in(place)
    if any(name.startswith(_UNET) for name in shapes):
        raise ModelError(f"the weights in {place} are those of a UNet; trimpot calibrates transformers")
    found = _published(shapes) or _inferred(shapes)
    if found is None:
        raise ModelError(
            f"the weights in {place} are those of no known model; name the model they belong to, such as {example}"
        )
    return found


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight in a file, by name, from the file's header alone.

    Raises:
        ModelError: If the file cannot be read.
    """
    try:
        if path.suffix.lower() == ".gguf":
            from gguf import GGUFReader

            return {each.name: tuple(int(size) for size in reversed(each.shape)) for each in GGUFReader(path).tensors}
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # no mapping
    except ImportError:
        raise ModelError(
            "GGUF files need the package gguf; install it with: pip install 'trimpot[quantization]'"
        ) from None
    except Exception as error:  # the readers have classes of errors of their own
        raise cannot_load(str(path), "transformer", path, error) from error


def _published(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return the published checkpoint whose transformer has exactly these weights."""
    return next((name for name in CHECKPOINTS if _shapes_of(name) == dict(shapes)), None)


@cache
def _shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight of a published checkpoint's transformer, by name."""
    weights = outlined(CHECKPOINTS[name].transformer, name).state_dict()
    return {each: tuple(value.shape) for each, value in weights.items()}


def _inferred(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return the checkpoint that diffusers takes for the base of a file with these weights."""
    with quiet_import():
        import torch
        from diffusers.loaders.single_file_utils import DIFFUSERS_DEFAULT_PIPELINE_PATHS, infer_diffusers_model_type
    weights: dict[str, Any] = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    try:
        kind = infer_diffusers_model_type(weights)
    except Exception:  # it looks at shapes that only some models have
        return None
    found = {} if kind == _UNKNOWN else DIFFUSERS_DEFAULT_PIPELINE_PATHS.get(kind, {})
    return None if "subfolder" in found else found.get("pretrained_model_name_or_path")
