"""What helps where memory runs out: options that are not chosen yet and would be accepted beside those that are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..ground.devices import first_sentence, free_memory, shortage
from ..ground.errors import ModelError
from .loading import Loading, Offload, conflict

_LESS_THAN: dict[Offload, tuple[Offload, ...]] = {  # what holds still less on the device
    "none": ("model", "group", "sequential"),
    "model": ("group", "sequential"),
    "group": (),
    "sequential": (),
}


@contextmanager
def told(doing: str, chosen: Loading, *, making: bool = False) -> Iterator[None]:
    """Say in a sentence that memory ran out while something was done.

    Args:
        doing: What, after "there is not enough memory to".
        chosen: The options it was done with.
        making: Whether outputs were being made.

    Raises:
        ModelError: If it did.
    """
    try:
        yield
        return
    except Exception as error:  # memory runs out in many classes
        if shortage(error) is None:
            raise
        refused = no_room(f"to {doing}", chosen, error, making=making)
    free_memory()  # what the failed attempt held is free only out of that block
    raise refused


def no_room(what: str, chosen: Loading, error: BaseException, *, making: bool) -> ModelError:
    """The sentence for an error that says that memory ran out.

    Args:
        what: What there is not enough memory for, as "to do this" or "for that".
        chosen: The options it was tried with.
        error: What it was tried to.
        making: Whether outputs were being made.
    """
    found = shortage(error)
    assert found is not None
    *others, last = advice(chosen, making=making, on_host=found.on_host)
    choices = f"{', '.join(others)}{' or ' if others else ''}{last}"
    return ModelError(f"there is not enough memory {what}; choose {choices} ({first_sentence(found.error)})")


def advice(chosen: Loading, *, making: bool, on_host: bool = False) -> list[str]:
    """What to choose.

    Args:
        chosen: The options that did not suffice.
        making: Whether they did not suffice for making outputs, instead of for holding weights.
        on_host: Whether main memory ran out, which offloading needs instead of saving it.
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
