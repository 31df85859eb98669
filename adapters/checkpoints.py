"""Loading pipelines, and telling which weights they are."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from ..engine.errors import ModelError, near_misses
from ..engine.weights import quiet_import, weights_digest
from .loading import (
    Dtype,
    Loading,
    check_loading,
    execution_device,
    load_transformer,
    place,
    quantization_config,
    set_decoding,
)
from .sites import SECOND
from .sources import commit_of, first_line, hub_file, hub_sentence

__all__ = ["Dtype", "Loading", "load_pipeline", "own_settings", "shipped", "weights_digest"]

INDEX_FILE = "model_index.json"
SETTINGS_FILE = "trimpot.json"  # a checkpoint's own sizes and defaults, beside its model_index.json


def shipped(name: str) -> Path:
    """The folder of a checkpoint shipped with the package."""
    return Path(str(resources.files("trimpot.adapters") / name))


def load_pipeline(
    pipeline: str | None, model: str, loading: Loading | None = None, **options: Any
) -> tuple[Any, dict[str, Any]]:
    """Load a pipeline from a local folder or a hub id.

    A LoRA is merged before weights are placed on a device or offloaded.

    Args:
        pipeline: Pipeline class name in diffusers; None takes the class that the checkpoint names.
        model: Folder or hub id.
        loading: How to load it.
        **options: Fields of `Loading`, where no `loading` is given.

    Returns:
        The pipeline, and what it was loaded from: `id` with `revision` (a commit) or `weights` (a digest of the
        files), and every option that can change a number: `variant`, `quantization`, `transformer`, `lora`,
        `vae_tiling`, `vae_slicing`.

    Raises:
        ModelError: If there is no such checkpoint, it cannot be loaded, or not in this way.
    """
    loading = loading or Loading(**options)
    check_loading(loading)
    _quiet()
    folder, source = _find(model, loading)
    index = _index(folder)
    kind = _pipeline_class(pipeline)
    if pipeline is not None and index.get("_class_name") != pipeline:
        raise ModelError(f"{model} holds a {index.get('_class_name')}, not a {pipeline}; use the adapter made for it")
    given: dict[str, Any] = {name: None for name, entry in index.items() if entry == [None, None]}
    if loading.transformer:
        base = _transformer_folder(folder, source)
        given["transformer"], source["transformer"] = load_transformer(_transformer_class(index), base, loading)
    pipe = _load(kind, model, folder, source, index, given, loading)
    if loading.lora:
        from .lora import merge_lora

        source["lora"] = merge_lora(pipe.transformer, loading.lora, revision=loading.lora_revision)
    from .decoding import set_vae_dtype

    set_vae_dtype(pipe, loading.vae_dtype)
    set_decoding(pipe, tiling=loading.vae_tiling, slicing=loading.vae_slicing)
    try:
        place(pipe, execution_device(loading), loading.offload)
    except Exception as error:  # memory, devices and components that cannot be offloaded
        raise ModelError(f"cannot place {model} on {execution_device(loading)}: {first_line(error)}") from error
    changed = {
        name: getattr(loading, name) for name in ("variant", "quantization", "vae_dtype", "vae_tiling", "vae_slicing")
    }
    return pipe, {**source, **{name: value for name, value in changed.items() if value}}


def _find(model: str, loading: Loading) -> tuple[Path, dict[str, Any]]:
    """The folder with a checkpoint's model_index.json, and what the checkpoint is."""
    folder = Path(model)
    if folder.is_dir():
        if not (folder / INDEX_FILE).is_file():
            raise ModelError(f"{model} is no diffusers pipeline: it has no {INDEX_FILE}")
        return folder, {"id": folder.name, "weights": weights_digest(folder)}
    if folder.is_absolute() or model.startswith(".") or model.count("/") != 1:
        raise ModelError(f"no checkpoint folder {model}; give a folder with a {INDEX_FILE}, or a hub id")
    index = hub_file(model, INDEX_FILE, loading.revision)
    return index.parent, {"id": model, "revision": commit_of(index)}


def _index(folder: Path) -> dict[str, Any]:
    """A checkpoint's components. Those left out on purpose read [null, null]; diffusers wants to be told so."""
    try:
        index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
    except ValueError:
        index = None
    if not isinstance(index, dict):
        raise ModelError(f"{folder / INDEX_FILE} is no JSON mapping of components; get the checkpoint again")
    return index


def _pipeline_class(pipeline: str | None) -> Any:
    """A pipeline class of diffusers by name; None is the one that picks the class itself."""
    import diffusers

    if pipeline is None:
        return diffusers.DiffusionPipeline
    known = [name for name in dir(diffusers) if name.endswith("Pipeline")]
    if pipeline not in known:
        raise ModelError(f"diffusers has no pipeline {pipeline!r}; {near_misses(pipeline, known)}")
    return getattr(diffusers, pipeline)


def _transformer_class(index: dict[str, Any]) -> Any:
    import diffusers

    library, name = index.get("transformer") or ("", "")
    if library != "diffusers" or not hasattr(diffusers, name):
        raise ModelError("the checkpoint's pipeline has no transformer of diffusers that another could stand in for")
    return getattr(diffusers, name)


def _transformer_folder(folder: Path, source: dict[str, Any]) -> Path | None:
    """The folder of the checkpoint's own transformer, with at least its config.json."""
    if "revision" in source:
        return hub_file(source["id"], "transformer/config.json", source["revision"]).parent
    return folder / "transformer" if (folder / "transformer" / "config.json").is_file() else None


def _load(
    kind: Any,
    model: str,
    folder: Path,
    source: dict[str, Any],
    index: dict[str, Any],
    given: dict[str, Any],
    loading: Loading,
) -> Any:
    """Call `from_pretrained`, after a download if the checkpoint is on the hub."""
    import diffusers
    import torch

    if "revision" in source:
        try:
            folder = Path(kind.download(model, revision=source["revision"], variant=loading.variant, **given))
        except Exception as error:  # the hub's client, its network library and the disk each have their own classes
            raise ModelError(hub_sentence(model, loading.revision, error)) from error
    how: dict[str, Any] = {"dtype": getattr(torch, loading.dtype), "variant": loading.variant}
    if loading.quantization and not loading.transformer:
        config = quantization_config(loading.quantization, loading.dtype)
        quantized = {name: config for name in ("transformer", SECOND) if name in index and name not in given}
        how["quantization_config"] = diffusers.PipelineQuantizationConfig(quant_mapping=quantized)
    try:
        return kind.from_pretrained(str(folder), local_files_only=True, **how, **given)
    except Exception as error:  # file and shape errors come in many classes
        as_what = "pipeline" if kind is diffusers.DiffusionPipeline else kind.__name__
        raise ModelError(f"cannot load {model} as a {as_what}: {first_line(error)}") from error


def own_settings(model: str) -> dict[str, Any]:
    """What a checkpoint folder recommends for itself, or nothing.

    Raises:
        ModelError: If its settings file is not a JSON mapping.
    """
    path = Path(model) / SETTINGS_FILE
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict):
        raise ModelError(f"{path} is not a JSON mapping of settings; correct or delete it")
    return values


def _quiet() -> None:
    """Import diffusers without its notices about optional packages, and without bars among our own."""
    with quiet_import():
        import diffusers
        import transformers
        from diffusers import StableDiffusion3Pipeline  # noqa: F401  # diffusers loads its parts lazily
    transformers.logging.set_verbosity_warning()
    transformers.logging.disable_progress_bar()
    diffusers.logging.disable_progress_bar()
