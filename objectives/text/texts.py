"""What every reward of texts needs: the texts of outputs, and what a record says of its prompt."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...engine.answer import Answer, Likelihood, text_of
from ...engine.seams import Objective, Output
from ...ground.errors import ScoreError
from ...ground.plain import quoted

Ignored = Literal["case", "punctuation", "whitespace", "articles"]
Part = Literal["whole", "first-line", "last-line", "first-number", "last-number"]
Normalise = Literal["none", "bytes", "tokens"]
CONVENTION = 1  # increased whenever a change of a definition changes a score
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|-?\.\d+")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b", re.IGNORECASE)
_FENCE = re.compile(r"^ {0,3}```[^\n`]*\n(.*?)(?:^ {0,3}```|\Z)", re.DOTALL | re.MULTILINE)


class TextObjective(Objective):
    """A reward of texts. A subclass gives `worth`, or overrides `score`.

    Args:
        name: The name of the reward, for messages.
        **said: Its options, for `describe`.
    """

    reads: tuple[str, ...] = ("text", "written")

    def __init__(self, name: str, **said: Any) -> None:
        self.name, self._said = name, said
        self._records: Mapping[str, Mapping[str, Any]] = {}

    def worth(self, output: Output, prompt: str) -> float:
        """Return the score of one output."""
        raise NotImplementedError

    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Score texts. See `Objective.score`.

        Raises:
            ScoreError: If an output is no text, or it or the prompt's record lacks what the score is computed from.
        """
        for output in outputs:
            self.text(output)
        return np.array([self.worth(*each) for each in zip(outputs, prompts, strict=True)], dtype=np.float64)

    def describe(self) -> Mapping[str, Any]:
        """Describe the version of the definition and the options. See `Objective.describe`."""
        return {"convention": CONVENTION, **self._said}

    def text(self, output: Output) -> str:
        """Return the text of an output.

        Raises:
            ScoreError: If the output is no text.
        """
        if not isinstance(output, (str, Answer)):
            kind = f"{type(output).__module__}.{type(output).__qualname__}".removeprefix("builtins.")
            raise ScoreError(f"objective {self.name!r} scores texts, but got {kind}; choose a reward of what is made")
        return text_of(output)

    def said_of(self, prompt: str, key: str) -> Any:
        """Return a value of a prompt's record.

        Raises:
            ScoreError: If the prompt has no such value.
        """
        found = self._records.get(prompt, {}).get(key)
        if found is None:
            raise ScoreError(
                f"objective {self.name!r} needs the `{key}` of every prompt, and the record of {quoted(prompt)} "
                "has none"
            )
        return found

    def answer_to(self, prompt: str) -> str:
        """Return the answer of a prompt's record.

        Raises:
            ScoreError: If there is none, or it is no text.
        """
        return self.text_said_of(prompt, "answer")

    def text_said_of(self, prompt: str, key: str) -> str:
        """Return a value of a prompt's record that must be text.

        Raises:
            ScoreError: If there is none, or it is no text.
        """
        found = self.said_of(prompt, key)
        if not isinstance(found, str):
            kind = type(found).__name__
            raise ScoreError(f"objective {self.name!r}: the `{key}` of {quoted(prompt)} is a {kind}; give text")
        return found


