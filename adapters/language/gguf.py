"""GGUF files, converted once: transformers reads such a file slowly, and once for each of its parts."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import re
import warnings
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from ...ground.errors import ModelError, Notice, first_line
from ...ground.extras import require
from ...ground.folders import whole_folder
from ...ground.weights import weights_digest
from ..components import check_keys
from ..sources import damage

READY = "config.json"  # a folder takes its name only when all of it is written

# Tensors that transformers does not load by their names: frequencies that it computes, heads that predict several
# tokens ahead, experts that it stacks, and the head of GPT-2.
_NOT_NAMED = re.compile(
    r"rope_(freqs|factors_\w+)\.weight|.*\.nextn\..*|.*_exps(\..*)?|.*\.exp_probs_b\.bias|output\.weight"
)


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
        ModelError: If the file cannot be read or converted, lacks weights or has others, or the folder cannot be
            written.
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
            model, info = AutoModelForCausalLM.from_pretrained(
                str(file.parent), dtype=torch.float32, output_loading_info=True, **given
            )
            unused = _unused(file, model)
    except Exception as error:  # files fail in many classes
        why = damage(file) or f"{first_line(error)}; give the model's folder or hub id instead"
        raise ModelError(f"cannot read {file.name} as a language model: {why}") from error
    check_keys(type(model), file.name, info["missing_keys"], unused, model.state_dict(), others=())
    model.hf_quantizer = None  # the weights are plain numbers now
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, tokenizer


def _unused(file: Path, model: Any) -> list[str]:
    """Return the tensors of a file that are no weights of its model; transformers leaves them out in silence."""
    from gguf import GGUFReader

    reader = GGUFReader(file)
    field = reader.get_field("general.architecture")
    return unused([each.name for each in reader.tensors], field.contents() if field is not None else None, model)


def unused(tensors: Iterable[str], architecture: Any, model: Any) -> list[str]:
    """Return the names of tensors that are no weights of a model.

    Args:
        tensors: The names of a file's tensors.
        architecture: The architecture that the file names.
        model: The model.

    Raises:
        ValueError: If the architecture is not known to the package `gguf`.
    """
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    key = next((key for key, name in MODEL_ARCH_NAMES.items() if name == architecture), None)
    if key is None:
        raise ValueError(f"its architecture {architecture} is not known to the package gguf")
    known = get_tensor_name_map(key, model.config.get_text_config(decoder=True).num_hidden_layers)
    used = {f"{found}{ending}" for name, ending in _endings(model.state_dict()) if (found := known.get_name(name))}
    return sorted(name for name in tensors if name not in used and not _NOT_NAMED.fullmatch(name))


def _endings(names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Split each name, and what follows each of its dots, into a module and the ending that its weight has."""
    for name in names:
        module, dot, last = name.rpartition(".")
        if last not in ("weight", "bias"):
            module, dot, last = name, "", ""
        parts = module.split(".")
        for at in range(len(parts)):
            yield ".".join(parts[at:]), dot + last
