"""Load pipelines, and record which weights they were loaded from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..ground.errors import ModelError, first_line
from ..ground.hub import commit_of, hub_file, hub_sentence
from ..ground.weights import quiet_import, weights_digest
from .components import component_class, has_variant, load_component, near, silent
from .inspection import QUANTIZED, dtype_of, inspect, pictures_taken
from .loading import Dtype, Loading, check_loading, execution_device, place, quantization_config, set_decoding
from .memory import told
from .replacement import load_transformer
from .sites import SECOND
from .sources import (
    INDEX_FILE,
    OnHub,
    cannot_load,
    damage,
    local_source,
    located_checkpoint,
    shipped,
)

__all__ = ["Dtype", "Loading", "load_pipeline", "own_settings", "shipped", "weights_digest"]

SETTINGS_FILE = "trimpot.json"  # a checkpoint's own sizes and defaults, beside its model_index.json
CHOICES = ("objectives", "prompts")  # entries of that file that are keys of a configuration, not adapter options


def load_pipeline(
    pipeline: str | None, model: str, loading: Loading | None = None, **options: Any
) -> tuple[Any, dict[str, Any]]:
    """Load a pipeline from a local folder or a hub id.

    Each component with weights is loaded and checked separately, then passed to the pipeline. A LoRA is merged before
    weights are placed on a device or offloaded.

    Args:
        pipeline: Pipeline class name in diffusers; None takes the class that the checkpoint names.
        model: A folder, a hub id, or the address of the model's page on the hub.
        loading: The options for loading.
        **options: Fields of `Loading`, used if `loading` is not given.

    Returns:
        The pipeline and its source. The source holds `id` with `revision` (a commit) or `weights` (a digest of the
        files), and every option that can change a number: `variant`, `quantization`, `transformer`, `lora`,
        `vae_tiling`, `vae_slicing`.

    Raises:
        ModelError: If there is no such checkpoint, or it cannot be loaded with these options.
    """
    loading = loading or Loading(**options)
    for option, value in loading.model_dump().items():
        if isinstance(value, str) and not value.strip():
            raise ModelError(f"{option} is {value!r}; leave the option out, or give it a value")
    check_loading(loading)
    with told(f"load {model} and place it on {execution_device(loading)}", loading):
        return _loaded(pipeline, model, loading)


def _loaded(pipeline: str | None, model: str, loading: Loading) -> tuple[Any, dict[str, Any]]:
    """Load a pipeline as `load_pipeline` does, after the options have been checked."""
    _quiet()
    folder, source = _find(model, loading)
    index = _index(folder)
    kind = pipeline_class(pipeline, index, model)
    given: dict[str, Any] = {name: None for name, entry in index.items() if entry == [None, None]}
    if loading.lora and SECOND in index and SECOND not in given:
        raise ModelError(
            f"{model} has two transformers, and a LoRA belongs to one of them; leave out lora, or give a checkpoint "
            "that already has the LoRA merged"
        )
    if loading.transformer:
        base = _transformer_folder(folder, source)
        given["transformer"], source["transformer"] = load_transformer(_transformer_class(index), base, loading)
    if "revision" in source:
        folder = _downloaded(kind, source, loading, given)
    given |= _components(folder, model, index, given, loading, "variant" in source.get("transformer", {}))
    pipe = _assembled(kind, folder, model, given)
    inspect(pipe, given, loading)
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
    """Return the folder with a checkpoint's model_index.json, and the checkpoint's source."""
    where = located_checkpoint(model, loading.revision)
    if isinstance(where, OnHub):
        if where.inside:
            raise ModelError(
                f"{model} is a part of {where.repository}, and a checkpoint is a whole repository or a folder with a "
                f"{INDEX_FILE}; give {where.repository}, or a downloaded folder of that repository"
            )
        index = hub_file(where.repository, INDEX_FILE, where.revision, error=ModelError)
        return index.parent, {"id": where.repository, "revision": commit_of(index, error=ModelError)}
    if where.is_file():
        raise ModelError(
            f"{model} is a file, and a checkpoint is a folder with a {INDEX_FILE}; give such a folder or a hub id as "
            "the model, and the file as its transformer"
        )
    if not (where / INDEX_FILE).is_file():
        raise ModelError(f"{model} is not a diffusers pipeline: it has no {INDEX_FILE}")
    return where, local_source(where)


def _index(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's components; [null, null] marks one left out on purpose, which diffusers must be told."""
    path = folder / INDEX_FILE
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        index = None
    if not isinstance(index, dict):
        raise ModelError(damage(path) or f"{path} is not a JSON mapping of components; download the checkpoint again")
    return index


