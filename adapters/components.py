"""One component of a pipeline, loaded so that nothing of it is random, left over or read from a pickle.

Libraries only log what a file lacks or has too much: a weight that is missing is then random, and one that is not
used belongs to a model other than the one that runs. Here either is an error.
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

# Keys of good checkpoints that nothing uses: buffers that libraries make anew since, and the other parts of the model
# that a text encoder was cut out of. Libraries know of some of them, but not in every class.
_BUFFERS = re.compile(r"(.+\.)?(position_ids|inv_freq|num_batches_tracked)")
_OTHER_PARTS = ("lm_head", "logit_scale", "text_projection", "visual_projection", "vision_model", "decoder")


def component_class(name: str, entry: object, model: str) -> Any:
    """The class that a model_index.json names for a component.

    Args:
        name: The component's.
        entry: What the index says of it: a library and a class.
        model: The checkpoint, for a sentence.

    Raises:
        ModelError: If there is none, or its code would come with the checkpoint.
    """
    if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(each, str) for each in entry)):
        raise ModelError(f"{model} says of its {name} {entry!r}, which is no pair of a library and a class")
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
    """Classes that a name may have meant, or the advice to update."""
    found = near_misses(kind, dir(home))
    return found if "did you mean" in found else "a later version may have it"


def has_variant(folder: Path, variant: str) -> bool:
    """Whether a component's folder has weights of a variant, such as `fp16`."""
    names = (path.name for path in folder.glob("*.safetensors"))
    return any(f".{variant}." in name or f".{variant}-" in name for name in names)


def load_component(kind: Any, folder: Path, what: str, options: dict[str, Any]) -> Any:
    """Load a component's weights, all of them and nothing else.

    Args:
        kind: Its class, of diffusers or transformers.
        folder: Where its config.json and its weights lie.
        what: What to call it in a sentence.
        options: Of its `from_pretrained`: `dtype`, `variant`, `quantization_config`.

    Raises:
        ModelError: If it cannot be loaded, or lacks weights, or has some that are of no use.
    """
    refuse_pickles(folder, what)
    already = _quantization(folder)
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
    """How a checkpoint's weights are quantized in its files, or None."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return str(config["quantization_config"]["quant_method"])
    except (OSError, ValueError, RecursionError, LookupError, TypeError):  # what is wrong with it is said by its loader
        return None


def check_keys(
    kind: Any, what: str, missing: Collection[str], unexpected: Collection[str], names: Collection[str]
) -> None:
    """Refuse weights that would be random, and those that nothing would use.

    Args:
        kind: The model's class.
        what: What to call its files in a sentence.
        missing: Weights that they lack.
        unexpected: Weights that they have and the model has not.
        names: All weights of the model.

    Raises:
        ModelError: If there are any.
    """
    if missing:
        raise ModelError(f"{what} lacks {len(missing)} of the {kind.__name__}'s weights, first {min(missing)}")
    parts = {name.partition(".")[0] for name in names}
    others = [part for part in _OTHER_PARTS if part not in parts]
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
    """Refuse a folder whose weights are only there as pickles.

    Raises:
        ModelError: If they are.
    """
    names = [path.name for path in folder.glob("*") if path.suffix in PICKLES]
    if names and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{what} holds its weights as a pickle ({min(names)}), which can run code; save them as .safetensors"
        )


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Load without notices: what they would say is looked at here, and is an error or nothing."""
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
