"""Statistics of texts, to watch while another reward is optimised: do answers become long, repetitive, or refusals?

Where an adapter computed likelihoods and generated nothing, there is no text to measure, and each statistic is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from ...engine.answer import Answer
from ...engine.seams import Output
from ...ground.errors import ScoreError
from ...ground.plain import quoted
from .texts import TextObjective

Unit = Literal["characters", "words", "tokens", "log-words"]
MOST_DOUBLINGS = 16.0  # 65,535 words have a length of 1 on the logarithmic scale

#: Beginnings and phrases of refusals in English, in lower case, with a plain apostrophe.
REFUSALS = (
    "i'm sorry, but", "i am sorry, but", "i apologize, but", "sorry, i can't", "sorry, but i can't",
    "i cannot", "i can't", "i can not", "i am unable", "i'm unable", "i am not able", "i'm not able", "i won't",
    "i will not", "as an ai", "as a language model", "as an artificial intelligence", "it is not appropriate",
    "it's not appropriate", "i must decline", "against my programming",
)  # fmt: skip
_APOSTROPHES = str.maketrans({"\N{RIGHT SINGLE QUOTATION MARK}": "'", "\N{MODIFIER LETTER APOSTROPHE}": "'"})
BEGINNING = 200  # characters of a text in which a refusal is looked for


def repetition(text: str, size: int) -> float:
    """The share of n-grams of words that the text has held before: 0 if none is repeated."""
    grams = _grams(text, size)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def distinct(text: str, size: int) -> float:
    """The number of different n-grams of words divided by that of all (Li et al. 2016, arXiv 1510.03055)."""
    grams = _grams(text, size)
    return len(set(grams)) / len(grams) if grams else 0.0


def refuses(text: str) -> float:
    """1 if one of the phrases `REFUSALS` stands in the first 200 characters, else 0."""
    beginning = text.strip()[:BEGINNING].translate(_APOSTROPHES).casefold()
    return float(any(phrase in beginning for phrase in REFUSALS))


class TextStatistic(TextObjective):
    """A statistic of texts; it ignores the prompt.

    Args:
        name: The name of the statistic.
        measure: Computes it.
        **said: Its options.
    """

    def __init__(self, name: str, measure: Callable[[str], float], **said: int) -> None:
        super().__init__(name, **said)
        self._measure = measure

    def worth(self, output: Output, prompt: str) -> float:
        """See `TextObjective.worth`."""
        return 0.0 if nothing_generated(output) else self._measure(self.text(output))


class Length(TextObjective):
    """The length of a text.

    Args:
        unit: What is counted; tokens are those that the adapter reports. `log-words` is log2(1 + words) / 16, from 0
            to 1, so that the spread between short and long answers does not hide a change.
    """

    def __init__(self, unit: Unit) -> None:
        super().__init__("length", unit=unit)
        self._unit = unit

    def worth(self, output: Output, prompt: str) -> float:
        """See `TextObjective.worth`."""
        if nothing_generated(output):
            return 0.0
        text = self.text(output)
        if self._unit == "tokens":
            tokens = output.tokens if isinstance(output, Answer) else ()
            if text and not tokens:
                raise ScoreError(f"objective 'length': the output of {quoted(prompt)} has no tokens; take unit: words")
            return float(len(tokens))
        if self._unit == "characters":
            return float(len(text))
        words = len(text.split())
        return min(math.log2(1 + words) / MOST_DOUBLINGS, 1.0) if self._unit == "log-words" else float(words)


def nothing_generated(output: Output) -> bool:
    """Return whether an output holds likelihoods of given texts, and no text of its own."""
    return isinstance(output, Answer) and output.ended is None and any(True for _ in output.likelihoods)


def _grams(text: str, size: int) -> list[tuple[str, ...]]:
    words = text.split()
    return [tuple(words[begin : begin + size]) for begin in range(len(words) - size + 1)]
