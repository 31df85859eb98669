"""UnifiedReward: a vision-language model writes an assessment that ends in a score from 1 to 5.

The answer is generated greedily, and the score is parsed from the text. Before the score the model writes its
reasoning, which takes most of the time. There are three conventions; each has the question, word for word, that the
weights were trained with:

    v1         "Final Score: X"; also asks for the caption's elements, like the authors' point-score script
    flow-grpo  "Final Score: X" without the elements, on pictures resized to 512 x 512; Flow-GRPO also divides the
               score by 5, but this module does not
    v2         "Alignment Score (1-5): X", "Coherence Score", "Style Score" of UnifiedReward-2.0; `axis` selects one
               of them or their mean

Flow-GRPO scores an answer without a number as 0. Here such an answer is an error unless `unparsed` sets its score,
because a search would learn from a wrong 0.

Source: Wang et al., "Unified Reward Model for Multimodal Understanding and Generation", arXiv 2503.05236;
https://github.com/CodeGoat24/UnifiedReward; https://github.com/yifan123/flow_grpo, its rewards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...engine.seams import Objective, Output
from ...ground.errors import ScoreError
from ..hosting import awake
from ..images import PICTURES, rgb
from .chat import Chat

Convention = Literal["v1", "flow-grpo", "v2"]
Axis = Literal["alignment", "coherence", "style", "mean"]

_CRITERIA = (
    "You are given a text caption and a generated image based on that caption. Your task is to evaluate this image "
    "based on two key criteria:\n1. Alignment with the Caption: Assess how well this image aligns with the provided "
    "caption. Consider the accuracy of depicted objects, their relationships, and attributes as described in the "
    "caption.\n2. Overall Image Quality: Examine the visual quality of this image, including clarity, detail "
    "preservation, color accuracy, and overall aesthetic appeal.\n"
)
_TASK = "Your task is provided as follows:\nText Caption: [{}]"
QUESTIONS: dict[Convention, str] = {
    "v1": _CRITERIA + "Extract key elements from the provided text caption, evaluate their presence in the generated "
    "image using the format: 'element (type): value' (where value=0 means not generated, and value=1 means generated), "
    "and assign a score from 1 to 5 after 'Final Score:'.\n" + _TASK,
    "flow-grpo": "<image>\n"
    + _CRITERIA
    + "Based on the above criteria, assign a score from 1 to 5 after 'Final Score:'.\n"
    + _TASK,
    "v2": "You are presented with a generated image and its associated text caption. Your task is to analyze the image "
    "across multiple dimensions in relation to the caption. Specifically:\nProvide overall assessments for the image "
    "along the following axes (each rated from 1 to 5):\n- Alignment Score: How well the image matches the caption in "
    "terms of content.\n- Coherence Score: How logically consistent the image is (absence of visual glitches, object "
    "distortions, etc.).\n- Style Score: How aesthetically appealing the image looks, regardless of caption accuracy."
    "\n\nOutput your evaluation using the format below:\n\nAlignment Score (1-5): X\nCoherence Score (1-5): Y\n"
    "Style Score (1-5): Z\n\n" + _TASK,
}
_AXES: tuple[Axis, ...] = ("alignment", "coherence", "style")
_NUMBER = r"\s*([1-5](?:\.\d+)?)"


class UnifiedReward(Objective):
    """The score from 1 to 5 that a chat model writes for a picture and its prompt.

    Args:
        chat: A UnifiedReward checkpoint.
        convention: The question and the form of the answer.
        axis: The score to read from a v2 answer.
        size: The width and height in pixels to which pictures are resized; None does not resize, except that
            `flow-grpo` then resizes to 512.
        max_new_tokens: The largest number of tokens in an answer.
        unparsed: The score of an answer that holds no score; None makes such an answer an error.
    """

    reads = PICTURES

    def __init__(
        self,
        chat: Chat,
        *,
        convention: Convention = "v1",
        axis: Axis = "mean",
        size: int | None = None,
        max_new_tokens: int = 512,
        unparsed: float | None = None,
    ) -> None:
        self.host = chat.host
        self.chat, self.convention, self.axis, self.unparsed = chat, convention, axis, unparsed
        self.size = size or (512 if convention == "flow-grpo" else None)
        self.max_new_tokens = max_new_tokens

    @awake
    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Let the model assess the outputs. See `Objective.score`.

        Raises:
            ScoreError: If an answer holds no score and `unparsed` is None.
        """
        question = QUESTIONS[self.convention]
        rows = [
            self.chat.reader.read(self._sized(picture), question.replace("{}", prompt), prompt)
            for picture, prompt in zip(rgb(outputs), prompts, strict=True)
        ]
        answers = self.chat.answers(rows, self.max_new_tokens)
        return np.array([self._number(*pair) for pair in zip(answers, prompts, strict=True)], dtype=np.float64)

    def describe(self) -> Mapping[str, Any]:
        """Describe everything that can change a score. See `Objective.describe`."""
        told: dict[str, Any] = {"convention": self.convention, "max_new_tokens": self.max_new_tokens, "size": self.size}
        if self.convention == "v2":
            told["axis"] = self.axis
        return {**self.chat.describe(), **told, "unparsed": self.unparsed, "decoding": "greedy"}

    def _sized(self, picture: Image.Image) -> Image.Image:
        return picture if self.size is None else picture.resize((self.size, self.size), Image.Resampling.BICUBIC)

    def _number(self, answer: str, prompt: str) -> float:
        found = parse(answer, self.convention, self.axis)
        if found is not None:
            return found
        if self.unparsed is not None:
            return self.unparsed
        raise ScoreError(
            f"{self.chat.weights.model} gave no score for {prompt[:60]!r} but {answer[:60]!r}; raise `max_new_tokens`, "
            "or set `unparsed` to a score for such answers"
        )


def parse(answer: str, convention: Convention, axis: Axis = "mean") -> float | None:
    """Parse the score in an answer; return None if the answer holds no score."""
    if convention != "v2":
        return _after("Final Score:", answer)
    wanted = _AXES if axis == "mean" else (axis,)
    found = [_after(rf"{name.capitalize()} Score \(1-5\):", answer) for name in wanted]
    return None if any(value is None for value in found) else float(np.mean([value for value in found if value]))


def _after(label: str, answer: str) -> float | None:
    match = re.search(label + _NUMBER, answer)
    return float(match[1]) if match else None
