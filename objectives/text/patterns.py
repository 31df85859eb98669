"""Regular expressions that a configuration or a record gives, which might take forever, with a limit of time.

Python's own `re` checks an expression, and the library `regex`, which can be told to stop, matches it: it is taken only
if both understand the same by it.
"""

from __future__ import annotations

import re
import warnings
from functools import partial
from typing import Any

from ...ground.errors import ConfigError, ScoreError
from ...ground.plain import quoted, short

SECONDS = 10.0  # of one text; an honest expression takes milliseconds
#: What `re` takes as it stands, and `regex` as a number of allowed errors, such as `{e<=1}`.
_ERRORS = re.compile(r"(?<!\\)\{\s*(?:\d+\s*<=?\s*)?[eids]\s*[<}:,+]")


class Pattern:
    """A regular expression with a limit of time.

    Args:
        pattern: The expression.
        whose: Whose it is, for an error message.
        error: The class of the error to raise.

    Raises:
        TrimpotError: Of the class `error`, if it is no regular expression, or can be understood in two ways.
    """

    def __init__(self, pattern: str, whose: str, error: type[ConfigError | ScoreError] = ConfigError) -> None:
        import regex

        self._whose, self._pattern = whose, pattern
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                re.compile(pattern)
                self._compiled = regex.compile(pattern)
        except Warning as problem:
            said = str(problem).partition(" at position")[0].lower()
            raise error(
                f"{whose} {short(pattern)} can be understood in two ways ({said}); write a backslash before a bracket "
                f"or sign that stands for itself"
            ) from None
        except (re.error, regex.error, RecursionError, OverflowError, MemoryError) as problem:
            raise error(f"{whose} {short(pattern)} is no regular expression: {problem}") from None
        if _ERRORS.search(pattern):
            raise error(
                f"{whose} {short(pattern)} can be understood in two ways; write \\{{ for a brace that stands for itself"
            )

    def search(self, text: str) -> Any:
        """Return the first match in a text, or None.

        Raises:
            ScoreError: If it takes longer than `SECONDS`.
        """
        return self._within(partial(self._compiled.search, text), text)

    def fullmatch(self, text: str) -> Any:
        """Return the match of a whole text, or None.

        Raises:
            ScoreError: If it takes longer than `SECONDS`.
        """
        return self._within(partial(self._compiled.fullmatch, text), text)

    def found(self, text: str) -> list[str | None]:
        """Return every match in a text: its first group if the expression has groups, else the whole match.

        Raises:
            ScoreError: If it takes longer than `SECONDS`.
        """
        matches = self._within(lambda timeout: list(self._compiled.finditer(text, timeout=timeout)), text)
        return [match[1] if self._compiled.groups else match[0] for match in matches]

    def _within(self, match: Any, text: str) -> Any:
        try:
            return match(timeout=SECONDS)
        except TimeoutError:
            raise ScoreError(
                f"{self._whose} {short(self._pattern)} takes more than {SECONDS:g} s on the text {quoted(text)}; write "
                f"it so that no repetition holds another that matches the same characters"
            ) from None
