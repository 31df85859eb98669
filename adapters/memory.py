"""Advice for running out of memory: options that are not set yet and are compatible with those that are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..ground.devices import first_sentence, free_memory, shortage
from ..ground.errors import ModelError
from .loading import Loading, Offload, conflict

_LESS_THAN: dict[Offload, tuple[Offload, ...]] = {  # modes that keep less on the device
    "none": ("model", "group", "sequential"),
    "model": ("group", "sequential"),
    "group": (),
    "sequential": (),
}


@contextmanager
def told(doing: str, chosen: Loading, *, making: bool = False) -> Iterator[None]:
    """Turn an out-of-memory error of the block into one sentence with advice.

    Args:
        doing: The action, to follow "there is not enough memory to".
        chosen: The options in use.
        making: Whether outputs are being generated.

    Raises:
        ModelError: If memory ran out.
    """
    try:
        yield
        return
    except Exception as error:  # memory runs out in many classes
        if shortage(error) is None:
            raise
        refused = no_room(f"to {doing}", chosen, error, making=making)
    free_memory()  # outside the except block, which keeps the failed attempt's memory alive
    raise refused


def no_room(what: str, chosen: Loading, error: BaseException, *, making: bool) -> ModelError:
    """Return an error that says that memory ran out, and which options help.

    Args:
        what: The purpose of the memory, as "to do this" or "for that".
        chosen: The options in use.
        error: The out-of-memory error that was raised.
        making: Whether outputs were being generated.
    """
    found = shortage(error)
    assert found is not None
    *others, last = advice(chosen, making=making, on_host=found.on_host)
    choices = f"{', '.join(others)}{' or ' if others else ''}{last}"
    return ModelError(f"there is not enough memory {what}; choose {choices} ({first_sentence(found.error)})")


def advice(chosen: Loading, *, making: bool, on_host: bool = False) -> list[str]:
    """List options that need less memory.

    Args:
        chosen: The options that need too much memory.
        making: Whether memory ran out while generating outputs, instead of while loading weights.
        on_host: Whether main memory ran out, of which offloading would need more.
    """

    def accepted(**change: str) -> bool:
        return conflict(chosen.model_copy(update=change)) is None

    offloads = [each for each in _LESS_THAN[chosen.offload] if not on_host and accepted(offload=each)]
    found = [f"offload: {' or '.join(offloads)}"] if offloads else []
    if chosen.quantization is None and not (chosen.transformer or "").endswith(".gguf"):
        if accepted(quantization="torchao-int8"):
            found.append("quantization")
        if accepted(transformer="x.gguf"):
            found.append("a GGUF file as transformer")
    if chosen.dtype == "float32":
        found.append("dtype: bfloat16")
    if making:
        if chosen.offload == "none" and not getattr(chosen, "release_text_encoders", True):
            found.append("release_text_encoders")
        if not chosen.vae_tiling:
            found.append("vae_tiling")
        if getattr(chosen, "num_frames", None):
            found.append("fewer num_frames")
        found.append("a smaller height and width")
    return found or [f"a {'machine' if on_host else 'device'} with more memory"]
