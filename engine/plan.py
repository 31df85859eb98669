"""How much work a run will be, before anything is generated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .bucket import Bucket
from .ladder import Rung
from .run import Run
from .search import group_size


@dataclass(frozen=True)
class Plan:
    """Outputs that a run will generate at most, by stage.

    Attributes:
        population_size: Candidates of a generation.
        generations: The most generations.
        images: Stage to outputs at the calibrated number of steps.
        images_elsewhere: Outputs at every other step count.
        work: Denoising steps of them all (images where steps mean nothing).
    """

    population_size: int
    generations: int
    images: dict[str, int]
    images_elsewhere: int
    work: int


def plan(run: Run) -> Plan:
    """Count what a run can generate at most, before anything is."""
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
    ablated = config.sensitivity.num_prompts if config.sensitivity else 0
    every_images = config.validation.every_images
    periods = searched / every_images if every_images else generations / config.validation.every
    checks = math.ceil(periods) + len(run.rungs) - 1
    images = {
        "baseline": num_neutrals * config.validation.num_prompts * repeats,
        "reference": config.bucket_size,
        "sensitivity": ablated * sum(1 + 2 * len(rung.space) for rung, _ in spaces),
        "search": searched,
        "validation": config.validation.num_prompts * repeats * checks,
        "test": 2 * config.test.num_prompts * repeats,
    }
    images["pools"] = _pools(run, spaces, checks)
    others = config.by_steps
    elsewhere = num_neutrals * min(others.num_validation, config.validation.num_prompts)
    elsewhere += 2 * min(others.num_prompts, config.test.num_prompts)
    return Plan(
        population_size,
        generations,
        {stage: count for stage, count in images.items() if count},
        elsewhere * len(run.other_steps),
        sum(images.values()) * steps + elsewhere * sum(run.other_steps),
    )


def _pools(run: Run, spaces: Sequence[tuple[Rung, int]], checks: int) -> int:
    """Neutral outputs that the others are judged against, those that are found instead of made again included."""
    combination, config = run.combination, run.config
    start = run.adapter.space.defaults

    def size(bucket: Bucket) -> int:
        pool = combination.pool(bucket)
        return len(pool) if pool else 0

    largest = config.adaptive_bucket.largest if config.adaptive_bucket else None
    groups = sum(
        rung.generations * (asked // group_size(run.optimizer(rung.space, rung.lower(start)), config, asked))
        for rung, asked in spaces
    )
    searched = groups * size(run.bucket(0, size=largest))
    if combination.pool_in_search_only:
        return searched
    ablated = size(run.bucket(0).head(config.sensitivity.num_prompts)) * len(spaces) if config.sensitivity else 0
    judged = (1 + checks) * size(run.validation_bucket) + size(run.test_bucket)
    others = config.by_steps
    elsewhere = size(run.validation_bucket.head(others.num_validation)) + size(run.test_bucket.head(others.num_prompts))
    return searched + size(run.bucket(0)) + ablated + judged + elsewhere * len(run.other_steps)


def planned_work(run: Run) -> int:
    """The most denoising steps that a run can take, summed over its images (images where steps mean nothing)."""
    return plan(run).work
