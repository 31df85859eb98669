"""Load a transformer from one .safetensors or .gguf file, with diffusers' or the authors' names, also in scaled fp8.

The transformer's sizes come from the checkpoint's own transformer/config.json. An unused weight of the file is an
error, although the converters of diffusers drop unknown keys silently.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..ground.errors import ModelError
from .components import check_keys, load_component, silent
from .sources import cannot_load

State = dict[str, Any]

_PREFIX = "model.diffusion_model."
_SCALE = re.compile(r"(?P<module>.+)\.(scale_weight|weight_scale)")
_LEFT_OUT = re.compile(r"(.+\.)?(scaled_fp8|scale_input|input_scale)")  # a marker, and scales of activations
_QUANTIZED = re.compile(r".*\.(comfy_quant|weight_scale_\w+|qweight|qzeros|absmax|quant_map|.*bitsandbytes__\w+)")
_OTHER_COMPONENTS = (
    "vae.", "first_stage_model.", "text_encoders.", "cond_stage_model.", "conditioner.", "model_ema."
)  # fmt: skip


def load_single_file(kind: Any, path: Path, base: Path, what: str, options: dict[str, Any]) -> Any:
    """Load a transformer from one file.

    Args:
        kind: The transformer's class.
        path: A .safetensors or .gguf file.
        base: The folder of the checkpoint's own transformer, whose config.json gives the sizes.
        what: The transformer's name for error messages.
        options: Arguments of `from_pretrained`: `dtype` and `quantization_config`.

    Raises:
        ModelError: If the file cannot be loaded, does not fit, or is quantized in an unsupported way.
    """
    try:
        state = _read(path)
        names = _names(kind, base)
    except Exception as error:  # files fail in many classes
        raise cannot_load(what, kind.__name__, path, error) from error
    as_it_is = path.suffix != ".gguf" and names >= set(state)
    if not as_it_is and not hasattr(kind, "from_single_file"):
        given = "quantized" if path.suffix == ".gguf" else "with other names than those of diffusers"
        raise ModelError(f"a {kind.__name__} cannot be loaded from a single file {given}; give a folder")
    if not as_it_is:
        state = dequantized(
            {name.removeprefix(_PREFIX): value for name, value in state.items()}, what, options["dtype"]
        )
        state = _converted(kind, state, names, base, what)
    check_keys(kind, what, names - set(state), set(state) - names, names)
    if as_it_is or (options.get("quantization_config") and path.suffix != ".gguf"):
        with tempfile.TemporaryDirectory() as folder:
            _as_folder(Path(folder), base, path if as_it_is else state)
            return load_component(kind, Path(folder), what, options)
    return _filled(kind, path, state, base, what, options)


def _read(path: Path) -> State:
    if path.suffix == ".gguf":
        from diffusers.models.model_loading_utils import load_gguf_checkpoint

        state: State = load_gguf_checkpoint(str(path))
    else:
        from safetensors.torch import load_file

        state = load_file(path)
    if not state:
        raise ModelError("it is empty")
    return state


def _names(kind: Any, base: Path) -> set[str]:
    """Return the names of all weights that the class has with the base's configuration."""
    import torch

    with silent(), torch.device("meta"):
        return set(kind.from_config(kind.load_config(str(base), local_files_only=True)).state_dict())


def dequantized(state: State, what: str, dtype: Any) -> State:
    """Multiply each fp8 weight by its scale.

    Args:
        state: Names to tensors. Scales are named `scale_weight` or `weight_scale`, with one number per weight or one
            per row.
        what: The file's name for error messages.
        dtype: The dtype of the products.

    Raises:
        ModelError: If weights are quantized in another way, or lack their scales.
    """
    import torch

    scales = {f"{match['module']}.weight": value for name, value in state.items() if (match := _SCALE.fullmatch(name))}
    marked = any(name.endswith("scaled_fp8") for name in state)
    weights = {name: value for name, value in state.items() if not _SCALE.fullmatch(name)}
    for name in [name for name in weights if _LEFT_OUT.fullmatch(name) or _says_fp8(name, weights[name])]:
        del weights[name]
    for name, value in weights.items():
        whole = name.endswith(".weight") and not value.is_floating_point() and not hasattr(value, "quant_type")
        if whole or _QUANTIZED.fullmatch(name):
            raise ModelError(
                f"{what} is quantized in a way that is not read here (it holds {name}); give it in bfloat16, in fp8 "
                "with one scale a weight, or as GGUF"
            )
        eighth = value.dtype.itemsize == 1 and value.is_floating_point()
        if eighth and (scales or marked) and name not in scales:
            raise ModelError(f"{what} lacks the scale of {name}; download it again, or give it in bfloat16")
    for name, scale in scales.items():
        weight = weights.get(name)
        if weight is None or not weight.is_floating_point() or scale.numel() not in (1, weight.shape[0]):
            shape = None if weight is None else tuple(weight.shape)
            raise ModelError(
                f"{what} has a scale of shape {tuple(scale.shape)} for {name} of shape {shape}; only one a weight or "
                "one a row is read here"
            )
        rows = scale.float().reshape(-1, *[1] * (weight.ndim - 1)) if weight.ndim else scale.float().reshape(())
        product = weight.float() * rows
        if not torch.isfinite(product).all():
            raise ModelError(f"{what} holds numbers that are not finite, first in {name}; download it again")
        weights[name] = product.to(dtype)
    return weights


