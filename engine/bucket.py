"""Buckets: the prompts and seeds that candidates are compared on.

A seed belongs to a prompt, never to a worker or a batch; every candidate of a group sees the same bucket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..ground.errors import ConfigError
from .knobs import digest


@dataclass(frozen=True)
class Bucket:
    """Prompts and one seed for each.

    Attributes:
        prompts: num_outputs prompts to generate from; a prompt may occur several times, with different seeds.
        seeds: One non-negative integer below 2**31 for each prompt.
    """

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.prompts) != len(self.seeds):
            raise ConfigError(f"a bucket of {len(self.prompts)} prompts needs as many seeds, not {len(self.seeds)}")

    def __len__(self) -> int:
        return len(self.prompts)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of prompts and seeds."""
        return digest([self.prompts, self.seeds])

    def head(self, num_outputs: int) -> Bucket:
        """Return the first `num_outputs` prompts with their seeds."""
        return Bucket(self.prompts[:num_outputs], self.seeds[:num_outputs])

    @property
    def num_prompts(self) -> int:
        """The number of different prompts."""
        return len(set(self.prompts))


def draw_bucket(prompts: Sequence[str], size: int, *key: int, seeds_per_prompt: int = 1) -> Bucket:
    """Draw prompts without replacement, and fresh seeds for each.

    If `size` exceeds the number of prompts, every prompt is used before any prompt is used again.

    Args:
        prompts: The pool.
        size: Number of seeds to draw.
        *key: Non-negative integers that name the draw (run seed, stage, generation); the same key always
            draws the same bucket, regardless of earlier draws.
        seeds_per_prompt: How many seeds each prompt gets, one after the other.
    """
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
    order: list[int] = []
    while len(order) < size:
        drawn = generator.permutation(len(prompts))[: size - len(order)]
        order.extend(int(index) for index in drawn for _ in range(seeds_per_prompt))
    seeds = generator.integers(0, 2**31, size=size)
    return Bucket(tuple(prompts[index] for index in order[:size]), tuple(int(seed) for seed in seeds))


@dataclass(frozen=True)
class PromptSet:
    """Three disjoint pools of prompts.

    Attributes:
        train: Prompts of the search's buckets.
        validation: Prompts on which the recommendation is chosen.
        test: Prompts on which the gain is measured, once.
        source: The origin of the prompts, as error messages name it.
        metadata: Prompt to the metadata that its file gives beside the text, JSON-like; only prompts that have any.
            Given to every objective before it scores; see `Objective.prepare`.
        watched: Name to other prompts that are only watched, of which the validation and the test prompts are used.

    Raises:
        ConfigError: If a pool is empty or two pools share a prompt.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    source: str = field(default="prompts", compare=False)
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    watched: Mapping[str, PromptSet] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        pools = {"train": self.train, "validation": self.validation, "test": self.test}
        for name, pool in pools.items():
            if not pool:
                raise ConfigError(f"{self.source}: the {name} prompts are empty; give at least one")
        for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
            shared = sorted(set(pools[first]) & set(pools[second]))
            if shared:
                raise ConfigError(
                    f"{self.source}: {len(shared)} prompt(s) stand in both the {first} and the {second} prompts, "
                    f"such as {shared[0]!r}; a gain can only be believed on prompts the search never saw"
                )

    @property
    def all(self) -> tuple[str, ...]:
        """Every prompt that is used, train first, then validation, test and watched prompts."""
        return (*self.train, *self.held_out, *(prompt for each in self.watched.values() for prompt in each.held_out))

    @property
    def held_out(self) -> tuple[str, ...]:
        """The validation and the test prompts."""
        return (*self.validation, *self.test)

    @property
    def all_metadata(self) -> Mapping[str, Mapping[str, Any]]:
        """Prompt to metadata, of watched prompts too.

        Raises:
            ConfigError: If the same prompt has two kinds of metadata, so that nobody could tell which is meant.
        """
        found = dict(self.metadata)
        for name, each in self.watched.items():
            for prompt in each.held_out:
                told = each.metadata.get(prompt)
                if found.setdefault(prompt, told or {}) != (told or {}):
                    raise ConfigError(
                        f"watch.{name}: the prompt {prompt[:60]!r} stands in other prompts of the run too, with other "
                        "metadata; leave it out of one of them"
                    )
        return {prompt: told for prompt, told in found.items() if told}

    @cached_property
    def fingerprint(self) -> str:
        """A digest of every prompt, and of their metadata if there is any."""
        pools = [self.train, self.validation, self.test]
        whole = [*pools, self.metadata] if self.metadata else pools
        used = {name: [each.validation, each.test, each.metadata] for name, each in self.watched.items()}
        return digest([whole, sorted(used.items())] if used else whole)
