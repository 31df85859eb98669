"""A run: one calibration from configuration to artifact, with versions of everything that can change a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .alarm import Watch
from .bucket import Bucket, PromptSet, draw_bucket
from .evaluation import POOL, watched_at
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
        id: The run's name in the store.
        config: The run's configuration.
        adapter: The backbone.
        objectives: The rewards by name, including watched ones, and those that score nothing but watched prompts.
        combination: Combines their scores into the fitness.
        prompts: The three pools of prompts.
        versions: Package name to version, for everything that can change a number.
        optimizer: Makes a freshly seeded optimizer for a space, starting at a vector of shape (num_knobs,).
        rungs: The spaces that are searched, coarse to fine.
        start: The setting that the search begins from, or None for the best neutral setting.
        origins: Returns the identities of the parts: `adapter`, `combination`, `optimizer`, and `objectives` by name;
            see `engine.identity`. A function, since it reads files, and is called only when needed.
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
        """The descriptions of backbone, rewards and combination, each with its identity.

        Raises:
            ConfigError: If a description is not JSON-like.
        """
        made = self.origins()
        rewards = made.get("objectives", {})
        adapter, combine = self.config.adapter.name, self.config.combine.name
        return {
            "adapter": described("adapter", adapter, self.adapter, made.get("adapter")),
            "objectives": {
                name: described("objective", None, objective, rewards.get(name))
                for name, objective in self.objectives.items()
                if name not in self.config.only_watching
            },
            "combination": described("combination", combine, self.combination, made.get("combination")),
        }

    @cached_property
    def watching(self) -> dict[str, Any]:
        """The descriptions of the objectives that score nothing but watched prompts, each with its identity."""
        rewards = self.origins().get("objectives", {})
        return {
            name: described("objective", None, self.objectives[name], rewards.get(name))
            for name in self.config.only_watching
            if name in self.objectives
        }

    @cached_property
    def context(self) -> str:
        """Fingerprint of everything that determines the scores of a setting on a bucket.

        Weights determine none, unless a combination's values are stored beside the scores: so runs that optimise
        different objectives of the same ones share their neutral outputs.
        """
        weights = self.config.weights if self.combines else {}
        return digest([self.description, self.adapter.space.fingerprint, weights, dict(self.versions)])

    def context_of(self, stage: str) -> str:
        """Return the fingerprint for a stage, since not every stage scores by every objective."""
        scored, name = sorted(self.scored(stage)), watched_at(stage)
        if name is not None:
            told = self.prompts.watched[name].metadata
            return digest([self.context, scored, False, [self.watching.get(each) for each in scored], told])
        return digest([self.context, scored, self.combines and not stage.endswith(POOL)])

    def weights_of(self, stage: str) -> Mapping[str, float] | None:
        """Return the weights of a stage's objectives; None for watched prompts, whose outputs have no fitness."""
        return None if watched_at(stage) else self.config.weights

    @property
    def identity(self) -> str:
        """Fingerprint of configuration, backbone, rewards, start and prompts, without the library versions."""
        space, prompts, start = self.adapter.space.fingerprint, self.prompts.fingerprint, dict(self.start or {})
        search = self.origins().get("optimizer")
        watching = [self.watching] if self.watching else []
        return digest([self.config.fingerprint, self.description, search, space, prompts, start, *watching])

    @property
    def parts(self) -> dict[str, str]:
        """Fingerprint of every part that `identity` covers, by the part's name in an error message."""
        made = self.description
        whole = {
            "the backbone": made["adapter"],
            **{f"reward {name!r}": each for name, each in {**made["objectives"], **self.watching}.items()},
            "the combination": [made["combination"], self.config.weights],
            "the optimizer": self.origins().get("optimizer"),
            "the start": dict(self.start or {}),
        }
        found = {name: digest(part) for name, part in whole.items()}
        return {**found, "the knobs": self.adapter.space.fingerprint, "the prompts": self.prompts.fingerprint}

    @property
    def combines(self) -> bool:
        """Whether values are not the plain weighted sum of scores, and are therefore stored beside the scores."""
        return self.config.combine.name != "weighted"

    def scored(self, stage: str) -> dict[str, Objective]:
        """Return a stage's objectives: watched ones score only in `baseline`, `validation` and `test`."""
        if name := watched_at(stage):
            return {key: self.objectives[key] for key in self.config.watching[name] if key in self.objectives}
        if stage in ("baseline", "validation", "test"):
            only = self.config.only_watching
            return {name: objective for name, objective in self.objectives.items() if name not in only}
        needed = {*self.config.weights, *self.combination.uses}
        return {name: objective for name, objective in self.objectives.items() if name in needed}

    @property
    def watched(self) -> dict[str, Watch]:
        """Watched objectives, each with the change that raises an alarm: `falls` or `moves`."""
        return watched_among(self.scored("validation"), self.scored("search"), self.config.objectives)

    def bucket(self, generation: int, group: int = 0, size: int | None = None) -> Bucket:
        """Return the training bucket of a group of a generation; the same arguments always give the same bucket.

        Args:
            generation: The index of the generation.
            group: The index of the group in the generation.
            size: The number of outputs; None for the configured one.
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

    @cached_property
    def watched_buckets(self) -> dict[str, tuple[Bucket, Bucket]]:
        """For each set of watched prompts, in order of name, the bucket of its checks and the bucket of its test."""
        config, repeats = self.config, self.config.seeds_per_prompt

        def drawn(pool: tuple[str, ...], size: int, seed: int) -> Bucket:
            return draw_bucket(pool, size * repeats, seed, seeds_per_prompt=repeats)

        return {
            name: (
                drawn(self.prompts.watched[name].validation, config.watch[name].num_validation, config.validation.seed),
                drawn(self.prompts.watched[name].test, config.watch[name].num_prompts, config.test.seed),
            )
            for name in config.watching
        }

    @property
    def other_steps(self) -> tuple[int, ...]:
        """The numbers of steps of `by_steps`, without the calibrated one."""
        return tuple(steps for steps in self.config.by_steps.steps if steps != self.adapter.num_steps)
