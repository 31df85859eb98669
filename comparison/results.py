"""The results of a comparison, read from the store alone, so that they can be shown at any time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine.nouns import noun
from ..engine.record import decisive
from ..engine.search import SEARCH_STAGES
from ..engine.statistics import sums_by_prompt
from ..reports.nouns import made_by, seeded
from ..setup.recorded import record_of
from ..storage import ComparisonRow, Comparisons, RunRow, SqliteStore
from ..storage.store import Step
from .design import Design, make_design
from .gains import GainTable


@dataclass(frozen=True)
class Course:
    """The course of one run.

    Attributes:
        contender: The label of the contender.
        seed: The seed of the run.
        run: The name of the run in the store, or None if it has not begun.
        status: `finished`, `failed`, `interrupted`, `running` or `not begun`.
        error: Why the run failed, or None.
        images: Outputs of the search at each check; the first is 0, when all runs are equal.
        validation: Mean validation value of the setting judged by each check; the first is the best neutral setting.
        chosen: Mean validation value of the best admitted check so far: the result if the search stopped there.
        gain: Mean, low and high of the gain on test prompts, with its number of outputs; None unless finished.
        gain_sums: The paired differences on the test bucket, summed by prompt.
        gain_sizes: Number of outputs of each of these prompts.
        stop_reason: Why the search ended.
        population_size: Number of candidates of the first generation.
        groups: Number of groups of the first generation, each with a bucket of its own.
        generations: Number of generations told to the optimizer.
        bucket_sizes: Outputs of a candidate in the first and in the last generation.
        spent: Outputs of the search.
        num_images: Outputs of all stages.
        seconds: Wall time.
        versions: Versions of the libraries.
        makes: What the backbone makes; see `Adapter`.
        seeded: Whether what it makes depends on seeds.
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
    makes: str | None = None
    seeded: bool = True

    @property
    def finished(self) -> bool:
        """Whether the run has a result."""
        return self.gain is not None


@dataclass(frozen=True)
class Results:
    """A comparison and its runs.

    Attributes:
        row: The comparison in the store.
        design: The design of the comparison.
        courses: Every run by contender and seed, begun or not.
        num_knobs: Number of knobs of the space, or None if no run has recorded anything.
    """

    row: ComparisonRow
    design: Design
    courses: Mapping[tuple[str, int], Course]
    num_knobs: int | None

    @property
    def labels(self) -> list[str]:
        """The contenders, in the order of the design."""
        return list(self.design.contenders)

    @property
    def noun(self) -> str:
        """What the outputs are called."""
        return noun(next((each.makes for each in self.courses.values() if each.makes), None))

    @property
    def seed(self) -> str:
        """What searches of one contender differ by, in one word: a seed, unless the backbone uses none."""
        return "seed" if all(each.seeded for each in self.courses.values()) else "search"

    def counted(self, number: int) -> str:
        """Return a number of seeds, or of searches, as text."""
        return f"{number} {self.seed if number == 1 else self.seeds}"

    @property
    def seeds(self) -> str:
        """The plural of `seed`."""
        return {"seed": "seeds", "search": "searches"}[self.seed]

    @property
    def budget(self) -> int:
        """Number of outputs that each search may generate."""
        return int(self.design.asked["images"])

    def of(self, label: str) -> list[Course]:
        """Return a contender's finished runs."""
        courses = (self.courses[label, seed] for seed in self.design.seeds)
        return [course for course in courses if course.finished]

    @property
    def ranked(self) -> list[str]:
        """The contenders that have a finished run."""
        return [label for label in self.labels if self.of(label)]

    def gains(self, label: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the gain on test prompts of each finished run of a contender, shape (num_finished,)."""
        return np.array([course.gain["mean"] for course in self.of(label) if course.gain], dtype=np.float64)

    def by_prompt(self, label: str) -> GainTable:
        """Return the gains of a contender's finished runs by prompt; sums have shape (num_finished, num_prompts)."""
        courses = self.of(label)
        return GainTable(np.array([course.gain_sums for course in courses]), np.array(courses[0].gain_sizes))

    def paired(self, labels: list[str]) -> GainTable | None:
        """Return the gains of contenders on the seeds that all of them have finished, or None without such seeds.

        Returns:
            Gains whose sums have shape (num_seeds, num_contenders, num_prompts).
        """
        seeds = [seed for seed in self.design.seeds if all(self.courses[label, seed].finished for label in labels)]
        if not seeds or not labels:
            return None
        rows = [[self.courses[label, seed].gain_sums for label in labels] for seed in seeds]
        return GainTable(np.array(rows), np.array(self.courses[labels[0], seeds[0]].gain_sizes))


def gather(store: SqliteStore, name: str) -> Results:
    """Read the results of a comparison from the store.

    Raises:
        StoreError: If no comparison has this name.
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
    """Return the design of a comparison in the store."""
    return make_design({key: value for key, value in row.config.items() if key != "command"}, row.id)


def _course(store: SqliteStore, contender: str, seed: int, row: RunRow, steps: Sequence[Step]) -> Course:
    spent, at = 0, {}
    for step in steps:
        if step.stage in SEARCH_STAGES:
            spent += step.num_images
        elif step.stage == "validation":
            at[step.generation] = spent
    record, outcome = record_of(row, store.evaluations(row.id, decisive(row.config))), row.outcome
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
        made_by(outcome, record),
        seeded(outcome),
    )


def _num_knobs(store: SqliteStore, members: Mapping[tuple[str, int], str]) -> int | None:
    for run in members.values():
        for evaluation in store.recorded(run, "baseline", 0).values():
            return len(evaluation.setting)
    return None
