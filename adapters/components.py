"""Load one component of a pipeline, without random weights, unused weights or pickles.

Libraries only log missing and unused weights: a missing weight is then random, and an unused weight shows that the
file belongs to another model. Here, both are errors.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from ..ground.errors import ModelError, near_misses
from .sources import PICKLES, cannot_load

# Keys that sound checkpoints may hold although nothing uses them: buffers that libraries now compute, and other parts
# of the model that a text encoder was taken from. Libraries know some of these keys, but not in every class.
_BUFFERS = re.compile(r"(.+\.)?(position_ids|inv_freq|num_batches_tracked)")
_OTHER_PARTS = ("lm_head", "logit_scale", "text_projection", "visual_projection", "vision_model", "decoder")


def component_class(name: str, entry: object, model: str) -> Any:
    """Return the class that a model_index.json names for a component.

    Args:
        name: The component's name.
        entry: The component's entry in the index: a library and a class.
        model: The checkpoint's name for error messages.

    Raises:
        ModelError: If there is no such class, or its code comes with the checkpoint.
    """
    if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(each, str) for each in entry)):
        raise ModelError(f"{model} names its {name} as {entry!r}, which is not a pair of a library and a class")
    library, kind = entry
    for module in (library, f"diffusers.pipelines.{library}"):
        if module.split(".")[0] in ("diffusers", "transformers"):
            with contextlib.suppress(ImportError):
                home = importlib.import_module(module)
                if not hasattr(home, kind):
                    raise ModelError(f"{library} has no class {kind}, the {name} of {model}; {near(kind, home)}")
                return getattr(home, kind)
    raise ModelError(f"{model} takes its {name} from {library!r}; trimpot runs no code that comes with a checkpoint")


def near(kind: str, home: Any) -> str:
    """Return a hint: classes with similar names, or the advice to update the library."""
    found = near_misses(kind, dir(home))
    return found if "did you mean" in found else "a later version may have it"


def has_variant(folder: Path, variant: str) -> bool:
    """Return whether a component's folder has weights of a variant, such as `fp16`."""
    names = (path.name for path in folder.glob("*.safetensors"))
    return any(f".{variant}." in name or f".{variant}-" in name for name in names)


def load_component(kind: Any, folder: Path, what: str, options: dict[str, Any]) -> Any:
    """Load a component, and check that no weight is missing or unused.

    Args:
        kind: The component's class, from diffusers or transformers.
        folder: The folder with its config.json and its weights.
        what: The component's name for error messages.
        options: Arguments of its `from_pretrained`: `dtype`, `variant`, `quantization_config`.

    Raises:
        ModelError: If the component cannot be loaded, lacks weights, or has weights that its class does not use.
    """
    refuse_pickles(folder, what)
    already = _quantization(folder)
    if not already:
        refuse_integers(folder, what)
    if already and options.get("quantization_config") is not None:
        raise ModelError(f"{what} is quantized already ({already}); leave out quantization")
    try:
        with silent():
            model, info = kind.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True, **options
            )
    except Exception as error:  # file and shape errors come in many classes
        raise cannot_load(what, kind.__name__, folder, error) from error
    unlike = {name for name, *_ in info.get("mismatched_keys", ())}
    check_keys(kind, what, set(info["missing_keys"]) | unlike, info["unexpected_keys"], model.state_dict())
    return model


def _quantization(folder: Path) -> str | None:
    """Return the name of the method that a folder's weights are quantized with, or None."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return str(config["quantization_config"]["quant_method"])
    except (OSError, ValueError, RecursionError, LookupError, TypeError):  # the loader reports a broken file
        return None


def check_keys(
    kind: Any,
    what: str,
    missing: Collection[str],
    unexpected: Collection[str],
    names: Collection[str],
    others: Collection[str] = _OTHER_PARTS,
) -> None:
    """Refuse files with missing weights, which would be random, or with unused weights.

    Args:
        kind: The model's class.
        what: The name of the files for error messages.
        missing: Names of weights that the files lack.
        unexpected: Names of weights in the files that the model does not have.
        names: Names of all weights of the model.
        others: Beginnings of names of other models' parts, which the files may hold unused.

    Raises:
        ModelError: If a weight is missing or unused.
    """
    if missing:
        raise ModelError(f"{what} lacks {len(missing)} of the {kind.__name__}'s weights, first {min(missing)}")
    parts = {name.partition(".")[0] for name in names}
    others = [part for part in others if part not in parts]
    unused = sorted(
        name for name in unexpected if not _BUFFERS.fullmatch(name) and name.partition(".")[0] not in others
    )
    if unused:
        raise ModelError(
            f"{what} has {_weights(len(unused))} that a {kind.__name__} of this configuration does not use, first "
            f"{unused[0]}; give weights and a config.json that belong together"
        )


def _weights(count: int) -> str:
    return "a weight" if count == 1 else f"{count} weights"


def refuse_pickles(folder: Path, what: str) -> None:
    """Refuse a folder that holds its weights only as pickles.

    Raises:
        ModelError: If the folder has pickles and no safetensors file.
    """
    names = [path.name for path in folder.glob("*") if path.suffix in PICKLES]
    if names and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{what} holds its weights as a pickle ({min(names)}), which can run code; save them as .safetensors"
        )


def refuse_integers(folder: Path, what: str) -> None:
    """Refuse weights that are whole numbers: quantized ones whose scales nobody names, which loading would cast.

    Raises:
        ModelError: If a file has such a weight.
    """
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                dtypes = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118  # no mapping
        except Exception:  # the loader reports a damaged file
            continue
        whole = [
            name for name, dtype in dtypes.items() if name.endswith(".weight") and not dtype.startswith(("F", "BF"))
        ]
        if whole:
            raise ModelError(
                f"{what} is quantized in a way that its config.json does not tell (it holds {dtypes[whole[0]]} numbers "
                f"as {whole[0]}); give it in float32, bfloat16 or float16"
            )


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Silence the libraries' notices while loading; `check_keys` reports what matters in them as errors."""
    import diffusers
    import transformers

    loggers = (diffusers.utils.logging, transformers.utils.logging)
    verbosities = [logger.get_verbosity() for logger in loggers]
    for logger in loggers:
        logger.set_verbosity_error()
    try:
        yield
    finally:
        for logger, verbosity in zip(loggers, verbosities, strict=True):
            logger.set_verbosity(verbosity)
