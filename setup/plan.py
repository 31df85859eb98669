"""Predict how much work a run will take, before anything is generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..engine.bucket import Bucket
from ..engine.checking import num_checks
from ..engine.ladder import Rung
from ..engine.nouns import noun, told_key
from ..engine.run import Run
from ..engine.search import group_size
from ..ground.errors import ConfigError


@dataclass(frozen=True)
class Plan:
    """An upper bound on the outputs that a run will generate.

    Attributes:
        population_size: The number of candidates in a generation.
        generations: The largest number of generations.
        images: The number of outputs at the calibrated number of steps, by stage.
        images_elsewhere: The number of outputs at other numbers of steps.
        work: The number of denoising steps of all outputs, or their number if the adapter has no steps.
    """

    population_size: int
    generations: int
    images: dict[str, int]
    images_elsewhere: int
    work: int


def plan(run: Run) -> Plan:
    """Count the outputs that a run can generate at most, before anything is generated."""
    config, adapter = run.config, run.adapter
    steps = adapter.num_steps or 1
    repeats, num_neutrals = config.seeds_per_prompt, len(adapter.neutrals())
    spaces = [(rung, len(run.optimizer(rung.space, rung.lower(adapter.space.defaults)).ask())) for rung in run.rungs]
    population_size = spaces[-1][1]
    generations = sum(rung.generations for rung, _ in spaces)
    bucket_size = config.adaptive_bucket.largest if config.adaptive_bucket else config.bucket_size
    searched = bucket_size * sum(rung.generations * asked for rung, asked in spaces)
    if config.budget.images is not None:
        searched = min(searched, config.budget.images)
    measured = config.sensitivity and config.sensitivity.measured is not None
    ablated = config.sensitivity.num_prompts if config.sensitivity and not measured else 0
    lengths = [rung.generations for rung in run.rungs]
    checks = 1 if config.measures else num_checks(config.validation, lengths, searched)
    images = {
        "baseline": num_neutrals * config.validation.num_prompts * repeats,
        "reference": config.bucket_size,
        "sensitivity": ablated * sum(1 + 2 * len(rung.space) for rung, _ in spaces),
        "search": searched,
        "validation": config.validation.num_prompts * repeats * checks,
        "test": 2 * config.test.num_prompts * repeats,
    }
    images["watched"] = repeats * sum(
        (1 + checks) * each.num_validation + 2 * each.num_prompts for each in config.watch.values()
    )
    images["pools"] = _search_pools(run, spaces) + _held_out_pools(run, checks)
    others = config.by_steps
    elsewhere = num_neutrals * min(others.num_validation, config.validation.num_prompts)
    elsewhere += 2 * min(others.num_prompts, config.test.num_prompts)
    elsewhere *= repeats
    return Plan(
        population_size,
        generations,
        {stage: count for stage, count in images.items() if count},
        elsewhere * len(run.other_steps),
        sum(images.values()) * steps + elsewhere * sum(run.other_steps),
    )


def check_budget(run: Run) -> None:
    """Check that the budget of outputs suffices for a run's first generation.

    Raises:
        ConfigError: If the budget does not suffice.
    """
    config, rung = run.config, replace(run.rungs[0], generations=1)
    if config.budget.images is None or config.measures:
        return
    asked = len(run.optimizer(rung.space, rung.lower(run.adapter.space.defaults)).ask())
    images = asked * config.bucket_size
    ablated = config.sensitivity.num_prompts * (1 + 2 * len(rung.space)) if config.sensitivity else 0
    before = config.bucket_size + ablated + _search_pools(run, [(rung, asked)], config.bucket_size)
    outputs = noun(run.adapter.makes)
    if before + images > config.budget.images:
        raise ConfigError(
            f"{told_key('budget.images', outputs)} {config.budget.images:,} is smaller than one generation: {asked} "
            f"candidates on {config.bucket_size} prompts are {images:,} {outputs}, after {before:,} {outputs} for "
            f"comparison; raise it"
        )


def _search_pools(run: Run, spaces: Sequence[tuple[Rung, int]], bucket_size: int | None = None) -> int:
    """Count the neutral outputs that the search compares with, including those already in the store."""
    config, start = run.config, run.adapter.space.defaults
    if bucket_size is None and config.adaptive_bucket:
        bucket_size = config.adaptive_bucket.largest
    groups = sum(
        rung.generations * (asked // group_size(run.optimizer(rung.space, rung.lower(start)), config, asked))
        for rung, asked in spaces
    )
    searched = groups * _pool_size(run, run.bucket(0, size=bucket_size))
    if run.combination.pool_in_search_only:
        return searched
    first, ablated = run.bucket(0), 0
    if config.sensitivity:
        ablated = len(spaces) * _pool_size(run, first.head(config.sensitivity.num_prompts))
    return searched + _pool_size(run, first) + ablated


def _held_out_pools(run: Run, checks: int) -> int:
    """Count the neutral outputs that recommendations are compared with, including those already in the store."""
    if run.combination.pool_in_search_only:
        return 0
    others, validation, test = run.config.by_steps, run.validation_bucket, run.test_bucket
    judged = (1 + checks) * _pool_size(run, validation) + _pool_size(run, test)
    repeats = run.config.seeds_per_prompt
    elsewhere = _pool_size(run, validation.head(others.num_validation * repeats))
    elsewhere += _pool_size(run, test.head(others.num_prompts * repeats))
    return judged + elsewhere * len(run.other_steps)


def _pool_size(run: Run, bucket: Bucket) -> int:
    pool = run.combination.pool(bucket)
    return len(pool) if pool else 0


def planned_work(run: Run) -> int:
    """Return the largest number of denoising steps of a run, over all its outputs. See `Plan.work`."""
    return plan(run).work