def _says_fp8(name: str, value: Any) -> bool:
    """Return whether an entry is ComfyUI's marker for an ordinary scaled fp8 weight."""
    if not name.endswith(".comfy_quant"):
        return False
    try:
        note = json.loads(bytes(value.tolist()))
        return isinstance(note, dict) and str(note.get("format")).startswith("float8")
    except (ValueError, TypeError):
        return False


def _converted(kind: Any, state: State, names: Collection[str], base: Path, what: str) -> State:
    """Rename a file's weights to the names of diffusers.

    The majority of the names decides which naming the file uses: a converter must not get diffusers' own names.
    """
    from diffusers.loaders.single_file_model import (
        SINGLE_FILE_LOADABLE_CLASSES,
        _get_single_file_loadable_mapping_class,
    )

    if 2 * len(set(state) & set(names)) > len(names):
        return {name: value for name, value in state.items() if not name.startswith(_OTHER_COMPONENTS)}
    convert = SINGLE_FILE_LOADABLE_CLASSES[_get_single_file_loadable_mapping_class(kind)]["checkpoint_mapping_fn"]
    left = dict(state)
    try:
        with silent():
            converted: State = convert(config=kind.load_config(str(base), local_files_only=True), checkpoint=left)
    except Exception as error:  # the file belongs to another model
        raise ModelError(f"the weights of {what} are not named as those of a {kind.__name__}") from error
    if left is not converted:
        converted = {**left, **converted}  # keys that the converter does not know
    converted = {name: value for name, value in converted.items() if value is not None}
    if not set(converted) & set(names):
        raise ModelError(f"the weights of {what} are not named as those of a {kind.__name__}")
    return {name: value for name, value in converted.items() if not name.startswith(_OTHER_COMPONENTS)}


def _as_folder(folder: Path, base: Path, weights: Path | State) -> None:
    """Lay out a file as a transformer's folder, so that all ways of loading a folder apply."""
    shutil.copyfile(base / "config.json", folder / "config.json")
    target = folder / "diffusion_pytorch_model.safetensors"
    if isinstance(weights, Path):
        try:
            target.symlink_to(weights.resolve())
        except OSError:  # some systems do not let ordinary users create links
            shutil.copyfile(weights, target)
        return
    from safetensors.torch import save_file

    try:
        save_file({name: value.contiguous() for name, value in weights.items()}, target, metadata={"format": "pt"})
    except Exception as error:  # the disk has its own classes of errors
        raise ModelError(f"no room in {folder.parent} to lay out the transformer for its quantization") from error


def _filled(kind: Any, path: Path, state: State, base: Path, what: str, options: dict[str, Any]) -> Any:
    """Build a transformer and fill it with weights that are already in memory."""
    import torch

    keep = set(getattr(kind, "_keep_in_fp32_modules", None) or ())
    kept = {name: value for name, value in state.items() if keep & set(name.split("."))}
    try:
        with silent():
            model = kind.from_single_file(
                state, config=str(base.parent), subfolder=base.name, local_files_only=True, **options
            )
    except Exception as error:  # shapes and quantized weights fail in many classes
        raise cannot_load(what, kind.__name__, path, error) from error
    parameters = dict(model.named_parameters())
    for name, value in kept.items():  # diffusers keeps these in float32 for a folder, but not for a dict
        if name in parameters and not hasattr(value, "quant_type"):
            parameters[name].data = value.to(torch.float32)
    return model
