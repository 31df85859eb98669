"""Prompts of our own grammar, in the manner of T2I-CompBench: attributes, numbers, relations, actions and scenes.

    color        a red bench and a yellow car
    shape        a round mirror and a triangular sandwich
    texture      a leather suitcase and a wooden chair
    numeracy     three apples | two dogs and five balloons
    spatial      a bird above a fence
    3d_spatial   a cat hidden by a basket
    non_spatial  a farmer is feeding a goat on a farm
    complex      a fluffy white cat on top of a round wooden table, with a red lamp nearby, in a library

Every word comes from a table, and nouns have only attributes that suit them. A pair of nouns belongs to one split, by
the digest of their names; so does a noun with its number. So no test prompt shares a pair of objects with a training
prompt, whatever their attributes. The draws are digests too: the same on every machine and in every version of Python.

Source of the categories: Huang et al., "T2I-CompBench++", arXiv 2307.06350, section 3.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from ..engine.bucket import PromptSet
from ..ground.errors import ConfigError, near_misses
from .draws import Draws
from .grammar import CATEGORIES, GRAMMAR, Category, Scene

DEFAULT = {"train": 640, "validation": 64, "test": 128}  # prompts of each category
MOST = 5_000  # prompts of a category in a split
_PATIENCE = 5_000  # draws without a new prompt


def compositional_prompts(categories: Sequence[str] | None, numbers: Mapping[str, int | None]) -> PromptSet:
    """Generate training, validation and test prompts; the categories alternate in every pool.

    Args:
        categories: The categories to use; None uses all.
        numbers: Split to the number of prompts, or None for `DEFAULT` of each category.

    Raises:
        ConfigError: If a category is unknown, or is asked for more prompts than there are.
    """
    for name in () if categories is None else categories:
        if name not in CATEGORIES:
            raise ConfigError(f"prompts 'compositional' have no category {name!r}; {near_misses(name, CATEGORIES)}")
    chosen = tuple(each for each in CATEGORIES if categories is None or each in categories)
    if not chosen:
        raise ConfigError(f"prompts 'compositional': categories is empty; give some of {', '.join(CATEGORIES)}")
    pools: dict[str, list[str]] = {}
    metadata: dict[str, dict[str, Any]] = {}
    for split, default in DEFAULT.items():
        asked = numbers.get(split)
        total = default * len(chosen) if asked is None else asked
        pools[split] = []
        shares = [len(range(index, total, len(chosen))) for index in range(len(chosen))]
        drawn = [_first(category, split, share) for category, share in zip(chosen, shares, strict=True)]
        for index in range(total):
            category = chosen[index % len(chosen)]
            scene = drawn[index % len(chosen)][index // len(chosen)]
            pools[split].append(scene.text)
            metadata[scene.text] = scene.metadata(category)
    train, validation, test = (tuple(pools[split]) for split in ("train", "validation", "test"))
    return PromptSet(train, validation, test, source="prompts 'compositional'", metadata=metadata)


def _first(category: Category, split: str, count: int) -> Sequence[Scene]:
    """Return the first scenes of a category and split."""
    if count > MOST:
        raise ConfigError(
            f"prompts 'compositional' make at most {MOST} {split} prompts of a category; set num_{split} to at most "
            f"{MOST} for each category"
        )
    found = _stream(category, split).first(count)
    if len(found) < count:
        raise ConfigError(
            f"prompts 'compositional' have {len(found)} {split} prompts of {category}, not {count}; set num_{split} to "
            f"at most {len(found)} for each category"
        )
    return found


class _Stream:
    """The distinct scenes of a category and split in their order, drawn as far as they were asked for.

    Args:
        category: The category.
        split: The split.
    """

    def __init__(self, category: Category, split: str) -> None:
        self._scenes: dict[str, Scene] = {}
        self._drawn = self._new(category, split)

    def _new(self, category: Category, split: str) -> Iterator[Scene]:
        misses = 0
        for index in itertools.count():
            scene = GRAMMAR[category](Draws(category, split, index), split)
            if scene is not None and scene.text not in self._scenes:
                yield scene
                misses = 0
            elif (misses := misses + 1) == _PATIENCE:
                return

    def first(self, count: int) -> list[Scene]:
        """Return the first scenes, or all if no new ones come."""
        while len(self._scenes) < count and (scene := next(self._drawn, None)):
            self._scenes[scene.text] = scene
        return list(itertools.islice(self._scenes.values(), count))


_stream = cache(_Stream)
