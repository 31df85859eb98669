"""What came of a comparison, read from the store alone, so that it can be told at any time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine.record import DECISIVE
from ..engine.search import SEARCH_STAGES
from ..engine.statistics import sums_by_prompt
from ..setup.recorded import record_of
from ..storage import ComparisonRow, Comparisons, RunRow, SqliteStore
from ..storage.store import Step
from .design import Design, make_design
from .gains import GainTable


@dataclass(frozen=True)
class Course:
    """How one run went.

    Attributes:
        contender: Its label.
        seed: Its seed.
        run: Its name in the store, or None if it has not begun.
        status: `finished`, `failed`, `interrupted`, `running` or `not begun`.
        error: Why it failed, or None.
        images: Of the search, when each check was made; the first is 0, where all runs are alike.
        validation: Mean validation value of what was recommended then, and before any image of the best neutral
            setting.
        chosen: Of the best admitted check until then: what a user would have who stopped there.
        gain: Mean, low and high of the gain on test prompts, with its number of images; None unless finished.
        gain_sums: The paired differences on the test bucket, summed by prompt.
        gain_sizes: Images of each of these prompts.
        stop_reason: Why the search ended.
        population_size: Candidates of the first generation.
        groups: Groups of the first generation, each with a bucket of its own.
        generations: Generations told.
        bucket_sizes: Outputs of a candidate in the first and in the last generation.
        spent: Images of the search.
        num_images: Images of all stages.
        seconds: Wall time.
        versions: Libraries.
    """

    contender: str
    seed: int
    run: str | None = None
    status: str = "not begun"
    error: str | None = None
    images: tuple[int, ...] = ()
    validation: tuple[float, ...] = ()
    chosen: tuple[float, ...] = ()
    gain: Mapping[str, float] | None = None
    gain_sums: tuple[float, ...] = ()
    gain_sizes: tuple[float, ...] = ()
    stop_reason: str | None = None
    population_size: int = 0
    groups: int = 0
    generations: int = 0
    bucket_sizes: tuple[int, int] = (0, 0)
    spent: int = 0
    num_images: int = 0
    seconds: float = 0.0
    versions: Mapping[str, str] | None = None

    @property
    def finished(self) -> bool:
        """Whether it has a result."""
        return self.gain is not None


@dataclass(frozen=True)
class Results:
    """A comparison and its runs.

    Attributes:
        row: The comparison in the store.
        design: What was asked.
        courses: Every run by contender and seed, begun or not.
        num_knobs: Of the space, if any run has recorded something.
    """

    row: ComparisonRow
    design: Design
    courses: Mapping[tuple[str, int], Course]
    num_knobs: int | None

    @property
    def labels(self) -> list[str]:
        """The contenders, in the order asked for."""
        return list(self.design.contenders)

    @property
    def budget(self) -> int:
        """Images of a search."""
        return int(self.design.asked["images"])

    def of(self, label: str) -> list[Course]:
        """A contender's finished runs."""
        courses = (self.courses[label, seed] for seed in self.design.seeds)
        return [course for course in courses if course.finished]

    @property
    def ranked(self) -> list[str]:
        """Contenders of which any run has finished."""
        return [label for label in self.labels if self.of(label)]

    def gains(self, label: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Gain on test prompts of a contender's finished runs, shape (num_finished,)."""
        return np.array([course.gain["mean"] for course in self.of(label) if course.gain], dtype=np.float64)

    def by_prompt(self, label: str) -> GainTable:
        """The same by prompt: sums of shape (num_finished, num_prompts)."""
        courses = self.of(label)
        return GainTable(np.array([course.gain_sums for course in courses]), np.array(courses[0].gain_sizes))

    def paired(self, labels: list[str]) -> GainTable | None:
        """Gains on the seeds that all of these contenders have finished; None if there are none.

        Returns:
            Sums of shape (num_seeds, num_contenders, num_prompts).
        """
        seeds = [seed for seed in self.design.seeds if all(self.courses[label, seed].finished for label in labels)]
        if not seeds or not labels:
            return None
        rows = [[self.courses[label, seed].gain_sums for label in labels] for seed in seeds]
        return GainTable(np.array(rows), np.array(self.courses[labels[0], seeds[0]].gain_sizes))


def gather(store: SqliteStore, name: str) -> Results:
    """Read a comparison.

    Raises:
        StoreError: If there is none of this name.
    """
    comparisons = Comparisons(store)
    row = comparisons.get(name)
    design = design_of(row)
    members = comparisons.members(name)
    courses = {}
    for contender, seed in design.members:
        run_id = members.get((contender, seed))
        courses[contender, seed] = (
            Course(contender, seed)
            if run_id is None
            else _course(store, contender, seed, store.run(run_id), comparisons.steps(run_id))
        )
    return Results(row, design, courses, _num_knobs(store, members))


def design_of(row: ComparisonRow) -> Design:
    """What a comparison in the store asked for."""
    return make_design({key: value for key, value in row.config.items() if key != "command"}, row.id)


def _course(store: SqliteStore, contender: str, seed: int, row: RunRow, steps: Sequence[Step]) -> Course:
    spent, at = 0, {}
    for step in steps:
        if step.stage in SEARCH_STAGES:
            spent += step.num_images
        elif step.stage == "validation":
            at[step.generation] = spent
    record, outcome = record_of(row, store.evaluations(row.id, DECISIVE)), row.outcome
    searched = [step for step in steps if step.stage == "search"]
    sums: Sequence[float] = ()
    sizes: Sequence[float] = ()
    if outcome and record.pair:
        before, after = record.pair
        sums, sizes = map(np.ndarray.tolist, sums_by_prompt(after.values - before.values, after.bucket.prompts))
    return Course(
        contender,
        seed,
        row.id,
        row.status,
        row.error,
        tuple(at.get(check.generation, 0) for check in record.checks),
        tuple(check.score for check in record.checks),
        tuple(check.score for check in record.leading),
        outcome["comparisons"][0]["gain"] if outcome else None,
        tuple(sums),
        tuple(sizes),
        row.stop_reason,
        sum(step.generation == 0 for step in searched),
        len({step.bucket for step in searched if step.generation == 0}),
        outcome["num_generations"] if outcome else len(store.sigmas(row.id)),
        (searched[0].num_images, searched[-1].num_images) if searched else (0, 0),
        spent,
        sum(step.num_images for step in steps),
        row.seconds,
        row.versions,
    )


def _num_knobs(store: SqliteStore, members: Mapping[tuple[str, int], str]) -> int | None:
    for run in members.values():
        for evaluation in store.recorded(run, "baseline", 0).values():
            return len(evaluation.setting)
    return None
