"""What rewards are given: pictures in one known mode, and prompts that may be longer than a model reads."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..engine.seams import Output
from ..ground.errors import ScoreError

if TYPE_CHECKING:
    from PIL.Image import Image

_OPAQUE = ("RGB", "L", "1")
_MAYBE_CLEAR = ("RGBA", "LA", "PA", "P")


class PromptTruncated(UserWarning):
    """A prompt is longer than a reward's text model reads; its end does not count."""


def rgb(outputs: Sequence[Output]) -> list[Image]:
    """The outputs as RGB pictures.

    Grey pictures become RGB; what is transparent is laid on white, as a page or a viewer would show it.

    Args:
        outputs: PIL images of mode RGB, RGBA, L, LA, 1, P or PA.

    Raises:
        ScoreError: If an output is anything else; a list of frames is refused too, as which of them counts is not
            for a reward of pictures to say.
    """
    return [_rgb(output) for output in outputs]


def _rgb(output: Output) -> Image:
    from PIL import Image

    if isinstance(output, (list, tuple)) and output and isinstance(output[0], Image.Image):
        raise ScoreError(
            f"this reward scores pictures, but got a video of {len(output)} frames; let the model make one"
        )
    if not isinstance(output, Image.Image):
        raise ScoreError(f"this reward scores pictures (PIL images), but got {_called(output)}")
    if output.mode in _OPAQUE:
        return output if output.mode == "RGB" else output.convert("RGB")
    if output.mode in _MAYBE_CLEAR:
        clear = output.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    known = ", ".join(_OPAQUE + _MAYBE_CLEAR)
    raise ScoreError(f"this reward scores pictures of mode {known}, but got mode {output.mode}; convert it")


def _called(output: Output) -> str:
    """What an output is, in words."""
    shape = getattr(output, "shape", None)
    name = f"{type(output).__module__}.{type(output).__qualname__}".removeprefix("builtins.")
    return name if shape is None else f"{name} of shape {tuple(shape)}"


class Truncation:
    """Says once that a prompt is longer than the text model reads.

    Args:
        objective: The reward's name.
        limit: The most tokens that it reads, special tokens included.
    """

    def __init__(self, objective: str, limit: int) -> None:
        self.objective = objective
        self.limit = limit
        self._told = False

    def notice(self, tokenizer: Any, prompts: Sequence[str]) -> None:
        """Warn of the first prompt that is too long, the first time there is one.

        Args:
            tokenizer: Of transformers; its special tokens are counted.
            prompts: Texts as the model is given them.
        """
        if self._told:
            return
        for prompt in dict.fromkeys(prompts):
            length = len(tokenizer(prompt, truncation=False, verbose=False).input_ids)
            if length > self.limit:
                self._told = True
                warnings.warn(
                    f"{self.objective} reads {self.limit} tokens of a prompt and one has {length}: the end of "
                    f"{prompt[:60]!r}... does not count",
                    PromptTruncated,
                    stacklevel=3,
                )
                return
