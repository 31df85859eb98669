"""Rewards that compare a text with the answer of the prompt's record, or with a pattern."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from ...engine.answer import Answer
from ...engine.seams import Output
from ...ground.errors import ScoreError
from ...ground.plain import quoted
from .patterns import Pattern
from .texts import Ignored, KeyedObjective, Part, normal_form


class ExactMatch(KeyedObjective):
    """1 if a text equals the prompt's answer in the form in which both are compared, else 0.

    If the adapter computed the likelihood of the answer and generated nothing, 1 if greedy decoding would have begun
    with the answer (teacher forcing).

    Args:
        ignore: What does not count; see `texts.normal_form`.
        take: The part that is compared.
    """

    reads = ("text",)  # with likelihoods, the most likely token at each place: a teacher-forced match

    def __init__(self, ignore: Sequence[Ignored], take: Part) -> None:
        super().__init__("exact-match", ("answer",), ignore=sorted(set(ignore)), take=take)
        self._take, self._form = take, normal_form(ignore, take)

    def worth(self, output: Output, prompt: str) -> float:
        """See `TextObjective.worth`."""
        if isinstance(output, Answer) and output.ended is None and output.reference and not output.options:
            return float(output.reference.greedy)
        return float(self._form(self.text(output)) == _wanted(self, self._form(self.answer_to(prompt)), prompt))


class Contains(KeyedObjective):
    """1 if a text contains the prompt's answer, else 0.

    Args:
        ignore: What does not count; see `texts.normal_form`.
    """

    def __init__(self, ignore: Sequence[Ignored]) -> None:
        super().__init__("contains", ("answer",), ignore=sorted(set(ignore)))
        self._form = normal_form(ignore, "whole")

    def worth(self, output: Output, prompt: str) -> float:
        """See `TextObjective.worth`."""
        wanted = _wanted(self, self._form(self.answer_to(prompt)), prompt)
        return float(wanted in (self._form(self.text(output)) or ""))


class Matches(KeyedObjective):
    """1 if a regular expression matches somewhere in a text, else 0.

    Args:
        pattern: The expression; None takes the `pattern` of each prompt's record.
        whole: Whether the whole text must match.

    Raises:
        ConfigError: If the pattern is no regular expression.
    """

    def __init__(self, pattern: str | None, whole: bool) -> None:
        super().__init__("regex", () if pattern is not None else ("pattern",), pattern=pattern, whole=whole)
        self._whole = whole
        self._own = None if pattern is None else Pattern(pattern, "objective 'regex': option pattern")
        self._compiled = functools.lru_cache(4096)(Pattern)

    def worth(self, output: Output, prompt: str) -> float:
        """See `TextObjective.worth`."""
        whose = f"objective 'regex': the `pattern` of {quoted(prompt)},"
        own = self._own or self._compiled(self.text_said_of(prompt, "pattern"), whose, ScoreError)
        text = self.text(output)
        return float((own.fullmatch(text) if self._whole else own.search(text)) is not None)


def _wanted(objective: KeyedObjective, form: str | None, prompt: str) -> str:
    """Return what a text is compared with.

    Raises:
        ScoreError: If nothing is left of the answer to compare with, so that any text would match or none could.
    """
    if not form or not form.strip():
        raise ScoreError(
            f"objective {objective.name!r}: nothing is left of the answer of {quoted(prompt)} to compare with; change "
            f"its options"
        )
    return form
