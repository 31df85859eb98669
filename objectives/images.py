"""Prepare the inputs of rewards: convert pictures to RGB, and warn about prompts that a model truncates."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..engine.seams import Output
from ..ground.errors import ScoreError

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURES = ("image", "video")  # what rewards of pictures read: a video of one frame is a picture
_OPAQUE = ("RGB", "L", "1")
_MAYBE_CLEAR = ("RGBA", "LA", "PA", "P")


class PromptTruncated(UserWarning):
    """A warning that a prompt is longer than a reward's text model reads, so that its end is ignored."""


def rgb(outputs: Sequence[Output]) -> list[Image]:
    """Convert outputs to RGB pictures.

    Grey pictures become RGB. Transparent pictures are put on white, as web pages and viewers show them.

    Args:
        outputs: PIL images of mode RGB, RGBA, L, LA, 1, P or PA; a video of one frame counts as its frame.

    Raises:
        ScoreError: If an output is anything else, including a list of several frames: a reward of pictures cannot
            choose the frame to score.
    """
    return [_rgb(output) for output in outputs]


def _rgb(output: Output) -> Image:
    from PIL import Image

    if isinstance(output, (list, tuple)) and len(output) == 1:
        output = output[0]
    if isinstance(output, (list, tuple)) and output and isinstance(output[0], Image.Image):
        raise ScoreError(
            f"this reward scores pictures, but got a video of {len(output)} frames; let the model make one frame"
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
    """Describe the type and the shape of an output in words."""
    shape = getattr(output, "shape", None)
    name = f"{type(output).__module__}.{type(output).__qualname__}".removeprefix("builtins.")
    return name if shape is None else f"{name} of shape {tuple(shape)}"


class Truncation:
    """A warning, given once, that a prompt is longer than a reward's text model reads.

    Args:
        objective: The name of the reward.
        limit: The largest number of tokens that the text model reads, special tokens included.
    """

    def __init__(self, objective: str, limit: int) -> None:
        self.objective = objective
        self.limit = limit
        self._told = False

    def notice(self, tokenizer: Any, prompts: Sequence[str]) -> None:
        """Warn about the first prompt that is too long, unless a warning was given before.

        Args:
            tokenizer: A tokenizer of transformers; its special tokens are counted.
            prompts: The texts that the model gets.
        """
        if self._told:
            return
        for prompt in dict.fromkeys(prompts):
            length = len(tokenizer(prompt, truncation=False, verbose=False).input_ids)
            if length > self.limit:
                self._told = True
                warnings.warn(
                    f"{self.objective} reads {self.limit} tokens of a prompt, but {prompt[:60]!r}... has {length}: its "
                    f"end is ignored",
                    PromptTruncated,
                    stacklevel=3,
                )
                return
