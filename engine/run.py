"""A run: one calibration from configuration to artifact, with versions of everything that can change a number."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .bucket import Bucket, PromptSet, draw_bucket
from .config import Config
from .knobs import digest
from .plugins import Plugins
from .seams import Adapter, Objective, Optimizer, Vector

NUMERIC_PACKAGES = ("trimpot", "torch", "diffusers", "transformers", "numpy", "cma", "nevergrad")


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
    """

    id: str
    config: Config
    adapter: Adapter
    objectives: Mapping[str, Objective]
    prompts: PromptSet
    versions: Mapping[str, str]
    plugins: Plugins

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
        """Fingerprint of configuration, backbone and rewards, whatever the library versions."""
        return digest([self.config.fingerprint, self.description, self.adapter.space.fingerprint])

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

    def optimizer(self, start: Vector) -> Optimizer:
        """A freshly seeded optimizer that starts at `start`, shape (num_knobs,)."""
        part = self.config.optimizer
        made = self.plugins.make(
            "optimizers", part.name, part.options, self.adapter.space, start=start, seed=self.config.seed
        )
        assert isinstance(made, Optimizer), f"optimizer {part.name!r} made a {type(made).__name__}"
        return made


def assemble(run_id: str, config: Config, plugins: Plugins) -> Run:
    """Make the parts that a configuration names.

    Raises:
        PluginError: If a plugin is unknown.
        ConfigError: If an option is, or prompts are empty or shared.
        ModelError: If the backbone cannot be loaded.
    """
    prompts = plugins.make("prompts", config.prompts.name, config.prompts.options)
    objectives = {
        key: plugins.make("objectives", reward.name or key, reward.options)
        for key, reward in config.objectives.items()
    }
    plugins.get("optimizers", config.optimizer.name)  # an unknown name is said before a model is loaded
    adapter = plugins.make("adapters", config.adapter.name, config.adapter.options)
    return Run(run_id, config, adapter, objectives, prompts, versions(), plugins)


def versions() -> dict[str, str]:
    """Versions of Python and of every installed package that can change a number."""
    found = {"python": platform.python_version()}
    for package in NUMERIC_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # an optional backbone library
            continue
    return found