def pipeline_class(pipeline: str | None, index: Mapping[str, Any], model: str) -> Any:
    """Return the pipeline class that a checkpoint names, and refuse it if another class was asked for.

    The general `DiffusionPipeline` is never used for loading: it discards a given transformer if the class treats the
    transformer as optional.

    Raises:
        ModelError: If diffusers has no class of the name, or the checkpoint names another class.
    """
    import diffusers

    named = index.get("_class_name")
    known = [name for name in dir(diffusers) if name.endswith("Pipeline")]
    for name, where in ((pipeline, "diffusers has"), (named, f"{model} is made for")):
        if name is not None and name not in known:
            no = "no pipeline" if where == "diffusers has" else "a pipeline that diffusers does not have,"
            raise ModelError(f"{where} {no} {name!r}; {near(str(name), diffusers)}")
    if named is None:
        raise ModelError(f"the {INDEX_FILE} of {model} names no pipeline class; download the checkpoint again")
    if pipeline is not None and named != pipeline:
        pictures = pictures_taken(getattr(diffusers, pipeline))
        instead = "use the adapter made for it"
        if pictures:
            instead = (
                f"a {pipeline} also takes {pictures[0]}, which a prompt file cannot hold: leave out pipeline, and "
                f"apply the calibration to a {pipeline} afterwards"
            )
        raise ModelError(f"{model} holds a {named}, not a {pipeline}; {instead}")
    return getattr(diffusers, str(named))


def _transformer_class(index: Mapping[str, Any]) -> Any:
    import diffusers

    entry = index.get("transformer")
    library, name = entry if isinstance(entry, list) and len(entry) == 2 else ("", "")
    if library != "diffusers" or not hasattr(diffusers, str(name)):
        raise ModelError("the checkpoint's pipeline has no diffusers transformer to replace; leave out transformer")
    return getattr(diffusers, name)


def _transformer_folder(folder: Path, source: dict[str, Any]) -> Path | None:
    """Return the folder of the checkpoint's own transformer, which holds at least config.json, or None."""
    if "revision" in source:
        return hub_file(source["id"], "transformer/config.json", source["revision"], error=ModelError).parent
    return folder / "transformer" if (folder / "transformer" / "config.json").is_file() else None


def _downloaded(kind: Any, source: dict[str, Any], loading: Loading, given: dict[str, Any]) -> Path:
    """Download a checkpoint from the hub, without the files of the given components, and return its folder."""
    how = {"revision": source["revision"], "variant": loading.variant, "use_safetensors": True}
    try:
        return Path(kind.download(source["id"], **how, **given))
    except Exception as error:  # the hub's client, its network library and the disk each have their own classes
        raise ModelError(hub_sentence(source["id"], source["revision"], error)) from error


def _components(
    folder: Path, model: str, index: Mapping[str, Any], given: Mapping[str, Any], loading: Loading, taken: bool
) -> dict[str, Any]:
    """Load every component with weights that is not given, and check that no weight is missing or unused.

    `taken` says whether a given component already has the variant.
    """
    import torch
    from diffusers import ModelMixin
    from transformers import PreTrainedModel

    kinds = {
        name: component_class(name, entry, model)
        for name, entry in index.items()
        if isinstance(entry, list) and name[0] != "_" and name not in given
    }
    weighted = {name: kind for name, kind in kinds.items() if _is_a(kind, (ModelMixin, PreTrainedModel))}
    homes = {name: folder / name for name in weighted}
    for name, home in homes.items():
        if not home.is_dir():
            raise ModelError(
                f"{model} has no folder {name}, which its {INDEX_FILE} names; download the checkpoint again"
            )
    variant = [name for name, home in homes.items() if loading.variant and has_variant(home, loading.variant)]
    if loading.variant and not variant and not taken:
        raise ModelError(f"{model} has no weights of variant={loading.variant}; leave the option out")
    loaded = {}
    for name, kind in weighted.items():
        options: dict[str, Any] = {"dtype": getattr(torch, dtype_of(name, loading))}
        if name in variant:
            options["variant"] = loading.variant
        if loading.quantization and name in QUANTIZED:
            options["quantization_config"] = quantization_config(loading.quantization, loading.dtype)
        loaded[name] = load_component(kind, homes[name], f"the {name} of {model}", options)
    return loaded


def _is_a(kind: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(kind, type) and issubclass(kind, kinds)


def _assembled(kind: Any, folder: Path, model: str, given: Mapping[str, Any]) -> Any:
    """Assemble a pipeline from the given components, and load those without weights."""
    try:
        with silent():
            return kind.from_pretrained(str(folder), local_files_only=True, **given)
    except Exception as error:  # file and class errors come in many classes
        raise cannot_load(model, kind.__name__, folder, error) from error


def own_settings(model: str) -> dict[str, Any]:
    """Return the option defaults that a checkpoint folder holds in its settings file; empty without such a file.

    Raises:
        ModelError: If the settings file is not a JSON mapping.
    """
    return {name: value for name, value in _settings(model).items() if name not in CHOICES}


def own_choices(model: str) -> dict[str, str]:
    """Return the rewards and prompts that a checkpoint folder names in its settings file, by `CHOICES`.

    They are names alone: options, such as the address of a server, are the user's to give.

    Raises:
        ModelError: If the settings file is not a JSON mapping, or an entry is not a name.
    """
    found = {name: value for name, value in _settings(model).items() if name in CHOICES}
    for name, value in found.items():
        if not isinstance(value, str) or not value:
            raise ModelError(f"{Path(model) / SETTINGS_FILE}: {name} must be the name of one that is installed")
    return found


def _settings(model: str) -> dict[str, Any]:
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
    """Import diffusers without its notices about optional packages, and switch off its progress bars."""
    with quiet_import():
        import diffusers
        import transformers
        from diffusers import StableDiffusion3Pipeline  # noqa: F401  # diffusers loads its parts lazily
    transformers.logging.set_verbosity_warning()
    transformers.logging.disable_progress_bar()
    diffusers.logging.disable_progress_bar()
