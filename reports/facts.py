"""What a report says of a run, gathered from the store alone, so that it can be made at any time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ..engine.evaluation import Evaluation, Place
from ..engine.knobs import Setting
from ..engine.statistics import Gain, paired_gain

if TYPE_CHECKING:
    from ..storage.store import RunRow, SqliteStore

MIN_DECIMALS, MAX_DECIMALS = 2, 6


class Generation(NamedTuple):
    """A generation of the search: how many were told after it, its fitness, and the step size it left."""

    number: int
    best: float
    mean: float
    sigma: float | None


class Judged(NamedTuple):
    """A setting's validation score after so many generations; after none it is the neutral setting's."""

    number: int
    score: float
    setting: Setting


@dataclass(frozen=True)
class Facts:
    """A run as a report needs it, finished or not.

    Attributes:
        row: The run in the store.
        totals: Its digest and what it took.
        generations: The search so far, complete generations only.
        checks: Validation so far, the neutral setting first.
        grids: Validation score of every neutral setting by label, by number of steps; calibrated steps first.
        neutral: The neutral setting that was searched from, or None while it is not known.
        reference: Its score on the first training bucket, or None.
        chosen: The best check so far that the search recommended, or the outcome's.
        comparisons: Neutral against calibrated by number of steps; empty until the run has finished.
        pair: Both sides on the test bucket at the calibrated steps, or None.
        sizes: Prompts on which training, validation and test scores were taken, by stage.
    """

    row: RunRow
    totals: Mapping[str, Any]
    generations: Sequence[Generation]
    checks: Sequence[Judged]
    grids: Mapping[int | None, Mapping[str, float]]
    neutral: Setting | None
    reference: float | None
    chosen: Judged | None
    comparisons: Sequence[Mapping[str, Any]]
    pair: tuple[Evaluation, Evaluation] | None
    sizes: Mapping[str, int]

    @property
    def finished(self) -> bool:
        """Whether the run has a result; true too while the process that made it still holds the run."""
        return self.row.outcome is not None

    @property
    def status(self) -> str:
        """The run's status in a word."""
        return "finished" if self.finished else self.row.status

    @property
    def best_training(self) -> float | None:
        """The luckiest training fitness of any candidate."""
        scores = [generation.best for generation in self.generations]
        if self.reference is not None:
            scores.append(self.reference)
        return max(scores, default=None)

    @property
    def decimals(self) -> int:
        """Decimals that scores deserve: two significant digits of the gain's interval."""
        gain = self.comparisons[0]["gain"] if self.comparisons else None
        width = gain["high"] - gain["low"] if gain else 0.0
        if width <= 0:
            return 3
        return min(max(1 - math.floor(math.log10(width)), MIN_DECIMALS), MAX_DECIMALS)

    def objective_gains(self) -> dict[str, tuple[float, float, Gain]]:
        """Every objective on its own on the test bucket: neutral, calibrated and gain; watched ones too."""
        if self.pair is None:
            return {}
        before, after = self.pair
        return {
            name: (
                math.fsum(before.scores[name]) / len(before.bucket),
                math.fsum(after.scores[name]) / len(after.bucket),
                paired_gain(after.scores[name], before.scores[name]),
            )
            for name in before.scores
        }


def gather(store: SqliteStore, run_id: str) -> Facts:
    """Read a run.

    Raises:
        StoreError: If there is none of this name.
    """
    row = store.run(run_id)
    rewards = row.config["objectives"]
    # the store keeps scores; what they weigh belongs to the run
    weights = {name: reward["weight"] for name, reward in rewards.items() if reward["weight"]}
    places = {place: replace(evaluation, weights=weights) for place, evaluation in store.evaluations(run_id)}
    outcome = row.outcome
    grids, best = _grids(places, outcome)
    reference = places.get(Place("reference", 0, 0))
    neutral = outcome["baseline"]["setting"] if outcome else (reference.setting if reference else best)
    checks = _checks(places, grids, neutral)
    recommended = [check for check in checks if check.number]
    chosen = max(recommended, key=lambda check: check.score, default=None)
    if outcome:
        chosen = Judged(outcome["chosen"]["generation"], outcome["chosen"]["score"], outcome["calibrated"])
    before, after = (places.get(Place("test", 0, position)) for position in (0, 1))
    return Facts(
        row=row,
        totals=store.totals(run_id),
        generations=_generations(places, store.sigmas(run_id)),
        checks=checks,
        grids=grids,
        neutral=neutral,
        reference=reference.fitness if reference else None,
        chosen=chosen,
        comparisons=outcome["comparisons"] if outcome else (),
        pair=(before, after) if before and after else None,
        sizes={
            "training": row.config["bucket_size"],
            "validation": row.config["validation"]["num_prompts"],
            "test": row.config["test"]["num_prompts"],
        },
    )


def _generations(places: Mapping[Place, Evaluation], sigmas: Mapping[int, float | None]) -> list[Generation]:
    """Generations that were told: one cut short has no honest mean."""
    fitness: dict[int, list[float]] = {}
    for place, evaluation in places.items():
        if place.stage == "search" and place.generation in sigmas:
            fitness.setdefault(place.generation, []).append(evaluation.fitness)
    return [
        Generation(number + 1, max(values), math.fsum(values) / len(values), sigmas[number])
        for number, values in sorted(fitness.items())
    ]


def _checks(
    places: Mapping[Place, Evaluation],
    grids: Mapping[int | None, Mapping[str, float]],
    neutral: Setting | None,
) -> list[Judged]:
    checks = [
        Judged(place.generation, evaluation.fitness, evaluation.setting)
        for place, evaluation in places.items()
        if place.stage == "validation"
    ]
    first = next(iter(grids.values()), None)
    if first and neutral is not None:
        checks.insert(0, Judged(0, max(first.values()), neutral))
    return checks


def _grids(
    places: Mapping[Place, Evaluation], outcome: Mapping[str, Any] | None
) -> tuple[dict[int | None, Mapping[str, float]], Setting | None]:
    """Scores of the neutral settings by steps and label, and the best of those at the calibrated steps.

    Labels are the adapter's and reach the store with the outcome; before, settings are told apart by the
    knobs in which they differ.
    """
    tried: dict[int, list[Evaluation]] = {}
    for place, evaluation in places.items():
        if place.stage == "baseline":
            tried.setdefault(place.generation, []).append(evaluation)
    best = max(tried[0], key=lambda evaluation: evaluation.fitness).setting if 0 in tried else None
    if outcome:
        return {each["num_steps"]: each["baseline"]["grid"] for each in outcome["comparisons"]}, best
    return {
        evaluations[0].num_steps: dict(
            zip(_labels(evaluations), (evaluation.fitness for evaluation in evaluations), strict=True)
        )
        for _, evaluations in sorted(tried.items())
    }, best


def _labels(evaluations: Iterable[Evaluation]) -> list[str]:
    settings = [evaluation.setting for evaluation in evaluations]
    if len(settings) == 1:
        return ["neutral"]
    differ = [name for name in settings[0] if len({setting[name] for setting in settings}) > 1]
    return [", ".join(f"{name} {setting[name]:g}" for name in differ[:1]) for setting in settings]
