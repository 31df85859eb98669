"""Making a run from the parts that a configuration names."""

from __future__ import annotations

import importlib.metadata
import platform

from .config import Config
from .errors import ConfigError
from .knobs import Vector
from .plugins import Plugins
from .run import Run
from .seams import Optimizer

NUMERIC_PACKAGES = ("trimpot", "torch", "diffusers", "transformers", "numpy", "cma")


def assemble(run_id: str, config: Config, plugins: Plugins) -> Run:
    """Make the parts that a configuration names.

    Raises:
        PluginError: If a plugin is unknown.
        ConfigError: If an option is, or prompts are empty or shared.
        ModelError: If the backbone cannot be loaded.
    """
    prompts = plugins.make("prompts", config.prompts.name, config.prompts.options)
    objectives = {
        key: plugins.make("objectives", reward.name or key, reward.options) for key, reward in config.objectives.items()
    }
    plugins.check("optimizers", config.optimizer.name, config.optimizer.options, ("start", "seed"))
    adapter = plugins.make("adapters", config.adapter.name, config.adapter.options)
    if config.by_steps.steps and adapter.num_steps is None:
        raise ConfigError(
            f"by_steps.steps asks for {list(config.by_steps.steps)} steps, but adapter {config.adapter.name!r} "
            f"has no denoising steps to vary; leave it empty"
        )

    def optimizer(start: Vector) -> Optimizer:
        part = config.optimizer
        made = plugins.make("optimizers", part.name, part.options, adapter.space, start=start, seed=config.seed)
        assert isinstance(made, Optimizer), f"optimizer {part.name!r} made a {type(made).__name__}"
        return made

    run = Run(run_id, config, adapter, objectives, prompts, versions(), optimizer)
    run.optimizer(adapter.space.defaults)  # a wrong value is said before the run has begun
    return run


def versions() -> dict[str, str]:
    """Versions of Python and of every installed package that can change a number."""
    found = {"python": platform.python_version()}
    for package in NUMERIC_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # an optional backbone library
            continue
    return found
