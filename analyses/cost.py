"""What runs cost: images, seconds, hours and money, by run, by stage and by model, from the store alone.

An image counts where it was made. One that a run found in the store was paid for by the run that made it, so that a
sum over all runs of a store counts every image once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..engine.evaluation import POOL
from ..ground.errors import StoreError
from ..storage import RunRow, SqliteStore
from ..storage.store import Spent

#: Where images are made, in the order of a run.
STAGES = ("baseline", "reference", "sensitivity", "search", "validation", "test", "other steps", "comparison pools")


@dataclass(frozen=True)
class Bill:
    """What was spent on something.

    Attributes:
        images: Images made.
        found: Images found in the store, which cost nothing.
        generate_seconds: Time of generating, summed over workers.
        score_seconds: Time of scoring, summed over workers.
    """

    images: int = 0
    found: int = 0
    generate_seconds: float = 0.0
    score_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Time of generating and scoring, summed over workers: a worker counts as a device."""
        return self.generate_seconds + self.score_seconds

    @property
    def hours(self) -> float:
        """The same in hours: device-hours."""
        return self.seconds / 3600

    def __add__(self, other: Bill) -> Bill:
        return Bill(
            self.images + other.images,
            self.found + other.found,
            self.generate_seconds + other.generate_seconds,
            self.score_seconds + other.score_seconds,
        )


@dataclass(frozen=True)
class RunCost:
    """What one run cost.

    Attributes:
        row: The run in the store.
        stages: What each stage cost, by its name in `STAGES`.
        num_knobs: Number of knobs, or None if nothing is recorded.
        generations: Number of generations told to the optimizer.
    """

    row: RunRow
    stages: dict[str, Bill]
    num_knobs: int | None
    generations: int

    @property
    def total(self) -> Bill:
        """What all stages cost."""
        return sum(self.stages.values(), Bill())

    @property
    def model(self) -> str:
        """The backbone: its checkpoint if the configuration names one, else its adapter."""
        adapter = self.row.config["adapter"]
        return f"{adapter['name']} ({adapter['model']})" if adapter.get("model") else str(adapter["name"])

    @property
    def granularity(self) -> str:
        """The granularity that the configuration sets, or an empty text for the adapter's own."""
        return str(self.row.config["adapter"].get("granularity") or "")

    @property
    def rewards(self) -> str:
        """The rewards that score, and share the seconds of scoring."""
        return ", ".join(self.row.config["objectives"])

    @property
    def gain(self) -> dict[str, Any] | None:
        """The gain on test prompts over neutral at its best; None unless finished."""
        return self.row.outcome["comparisons"][0]["gain"] if self.row.outcome else None


@dataclass(frozen=True)
class Costs:
    """What runs of a store cost.

    Attributes:
        runs: Every run.
        price: The price of a device-hour, or None.
    """

    runs: tuple[RunCost, ...]
    price: float | None = None

    @property
    def total(self) -> Bill:
        """What all runs cost."""
        return sum((run.total for run in self.runs), Bill())

    @property
    def wall_seconds(self) -> float:
        """Wall time of the runs one after the other, over all resumes: loading, searching and reports included."""
        return sum(run.row.seconds for run in self.runs)

    def money(self, hours: float) -> float | None:
        """Return the price of so many device-hours, or None without a price."""
        return None if self.price is None else hours * self.price

    def by_stage(self) -> dict[str, Bill]:
        """Return what each stage cost, over all runs."""
        found = {stage: sum((run.stages.get(stage, Bill()) for run in self.runs), Bill()) for stage in STAGES}
        return {stage: bill for stage, bill in found.items() if bill.images or bill.found}

    def by_model(self) -> dict[tuple[str, str], Bill]:
        """Return what each backbone and each set of rewards cost, over all runs, by kind and name.

        The time of scoring is recorded for all rewards of a run together, so it is told for the set.
        """
        found: dict[tuple[str, str], Bill] = {}
        for run in self.runs:
            total = run.total
            for key, bill in (
                (("backbone", run.model), replace(total, score_seconds=0.0)),
                (("rewards", run.rewards), replace(total, generate_seconds=0.0)),
            ):
                found[key] = found.get(key, Bill()) + bill
        return dict(sorted(found.items(), key=lambda item: item[0][0]))


def gather(store: SqliteStore, names: Sequence[str] = (), price: float | None = None) -> Costs:
    """Read what runs cost.

    Args:
        store: An open store; nothing is written.
        names: The runs; empty for all.
        price: The price of a device-hour.

    Raises:
        StoreError: If there is no such run, or there are none, or a record is damaged.
    """
    rows = [store.run(name) for name in dict.fromkeys(names)] if names else store.runs()
    if not rows:
        raise StoreError(f"no run in {store.folder} has cost anything; {store.unknown_folders() or 'begin one'}")
    return Costs(tuple(_cost(store, row) for row in rows), price)


def _cost(store: SqliteStore, row: RunRow) -> RunCost:
    stages: dict[str, Bill] = {}
    for spent in store.spent(row.id):
        stage = _stage(spent)
        stages[stage] = stages.get(stage, Bill()) + Bill(
            spent.num_images, spent.found_images, spent.generate_seconds, spent.score_seconds
        )
    first = next(iter(store.recorded(row.id, "baseline", 0).values()), None)
    generations = row.outcome["num_generations"] if row.outcome else len(store.sigmas(row.id))
    return RunCost(row, stages, len(first.setting) if first else None, generations)


def _stage(spent: Spent) -> str:
    if spent.stage.endswith(POOL):
        return "comparison pools"
    return "other steps" if spent.other_steps else spent.stage
