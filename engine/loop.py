"""A calibration from beginning to end. If you read one file, read this one.

    run ─► choose the best neutral setting ─► search from it ─► select on validation prompts ─► measure on test

Resuming is the same loop with a warm store: a freshly seeded optimizer asks again, recorded evaluations are
found instead of generated, and the run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .evaluation import Evaluation
from .evaluator import Evaluator
from .heldout import Baseline, Check, Comparison, best_neutral, compare, select
from .knobs import Vector
from .run import Run
from .seams import Store
from .watcher import Watcher


@dataclass(frozen=True)
class Outcome:
    """What a finished run found.

    Attributes:
        calibrated: The chosen setting.
        baseline: The best neutral setting at the calibrated number of steps, with its grid.
        reference: The neutral setting on the first training bucket.
        checks: Validation of every recommendation that was judged, in order.
        chosen: The check whose setting was chosen.
        comparisons: Neutral against calibrated on test prompts; the first at the calibrated step count.
        best_training: The best training fitness of any candidate. Optimistic: never a result.
        stop_reason: Why the search ended.
        num_generations: Generations told.
    """

    calibrated: Mapping[str, float]
    baseline: Baseline
    reference: float
    checks: tuple[Check, ...]
    chosen: Check
    comparisons: tuple[Comparison, ...]
    best_training: float
    stop_reason: str
    num_generations: int


def calibrate(run: Run, store: Store, watch: Watcher) -> Outcome:
    """Calibrate a backbone.

    Args:
        run: The assembled run.
        store: Where evaluations are found and kept.
        watch: Told of everything recorded.

    Raises:
        ScoreError: If an objective fails; the run can be resumed.
        ReplayError: If a warm store holds another search.
    """
    config = run.config
    evaluator = Evaluator(run, store, watch)

    baseline = best_neutral(evaluator)
    start = run.adapter.space.to_vector(baseline.setting)
    optimizer = run.optimizer(start)
    [reference] = evaluator.evaluate("reference", 0, start[None], run.bucket(0))
    checks = [Check(0, baseline.setting, baseline.score)]
    best_training, stop_reason, generation = reference.fitness, "", 0

    watch.stage_started(run=run, stage="search")
    while not stop_reason:
        population = optimizer.ask()
        evaluations = evaluator.evaluate("search", generation, population, run.bucket(generation))
        fitness = _fitness(evaluations)
        optimizer.tell(population, fitness)
        store.record_generation(run.id, generation, optimizer.sigma)
        watch.generation_told(run=run, generation=generation, evaluations=evaluations, sigma=optimizer.sigma)
        best_training = max(best_training, float(fitness.max()))
        generation += 1
        stop_reason = optimizer.stop_reason() or ""
        if generation >= config.generations:
            stop_reason = stop_reason or f"all {generation} generations are done"
        if stop_reason or generation % config.validation.every == 0:
            recommended = optimizer.recommend()[None]
            [check] = evaluator.evaluate("validation", generation, recommended, run.validation_bucket)
            checks.append(Check(generation, check.setting, check.fitness))
            stop_reason = stop_reason or _plateau(checks, config.validation.patience)

    chosen = select(checks)
    return Outcome(
        chosen.setting,
        baseline,
        reference.fitness,
        tuple(checks),
        chosen,
        compare(evaluator, baseline, chosen.setting),
        best_training,
        stop_reason,
        generation,
    )


def _fitness(evaluations: list[Evaluation]) -> Vector:
    return np.array([evaluation.fitness for evaluation in evaluations], dtype=np.float64)


def _plateau(checks: list[Check], patience: int) -> str:
    """The reason to stop if the last `patience` checks brought nothing better, else an empty string."""
    since = len(checks) - 1 - checks.index(select(checks))
    return f"no better validation score in {since} checks" if since >= patience else ""
