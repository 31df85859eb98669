"""Evaluations: one candidate on one bucket, with the score of every output by every objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .bucket import Bucket
from .knobs import Setting, digest

Stage = Literal["baseline", "reference", "sensitivity", "search", "validation", "test"]
STAGES: tuple[Stage, ...] = ("baseline", "reference", "sensitivity", "search", "validation", "test")
POOL = " pool"  # suffix of the stage of neutral outputs that a stage's outputs are compared with
WATCH = "watch/"  # before the name of a set of watched prompts: the stage of its checks
COMBINED = "combined"  # the name under which the combination's values are stored beside the scores


class Place(NamedTuple):
    """The place of a candidate in a run.

    Attributes:
        stage: `baseline` compares neutral settings, `reference` is the neutral setting on the first
            bucket, `sensitivity` turns one knob at a time, `search` feeds the optimizer, `validation` judges
            its recommendations, `test` measures the gain. `search pool` and so on hold the neutral model's outputs
            that the stage's outputs are compared with. `watch/NAME` and `watch/NAME/test` hold outputs of watched
            prompts, for checks and for the test.
        generation: The generation, from 0; outside `search`, the index of the comparison within its stage.
        position: The candidate's row in the population.
    """

    stage: str
    generation: int
    position: int

    def __str__(self) -> str:
        return f"{self.stage} generation {self.generation}, candidate {self.position}"


@dataclass(frozen=True)
class Evaluation:
    """One candidate on one bucket.

    Attributes:
        setting: Knob name to value.
        bucket: The prompts and seeds of the scored outputs.
        num_steps: Denoising steps an image, or None if the backbone has no steps.
        scores: Objective name to one score an output, in bucket order; higher is better.
        weights: Objective name to its weight in the fitness; objectives without a weight are only watched. None in
            a store, since scores are the same for every run but weights belong to one run.
        generate_seconds: Wall time of generating.
        score_seconds: Wall time of scoring.
    """

    setting: Setting
    bucket: Bucket
    num_steps: int | None
    scores: Mapping[str, tuple[float, ...]]
    weights: Mapping[str, float] | None = None
    generate_seconds: float = field(default=0.0, compare=False)
    score_seconds: float = field(default=0.0, compare=False)

    @property
    def values(self) -> NDArray[np.float64]:
        """The value of every output, shape (num_outputs,).

        This is the combination's value if one is stored, else the weighted sum of the objectives' scores.
        """
        assert self.weights is not None, "an evaluation of no run is worth nothing yet; give it a run's weights first"
        if COMBINED in self.scores:
            return np.asarray(self.scores[COMBINED])
        return weighted_sum(self.scores, self.weights, len(self.bucket))

    @property
    def fitness(self) -> float:
        """The one number told to the optimizer: the mean of `values`."""
        return float(self.values.mean())

    def weighed(self, weights: Mapping[str, float] | None) -> Evaluation:
        """Return the same evaluation with the weights of a run; None for watched prompts, which have no fitness."""
        return replace(self, weights=weights)

    @property
    def num_images(self) -> int:
        """The number of outputs generated for this evaluation."""
        return len(self.bucket)

    @property
    def work(self) -> int:
        """Denoising steps summed over the images; the number of images if the backbone has no steps."""
        return len(self.bucket) * (self.num_steps or 1)


def watching_stages(name: str) -> tuple[str, str]:
    """Return the stages of a set of watched prompts: that of its checks, and that of its test."""
    return f"{WATCH}{name}", f"{WATCH}{name}/test"


def watched_at(stage: str) -> str | None:
    """Return the name of the watched prompts that a stage scores, or None for any other stage."""
    return stage.removeprefix(WATCH).partition("/")[0] if stage.startswith(WATCH) else None


def weighted_sum(scores: Mapping[str, Any], weights: Mapping[str, float], num_outputs: int) -> NDArray[np.float64]:
    """Sum objectives' scores by weight, in the order of the weights.

    Args:
        scores: Objective name to scores, each of shape (num_outputs,).
        weights: Objective name to its weight.
        num_outputs: Length of the result.

    Returns:
        Shape (num_outputs,).
    """
    total = np.zeros(num_outputs)
    for name, weight in weights.items():
        total += weight * np.asarray(scores[name])
    return total


def evaluation_key(context: str, setting: Setting, bucket: Bucket, num_steps: int | None) -> str:
    """Return a key of all that determines an evaluation, so that equal work is found in the store and not repeated.

    Args:
        context: Fingerprint of backbone, objectives and library versions.
        setting: Knob name to value, compared bit for bit.
        bucket: Prompts and seeds.
        num_steps: Denoising steps an image.
    """
    return digest([context, sorted(setting.items()), bucket.fingerprint, num_steps])
