"""How much work a run will be, before anything is generated."""

from __future__ import annotations

import math

from .run import Run


def planned_work(run: Run) -> int:
    """The most denoising steps that a run can take, summed over its images (images where steps mean nothing)."""
    config, adapter = run.config, run.adapter
    steps = adapter.num_steps or 1
    num_neutrals = len(adapter.neutrals())
    population_size = len(run.optimizer(adapter.space.defaults).ask())
    num_checks = math.ceil(config.generations / config.validation.every)
    images = (
        num_neutrals * config.validation.num_prompts
        + config.bucket_size * (1 + config.generations * population_size)
        + config.validation.num_prompts * num_checks
        + 2 * config.test.num_prompts
    )
    others = config.by_steps
    images_elsewhere = num_neutrals * min(others.num_validation, config.validation.num_prompts)
    images_elsewhere += 2 * min(others.num_prompts, config.test.num_prompts)
    return images * steps + images_elsewhere * sum(run.other_steps)
