"""Measuring how much each knob matters, by changing one knob at a time before the search."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..ground.errors import ConfigError
from .evaluator import Evaluator
from .knobs import KnobSpace, Vector
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

    If the configuration has what an analysis measured before, nothing is evaluated here.
    """
    wanted = evaluator.run.config.sensitivity
    assert wanted is not None
    if wanted.measured is not None:
        return _spread(rung, *_measured(evaluator.run.adapter.space, rung, wanted.measured), wanted.most)
    low, high = rung.space.bounds
    turn = np.diag(wanted.step * rung.space.spreads)
    population = np.clip(np.concatenate([start[None], start + turn, start - turn]), low, high)
    bucket = evaluator.run.bucket(0).head(wanted.num_prompts)
    evaluator.watch.stage_started(run=evaluator.run, stage="sensitivity")
    evaluations = evaluator.evaluate("sensitivity", number, rung.lift(population), bucket)
    values = np.stack([evaluation.values for evaluation in evaluations])
    squares = np.square(values[1:] - values[0]).mean(axis=1).reshape(2, -1).mean(axis=0)
    return _spread(rung, np.sqrt(squares), np.ones(len(squares), dtype=bool), wanted.most)


def refuse_strange(measured: Mapping[str, float], space: KnobSpace) -> None:
    """Refuse effects that were measured on knobs that the adapter does not have.

    Raises:
        ConfigError: If a knob is not in the space.
    """
    strange = [name for name in measured if name not in space.names]
    if strange:
        raise ConfigError(
            f"sensitivity: it was measured on other knobs, such as {strange[0]!r}; make the ablation with this very "
            f"backbone and granularity"
        )


def _measured(space: KnobSpace, rung: Rung, measured: Mapping[str, float]) -> tuple[Vector, NDArray[np.bool_]]:
    """Return the effect of each knob of a rung, and whether it was measured.

    Tied knobs move together; their squares are added, as if each moved an output independently of the others.
    """
    squares = np.array([measured.get(name, 0.0) ** 2 for name in space.names])
    given = np.array([name in measured for name in space.names])
    return np.sqrt(rung.summed(squares)), rung.summed(given) > 0


def _spread(rung: Rung, change: Vector, given: NDArray[np.bool_], most: float) -> Rung:
    """Divide spreads by the knobs' effects relative to their geometric mean; a knob not given keeps its own."""
    moved = change > 0
    if not moved.any():
        return rung
    factors = np.where(given, most, 1.0)
    factors[moved] = np.exp(np.log(change[moved]).mean()) / change[moved]
    return rung.spread(np.clip(factors, 1 / most, most))
