"""Rewards computed from how likely given texts are; the adapter must compute likelihoods. All are in nats.

Lengths in bytes, as language model evaluation harnesses use them, do not depend on the tokenizer; see Gao (2021),
"Multiple Choice Normalization in LM Evaluation".
"""

from __future__ import annotations

import math
from typing import Literal

from ...engine.answer import FLOOR, Answer
from ...engine.seams import Output
from ...ground.errors import ScoreError
from ...ground.plain import quoted
from .texts import ByLikelihood, Normalise

MOST_NATS = 200.0  # a token; so that a perplexity is a number that can be calculated with


class MultipleChoice(ByLikelihood):
    """Whether the prompt's answer is the most likely of its options.

    Args:
        normalise: What log-probabilities are divided by before they are compared.
        measure: `accuracy`: 1 if the answer is more likely than every other option, else 0. `probability`: the
            answer's share of exp(level), from 0 to 1.
    """

    reads = ("text", "options")

    def __init__(self, normalise: Normalise, measure: Literal["accuracy", "probability"]) -> None:
        super().__init__("multiple-choice", ("answer", "options"), normalise, measure=measure)
        self._measure = measure

    def worth(self, output: Output, prompt: str) -> float:
        """See `TextObjective.worth`."""
        right, others = _right_and_others(self, output, prompt)
        if _failed(output):
            return 0.0
        if self._measure == "accuracy":
            return float(right > max(others))
        return 1 / (1 + math.fsum(math.exp(min(other - right, 700.0)) for other in others))


class Margin(ByLikelihood):
    """The level of the prompt's answer minus that of the best other option: positive if the answer would be chosen.

    Args:
        normalise: What log-probabilities are divided by.
    """

    reads = ("text", "options")

    def __init__(self, normalise: Normalise) -> None:
        super().__init__("margin", ("answer", "options"), normalise)

    def worth(self, output: Output, prompt: str) -> float:
        """See `TextObjective.worth`."""
        right, others = _right_and_others(self, output, prompt)
        return right - (0.0 if _failed(output) else max(others))


class LogLikelihood(ByLikelihood):
    """The log-probability of the prompt's answer, or of the prompt itself if it is prose.

    Args:
        normalise: What it is divided by.
    """

    def __init__(self, normalise: Normalise) -> None:
        super().__init__("log-likelihood", (), normalise)

    def worth(self, output: Output, prompt: str) -> float:
        """See `TextObjective.worth`."""
        return self.level(self.reference(output, prompt))


class Perplexity(ByLikelihood):
    """Minus the perplexity of a text, exp(minus its mean log-probability a token): higher is better."""

    def __init__(self) -> None:
        super().__init__("perplexity")

    def worth(self, output: Output, prompt: str) -> float:
        """See `TextObjective.worth`."""
        return -math.exp(min(-self.reference(output, prompt).per_token, MOST_NATS))


class BitsPerByte(ByLikelihood):
    """Minus the bits of a text for each of its bytes in UTF-8: higher is better, whatever the tokenizer."""

    def __init__(self) -> None:
        super().__init__("bits-per-byte")

    def worth(self, output: Output, prompt: str) -> float:
        """See `TextObjective.worth`."""
        found = self.reference(output, prompt)
        return found.logprob / (math.log(2) * max(found.num_bytes, 1))


class KLToNeutral(ByLikelihood):
    """Minus the Kullback-Leibler divergence from the neutral model, a token: 0 if nothing changed, else negative."""

    reads = ("text", "divergence")

    def __init__(self) -> None:
        super().__init__("kl-to-neutral")

    def worth(self, output: Output, prompt: str) -> float:
        """See `TextObjective.worth`."""
        if not isinstance(output, Answer) or output.divergence is None:
            raise self.lacking("the divergence from the neutral model", prompt)
        return 0.0 - output.divergence


def _failed(output: Output) -> bool:
    """Return whether all likelihoods are those of `Answer.failed`, among which the shortest text would win."""
    assert isinstance(output, Answer), "checked before"
    return all(each.logprob == FLOOR * each.num_tokens for each in output.options)


def _right_and_others(objective: ByLikelihood, output: Output, prompt: str) -> tuple[float, list[float]]:
    """Return the level of the answer, and those of the other options."""
    levels, answer = objective.options(output, prompt), objective.answer_to(prompt)
    if answer not in levels:
        raise ScoreError(
            f"objective {objective.name!r}: the answer of {quoted(prompt)} is none of the {len(levels)} options whose "
            f"likelihoods its output holds"
        )
    others = [level for text, level in levels.items() if text != answer]
    if not others:
        raise ScoreError(f"objective {objective.name!r}: {quoted(prompt)} has no option beside its answer")
    return levels[answer], others
