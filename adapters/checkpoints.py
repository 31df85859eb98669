"""Loading pipelines, and telling which weights they are."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from ..engine.errors import ModelError

Dtype = Literal["float32", "bfloat16", "float16"]
SETTINGS_FILE = "trimpot.json"  # a checkpoint's own sizes and defaults, beside its model_index.json
_EDGE = 1 << 20


def shipped(name: str) -> Path:
    """The folder of a checkpoint shipped with the package."""
    return Path(str(resources.files("trimpot.adapters") / name))


def load_pipeline(
    pipeline: str, model: str, *, revision: str | None, dtype: Dtype, device: str | None
) -> tuple[Any, dict[str, Any]]:
    """Load a pipeline from a local folder or a hub id.

    Args:
        pipeline: Pipeline class name in diffusers.
        model: Folder or hub id.
        revision: Branch, tag or commit on the hub.
        dtype: Of the weights in memory.
        device: Such as `cuda`; None takes a GPU if there is one.

    Returns:
        The pipeline, and what it was loaded from: `id` with `revision` or `weights`, a digest of the files.

    Raises:
        ModelError: If there is no such checkpoint or it cannot be loaded.
    """
    import torch

    _quiet()
    import diffusers

    folder = Path(model)
    if not folder.is_dir() and (folder.is_absolute() or model.startswith(".")):
        raise ModelError(f"no checkpoint folder {model}; give a folder with a model_index.json, or a hub id")
    if folder.is_dir() and not (folder / "model_index.json").is_file():
        raise ModelError(f"{model} is no diffusers pipeline: it has no model_index.json")
    try:
        pipe = getattr(diffusers, pipeline).from_pretrained(
            model,
            revision=revision,
            dtype=getattr(torch, dtype),
            local_files_only=folder.is_dir(),
            **_left_out(folder),
        )
        pipe.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except Exception as error:  # hub, file and shape errors come in many classes
        first = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"cannot load {model} as a {pipeline}: {first[0]}") from error
    if folder.is_dir():
        return pipe, {"id": folder.name, "weights": weights_digest(folder)}
    return pipe, {"id": model, "revision": revision or "main"}


def _left_out(folder: Path) -> dict[str, None]:
    """Components that a local checkpoint leaves out on purpose; diffusers wants to be told so."""
    index = folder / "model_index.json"
    if not index.is_file():
        return {}
    entries = json.loads(index.read_text(encoding="utf-8"))
    return {name: None for name, entry in entries.items() if entry == [None, None]}


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


def weights_digest(folder: Path) -> str:
    """A digest of a checkpoint's files: name, size, first and last mebibyte of each."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json", ".bin", ".gguf")):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(_EDGE))
            if size > _EDGE:
                file.seek(max(_EDGE, size - _EDGE))
                digest.update(file.read(_EDGE))
    return digest.hexdigest()[:16]


def _quiet() -> None:
    """Import diffusers without its notices about optional packages, and without bars among our own."""
    with _default_environment("TRANSFORMERS_VERBOSITY", "error"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import diffusers
        import transformers
        from diffusers import StableDiffusion3Pipeline  # noqa: F401  # diffusers loads its parts lazily
    transformers.logging.set_verbosity_warning()
    transformers.logging.disable_progress_bar()
    diffusers.logging.disable_progress_bar()


@contextlib.contextmanager
def _default_environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable unless the user has, for a while."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
