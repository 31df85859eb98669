"""Sizes of outputs: what is recorded is what was made.

Pipelines round a height, a width or a number of frames that does not suit them, most of them in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..ground.errors import ModelError


def check_size(pipe: Any, height: int | None, width: int | None) -> None:
    """Refuse a height or width that a pipeline of a known family would round.

    Tokens of all families are two latent pixels wide.

    Raises:
        ModelError: If it would, naming the nearest that it would not.
    """
    step = pipe.vae_scale_factor * getattr(pipe, "patch_size", 2)
    for name, value in (("height", height), ("width", width)):
        if value is not None and value % step:
            below = value // step * step
            nearest = " or ".join(str(size) for size in (below, below + step) if size)
            raise ModelError(
                f"{name}: {value} is no multiple of {step}, as a {type(pipe).__name__} needs; choose {nearest}"
            )


def check_made(outputs: Sequence[Any], asked: Mapping[str, Any], kind: str) -> None:
    """Refuse outputs of another size than was asked for.

    Args:
        outputs: Images, or videos as lists of images.
        asked: `height`, `width` and `num_frames`, those that were.
        kind: The pipeline's class, for a sentence.

    Raises:
        ModelError: If one is, naming what was made.
    """
    for output in outputs:
        made = _size(output)
        other = {name: made[name] for name in made if asked.get(name) not in (None, made[name])}
        if other:
            wanted = ", ".join(f"{name}: {asked[name]}" for name in other)
            instead = ", ".join(f"{name}: {value}" for name, value in other.items())
            raise ModelError(f"a {kind} does not make {wanted}, it rounds; ask for what it makes, {instead}")


def _size(output: Any) -> dict[str, int]:
    frames = output if isinstance(output, (list, tuple)) else [output]
    size = {"num_frames": len(frames)} if frames is output else {}
    measured = getattr(frames[0], "size", None) if frames else None
    if isinstance(measured, tuple) and len(measured) == 2:
        size |= {"width": int(measured[0]), "height": int(measured[1])}
    return size