class KeyedObjective(TextObjective):
    """A reward of texts that reads the records of prompts.

    Args:
        name: The name of the reward, for messages.
        needs: The keys that every record must hold.
        **said: Its options, for `describe`.
    """

    def __init__(self, name: str, needs: Sequence[str], **said: Any) -> None:
        super().__init__(name, **said)
        self.needs = tuple(needs)

    @property
    def takes_metadata(self) -> bool:
        """Whether anything is read of the records, so that they belong to the objective's identity."""
        return bool(self.needs)

    def prepare(self, metadata: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep the records. See `Objective.prepare`."""
        self._records = metadata


class ByLikelihood(KeyedObjective):
    """A reward that reads how likely given texts are.

    Args:
        name: The name of the reward, for messages.
        needs: The keys that every record must hold.
        normalise: What a log-probability is divided by.
        **said: Other options, for `describe`.
    """

    reads = ("text", "reference")

    def __init__(self, name: str, needs: Sequence[str] = (), normalise: Normalise = "none", **said: Any) -> None:
        super().__init__(name, needs, **said, normalise=normalise)
        self.normalise = normalise

    def level(self, each: Likelihood) -> float:
        """Return the log-probability of a text, less an option's bias, divided as `normalise` says; in nats."""
        parts = {"none": 1, "bytes": max(each.num_bytes, 1), "tokens": max(each.num_tokens, 1)}
        return each.unbiased / parts[self.normalise]

    def reference(self, output: Output, prompt: str) -> Likelihood:
        """Return how likely the prompt's own answer is.

        Raises:
            ScoreError: If the output does not hold it.
        """
        if not isinstance(output, Answer) or output.reference is None:
            raise self.lacking("how likely the answer is", prompt)
        return output.reference

    def options(self, output: Output, prompt: str) -> dict[str, float]:
        """Return the level of each option of the prompt.

        Raises:
            ScoreError: If the output does not hold them.
        """
        if not isinstance(output, Answer) or not output.options:
            raise self.lacking("how likely each of its `options` is", prompt)
        return {each.text: self.level(each) for each in output.options}

    def lacking(self, what: str, prompt: str) -> ScoreError:
        """Return the error for an output that lacks what is read of it."""
        return ScoreError(
            f"objective {self.name!r} needs {what}, which the output of {quoted(prompt)} does not hold; let the "
            f"adapter compute likelihoods (mode: likelihood) of records that have them"
        )


def normal_form(ignore: Sequence[Ignored], part: Part) -> Callable[[str], str | None]:
    """Return the function that brings a text into the form in which it is compared.

    Args:
        ignore: What does not count: `case`; `punctuation` (of ASCII); `whitespace` (its amount, and any at the ends);
            `articles` (a, an, the).
        part: What is compared: the whole text; its first or last line that is not blank; its first or last number,
            of which `1,000`, `1000` and `1000.0` are the same.

    Returns:
        A function that returns None for a text without such a part.
    """

    def form(text: str) -> str | None:
        found = part_of(text, part)
        if found is None or part in ("first-number", "last-number"):
            return found
        if "case" in ignore:
            found = found.casefold()
        if "punctuation" in ignore:
            found = found.translate(_PUNCTUATION)
        if "articles" in ignore:
            found = _ARTICLES.sub(" ", found)
        return " ".join(found.split()) if "whitespace" in ignore else found

    return form


def part_of(text: str, part: Part) -> str | None:
    """Return a part of a text, or None if the text has no such part."""
    if part == "whole":
        return text
    if part in ("first-number", "last-number"):
        numbers = _NUMBER.findall(text)
        return _plain_number(numbers[0 if part == "first-number" else -1]) if numbers else None
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[0 if part == "first-line" else -1] if lines else None


def _plain_number(text: str) -> str:
    """Return a number in one way of writing it: without commas, zeros that say nothing, or minus zero."""
    whole, _, rest = text.replace(",", "").partition(".")
    sign, digits, rest = whole.startswith("-"), whole.lstrip("-").lstrip("0") or "0", rest.rstrip("0")
    plain = f"{digits}.{rest}" if rest else digits
    return f"-{plain}" if sign and plain != "0" else plain


def unfenced(text: str) -> str:
    """Return what stands in the first block of a text between lines of three backticks, or the text without one."""
    found = _FENCE.search(text)
    return found[1] if found else text


def json_of(text: str) -> Any:
    """Return the JSON value that a text is.

    Raises:
        ValueError: If it is none; NaN and Infinity are none.
    """

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
