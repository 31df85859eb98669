"""How good a picture looks, whatever was asked for: Q-ReAlign, the successor of Q-Align.

A vision-language model is asked for its rating and the answer is begun for it, "The quality of the image is". The
score is the mean of five levels under the probabilities of the five words that may follow, and of no other token::

    score = sum_k w_k softmax(z)_k    words: excellent, good, fair, poor, bad    w = 1, 0.75, 0.5, 0.25, 0

so it lies in [0, 1], as published for Q-ReAlign. Q-Align itself weights the same words 5, 4, 3, 2, 1 and is another
network (one-align, tied to an old transformers): the two scales are 1 + 4 score apart, the scores are not equal.

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
from ..images import rgb
from .chat import Chat

Aspect = Literal["quality", "aesthetics"]

WORDS = ("excellent", "good", "fair", "poor", "bad")
LEVELS = np.array([1.0, 0.75, 0.5, 0.25, 0.0])


class QAlign(Objective):
    """Technical quality or aesthetics of a picture, from 0 to 1; the prompt does not count.

    Args:
        chat: A Q-ReAlign checkpoint.
        aspect: What is rated.
        question: What is asked, instead of the usual.

    Raises:
        ScoreError: If the tokenizer does not begin the five words differently.
    """

    def __init__(self, chat: Chat, *, aspect: Aspect = "quality", question: str | None = None) -> None:
        self.chat, self.host = chat, chat.host
        self.question = question or f"How would you rate the {aspect} of this image?"
        self.stem = f"The {aspect} of the image is"
        tokenizer = chat.reader.tokenizer
        # A word of several tokens is known by its first, as published.
        self.tokens = [tokenizer(f" {word}", add_special_tokens=False).input_ids[0] for word in WORDS]
        if len(set(self.tokens)) < len(WORDS):
            raise ScoreError(f"{chat.weights.model} cannot tell the words {', '.join(WORDS)} apart by one token")

    @awake
    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Rate the outputs."""
        rows = [self.chat.reader.read(picture, self.question, answer=self.stem) for picture in rgb(outputs)]
        chances = self.chat.next_token(rows)[:, self.tokens].double().softmax(-1)
        return np.asarray(chances.numpy() @ LEVELS)

    def describe(self) -> Mapping[str, Any]:
        """Everything that can change a score."""
        return {
            **self.chat.describe(),
            "question": self.question,
            "answer": self.stem,
            "convention": "q-realign: softmax over five words, 1 to 0",
        }
