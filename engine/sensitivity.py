"""Measuring how much each knob matters, by changing one knob at a time before the search."""

from __future__ import annotations

import numpy as np

from .evaluator import Evaluator
from .knobs import Vector
from .ladder import Rung


def spread_by_sensitivity(evaluator: Evaluator, rung: Rung, number: int, start: Vector) -> Rung:
    """Widen the spreads of knobs that matter little, and narrow those of knobs that matter much.

    Every knob is moved up and down from the start, on the same few prompts and seeds. Its sensitivity is the root mean
    square change of an output's value. Each spread is divided by the knob's sensitivity relative to the geometric mean,
    so that first samples change the output about equally along every knob.

    Args:
        evaluator: The run's evaluator.
        rung: The rung that is searched next.
        number: The rung's index in the ladder.
        start: The point that the search begins from, shape (rung knobs,).
    """
    wanted = evaluator.run.config.sensitivity
    assert wanted is not None
    low, high = rung.space.bounds
    turn = np.diag(wanted.step * rung.space.spreads)
    population = np.clip(np.concatenate([start[None], start + turn, start - turn]), low, high)
    bucket = evaluator.run.bucket(0).head(wanted.num_prompts)
    evaluator.watch.stage_started(run=evaluator.run, stage="sensitivity")
    evaluations = evaluator.evaluate("sensitivity", number, rung.lift(population), bucket)
    values = np.stack([evaluation.values for evaluation in evaluations])
    squares = np.square(values[1:] - values[0]).mean(axis=1).reshape(2, -1).mean(axis=0)
    change = np.sqrt(squares)
    moved = change > 0
    if not moved.any():
        return rung
    factors = np.full(len(change), wanted.most)
    factors[moved] = np.exp(np.log(change[moved]).mean()) / change[moved]
    return rung.spread(np.clip(factors, 1 / wanted.most, wanted.most))
