"""Make a run from the parts that a configuration names."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from ..engine.bucket import PromptSet
from ..engine.identity import content_of
from ..engine.knobs import KnobSpace, Setting, Vector
from ..engine.ladder import rungs_of
from ..engine.run import Run
from ..engine.seams import Adapter, Objective, Optimizer
from ..engine.search import group_size
from ..engine.sensitivity import refuse_strange
from ..engine.vetting import HeldOptimizer
from ..ground.devices import resolve
from ..ground.errors import ConfigError, near_misses
from ..ground.extras import require
from .config import Config
from .parts import check_parts
from .plan import check_budget
from .plugins import Plugins
from .starting import calibration_file, inside, start_of
from .telling import prompts_for, tell_metadata, tell_of_shared, told_of, unreadable

NUMERIC_PACKAGES = (
    "trimpot",
    *("torch", "torchvision", "triton", "xformers", "flash-attn"),  # arithmetic, and resizing of images for rewards
    *("bitsandbytes", "gguf", "torchao"),  # arithmetic of quantized weights
    *("diffusers", "transformers", "peft"),  # models, pipelines, and LoRAs
    *("tokenizers", "sentencepiece", "ftfy", "beautifulsoup4"),  # tokenization of prompts
    *("onnxruntime", "rapidocr", "rapidfuzz", "opencv-python", "opencv-python-headless"),  # recognition of text
    *("numpy", "scipy", "pillow", "moocore"),  # scores, combinations, and intervals
    *("cma", "nevergrad"),  # candidates
)  # without packages that only move bytes: safetensors, accelerate, huggingface-hub
OF_EVERY_RUN = ("cma", "plotly", "scipy", "sqlite_utils", "threadpoolctl")  # of the extra `calibrate`
SCORELESS = ("cma", "diffusers", "nevergrad")  # packages that make outputs or search, but do not score
MACHINE = ("machine", "gpu")  # entries of `versions` for hardware
STATISTICS = ("edge-density", "entropy", "saturation", "dark-share", "bright-share")  # of images, always watched
TEXT_STATISTICS: Mapping[str, Mapping[str, Any]] = {  # of texts, always watched, with their options
    "length": {"unit": "log-words"},
    "repetition": {},
    "distinct-n": {},
    "refusals": {},
}


class Parts(Protocol):
    """The parts of a run that another run can share."""

    @property
    def config(self) -> Config:
        """The configuration that names the parts."""

    @property
    def adapter(self) -> Adapter:
        """The backbone."""

    @property
    def objectives(self) -> Mapping[str, Objective]:
        """The rewards by name, including watched ones."""

    @property
    def prompts(self) -> PromptSet:
        """The training, validation and test prompts."""

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of all packages that can change a number, by name."""

    def origins(self) -> Mapping[str, Any]:
        """Describe the code, options and weights of the parts; see `engine.identity`."""


def assemble(
    run_id: str,
    config: Config,
    plugins: Plugins,
    *,
    outline: bool = False,
    sharing: Parts | None = None,
    prompts: PromptSet | None = None,
    start: Setting | None = None,
) -> Run:
    """Make a run and the parts that its configuration names.

    Args:
        run_id: The name of the run in the store.
        config: The configuration.
        plugins: The registered plugins.
        outline: Whether to make no rewards, and to make the backbone from its configuration alone if possible. This is
            enough to plan a run, but not to execute it.
        sharing: A run whose backbone, rewards and prompts are used instead of making them again; `config` must name the
            same parts.
        prompts: The recorded prompts of a resumed run; no prompt file is read then.
        start: The recorded setting that a resumed run's search started from.

    Raises:
        MissingError: If a package that every run needs is not installed.
        PluginError: If a plugin is unknown.
        ConfigError: If an option is wrong, prompts are empty or shared, or keys contradict each other.
        ScoreError: If an objective cannot use the metadata of the prompts.
        ModelError: If the backbone cannot be loaded.
    """
    require("a calibration", *OF_EVERY_RUN)
    assert sharing is None or _names_of(sharing.config) == _names_of(config), "only the same parts can be shared"
    check_parts(config, plugins)
    if not (outline or sharing):
        _check_devices(config, plugins)
    begun = prompts is None and not isinstance(sharing, Run)
    if sharing:
        prompts = sharing.prompts
    elif prompts is None:
        prompts = prompts_for(config, plugins)
    if begun:
        tell_of_shared(prompts)
    objectives = (
        dict(sharing.objectives)
        if sharing
        else {
            key: plugins.make("objectives", reward.name or key, reward.options)
            for key, reward in config.objectives.items()
            if not outline
        }
    )
    if not (outline or sharing):
        objectives.update(_only_watching(config, plugins))
    weights, combine = dict(config.weights), config.combine
    combination = plugins.make("combinations", combine.name, combine.options, weights)
    for name in combination.uses:
        if name not in config.objectives:
            raise ConfigError(f"combine names the objective {name!r}; {near_misses(name, config.objectives)}")
    backbone = config.adapter
    outlined = {"outline": True} if outline and "outline" in plugins.options("adapters", backbone.name) else {}
    adapter = sharing.adapter if sharing else plugins.make("adapters", backbone.name, {**backbone.options, **outlined})
    for name, statistic in ({} if outline or sharing else _statistics(adapter, plugins)).items():
        objectives.setdefault(name, statistic)
    if not sharing:
        tell_metadata(adapter, objectives, prompts, config)
    if config.by_steps.steps and adapter.num_steps is None:
        raise ConfigError(
            f"by_steps.steps asks for {list(config.by_steps.steps)} steps, but adapter {config.adapter.name!r} "
            f"has no denoising steps to vary; leave it empty"
        )
    for steps in config.by_steps.steps:
        adapter.with_steps(steps)  # refused now, and not after the search

    def optimizer(space: KnobSpace, start: Vector) -> Optimizer:
        part = config.optimizer
        options = {**planned_evaluations(config, plugins), **part.options}
        made = plugins.make("optimizers", part.name, options, space, start=start, seed=config.seed)
        return HeldOptimizer(made, space, plugins.get("optimizers", part.name).who)

    rungs = rungs_of(adapter, config.ladder, config.generations)
    if config.start is not None:
        start = start or start_of(config.start, adapter, exactly=config.measures)
        inside(f"start: {config.start}", start, adapter.space)
    for label, setting in adapter.neutrals().items():
        inside(f"the adapter's neutral setting {label!r}", setting, adapter.space)
    assert prompts is not None, "sharing, recorded or made"
    found = sharing.versions if sharing else {**libraries(config, plugins), **versions()}
    run = Run(run_id, config, adapter, objectives, combination, prompts, found, optimizer, rungs, start)
    _try(run)
    return replace(run, origins=functools.cache(functools.partial(_origins, run, plugins, sharing)))


