"""Sums to add up, as records with an answer: the question of the shipped preset for a language model.

    12 + 34 = 46
    58 + 61 =                 answer " 119"

Two numbers belong to one split, whichever stands first, by the digest of both; so no sum of a search is ever a sum of
its test. The examples before a question are the same for all questions and are never asked.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from ..engine.bucket import PromptSet
from ..ground.errors import ConfigError
from .draws import Draws, split_of

Wording = Literal["equation", "question"]
#: Wording to what is asked, before and after the answer.
WORDINGS: Mapping[Wording, tuple[str, str]] = {
    "equation": ("{} + {} =", "\n"),
    "question": ("Q: What is {} plus {}?\nA:", "\n\n"),
}
DEFAULT = {"train": 1000, "validation": 128, "test": 300}
MOST_SHOTS = 16
_PATIENCE = 20_000  # draws without a new sum

Sum = tuple[int, int]


def addition_prompts(digits: int, shots: int, wording: Wording, numbers: Mapping[str, int | None]) -> PromptSet:
    """Generate training, validation and test questions.

    Args:
        digits: Digits of both numbers.
        shots: The number of worked examples before each question.
        wording: How it is asked.
        numbers: Split to the number of questions, or None for at most `DEFAULT`.

    Raises:
        ConfigError: If more questions are asked for than there are.
    """
    examples = list(itertools.islice(_sums(digits, "train", set()), shots))
    if len(examples) < shots:
        raise ConfigError(f"prompts 'addition': there are no {shots} examples of {digits} digits; give fewer shots")
    asked, after = WORDINGS[wording]
    beginning = "".join(f"{asked.format(*each)} {sum(each)}{after}" for each in examples)
    pools: dict[str, tuple[str, ...]] = {}
    metadata: dict[str, dict[str, Any]] = {}
    for split, default in DEFAULT.items():
        asked_for = numbers.get(split)
        found = list(itertools.islice(_sums(digits, split, set(map(_unordered, examples))), asked_for or default))
        if len(found) < (asked_for or 1):
            raise ConfigError(
                f"prompts 'addition' have {len(found)} {split} questions of {digits} digits, not {asked_for or 1}; set "
                f"num_{split} to at most {len(found)}, or more digits"
            )
        said = {beginning + asked.format(*each): {"answer": f" {sum(each)}"} for each in found}
        pools[split], metadata = tuple(said), metadata | said
    return PromptSet(pools["train"], pools["validation"], pools["test"], source="prompts 'addition'", metadata=metadata)


def _sums(digits: int, split: str, known: set[Sum]) -> Iterator[Sum]:
    """Draw the sums of a split, each once, until no new ones come."""
    numbers, known, misses = range(10 ** (digits - 1), 10**digits), set(known), 0
    for index in itertools.count():
        draws = Draws("addition", digits, split, index)
        drawn = (draws.pick(numbers), draws.pick(numbers))
        if split_of(*map(str, drawn)) == split and _unordered(drawn) not in known:
            known.add(_unordered(drawn))
            yield drawn
            misses = 0
        elif (misses := misses + 1) == _PATIENCE:
            return


def _unordered(both: Sum) -> Sum:
    return min(both), max(both)
