"""Q-ReAlign, the successor of Q-Align: the quality or aesthetics of a picture, without regard to the prompt.

A vision-language model is asked for a rating, and its answer begins with "The quality of the image is". The score is
the mean of five levels, weighted with the probabilities of the five words for them among each other::

    score = sum_k w_k softmax(z)_k    words: excellent, good, fair, poor, bad    w = 1, 0.75, 0.5, 0.25, 0

The score lies in [0, 1], as published for Q-ReAlign. Q-Align itself weights the same words with 5, 4, 3, 2, 1, which is
the scale 1 + 4 * score. But Q-Align is another network (one-align, which needs an old transformers), so its scores
differ on the same scale too.

Source: Wu et al., "Q-Align", arXiv 2312.17090, eq. 3;
https://github.com/Q-Future/Q-ReAlign, whose README has the question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...engine.seams import Objective, Output
from ...ground.errors import ScoreError
from ..hosting import awake
from ..images import PICTURES, rgb
from .chat import Chat

Aspect = Literal["quality", "aesthetics"]

WORDS = ("excellent", "good", "fair", "poor", "bad")
LEVELS = np.array([1.0, 0.75, 0.5, 0.25, 0.0])


class QAlign(Objective):
    """The technical quality or the aesthetics of a picture, from 0 to 1; the prompt is ignored.

    Args:
        chat: A Q-ReAlign checkpoint.
        aspect: The aspect to rate.
        question: The question to ask; None asks the question that the model was trained with.

    Raises:
        ScoreError: If two of the five words begin with the same token.
    """

    reads = PICTURES

    def __init__(self, chat: Chat, *, aspect: Aspect = "quality", question: str | None = None) -> None:
        self.chat, self.host = chat, chat.host
        self.question = question or f"How would you rate the {aspect} of this image?"
        self.stem = f"The {aspect} of the image is"
        tokenizer = chat.reader.tokenizer
        # Of a word of several tokens only the first is used, as published.
        self.tokens = [tokenizer(f" {word}", add_special_tokens=False).input_ids[0] for word in WORDS]
        if len(set(self.tokens)) < len(WORDS):
            raise ScoreError(f"{chat.weights.model} cannot tell the words {', '.join(WORDS)} apart by one token")

    @awake
    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Rate the outputs. See `Objective.score`."""
        rows = [self.chat.reader.read(picture, self.question, answer=self.stem) for picture in rgb(outputs)]
        chances = self.chat.next_token(rows)[:, self.tokens].double().softmax(-1)
        return np.asarray(chances.numpy() @ LEVELS)

    def describe(self) -> Mapping[str, Any]:
        """Describe everything that can change a score. See `Objective.describe`."""
        return {
            **self.chat.describe(),
            "question": self.question,
            "answer": self.stem,
            "convention": "q-realign: softmax over five words, 1 to 0",
        }