def _origins(run: Run, plugins: Plugins, sharing: Parts | None) -> dict[str, Any]:
    """Describe the code, options and weights of the parts of a run; see `engine.identity`."""
    config, rung = run.config, run.rungs[0]
    held = run.optimizer(rung.space, rung.lower(run.adapter.space.defaults))
    search = held.wrapped if isinstance(held, HeldOptimizer) else held
    rewards = _registered(config)
    shared = (
        sharing.origins()
        if sharing
        else {
            "adapter": told_of(
                plugins.made_of("adapters", config.adapter.name, run.adapter, config.adapter.options),
                run.adapter,
                run.prompts,
            ),
            "objectives": {
                name: told_of(
                    plugins.made_of("objectives", registered, run.objectives[name], options),
                    run.objectives[name],
                    run.prompts,
                )
                for name, (registered, options) in {
                    **{each: (each, TEXT_STATISTICS.get(each, {})) for each in run.objectives},
                    **rewards,
                }.items()
                if name in run.objectives
            },
        }
    )
    return {
        **shared,
        "combination": plugins.made_of("combinations", config.combine.name, run.combination, config.combine.options),
        "optimizer": plugins.made_of("optimizers", config.optimizer.name, search, config.optimizer.options),
    }


def _only_watching(config: Config, plugins: Plugins) -> dict[str, Objective]:
    """Make the objectives that score nothing but watched prompts; sets that name the same one share it."""
    made: dict[str, tuple[Any, Objective]] = {}
    for key, reward in config.only_watching.items():
        asked = (reward.name, reward.options)
        shared = next((objective for other, objective in made.values() if other == asked), None)
        made[key] = (asked, shared or plugins.make("objectives", reward.name or key, reward.options))
    return {key: objective for key, (_, objective) in made.items()}


