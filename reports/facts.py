"""The facts that a report shows of a run, read from the store alone, so that a report can be made at any time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..engine.evaluation import COMBINED, Evaluation
from ..engine.knobs import Setting
from ..engine.noise import Noise, estimate_noise
from ..engine.record import Check, Pair, Record
from ..setup.recorded import record_of
from .nouns import made_by, noun, seeded
from .standing import Standing, standing_of
from .tags import movements_by_tag
from .watched import Moved, OnWatched, movements, on_watched, rescored_in

if TYPE_CHECKING:
    from ..storage import RunRow, SqliteStore

MIN_DECIMALS, MAX_DECIMALS = 2, 6


class Generation(NamedTuple):
    """A generation of the search: its number (from 1), best and mean fitness, and the step size after it."""

    number: int
    best: float
    mean: float
    sigma: float | None


@dataclass(frozen=True)
class Facts:
    """The facts of a run, finished or not.

    Attributes:
        row: The run in the store.
        record: The evaluations of the run, and what the engine derives from them.
        shown: The check whose setting is shown: the result, or the best recommendation so far.
        totals: Digest, numbers of evaluations and images, and seconds; see `SqliteStore.totals`.
        generations: The complete generations of the search so far.
        comparisons: Neutral against calibrated by number of steps; empty until the run has finished.
        noise: The sources of variance of the search's scores, or None if there are too few scores.
        by_tag: Objective to tag of a prompt to the change of the score on the test bucket.
        on_watched: Scores on watched prompts, by set and objective.
        rescores: Reward added after the run to stage to the change of its score, neutral to calibrated.
        sizes: Stage to the number of images of a training, validation or test score.
    """

    row: RunRow
    record: Record
    shown: Check | None
    totals: Mapping[str, Any]
    generations: Sequence[Generation]
    comparisons: Sequence[Mapping[str, Any]]
    noise: Noise | None
    by_tag: Mapping[str, Mapping[str, Moved]]
    on_watched: Sequence[OnWatched]
    rescores: Mapping[str, Mapping[str, Moved]]
    sizes: Mapping[str, int]

    @property
    def standing(self) -> Standing:
        """Where the result of a finished run stands."""
        assert self.row.outcome is not None, "finished"
        return standing_of({**self.row.outcome, "comparisons": self.comparisons})

    @property
    def finished(self) -> bool:
        """Whether the run has a result, even if the process that made the result still holds the run."""
        return self.row.outcome is not None

    @property
    def status(self) -> str:
        """The status of the run in one word."""
        return "finished" if self.finished else self.row.status

    @property
    def best_training(self) -> float | None:
        """The highest training fitness of any candidate, flattered by luck."""
        scores = [generation.best for generation in self.generations]
        if self.reference is not None:
            scores.append(self.reference)
        return max(scores, default=None)

    @property
    def reference(self) -> float | None:
        """The fitness, on the first training bucket, of the setting that the search began from."""
        return self.record.reference.fitness if self.record.reference else None

    @property
    def neutral(self) -> Setting | None:
        """The best neutral setting, or None if it has not been chosen yet."""
        return self.record.neutral.setting if self.record.neutral else None

    @property
    def noun(self) -> str:
        """What the outputs of the run are called."""
        return noun(made_by(self.row.outcome, self.record))

    @property
    def seeded(self) -> bool:
        """Whether the outputs of the run depend on seeds."""
        return seeded(self.row.outcome)

    @property
    def validation_pair(self) -> Pair | None:
        """Neutral and shown setting on the validation bucket, or None if the shown setting is the neutral one."""
        record, generation = self.record, self.shown.generation if self.shown else 0
        return (record.judged[0], record.judged[generation]) if generation else None

    @property
    def decimals(self) -> int:
        """Decimals to show of scores: as many as show two significant digits of the gain's interval."""
        gain = self.comparisons[0]["gain"] if self.comparisons else None
        return decimals_for(gain["high"] - gain["low"]) if gain else 3

    @property
    def combined(self) -> str:
        """The name of the combination that was optimised."""
        return str(self.row.config.get("combine", {}).get("name", "weighted"))

    def objective_gains(self) -> dict[str, Moved]:
        """Changes of the optimised score and of each of its rewards on the test bucket, by name.

        A combination appears under its own name.
        """
        pair = self.record.pair
        rewards = [name for name in self.row.config["objectives"] if pair and name in pair[0].scores]
        combined = movements(pair, [COMBINED]).get(COMBINED)
        return {**({self.combined: combined} if combined else {}), **movements(pair, rewards)}


def decimals_for(width: float) -> int:
    """Return the number of decimals that shows two significant digits of an interval's width."""
    if width <= 0 or not math.isfinite(width):
        return 3
    return min(max(1 - math.floor(math.log10(width)), MIN_DECIMALS), MAX_DECIMALS)


def gather(store: SqliteStore, run_id: str) -> Facts:
    """Read the facts of a run from the store.

    Raises:
        StoreError: If no run has this name.
    """
    row = store.run(run_id)
    record, outcome = record_of(row, store.evaluations(row.id)), row.outcome or {}
    shown = record.chosen if row.outcome else record.recommended
    repeats = row.config.get("seeds_per_prompt", 1)
    return Facts(
        row=row,
        record=record,
        shown=shown,
        totals=store.totals(run_id),
        generations=_generations(record, store.sigmas(run_id)),
        comparisons=outcome.get("comparisons", ()),
        noise=_noise(record),
        by_tag=movements_by_tag(record.pair, outcome.get("tags", {})),
        on_watched=on_watched(record, shown.generation if shown else 0),
        rescores=rescored_in(store, run_id, record, shown.generation) if shown else {},
        sizes={
            "training": row.config["bucket_size"],
            **{stage: row.config[stage]["num_prompts"] * repeats for stage in ("validation", "test")},
        },
    )


def _noise(record: Record) -> Noise | None:
    """Estimate the noise of the search's scores from its groups; None if there are too few."""
    groups: dict[tuple[int, str], list[Evaluation]] = {}
    for place, evaluation in record.evaluations.items():
        if place.stage == "search":
            groups.setdefault((place.generation, evaluation.bucket.fingerprint), []).append(evaluation)
    tables = [np.stack([each.values for each in group]) for group in groups.values()]
    tables = [values for values in tables if min(values.shape) > 1]
    return estimate_noise(tables) if tables else None


def _generations(record: Record, sigmas: Mapping[int, float | None]) -> list[Generation]:
    """Return the generations that were told to the optimizer; the mean of an incomplete one would be biased."""
    fitness: dict[int, list[float]] = {}
    for place, evaluation in record.evaluations.items():
        if place.stage == "search" and place.generation in sigmas:
            fitness.setdefault(place.generation, []).append(evaluation.fitness)
    return [
        Generation(number + 1, max(values), math.fsum(values) / len(values), sigmas[number])
        for number, values in sorted(fitness.items())
    ]
