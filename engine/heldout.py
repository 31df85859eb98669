"""Judging on prompts and seeds that the search never saw.

The neutral side of every comparison is the neutral setting that is best for its number of steps, chosen on
validation prompts: a calibration that only rediscovers a better guidance value gains nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .evaluation import Evaluation, Place
from .evaluator import Evaluator
from .knobs import Setting
from .record import best_of
from .statistics import Gain, paired_gain


@dataclass(frozen=True)
class Baseline:
    """The best neutral setting at one number of steps.

    Attributes:
        label: What the adapter calls it, such as `guidance 3`.
        setting: Knob name to value.
        score: Its mean validation score.
        grid: Mean validation score of every neutral setting that was tried, by label.
    """

    label: str
    setting: Setting
    score: float
    grid: Mapping[str, float]


@dataclass(frozen=True)
class Comparison:
    """Neutral against calibrated on test prompts, at one number of steps.

    Attributes:
        num_steps: Denoising steps of both sides, or None where there is no such notion.
        baseline: The neutral side and how it was chosen.
        neutral: Mean test score of the neutral side.
        calibrated: Mean test score of the calibrated side.
        gain: Their paired difference.
        gain_at_calibrated_steps: The setting at the steps it was calibrated for against the neutral side at
            these steps: what calibration is worth as a saving of steps.
    """

    num_steps: int | None
    baseline: Baseline
    neutral: float
    calibrated: float
    gain: Gain
    gain_at_calibrated_steps: Gain


def best_neutral(
    evaluator: Evaluator, comparison: int = 0, num_steps: int | None = None
) -> tuple[Baseline, dict[Place, Evaluation]]:
    """Choose among the adapter's neutral settings on validation prompts.

    Args:
        evaluator: Of the run.
        comparison: 0 at the calibrated number of steps, counting up over the others.
        num_steps: The other number of steps.

    Returns:
        The best of them, and the evaluations of all.
    """
    run, adapter = evaluator.run, evaluator.run.adapter
    bucket = run.validation_bucket
    if num_steps is not None:
        adapter = adapter.with_steps(num_steps)
        bucket = bucket.head(run.config.by_steps.num_validation * run.config.seeds_per_prompt)
    neutrals = adapter.neutrals()
    evaluator.watch.stage_started(run=run, stage="baseline")
    population = np.stack([adapter.space.to_vector(setting) for setting in neutrals.values()])
    made = evaluator.evaluate("baseline", comparison, population, bucket, num_steps)
    tried = {Place("baseline", comparison, position): each for position, each in enumerate(made)}
    grid = {label: each.fitness for label, each in zip(neutrals, made, strict=True)}
    best = best_of(tried)
    assert best is not None, "every adapter has a neutral setting"
    label = list(neutrals)[best.position]
    return Baseline(label, tried[best].setting, grid[label], grid), tried


def compare(evaluator: Evaluator, baseline: Baseline, calibrated: Setting) -> tuple[Comparison, ...]:
    """Measure the gain on test prompts: first at the calibrated steps, then at each other step count.

    Args:
        evaluator: Of the run.
        baseline: The best neutral setting at the calibrated number of steps.
        calibrated: The chosen setting.
    """
    run = evaluator.run
    comparisons: list[Comparison] = []
    at_calibrated_steps = np.empty(0)
    for index, num_steps in enumerate((None, *run.other_steps)):
        adapter = run.adapter if num_steps is None else run.adapter.with_steps(num_steps)
        neutral = baseline if num_steps is None else best_neutral(evaluator, index, num_steps)[0]
        repeats = run.config.seeds_per_prompt
        bucket = run.test_bucket if index == 0 else run.test_bucket.head(run.config.by_steps.num_prompts * repeats)
        evaluator.watch.stage_started(run=run, stage="test")
        pair = np.stack([adapter.space.to_vector(setting) for setting in (neutral.setting, calibrated)])
        before, after = evaluator.evaluate("test", index, pair, bucket, num_steps)
        if index == 0:
            at_calibrated_steps = after.values
        comparisons.append(
            Comparison(
                adapter.num_steps,
                neutral,
                before.fitness,
                after.fitness,
                paired_gain(after.values, before.values, bucket.prompts),
                paired_gain(at_calibrated_steps[: len(bucket)], before.values, bucket.prompts),
            )
        )
    return tuple(comparisons)
