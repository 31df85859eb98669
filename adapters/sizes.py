"""Check that a pipeline can make what is requested: outputs of a size, in a number of steps.

Pipelines round an unsuitable height, width or number of frames, most of them silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..ground.errors import ModelError


def check_size(pipe: Any, height: int | None, width: int | None) -> None:
    """Refuse a height or width that a pipeline of a known family would round.

    In all families, a token is two latent pixels wide.

    Raises:
        ModelError: If it would be rounded. The message names the nearest valid sizes.
    """
    step = pipe.vae_scale_factor * getattr(pipe, "patch_size", 2)
    for name, value in (("height", height), ("width", width)):
        if value is not None and value % step:
            below = value // step * step
            nearest = " or ".join(str(size) for size in (below, below + step) if size)
            raise ModelError(
                f"{name}: {value} is not a multiple of {step}, as a {type(pipe).__name__} needs; choose {nearest}"
            )


def check_made(outputs: Sequence[Any], asked: Mapping[str, Any], kind: str) -> None:
    """Refuse outputs whose size differs from the requested one.

    Args:
        outputs: Images, or videos as lists of images.
        asked: The requested `height`, `width` and `num_frames`, as far as given.
        kind: The pipeline's class name for error messages.

    Raises:
        ModelError: If an output has another size. The message names that size.
    """
    for output in outputs:
        made = _size(output)
        other = {name: made[name] for name in made if asked.get(name) not in (None, made[name])}
        if other:
            wanted = ", ".join(f"{name}: {asked[name]}" for name in other)
            instead = ", ".join(f"{name}: {value}" for name, value in other.items())
            raise ModelError(f"a {kind} cannot make {wanted} and rounds it; ask for {instead}")


def _size(output: Any) -> dict[str, int]:
    frames = output if isinstance(output, (list, tuple)) else [output]
    size = {"num_frames": len(frames)} if frames is output else {}
    measured = getattr(frames[0], "size", None) if frames else None
    if isinstance(measured, tuple) and len(measured) == 2:
        size |= {"width": int(measured[0]), "height": int(measured[1])}
    return size


def check_steps(pipe: Any, num_steps: int | None) -> None:
    """Refuse one step if the scheduler stretches its schedule: of one step, it would make a time that is no number.

    Raises:
        ModelError: If the scheduler cannot make so few steps.
    """
    if num_steps == 1 and pipe.scheduler.config.get("shift_terminal"):
        raise ModelError(
            f"the {type(pipe.scheduler).__name__} of this model stretches its schedule (shift_terminal), which takes "
            "at least 2 denoising steps, not 1"
        )
