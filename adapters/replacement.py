"""Find, load and identify a transformer that replaces the checkpoint's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..ground.errors import ModelError
from ..ground.hub import commit_of, hub_file, hub_folder
from .components import has_variant, load_component, refuse_pickles
from .loading import Loading, quantization_config
from .single_files import load_single_file
from .sources import PICKLES, WEIGHTS, OnHub, first_on_hub, local_source, located

_CONFIG = "config.json"
_INSTEAD = "a .gguf or .safetensors file, a folder, a hub id, or owner/name/file.gguf for a file on the hub"


def load_transformer(kind: type[Any], base: Path | None, loading: Loading) -> tuple[Any, dict[str, Any]]:
    """Load a transformer that replaces the checkpoint's own.

    Args:
        kind: The transformer's class.
        base: The folder of the checkpoint's own transformer with the config.json that gives a single file its sizes;
            None if there is none.
        loading: The options that name the transformer and say how to load it.

    Returns:
        The transformer and its source: `id`, with `revision` or `weights`, and `variant` if it has one.

    Raises:
        ModelError: If the transformer cannot be found or loaded, or does not fit.
    """
    import torch

    name = loading.transformer or ""
    path, source = _find(name)
    options: dict[str, Any] = {"dtype": getattr(torch, loading.dtype)}
    if loading.quantization:
        options["quantization_config"] = quantization_config(loading.quantization, loading.dtype)
    if path.suffix == ".gguf":
        import diffusers

        options["quantization_config"] = diffusers.GGUFQuantizationConfig(compute_dtype=options["dtype"])
    if path.is_dir():
        if loading.variant and has_variant(path, loading.variant):
            options["variant"] = source["variant"] = loading.variant
        return load_component(kind, path, name, options), source
    if base is None:
        raise ModelError(f"the checkpoint has no transformer/{_CONFIG} to read {name} with; give a folder")
    return load_single_file(kind, path, base, name, options), source


def _find(name: str) -> tuple[Path, dict[str, Any]]:
    """Return a transformer's path and its source."""
    if Path(name).suffix in PICKLES:
        raise ModelError(f"{name} may hold a pickle, which can run code; give .safetensors or .gguf")
    place = located(name, "transformer", _INSTEAD)
    if isinstance(place, OnHub):
        return _on_hub(name, place)
    if place.is_file():
        if place.suffix not in WEIGHTS:
            raise ModelError(f"{name} is not a transformer; give {_INSTEAD}")
        return place, local_source(place)
    for folder in (place, place / "transformer"):  # a whole pipeline keeps it in a subfolder
        if (folder / _CONFIG).is_file():
            refuse_pickles(folder, name)
            return folder, {**local_source(folder), "id": local_source(place)["id"]}
    raise ModelError(f"{name} is not a transformer folder: it has no {_CONFIG}")


def _on_hub(name: str, place: OnHub) -> tuple[Path, dict[str, Any]]:
    if Path(place.inside).suffix in WEIGHTS:
        found = hub_file(place.repository, place.inside, place.revision, error=ModelError)
        return found, {"id": str(place), "revision": commit_of(found, error=ModelError)}
    config = first_on_hub(place, [_CONFIG, f"transformer/{_CONFIG}"])
    commit = commit_of(config, error=ModelError)
    inside = config.parent.relative_to(_snapshot(config, commit)).as_posix()
    within = "" if inside == "." else f"{inside}/"
    patterns = [f"{within}{_CONFIG}", f"{within}*.safetensors*"]
    folder = hub_folder(place.repository, patterns, commit, error=ModelError)
    return folder / inside, {"id": str(place), "revision": commit}


def _snapshot(path: Path, commit: str) -> Path:
    """Return the folder of a commit in the hub's cache."""
    return next(parent for parent in path.parents if parent.name == commit)
