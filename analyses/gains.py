"""Gains of calibrations by every reward, over the best uncalibrated setting of that reward, on test prompts.

Calibrations of several seeds are averaged output by output, so that an interval says what other prompts would change;
how far the seeds lie apart is told beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.evaluation import Evaluation
from ..engine.record import Record, decisive
from ..engine.statistics import Gain
from ..ground.errors import StoreError
from ..setup.recorded import record_of
from ..storage import SqliteStore
from .differences import Difference, difference
from .differences import corrected as corrected_differences

Array = NDArray[np.float64]
VALUE = "value"  # the name of the combined value that the search optimised


@dataclass(frozen=True)
class Cell:
    """What calibrations gain by one reward.

    Attributes:
        difference: Calibrated less the best uncalibrated setting, averaged over seeds, by prompt.
        by_seed: The gain of each seed.
        effect: The gain in standard deviations between the outputs of the uncalibrated setting.
    """

    difference: Difference
    by_seed: tuple[float, ...]
    effect: float

    @property
    def gain(self) -> Gain:
        """The gain with its interval by prompt."""
        return self.difference.gain

    @property
    def standing(self) -> str:
        """`better` or `worse` at the 5 % level after the correction, if all seeds agree on it; else `uncertain`.

        The test is by prompt, of these very searches; that the seeds agree guards against the luck of one of them.
        """
        if self.difference.beyond_noise and min(self.by_seed) > 0:
            return "better"
        return "worse" if self.difference.beyond_noise and max(self.by_seed) < 0 else "uncertain"

    def to_json(self) -> dict[str, Any]:
        """Return the numbers by name."""
        return {**self.difference.to_json(), "by_seed": list(self.by_seed), "effect": self.effect}


def cell(calibrated: Sequence[Array], neutral: Sequence[Array], prompts: Sequence[str]) -> Cell:
    """Compare calibrations with another setting on the same outputs; not corrected yet.

    Args:
        calibrated: The scores of each seed's calibration, each of shape (num_outputs,).
        neutral: The scores of the setting that each is compared with, in the same shapes.
        prompts: The prompt of each output.
    """
    after, before = np.mean(calibrated, axis=0), np.mean(neutral, axis=0)
    found = difference(after, before, prompts)
    spread = float(before.std(ddof=1)) if len(before) > 1 else 0.0
    by_seed = tuple(float((a - b).mean()) for a, b in zip(calibrated, neutral, strict=True))
    return Cell(found, by_seed, found.gain.mean / spread if spread else 0.0)


def corrected(cells: Mapping[tuple[str, ...], Cell]) -> dict[tuple[str, ...], Cell]:
    """Return cells that were tested together, with Holm's correction for their number."""
    found = corrected_differences([each.difference for each in cells.values()])
    return {key: replace(each, difference=one) for (key, each), one in zip(cells.items(), found, strict=True)}


@dataclass(frozen=True)
class Tested:
    """The test evaluations of a finished run.

    Attributes:
        run: The name of the run.
        record: Its record.
        neutral: The uncalibrated setting at its best for what the run optimised.
        calibrated: The chosen setting.
        label: The name of the uncalibrated setting, such as `guidance 3`.
        rewards: The names of the rewards that the configuration names, optimised or watched.
    """

    run: str
    record: Record
    neutral: Evaluation
    calibrated: Evaluation
    label: str
    rewards: tuple[str, ...]

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompt of each test output."""
        return self.neutral.bucket.prompts

    def scores(self, reward: str, *, calibrated: bool) -> Array:
        """Return the scores of a reward on the test outputs, shape (num_outputs,); `VALUE` is what was optimised."""
        side = self.calibrated if calibrated else self.neutral
        return side.values if reward == VALUE else np.asarray(side.scores[reward])


def tested(store: SqliteStore, run: str) -> Tested:
    """Read the test evaluations of a finished run.

    Raises:
        StoreError: If there is no such run, or it has not finished.
    """
    row = store.run(run)
    if row.outcome is None:
        raise StoreError(f"run {run} has no result yet; go on with `trimpot resume {run}`")
    record = record_of(row, store.evaluations(run, decisive(row.config)))
    assert record.pair is not None, "a finished run has both"
    before, after = record.pair
    label = str(row.outcome["comparisons"][0]["baseline"]["label"])
    return Tested(run, record, before, after, label, tuple(row.config["objectives"]))


def rewards_of(found: Collection[Tested]) -> tuple[str, ...]:
    """Return the rewards that score all these runs, in the order of the first."""
    every = [each.rewards for each in found]
    return tuple(name for name in every[0] if all(name in names for names in every)) if every else ()