def _registered(config: Config) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the registered name and the options of every objective, by the name under which its scores are kept."""
    own = {name: (reward.name or name, reward.options) for name, reward in config.objectives.items()}
    return {**own, **{key: (reward.name or key, reward.options) for key, reward in config.only_watching.items()}}


def _check_devices(config: Config, plugins: Plugins) -> None:
    """Check that every device exists, before the first part is loaded, which may take minutes.

    Raises:
        ConfigError: If a device does not exist.
    """
    rewards = [("objectives", name, options) for name, options in _registered(config).values()]
    for kind, name, options in [("adapters", config.adapter.name, config.adapter.options), *rewards]:
        device = options.get("device")
        if isinstance(device, str) and plugins.get(kind, name).origin == "trimpot":  # plugins may mean something else
            resolve(device)


def _names_of(config: Config) -> tuple[Any, ...]:
    """Return the keys of a configuration that determine the backbone, the rewards and the prompts."""
    rewards = {name: (reward.name, reward.options) for name, reward in config.objectives.items()}
    watched = {
        name: (each.prompts, {key: (reward.name, reward.options) for key, reward in each.objectives.items()})
        for name, each in config.watch.items()
    }
    return config.adapter, rewards, config.combine, config.prompts, watched


def _try(run: Run) -> None:
    """Refuse a run that would fail in its first generation or at its end, before it begins."""
    _check_seeds(run)
    if run.config.sensitivity and run.config.sensitivity.measured is not None:
        refuse_strange(run.config.sensitivity.measured, run.adapter.space)
    for name, pool in (("validation", run.prompts.validation), ("test", run.prompts.test)):
        if len(set(pool)) < 2:
            raise ConfigError(f"there is only one {name} prompt, which gives no interval; give at least two")
    for name, made in run.prompts.watched.items():
        for kind, there in (("validation", made.validation), ("test", made.test)):
            if len(set(there)) < 2:
                raise ConfigError(
                    f"watch.{name} has only one {kind} prompt, which gives no interval; give at least two"
                )
    for rung in run.rungs:
        optimizer = run.optimizer(rung.space, rung.lower(run.adapter.space.defaults))
        group_size(optimizer, run.config, len(optimizer.ask()))
    check_budget(run)


def _check_seeds(run: Run) -> None:
    """Refuse to make a prompt's only output twice, as if it were another, with a backbone that uses no seed."""
    if run.adapter.uses_seed:
        return
    config = run.config
    who = f"adapter {config.adapter.name!r} uses no seed, so a prompt has one output only"
    if config.seeds_per_prompt > 1:
        raise ConfigError(f"{who}; leave out seeds_per_prompt: {config.seeds_per_prompt}")
    largest = config.adaptive_bucket.largest if config.adaptive_bucket else config.bucket_size
    key = "adaptive_bucket.largest" if config.adaptive_bucket else "bucket_size"
    asked = {
        "train": (0 if config.measures else largest, key),
        "validation": (config.validation.num_prompts, "validation.num_prompts"),
        "test": (config.test.num_prompts, "test.num_prompts"),
    }
    for kind, (size, key) in asked.items():
        _check_size(who, key, size, kind, getattr(run.prompts, kind))
    for name, each in config.watch.items():
        _check_size(
            who, f"watch.{name}.num_validation", each.num_validation, "validation", run.prompts.watched[name].validation
        )
        _check_size(who, f"watch.{name}.num_prompts", each.num_prompts, "test", run.prompts.watched[name].test)


def _check_size(who: str, key: str, size: int, pool: str, prompts: Sequence[str]) -> None:
    there = len(set(prompts))
    if size > there:
        raise ConfigError(f"{who}, and {key} is {size} with {there} {pool} prompts; set it to at most {there}")


def _statistics(adapter: Adapter, plugins: Plugins) -> Mapping[str, Objective]:
    of_media: dict[str, Iterable[str]] = {"image": STATISTICS, "text": TEXT_STATISTICS}
    names = of_media.get(str(adapter.makes), ())
    made = {name: plugins.make("objectives", name, TEXT_STATISTICS.get(name, {})) for name in names}
    return {name: each for name, each in made.items() if unreadable(adapter, name, each) is None}


def planned_evaluations(config: Config, plugins: Plugins) -> dict[str, int]:
    """Return the option `budget`, the total number of candidates, if the optimizer takes it and the number is known."""
    part = config.optimizer
    if "budget" in part.options or "budget" not in plugins.options("optimizers", part.name):
        return {}
    if config.budget.images is not None:
        return {"budget": config.budget.images // config.bucket_size}
    size = part.options.get("population_size")
    return {"budget": max(config.generations, 1) * size} if isinstance(size, int) else {}


def origins_of(config: Config, plugins: Plugins) -> dict[str, Any]:
    """Describe the code and options of a configuration's parts, as far as they are known before the parts are made."""
    adapter, combine, optimizer = config.adapter, config.combine, config.optimizer
    return {
        "adapter": plugins.made_of("adapters", adapter.name, None, adapter.options),
        "objectives": {
            name: plugins.made_of("objectives", registered, None, options)
            for name, (registered, options) in _registered(config).items()
        },
        "combination": plugins.made_of("combinations", combine.name, None, combine.options),
        "optimizer": plugins.made_of("optimizers", optimizer.name, None, optimizer.options),
        "start": content_of(calibration_file(config.start)) if config.start else None,
    }


def libraries(config: Config, plugins: Plugins) -> dict[str, str]:
    """Return the versions of the installed packages that a configuration's plugins import."""
    named = [
        ("adapters", config.adapter.name),
        ("combinations", config.combine.name),
        ("optimizers", config.optimizer.name),
        *(("objectives", registered) for registered, _ in _registered(config).values()),
    ]
    return {name: version for part in named for name, version in plugins.libraries(*part).items()}


def scoring_versions(plugins: Plugins, objective: str) -> dict[str, str]:
    """Return the versions of the packages that can change an objective's score; the machine does not count."""
    found = {**plugins.libraries("objectives", objective), **versions()}
    return {name: version for name, version in found.items() if name not in (*SCORELESS, *MACHINE)}


def versions() -> dict[str, str]:
    """Return the versions of Python and of every installed package that can change a number, and the kind of machine.

    The name of the graphics processor is added if PyTorch has been imported.
    """
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in NUMERIC_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # an optional backbone library
            continue
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found
