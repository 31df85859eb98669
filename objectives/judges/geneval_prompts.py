"""GenEval's prompts as a prompt set: the benchmark for the test, other prompts of its grammar for the search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np

from ...engine.bucket import PromptSet
from ...ground.errors import ConfigError
from .geneval_scenes import Tag, benchmark, draw, parse, phrase

_PATIENCE = 2000


def prompt_set(tags: Sequence[Tag] | None, train: int, validation: int, seed: int) -> PromptSet:
    """Draw training and validation prompts; the test prompts are the benchmark's.

    Only the test prompts hold single objects, because the benchmark contains all eighty of these prompts.

    Args:
        tags: The benchmark's categories to use; None uses all.
        train: The number of training prompts in each category.
        validation: The number of validation prompts in each category.
        seed: The seed of the draw.

    Raises:
        ConfigError: If a category has too few prompts left outside the benchmark.
    """
    chosen = tuple(tags or get_args(Tag))
    drawable = [tag for tag in chosen if tag != "single_object"]
    if not drawable:
        raise ConfigError("prompts 'geneval': the benchmark holds every prompt of single_object; name another tag too")
    test = [prompt for prompt in benchmark() if parse(prompt).tag in chosen]
    taken = dict.fromkeys(benchmark())
    found, held_out = (
        tuple(
            prompt
            for tag in drawable
            for prompt in _fresh(tag, count, taken, np.random.default_rng([seed, stage, get_args(Tag).index(tag)]))
        )
        for stage, count in enumerate((train, validation))
    )
    return PromptSet(found, held_out, tuple(test), source="prompts 'geneval'")


def _fresh(tag: Tag, count: int, taken: dict[str, None], rng: np.random.Generator) -> list[str]:
    found: list[str] = []
    misses = 0
    while len(found) < count and misses < _PATIENCE:
        prompt = phrase(draw(tag, rng))
        misses = misses + 1 if prompt in taken else 0
        if prompt not in taken:
            taken[prompt] = None
            found.append(prompt)
    if len(found) < count:
        raise ConfigError(
            f"prompts 'geneval': only {len(found)} more prompts of {tag} were found; ask for {len(found)}"
        )
    return found
