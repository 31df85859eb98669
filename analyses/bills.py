"""What runs and analyses cost: outputs, seconds, hours and money, by run, by stage and by model, from the store alone.

An output counts where it was made. One that a run found in the store was paid for by the run that made it, so that a
sum over all runs of a store counts every output once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..engine.evaluation import POOL, watched_at
from ..engine.nouns import noun
from ..ground.errors import StoreError, near_misses
from ..storage import Analyses, AnalysisRow, RunRow, SqliteStore
from ..storage.store import Spent

#: Where outputs are made, in the order of a run.
WATCHED = "watched prompts"
STAGES = (
    "baseline",
    "reference",
    "sensitivity",
    "search",
    "validation",
    "test",
    WATCHED,
    "other steps",
    "comparison pools",
)


@dataclass(frozen=True)
class Bill:
    """What was spent on something.

    Attributes:
        images: Outputs made.
        found: Outputs found in the store, which cost nothing.
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
class Spender:
    """A run or an analysis, and what it cost.

    Attributes:
        name: Its name in the store.
        kind: `run`, or the kind of the analysis.
        status: Its status.
        config: The configuration that names its backbone and its rewards; of an analysis, that of its first target.
        stages: What each stage cost, by its name in `STAGES`.
        wall_seconds: Wall time, over all resumes.
        num_knobs: Number of knobs, or None if unknown.
        generations: Number of generations told to the optimizer.
        gain: The gain on test prompts over the best neutral setting; None if there is none.
        outputs: What its outputs are called.
    """

    name: str
    kind: str
    status: str
    config: Mapping[str, Any]
    stages: Mapping[str, Bill]
    wall_seconds: float
    num_knobs: int | None = None
    generations: int = 0
    gain: Mapping[str, float] | None = None
    outputs: str = "images"

    @property
    def total(self) -> Bill:
        """What all stages cost."""
        return sum(self.stages.values(), Bill())

    @property
    def model(self) -> str:
        """The backbone: its checkpoint if the configuration names one, else its adapter."""
        adapter = self.config["adapter"]
        return f"{adapter['name']} ({adapter['model']})" if adapter.get("model") else str(adapter["name"])

    @property
    def granularity(self) -> str:
        """The granularity that the configuration sets, or an empty text for the adapter's own."""
        return str(self.config["adapter"].get("granularity") or "")

    @property
    def rewards(self) -> str:
        """The rewards that score, and share the seconds of scoring."""
        return ", ".join(self.config["objectives"])


@dataclass(frozen=True)
class Costs:
    """What runs and analyses of a store cost.

    Attributes:
        spenders: Each of them.
        price: The price of a device-hour, or None.
    """

    spenders: tuple[Spender, ...]
    price: float | None = None

    @property
    def total(self) -> Bill:
        """What all cost."""
        return sum((each.total for each in self.spenders), Bill())

    @property
    def outputs(self) -> str:
        """What the outputs of all are called."""
        found = {each.outputs for each in self.spenders if each.total != Bill()}
        return found.pop() if len(found) == 1 else "outputs"

    @property
    def wall_seconds(self) -> float:
        """Wall time of the runs one after the other: loading, searching and reports included.

        An analysis waits for the runs that it begins, so their time is not counted twice.
        """
        return sum(each.wall_seconds for each in self.spenders if each.kind == "run")

    def money(self, hours: float) -> float | None:
        """Return the price of so many device-hours, or None without a price."""
        return None if self.price is None else hours * self.price

    def by_stage(self) -> dict[str, Bill]:
        """Return what each stage cost, over all."""
        found = {stage: sum((each.stages.get(stage, Bill()) for each in self.spenders), Bill()) for stage in STAGES}
        return {stage: bill for stage, bill in found.items() if bill.images or bill.found}

    def by_model(self) -> dict[tuple[str, str], Bill]:
        """Return what each backbone and each set of rewards cost, over all, by kind and name.

        The time of scoring is recorded for all rewards of a run together, so it is told for the set.
        """
        found: dict[tuple[str, str], Bill] = {}
        for each in self.spenders:
            total = each.total
            for key, bill in (
                (("backbone", each.model), replace(total, score_seconds=0.0)),
                (("rewards", each.rewards), replace(total, generate_seconds=0.0)),
            ):
                found[key] = found.get(key, Bill()) + bill
        return dict(sorted(found.items(), key=lambda item: item[0][0]))


def gather(store: SqliteStore, names: Sequence[str] = (), price: float | None = None) -> Costs:
    """Read what runs and analyses cost.

    Args:
        store: An open store; nothing is written.
        names: Runs and analyses; empty for all.
        price: The price of a device-hour.

    Raises:
        StoreError: If there is no such run, or there are none, or a record is damaged.
    """
    analyses = {row.id: row for row in Analyses(store).all() if row.config["targets"]}
    runs = {row.id: row for row in store.runs()}
    asked = list(dict.fromkeys(names)) or [*runs, *analyses]
    for name in asked:
        if name not in runs and name not in analyses:
            raise StoreError(f"no run or analysis {name!r} in {store.folder}; {near_misses(name, [*runs, *analyses])}")
    if not asked:
        hint = store.unknown_folders() or "`trimpot calibrate shapes` begins one"
        raise StoreError(f"no run of {store.folder} has cost anything; {hint}")
    found = [_of_run(store, runs[name]) if name in runs else _of_analysis(store, analyses[name]) for name in asked]
    return Costs(tuple(each for each in found if names or each.kind == "run" or each.total != Bill()), price)


def _of_run(store: SqliteStore, row: RunRow) -> Spender:
    first = next(iter(store.recorded(row.id, "baseline", 0).values()), None)
    return Spender(
        row.id,
        "run",
        row.status,
        row.config,
        _stages(store.spent(row.id)),
        row.seconds,
        len(first.setting) if first else None,
        row.outcome["num_generations"] if row.outcome else len(store.sigmas(row.id)),
        row.outcome["comparisons"][0]["gain"] if row.outcome else None,
        noun((row.outcome or {}).get("makes", "image")),
    )


def _of_analysis(store: SqliteStore, row: AnalysisRow) -> Spender:
    stages = _stages(store.spent(row.id, "analysed"))
    outputs = (row.outcome or {}).get("outputs", "images")
    config = row.config["targets"][0]["config"]
    return Spender(row.id, row.kind, row.status, config, stages, row.seconds, outputs=outputs)


def _stages(spent: Sequence[Spent]) -> dict[str, Bill]:
    found: dict[str, Bill] = {}
    for each in spent:
        bill = Bill(each.num_images, each.found_images, each.generate_seconds, each.score_seconds)
        found[_stage(each)] = found.get(_stage(each), Bill()) + bill
    return found


def _stage(spent: Spent) -> str:
    if spent.stage.endswith(POOL):
        return "comparison pools"
    if watched_at(spent.stage):
        return WATCHED
    return "other steps" if spent.other_steps else spent.stage
