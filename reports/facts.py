"""What a report says of a run, gathered from the store alone, so that it can be made at any time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..engine.alarm import Alarm, Watch
from ..engine.evaluation import COMBINED, Evaluation, Place
from ..engine.knobs import Setting
from ..engine.noise import Noise, estimate_noise
from ..ground.errors import TrimpotError
from .tags import movements_by_tag
from .watched import (
    Moved,
    Pair,
    Places,
    alarms_in,
    checks_of,
    movements,
    neutral_of,
    places_of,
    rescored_in,
    watched_in,
)

if TYPE_CHECKING:
    from ..storage import RunRow, SqliteStore

MIN_DECIMALS, MAX_DECIMALS = 2, 6


class Generation(NamedTuple):
    """A generation of the search: how many were told after it, its fitness, and the step size it left."""

    number: int
    best: float
    mean: float
    sigma: float | None


class Judged(NamedTuple):
    """A setting's validation score after so many generations; after none it is the neutral setting's.

    It is admitted if the run's combination of objectives lets it be chosen.
    """

    number: int
    score: float
    setting: Setting
    admitted: bool = True


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
        noise: What the search's scores are made of, or None where there are too few.
        by_tag: Objective to kind of prompt to how it moved on the test bucket.
        validation_pair: Both sides on the validation bucket, or None.
        watched: What was watched beside the score, and for what.
        alarms: What it set off.
        rescores: Reward to its scores of the kept neutral and calibrated outputs, by stage.
        sizes: Images on which training, validation and test scores were taken, by stage.
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
    pair: Pair | None
    noise: Noise | None
    by_tag: Mapping[str, Mapping[str, Moved]]
    validation_pair: Pair | None
    watched: Mapping[str, Watch]
    alarms: Sequence[Alarm]
    rescores: Mapping[str, Mapping[str, Moved]]
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
        return decimals_for(gain["high"] - gain["low"]) if gain else 3

    @property
    def combined(self) -> str:
        """The name of the combination that was optimised."""
        return str(self.row.config.get("combine", {}).get("name", "weighted"))

    def objective_gains(self) -> dict[str, Moved]:
        """What is optimised and every reward of it on the test bucket; a combination under its own name."""
        rewards = [name for name in self.row.config["objectives"] if self.pair and name in self.pair[0].scores]
        combined = movements(self.pair, [COMBINED]).get(COMBINED)
        return {**({self.combined: combined} if combined else {}), **movements(self.pair, rewards)}


def decimals_for(width: float) -> int:
    """Decimals that show two significant digits of an interval's width."""
    if width <= 0 or not math.isfinite(width):
        return 3
    return min(max(1 - math.floor(math.log10(width)), MIN_DECIMALS), MAX_DECIMALS)


def gather(store: SqliteStore, run_id: str) -> Facts:
    """Read a run.

    Raises:
        StoreError: If there is none of this name.
    """
    row = store.run(run_id)
    places, outcome = places_of(store, row), row.outcome
    grids, best = _grids(places, outcome), neutral_of(places)
    reference = places.get(Place("reference", 0, 0))
    neutral = outcome["baseline"]["setting"] if outcome else (best.setting if best else None)
    checks = _checks(places, grids, neutral, _refused(row, places))
    recommended = [check for check in checks if check.number and check.admitted]
    chosen = max(recommended, key=lambda check: check.score, default=None)
    if outcome:
        chosen = Judged(outcome["chosen"]["generation"], outcome["chosen"]["score"], outcome["calibrated"])
    before, after = (places.get(Place("test", 0, position)) for position in (0, 1))
    watched = watched_in(places, row.config["objectives"])
    judged = checks_of(places).get(chosen.number) if chosen and chosen.number else None
    repeats = row.config.get("seeds_per_prompt", 1)
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
        noise=_noise(places),
        by_tag=movements_by_tag((before, after) if before and after else None, (outcome or {}).get("tags", {})),
        validation_pair=(best, judged) if best and judged else None,
        watched=watched,
        alarms=alarms_in(places, watched),
        rescores=rescored_in(store, run_id, places, chosen.number) if chosen else {},
        sizes={
            "training": row.config["bucket_size"],
            **{stage: row.config[stage]["num_prompts"] * repeats for stage in ("validation", "test")},
        },
    )


def _noise(places: Places) -> Noise | None:
    """Of the search's scores, group by group; None where there are too few."""
    groups: dict[tuple[int, str], list[Evaluation]] = {}
    for place, evaluation in places.items():
        if place.stage == "search":
            groups.setdefault((place.generation, evaluation.bucket.fingerprint), []).append(evaluation)
    tables = [np.stack([each.values for each in group]) for group in groups.values()]
    tables = [values for values in tables if min(values.shape) > 1]
    return estimate_noise(tables) if tables else None


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
    refused: Iterable[int],
) -> list[Judged]:
    checks = [
        Judged(number, evaluation.fitness, evaluation.setting, number not in refused)
        for number, evaluation in checks_of(places).items()
    ]
    first = next(iter(grids.values()), None)
    if first and neutral is not None:
        checks.insert(0, Judged(0, max(first.values()), neutral))
    return checks


def _refused(row: RunRow, places: Mapping[Place, Evaluation]) -> set[int]:
    """Checks that the run's combination does not let be chosen; none where the combination cannot be had."""
    from ..setup.plugins import plugins

    neutral, config = neutral_of(places), row.config
    if row.outcome:
        return {check["generation"] for check in row.outcome["checks"] if not check.get("admitted", True)}
    weights = {name: reward["weight"] for name, reward in config["objectives"].items() if reward["weight"]}
    options = dict(config.get("combine", {"name": "weighted"}))
    try:
        combination = plugins().make("combinations", options.pop("name"), options, weights)
    except TrimpotError:
        return set()
    checks = checks_of(places)
    return {number for number, check in checks.items() if neutral and not combination.admits(check, neutral)}


def _grids(
    places: Mapping[Place, Evaluation], outcome: Mapping[str, Any] | None
) -> dict[int | None, Mapping[str, float]]:
    """Scores of the neutral settings by steps and label.

    Labels are the adapter's and reach the store with the outcome; before, settings are told apart by the
    knobs in which they differ.
    """
    tried: dict[int, list[Evaluation]] = {}
    for place, evaluation in places.items():
        if place.stage == "baseline":
            tried.setdefault(place.generation, []).append(evaluation)
    if outcome:
        return {each["num_steps"]: each["baseline"]["grid"] for each in outcome["comparisons"]}
    return {
        evaluations[0].num_steps: dict(
            zip(_labels(evaluations), (evaluation.fitness for evaluation in evaluations), strict=True)
        )
        for _, evaluations in sorted(tried.items())
    }


def _labels(evaluations: Iterable[Evaluation]) -> list[str]:
    settings = [evaluation.setting for evaluation in evaluations]
    if len(settings) == 1:
        return ["neutral"]
    differ = [name for name in settings[0] if len({setting[name] for setting in settings}) > 1]
    return [", ".join(f"{name} {setting[name]:g}" for name in differ[:1]) for setting in settings]
