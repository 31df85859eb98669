"""A run: one calibration from configuration to artifact, with versions of everything that can change a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .alarm import Watch
from .bucket import Bucket, PromptSet, draw_bucket
from .evaluation import POOL
from .identity import described
from .knobs import KnobSpace, Setting, Vector, digest
from .ladder import Rung
from .record import watched_among
from .schema import Config
from .seams import Adapter, Combination, Objective, Optimizer


@dataclass(frozen=True)
class Run:
    """One calibration, assembled and ready to go.

    Attributes:
        id: Its name in the store.
        config: What was asked.
        adapter: The backbone.
        objectives: The rewards by name, watched ones too.
        combination: How their scores become what is optimised.
        prompts: The three pools.
        versions: Package name to version, for everything that can change a number.
        optimizer: Makes a freshly seeded optimizer for a space, starting at a vector of shape (num_knobs,).
        rungs: The spaces that are searched, coarse to fine.
        start: Where the search begins, or None for the best neutral setting.
        origins: Tells what the parts are made of: `adapter`, `combination`, `optimizer`, and `objectives` by name;
            see `engine.identity`. Asked when it is needed, since files are read for it.
    """

    id: str
    config: Config
    adapter: Adapter
    objectives: Mapping[str, Objective]
    combination: Combination
    prompts: PromptSet
    versions: Mapping[str, str]
    optimizer: Callable[[KnobSpace, Vector], Optimizer]
    rungs: tuple[Rung, ...]
    start: Setting | None
    origins: Callable[[], Mapping[str, Any]] = dict

    @cached_property
    def description(self) -> dict[str, Any]:
        """Backbone and rewards as they describe themselves, each with what it is made of.

        Raises:
            ConfigError: If one describes itself by what JSON cannot hold.
        """
        made = self.origins()
        rewards = made.get("objectives", {})
        adapter, combine = self.config.adapter.name, self.config.combine.name
        return {
            "adapter": described("adapter", adapter, self.adapter, made.get("adapter")),
            "objectives": {
                name: described("objective", None, objective, rewards.get(name))
                for name, objective in self.objectives.items()
            },
            "combination": described("combination", combine, self.combination, made.get("combination")),
        }

    @cached_property
    def context(self) -> str:
        """Fingerprint of all that decides the scores of a setting on a bucket."""
        return digest([self.description, self.adapter.space.fingerprint, self.config.weights, dict(self.versions)])

    def context_of(self, stage: str) -> str:
        """The same for a stage, since not all of them score by every objective."""
        return digest([self.context, sorted(self.scored(stage)), self.combines and not stage.endswith(POOL)])

    @property
    def identity(self) -> str:
        """Fingerprint of configuration, backbone, rewards, start and prompts, whatever the library versions."""
        space, prompts, start = self.adapter.space.fingerprint, self.prompts.fingerprint, dict(self.start or {})
        search = self.origins().get("optimizer")
        return digest([self.config.fingerprint, self.description, search, space, prompts, start])

    @property
    def parts(self) -> dict[str, str]:
        """Fingerprint of every part that `identity` counts, by what a sentence calls it."""
        made = self.description
        whole = {
            "the backbone": made["adapter"],
            **{f"reward {name!r}": each for name, each in made["objectives"].items()},
            "the combination": [made["combination"], self.config.weights],
            "the optimizer": self.origins().get("optimizer"),
            "the start": dict(self.start or {}),
        }
        found = {name: digest(part) for name, part in whole.items()}
        return {**found, "the knobs": self.adapter.space.fingerprint, "the prompts": self.prompts.fingerprint}

    @property
    def combines(self) -> bool:
        """Whether values are more than the weighted sum of scores, and so are kept beside them."""
        return self.config.combine.name != "weighted"

    def scored(self, stage: str) -> dict[str, Objective]:
        """The objectives that score outputs of a stage: watched ones only where recommendations are judged."""
        if stage in ("baseline", "validation", "test"):
            return dict(self.objectives)
        needed = {*self.config.weights, *self.combination.uses}
        return {name: objective for name, objective in self.objectives.items() if name in needed}

    @property
    def watched(self) -> dict[str, Watch]:
        """Objectives that are watched only, with what is watched for."""
        return watched_among(self.scored("validation"), self.scored("search"), self.config.objectives)

    def bucket(self, generation: int, group: int = 0, size: int | None = None) -> Bucket:
        """The training bucket of a group of a generation, the same whenever it is asked for.

        Args:
            generation: Which generation.
            group: Which group of it.
            size: Its size where that is not the configured one.
        """
        key = (self.config.seed, generation, group) if group else (self.config.seed, generation)
        size = size or self.config.bucket_size
        return draw_bucket(self.prompts.train, size, *key, seeds_per_prompt=self.config.seeds_per_prompt)

    @cached_property
    def validation_bucket(self) -> Bucket:
        """The bucket on which recommendations are judged."""
        validation = self.config.validation
        repeats = self.config.seeds_per_prompt
        size = validation.num_prompts * repeats
        return draw_bucket(self.prompts.validation, size, validation.seed, seeds_per_prompt=repeats)

    @cached_property
    def test_bucket(self) -> Bucket:
        """The bucket on which the gain is measured."""
        test, repeats = self.config.test, self.config.seeds_per_prompt
        return draw_bucket(self.prompts.test, test.num_prompts * repeats, test.seed, seeds_per_prompt=repeats)

    @property
    def other_steps(self) -> tuple[int, ...]:
        """The step counts to compare at besides the calibrated one."""
        return tuple(steps for steps in self.config.by_steps.steps if steps != self.adapter.num_steps)
