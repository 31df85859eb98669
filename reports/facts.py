"""What a report says of a run, gathered from the store alone, so that it can be made at any time."""

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
from .tags import movements_by_tag
from .watched import Moved, movements, rescored_in

if TYPE_CHECKING:
    from ..storage import RunRow, SqliteStore

MIN_DECIMALS, MAX_DECIMALS = 2, 6


class Generation(NamedTuple):
    """A generation of the search: how many were told after it, its fitness, and the step size it left."""

    number: int
    best: float
    mean: float
    sigma: float | None


@dataclass(frozen=True)
class Facts:
    """A run as a report needs it, finished or not.

    Attributes:
        row: The run in the store.
        record: What it recorded, and what follows from it.
        shown: The check whose setting is shown: the result, or the best that the search has recommended so far.
        totals: Its digest and what it took.
        generations: The search so far, complete generations only.
        comparisons: Neutral against calibrated by number of steps; empty until the run has finished.
        noise: What the search's scores are made of, or None where there are too few.
        by_tag: Objective to kind of prompt to how it moved on the test bucket.
        rescores: Reward to its scores of the kept neutral and calibrated outputs, by stage.
        sizes: Images on which training, validation and test scores were taken, by stage.
    """

    row: RunRow
    record: Record
    shown: Check | None
    totals: Mapping[str, Any]
    generations: Sequence[Generation]
    comparisons: Sequence[Mapping[str, Any]]
    noise: Noise | None
    by_tag: Mapping[str, Mapping[str, Moved]]
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
    def reference(self) -> float | None:
        """What the setting that the search began from scores on the first training bucket."""
        return self.record.reference.fitness if self.record.reference else None

    @property
    def neutral(self) -> Setting | None:
        """The best neutral setting, as far as it is known."""
        return self.record.neutral.setting if self.record.neutral else None

    @property
    def validation_pair(self) -> Pair | None:
        """Both sides on the validation bucket, if the shown setting is not the neutral one."""
        record, generation = self.record, self.shown.generation if self.shown else 0
        return (record.judged[0], record.judged[generation]) if generation else None

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
        pair = self.record.pair
        rewards = [name for name in self.row.config["objectives"] if pair and name in pair[0].scores]
        combined = movements(pair, [COMBINED]).get(COMBINED)
        return {**({self.combined: combined} if combined else {}), **movements(pair, rewards)}


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
        rescores=rescored_in(store, run_id, record, shown.generation) if shown else {},
        sizes={
            "training": row.config["bucket_size"],
            **{stage: row.config[stage]["num_prompts"] * repeats for stage in ("validation", "test")},
        },
    )


def _noise(record: Record) -> Noise | None:
    """Of the search's scores, group by group; None where there are too few."""
    groups: dict[tuple[int, str], list[Evaluation]] = {}
    for place, evaluation in record.evaluations.items():
        if place.stage == "search":
            groups.setdefault((place.generation, evaluation.bucket.fingerprint), []).append(evaluation)
    tables = [np.stack([each.values for each in group]) for group in groups.values()]
    tables = [values for values in tables if min(values.shape) > 1]
    return estimate_noise(tables) if tables else None


def _generations(record: Record, sigmas: Mapping[int, float | None]) -> list[Generation]:
    """Generations that were told: one cut short has no honest mean."""
    fitness: dict[int, list[float]] = {}
    for place, evaluation in record.evaluations.items():
        if place.stage == "search" and place.generation in sigmas:
            fitness.setdefault(place.generation, []).append(evaluation.fitness)
    return [
        Generation(number + 1, max(values), math.fsum(values) / len(values), sigmas[number])
        for number, values in sorted(fitness.items())
    ]
