"""Answers: what a language model makes of a prompt, with the numbers that objectives can read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

FLOOR = -100.0  # the log-probability of each token, and minus the divergence, of an answer whose numbers are not finite


@dataclass(frozen=True)
class Likelihood:
    """How likely a given text is after a prompt.

    Attributes:
        text: The text.
        logprob: The sum of the log-probabilities of its tokens, in nats.
        num_tokens: The number of its tokens, each of which was given the tokens before it.
        greedy: Whether every token was the most likely one, so that greedy decoding would have begun with this text.
        bias: Of an option, what is subtracted from `logprob` before options are compared, in nats: a share of its
            log-probability without the prompt.
    """

    text: str
    logprob: float
    num_tokens: int
    greedy: bool
    bias: float = 0.0

    @property
    def unbiased(self) -> float:
        """The log-probability less the bias, by which options are compared, in nats."""
        return self.logprob - self.bias

    @property
    def num_bytes(self) -> int:
        """The length of the text in bytes of UTF-8, by which harnesses normalise log-likelihoods."""
        return len(self.text.encode("utf-8", "surrogatepass"))

    @property
    def per_token(self) -> float:
        """The mean log-probability of a token; `exp(-per_token)` is the perplexity."""
        return self.logprob / max(self.num_tokens, 1)


@dataclass(frozen=True)
class Answer:
    """The output of a language model for one prompt. `str(answer)` is its text.

    Attributes:
        text: What the model said: the generated text; or, if likelihoods were computed instead, the most likely of the
            prompt's options, or the most likely token at each place of its answer.
        tokens: The token ids of the text; empty if they are not known.
        logprobs: The log-probability of each of these tokens; empty if they are not known.
        ended: Whether the text ended by itself, and was not cut off at a length; None if nothing was generated.
        reference: How likely the prompt's own answer is, or the prompt itself if it is prose; None if not computed.
        options: How likely each of the prompt's options is, in their order; empty if not computed.
        divergence: The mean over the tokens of `reference` of the Kullback-Leibler divergence, in nats, of this
            candidate's distribution from the neutral model's; None if not computed.
    """

    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    ended: bool | None = None
    reference: Likelihood | None = None
    options: tuple[Likelihood, ...] = ()
    divergence: float | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def likelihoods(self) -> Iterator[Likelihood]:
        """Yield the likelihoods of the reference and of the options."""
        if self.reference is not None:
            yield self.reference
        yield from self.options

    @property
    def finite(self) -> bool:
        """Whether every number is finite."""
        numbers = [*self.logprobs, *(each.unbiased for each in self.likelihoods), self.divergence or 0.0]
        return all(map(math.isfinite, numbers))

    def failed(self) -> Answer:
        """Return the same answer without a text and at the bottom of every scale, for a candidate that failed."""

        def bottom(each: Likelihood) -> Likelihood:
            return replace(each, logprob=FLOOR * each.num_tokens, greedy=False, bias=0.0)

        return Answer(
            "",
            ended=self.ended,
            reference=None if self.reference is None else bottom(self.reference),
            options=tuple(map(bottom, self.options)),
            divergence=None if self.divergence is None else -FLOOR,
        )

    def differs(self, other: Answer, share: float) -> bool:
        """Return whether another answer of the same candidate, prompt and seed differs by more than rounding.

        The log-probabilities must agree. Two texts may differ from the first token on that was as likely as another,
        because rounding then decides; without tokens, the texts must be equal.

        Args:
            other: The other answer.
            share: The largest difference of two log-probabilities, in units of the larger one, which counts as at
                least 1.
        """

        def apart(one: float | None, two: float | None) -> bool:
            if one is None or two is None:
                return one is not two
            return not abs(one - two) <= share * max(1.0, abs(one), abs(two))

        ours, theirs = list(self.likelihoods), list(other.likelihoods)
        if len(ours) != len(theirs) or apart(self.divergence, other.divergence):
            return True
        if any(
            (one.text, one.num_tokens) != (two.text, two.num_tokens)
            or apart(one.logprob, two.logprob)
            or apart(one.bias, two.bias)
            for one, two in zip(ours, theirs, strict=True)
        ):
            return True
        if not self.tokens or not other.tokens:
            return not ours and self.text != other.text
        pairs = zip(self.tokens, other.tokens, self.logprobs, other.logprobs, strict=False)
        for mine, yours, one, two in pairs:
            if apart(one, two):
                return True
            if mine != yours:
                return False
        return not ours and len(self.tokens) != len(other.tokens)


def text_of(output: object) -> str:
    """Return the text of an output of a backbone that makes text: an `Answer`, or the text itself."""
    return str(output)
