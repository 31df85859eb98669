"""VQAScore: the probability with which a question-answering model says that the picture shows the prompt.

    score = P("Yes" | picture, 'Does this figure show "{prompt}"? Please answer Yes or No.')

The probability is that of the answer's first token, from the softmax over the whole vocabulary, in [0, 1]. The
published CLIP-FlanT5 computes a slightly different number (see `clip_flant5`); the two are not comparable.

Source: Lin et al., "Evaluating Text-to-Visual Generation with Image-to-Text Generation", arXiv 2404.01291, eq. 1;
https://github.com/linzhiqiu/t2v_metrics, version 3.1, its Qwen models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.seams import Objective, Output
from ...ground.errors import ConfigError, ScoreError
from ..hosting import awake
from ..images import PICTURES, rgb
from .chat import Chat

QUESTION = 'Does this figure show "{}"? Please answer Yes or No.'


class VQAScore(Objective):
    """The probability that a picture shows its prompt, according to a chat model.

    Args:
        chat: An instruction-tuned model of the Qwen family.
        question: The question, with {} in place of the prompt.

    Raises:
        ScoreError: If "Yes" is not a single token of the model.
    """

    reads = PICTURES

    def __init__(self, chat: Chat, *, question: str = QUESTION) -> None:
        self.chat, self.host, self.question = chat, chat.host, checked_question(question)
        yes = chat.reader.tokenizer("Yes", add_special_tokens=False).input_ids
        if len(yes) != 1:
            raise ScoreError(f'{chat.weights.model} writes "Yes" in {len(yes)} tokens; give a model with one for it')
        self.yes = yes[0]

    @awake
    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Return the probability of "Yes" for each output. See `Objective.score`."""
        rows = [
            self.chat.reader.read(picture, self.question.replace("{}", prompt), prompt, enable_thinking=False)
            for picture, prompt in zip(rgb(outputs), prompts, strict=True)
        ]
        return np.asarray(self.chat.next_token(rows).double().softmax(-1)[:, self.yes].numpy())

    def describe(self) -> Mapping[str, Any]:
        """Describe everything that can change a score. See `Objective.describe`."""
        return {**self.chat.describe(), "question": self.question, "convention": "vqascore: P(Yes) of the next token"}


def checked_question(question: str) -> str:
    """Check that a question holds {} exactly once, in place of the prompt, and return the question.

    Raises:
        ConfigError: If the question does not.
    """
    if question.count("{}") != 1:
        raise ConfigError(f"the question {question!r} needs {{}} once, in place of the prompt")
    return question
