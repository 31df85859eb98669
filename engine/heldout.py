"""Measuring the gain on prompts and seeds that the search never saw.

Each comparison uses the best neutral setting at its number of steps, chosen on validation prompts. A calibration that
only finds a better guidance value therefore gains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .evaluation import Evaluation, Place, watching_stages
from .evaluator import Evaluator
from .knobs import Setting
from .record import best_of
from .statistics import Gain, paired_gain


@dataclass(frozen=True)
class Baseline:
    """The best neutral setting at one number of steps.

    Attributes:
        label: The adapter's name for the setting, such as `guidance 3`.
        setting: Knob name to value.
        score: The setting's mean validation score.
        grid: Mean validation score of every neutral setting, by label.
    """

    label: str
    setting: Setting
    score: float
    grid: Mapping[str, float]


@dataclass(frozen=True)
class Measured:
    """Neutral against calibrated on test prompts, at one number of steps.

    Attributes:
        num_steps: Denoising steps of both sides, or None if the backbone has no steps.
        baseline: The neutral setting, with the grid that it was chosen from.
        neutral: Mean test score of the neutral setting.
        calibrated: Mean test score of the calibrated setting.
        gain: The paired difference, calibrated minus neutral.
        gain_at_calibrated_steps: The paired difference between the calibrated setting at the steps it was calibrated
            for and the neutral setting at `num_steps`: how calibration compares with a change of steps.
    """

    num_steps: int | None
    baseline: Baseline
    neutral: float
    calibrated: float
    gain: Gain
    gain_at_calibrated_steps: Gain


@dataclass(frozen=True)
class WatchedGain:
    """Neutral against calibrated by one objective on watched test prompts, at the calibrated number of steps.

    Attributes:
        prompts: The name of the watched prompts.
        objective: The name under which the scores are kept.
        neutral: Mean score of the neutral setting.
        calibrated: Mean score of the calibrated setting.
        gain: The paired difference, calibrated minus neutral; a loss is negative.
    """

    prompts: str
    objective: str
    neutral: float
    calibrated: float
    gain: Gain


def best_neutral(
    evaluator: Evaluator, comparison: int = 0, num_steps: int | None = None
) -> tuple[Baseline, dict[Place, Evaluation]]:
    """Choose among the adapter's neutral settings on validation prompts.

    Args:
        evaluator: The run's evaluator.
        comparison: Index of the number of steps: 0 is the calibrated one.
        num_steps: Denoising steps; None for the calibrated number.

    Returns:
        The best neutral setting, and the evaluations of all neutral settings by place.
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


def measure(evaluator: Evaluator, baseline: Baseline, calibrated: Setting) -> tuple[Measured, ...]:
    """Measure the gain on test prompts: first at the calibrated steps, then at each other step count.

    Args:
        evaluator: The run's evaluator.
        baseline: The best neutral setting at the calibrated number of steps.
        calibrated: The chosen setting.
    """
    run = evaluator.run
    comparisons: list[Measured] = []
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
            Measured(
                adapter.num_steps,
                neutral,
                before.fitness,
                after.fitness,
                paired_gain(after.values, before.values, bucket.prompts),
                paired_gain(at_calibrated_steps[: len(bucket)], before.values, bucket.prompts),
            )
        )
    return tuple(comparisons)


def measure_watched(evaluator: Evaluator, neutral: Setting, calibrated: Setting) -> tuple[WatchedGain, ...]:
    """Measure, by every objective of every set of watched prompts, what calibrating changed there.

    Args:
        evaluator: The run's evaluator.
        neutral: The best neutral setting at the calibrated number of steps.
        calibrated: The chosen setting.
    """
    run, found = evaluator.run, list[WatchedGain]()
    pair = np.stack([run.adapter.space.to_vector(setting) for setting in (neutral, calibrated)])
    for name, (_, bucket) in run.watched_buckets.items():
        _, stage = watching_stages(name)
        evaluator.watch.stage_started(run=run, stage=stage)
        before, after = (each.scores for each in evaluator.evaluate(stage, 0, pair, bucket))
        for key in before:
            change = paired_gain(after[key], before[key], bucket.prompts)
            means = (float(np.mean(before[key])), float(np.mean(after[key])))
            found.append(WatchedGain(name, key, *means, change))
    return tuple(found)
