"""Rewards of texts: answers compared, likelihoods, form, code that is run, a judge, and statistics to watch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, PositiveInt

from ...engine.hooks import Factory, Register, hookimpl
from ...engine.seams import Objective
from ..asking import LONGEST_WAIT, SHORTEST_WAIT

Ignored = Literal["case", "punctuation", "whitespace", "articles"]
Part = Literal["whole", "first-line", "last-line", "first-number", "last-number"]
Normalise = Literal["none", "bytes", "tokens"]
USUALLY: tuple[Ignored, ...] = ("case", "punctuation", "whitespace")
Several = Annotated[int, Field(ge=1, le=64)]


def make_exact_match(*, ignore: list[Ignored] | None = None, take: Part = "whole") -> Objective:
    """Whether a text equals the prompt's answer; without `ignore`, case, punctuation and white space do not count."""
    from .matching import ExactMatch

    return ExactMatch(USUALLY if ignore is None else ignore, take)


def make_contains(*, ignore: list[Ignored] | None = None) -> Objective:
    """Whether a text contains the prompt's answer; without `ignore`, case, punctuation and space do not count."""
    from .matching import Contains

    return Contains(USUALLY if ignore is None else ignore)


def make_regex(*, pattern: str | None = None, whole: bool = False) -> Objective:
    """Whether a regular expression matches a text; without `pattern`, that of the prompt's record."""
    from .matching import Matches

    return Matches(pattern, whole)


def make_multiple_choice(
    *, normalise: Normalise = "none", measure: Literal["accuracy", "probability"] = "accuracy"
) -> Objective:
    """Whether the prompt's answer is the most likely of its options, or its probability among them."""
    from .likelihoods import MultipleChoice

    return MultipleChoice(normalise, measure)


def make_margin(*, normalise: Normalise = "none") -> Objective:
    """The log-probability of the prompt's answer minus that of the best other option, in nats."""
    from .likelihoods import Margin

    return Margin(normalise)


def make_log_likelihood(*, normalise: Normalise = "none") -> Objective:
    """The log-probability of the prompt's answer, or of the prompt if it is prose, in nats: at most 0."""
    from .likelihoods import LogLikelihood

    return LogLikelihood(normalise)


def make_perplexity() -> Objective:
    """Minus the perplexity of the prompt's answer, or of the prompt if it is prose: at most -1."""
    from .likelihoods import Perplexity

    return Perplexity()


def make_bits_per_byte() -> Objective:
    """Minus the bits for each byte of the prompt's answer, or of the prompt if it is prose: at most 0."""
    from .likelihoods import BitsPerByte

    return BitsPerByte()


def make_kl_to_neutral() -> Objective:
    """Minus the Kullback-Leibler divergence from the neutral model, in nats a token: 0 if nothing changed."""
    from .likelihoods import KLToNeutral

    return KLToNeutral()


def make_json(*, schema: Path | None = None, by_prompt: bool = False, fenced: bool = True) -> Objective:
    """Whether a text is valid JSON, and valid by a schema in a file or in the prompt's record."""
    from .structured import ValidJson

    return ValidJson(schema, by_prompt, fenced)


def make_unit_tests(
    *,
    allow_execution: bool = False,
    with_prompt: bool = False,
    timeout: Annotated[float, Field(ge=0.1, le=3600)] = 10.0,
    memory: Annotated[int, Field(ge=64, le=1 << 20)] = 1024,
) -> Objective:
    """Whether code passes the `tests` of the prompt's record: EXECUTES what the model writes; it must be allowed."""
    from .execution import UnitTests

    return UnitTests(allow_execution, with_prompt, timeout, memory)


def make_judge(
    *,
    url: str,
    model: str,
    template: str | None = None,
    system: str | None = None,
    pattern: str | None = None,
    low: FiniteFloat = 0.0,
    high: FiniteFloat = 10.0,
    unparsed: FiniteFloat | None = None,
    max_tokens: PositiveInt = 512,
    parallel: Several = 4,
    timeout: Annotated[float, Field(ge=SHORTEST_WAIT, le=LONGEST_WAIT)] = 600.0,
    patience: Annotated[float, Field(ge=0, le=LONGEST_WAIT)] = 120.0,
    token_env: str = "TRIMPOT_JUDGE_TOKEN",
) -> Objective:
    """A chat model behind a server that speaks OpenAI's chat completions, which scores texts from `low` to `high`."""
    from .judge import PATTERN, TEMPLATE, Judge, token_in

    return Judge(
        url=url,
        model=model,
        template=TEMPLATE if template is None else template,
        system=system,
        pattern=PATTERN if pattern is None else pattern,
        low=low,
        high=high,
        unparsed=unparsed,
        max_tokens=max_tokens,
        parallel=parallel,
        timeout=timeout,
        patience=patience,
        token=token_in(token_env),
    )


def make_length(*, unit: Literal["characters", "words", "tokens", "log-words"] = "words") -> Objective:
    """The length of a text, to watch."""
    from .statistics import Length

    return Length(unit)


def make_repetition(*, n: Several = 4) -> Objective:
    """The share of a text's n-grams of words that it has held before, to watch."""
    from .statistics import TextStatistic, repetition

    return TextStatistic("repetition", lambda text: repetition(text, n), n=n)


def make_distinct_n(*, n: Several = 2) -> Objective:
    """The share of a text's n-grams of words that are different, to watch (arXiv 1510.03055)."""
    from .statistics import TextStatistic, distinct

    return TextStatistic("distinct-n", lambda text: distinct(text, n), n=n)


def make_refusals() -> Objective:
    """Whether a text begins like a refusal in English, by a short list of phrases, to watch."""
    from .statistics import TextStatistic, refuses

    return TextStatistic("refusals", refuses)


REWARDS: dict[str, Factory] = {
    "bits-per-byte": make_bits_per_byte,
    "contains": make_contains,
    "distinct-n": make_distinct_n,
    "exact-match": make_exact_match,
    "json": make_json,
    "judge": make_judge,
    "kl-to-neutral": make_kl_to_neutral,
    "length": make_length,
    "log-likelihood": make_log_likelihood,
    "margin": make_margin,
    "multiple-choice": make_multiple_choice,
    "perplexity": make_perplexity,
    "refusals": make_refusals,
    "regex": make_regex,
    "repetition": make_repetition,
    "unit-tests": make_unit_tests,
}


@hookimpl
def register_objectives(register: Register) -> None:
    """Register the rewards of texts."""
    for name, factory in REWARDS.items():
        register(name, factory)
