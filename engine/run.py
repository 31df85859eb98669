"""A run: one calibration from configuration to artifact, with versions of everything that can change a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .bucket import Bucket, PromptSet, draw_bucket
from .config import Config
from .knobs import Vector, digest
from .seams import Adapter, Objective, Optimizer


@dataclass(frozen=True)
class Run:
    """One calibration, assembled and ready to go.

    Attributes:
        id: Its name in the store.
        config: What was asked.
        adapter: The backbone.
        objectives: The rewards by name.
        prompts: The three pools.
        versions: Package name to version, for everything that can change a number.
        optimizer: Makes a freshly seeded optimizer that starts at a vector of shape (num_knobs,).
    """

    id: str
    config: Config
    adapter: Adapter
    objectives: Mapping[str, Objective]
    prompts: PromptSet
    versions: Mapping[str, str]
    optimizer: Callable[[Vector], Optimizer]

    @cached_property
    def description(self) -> dict[str, Any]:
        """Backbone and rewards as they describe themselves."""
        return {
            "adapter": {"name": self.config.adapter.name, **self.adapter.describe()},
            "objectives": {name: dict(objective.describe()) for name, objective in self.objectives.items()},
        }

    @cached_property
    def context(self) -> str:
        """Fingerprint of all that decides the scores of a setting on a bucket."""
        return digest([self.description, self.adapter.space.fingerprint, dict(self.versions)])

    @property
    def identity(self) -> str:
        """Fingerprint of configuration, backbone, rewards and prompts, whatever the library versions."""
        parts = [self.config.fingerprint, self.description, self.adapter.space.fingerprint, self.prompts.fingerprint]
        return digest(parts)

    def bucket(self, generation: int) -> Bucket:
        """The training bucket of a generation, the same whenever it is asked for."""
        return draw_bucket(self.prompts.train, self.config.bucket_size, self.config.seed, generation)

    @cached_property
    def validation_bucket(self) -> Bucket:
        """The bucket on which recommendations are judged."""
        validation = self.config.validation
        return draw_bucket(self.prompts.validation, validation.num_prompts, validation.seed)

    @cached_property
    def test_bucket(self) -> Bucket:
        """The bucket on which the gain is measured."""
        return draw_bucket(self.prompts.test, self.config.test.num_prompts, self.config.test.seed)

    @property
    def other_steps(self) -> tuple[int, ...]:
        """The step counts to compare at besides the calibrated one."""
        return tuple(steps for steps in self.config.by_steps.steps if steps != self.adapter.num_steps)
