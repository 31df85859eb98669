"""How much each knob matters, by turning one at a time before the search."""

from __future__ import annotations

import numpy as np

from .evaluator import Evaluator
from .knobs import Vector
from .ladder import Rung


def spread_by_sensitivity(evaluator: Evaluator, rung: Rung, number: int, start: Vector) -> Rung:
    """Widen the spreads of knobs that matter little, and narrow those of knobs that matter much.

    Every knob is turned up and down from the start, on the same few prompts and seeds, and its sensitivity is the
    root mean square change of an output's value. Spreads are divided by it, so that first samples change the output
    about equally along every knob, and keep their geometric mean.

    Args:
        evaluator: Of the run.
        rung: The space that is searched next.
        number: Which rung of the ladder this is.
        start: Where the search begins, shape (rung knobs,).
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
