"""A calibration from beginning to end. If you read one file, read this one.

    best neutral ─► ask ─► generate, score, record ─► tell ─► recommend ─► check on validation ─► measure on test
                     └───────────────◄─────────────────┘

A run of 0 generations measures the setting that it starts from, whatever that is worth: no search, one check.

A resumed run is the same loop with a store that already holds evaluations: a freshly seeded optimizer asks for the
same candidates again, recorded evaluations are read instead of generated, and the run continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .alarm import Alarm
from .evaluator import Evaluator
from .heldout import Baseline, Measured, WatchedGain, best_neutral, measure, measure_watched
from .judge import Judge
from .record import GIVEN, Check
from .run import Run
from .seams import Store
from .search import Search
from .watcher import Watcher
from .worker import Worker
from .workshop import Here, Workshop


@dataclass(frozen=True)
class Outcome:
    """The result of a finished run.

    Attributes:
        calibrated: The chosen setting.
        baseline: The best neutral setting at the calibrated number of steps, with its grid.
        reference: Fitness on the first training bucket of the setting that the search began from.
        checks: The validation of every judged recommendation, in order.
        chosen: The check whose setting was chosen.
        comparisons: Neutral against calibrated on test prompts; the first is at the calibrated number of steps.
        best_training: The best training fitness of any candidate. It is optimistic, so never report it as a result.
        stop_reason: Why the search ended.
        num_generations: The number of generations told to the optimizer.
        alarms: Watched scores, on validation prompts or on watched prompts, that got worse while the optimised score
            rose.
        silent: The share of groups that told the search nothing, because all their candidates had the same fitness.
        watched: Neutral against calibrated on watched prompts, by set and objective.
    """

    calibrated: Mapping[str, float]
    baseline: Baseline
    reference: float
    checks: tuple[Check, ...]
    chosen: Check
    comparisons: tuple[Measured, ...]
    best_training: float
    stop_reason: str
    num_generations: int
    alarms: tuple[Alarm, ...] = ()
    silent: float = 0.0
    watched: tuple[WatchedGain, ...] = ()


def calibrate(run: Run, store: Store, watch: Watcher, workshop: Workshop | None = None) -> Outcome:
    """Calibrate a backbone.

    Args:
        run: The assembled run.
        store: Reads and keeps evaluations.
        watch: Is told of everything that is recorded.
        workshop: Generates and scores. With None, this process does so with the run's own adapter and objectives, after
            a check that outputs depend only on candidate, prompt and seed.

    Raises:
        ModelError: If the adapter fails, or an output depends on more than its candidate, prompt and seed.
        ScoreError: If an objective fails; the run can be resumed.
        ReplayError: If the store holds a different search under this run.
    """
    here = Here(Worker(run.adapter, run.objectives, store.keeper, proof=run.bucket(0, size=2)))
    evaluator = Evaluator(run, store, watch, workshop or here)
    run.adapter.prepare(run.prompts.all)

    baseline, tried = best_neutral(evaluator)
    search = Search(evaluator, start=run.start or baseline.setting)
    judge = Judge(evaluator, tried, search.reference)

    if run.config.measures:
        assert run.start is not None, "the configuration demands it"
        judge.check(GIVEN, run.adapter.space.to_vector(run.start))
        search.stop_at("the setting was given")

    for number, rung in enumerate(run.rungs if not search.stop_reason else ()):
        optimizer, since = search.begin(number, rung), judge.latest
        while not search.stop_reason:
            population = optimizer.ask()
            if search.affords(population):
                fitness = search.evaluate(population)  # Adapter.generate, Objective.score, Store.record
                optimizer.tell(population, fitness)
                search.close_generation()
            if search.stop_reason or search.check_is_due:
                judge.check(search.generation, search.recommend())
                search.stop_at(judge.plateau(since))

    return Outcome(
        judge.chosen.setting,
        baseline,
        search.reference.fitness,
        judge.record.checks,
        judge.chosen,
        measure(evaluator, baseline, judge.chosen.setting),
        search.best_training,
        search.stop_reason,
        search.generation,
        judge.record.alarms,
        search.num_silent / max(1, search.num_groups),
        measure_watched(evaluator, baseline.setting, judge.chosen.setting),
    )
