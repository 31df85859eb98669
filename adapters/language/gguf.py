"""GGUF files, converted once: transformers reads such a file slowly, and once for each of its parts."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import warnings
from pathlib import Path
from typing import Any

from ...ground.errors import ModelError, Notice, first_line
from ...ground.extras import require
from ...ground.folders import whole_folder
from ...ground.weights import weights_digest

READY = "config.json"  # a folder takes its name only when all of it is written


def cache() -> Path:
    """Return the folder of converted files, beside the hub's own cache."""
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME).expanduser() / "trimpot" / "gguf"


def converted(file: Path) -> Path:
    """Return the folder of a GGUF file's model in the layout of transformers, and write the folder first if needed.

    The weights are those of the file as float32 numbers, none rounded. The folder is named by a digest of the file and
    the version of transformers; it can be deleted at any time.

    Args:
        file: The GGUF file.

    Raises:
        ModelError: If the file cannot be read or converted, or the folder cannot be written.
        MissingError: If the package `gguf` is missing.
    """
    from filelock import FileLock

    version = importlib.metadata.version("transformers")
    folder = cache() / f"{weights_digest(file)}-{version}"
    if (folder / READY).is_file():
        return folder
    require("a GGUF file", "gguf")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not (folder / READY).is_file():
                _convert(file, folder)
    except OSError as error:
        raise ModelError(f"cannot write {folder}: {error.strerror or first_line(error)}") from error
    return folder


def _convert(file: Path, folder: Path) -> None:
    model, tokenizer = _read(file)
    warnings.warn(f"{file.name} is converted once, into {folder}", Notice, stacklevel=4)
    with whole_folder(folder, error=ModelError) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)


def _read(file: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    given = {"gguf_file": file.name, "local_files_only": True}
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # a bar of its own
            warnings.simplefilter("ignore")  # numpy's about reading a file that may not be written
            tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **given)
            model = AutoModelForCausalLM.from_pretrained(str(file.parent), dtype=torch.float32, **given)
    except Exception as error:  # files fail in many classes
        raise ModelError(f"cannot read {file.name} as a language model: {first_line(error)}") from error
    model.hf_quantizer = None  # the weights are plain numbers now
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, tokenizer
