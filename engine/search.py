"""The search: ask, evaluate, tell, and judge now and then."""

from __future__ import annotations

import numpy as np

from .bucket_sizing import BucketSizer
from .config import Config
from .errors import ConfigError
from .evaluation import POOL, Evaluation, Place
from .evaluator import Evaluator
from .jobs import Group
from .judge import Judge
from .knobs import Vector
from .ladder import Rung
from .scoring import fitness_of
from .seams import Optimizer, Population
from .sensitivity import spread_by_sensitivity
from .stopping import exhausted
from .vetting import blamed, who_made

SEARCH_STAGES = ("reference", "sensitivity", "search", "reference" + POOL, "sensitivity" + POOL, "search" + POOL)


class Search:
    """Climbs the rungs of a run, one after the other.

    Attributes:
        generation: Generations told so far, over all rungs.
        best_training: The best training fitness of any candidate. Optimistic: never a result.

    Args:
        evaluator: Of the run.
        judge: Judges what the search recommends.
    """

    def __init__(self, evaluator: Evaluator, judge: Judge) -> None:
        self.generation = 0
        self.best_training = -np.inf
        self._evaluator = evaluator
        self._judge = judge
        self._sizer = _sizer(evaluator)
        self._judged_at = 0

    def climb(self, number: int, rung: Rung, start: Vector) -> tuple[Vector, str]:
        """Search in one space until there is a reason to stop.

        Args:
            number: Which rung it is.
            rung: The space, and how long.
            start: Where to begin, shape (num_knobs,) of the adapter's space.

        Returns:
            The last recommendation, in the adapter's space, and why the search ended.
        """
        run = self._evaluator.run
        if run.config.sensitivity:
            rung = spread_by_sensitivity(self._evaluator, rung, number, rung.lower(start))
        optimizer = run.optimizer(rung.space, rung.lower(start))
        first_check, last = self._judge.latest, self.generation + rung.generations
        self._evaluator.watch.stage_started(run=run, stage="search")
        stop_reason = ""
        while not stop_reason:
            population = optimizer.ask()
            stop_reason = self._exhausted(optimizer, len(population))
            if not stop_reason:
                self._tell(optimizer, rung, population)
                stop_reason = optimizer.stop_reason() or ""
                if self.generation >= last:
                    stop_reason = stop_reason or f"all {self.generation} generations are done"
                if not stop_reason and not self._due():
                    continue
            if self._judge.checks[-1].generation < self.generation:
                self._judged_at = self._spent
                self._judge.check(self.generation, rung.lift(optimizer.recommend()[None])[0])
                stop_reason = stop_reason or self._judge.plateau(first_check)
        recommended: Vector = rung.lift(optimizer.recommend()[None])[0]
        return recommended, stop_reason

    def _tell(self, optimizer: Optimizer, rung: Rung, population: Population) -> None:
        """Evaluate a generation, all groups at once, and tell it."""
        run, generation = self._evaluator.run, self.generation
        size = group_size(optimizer, run.config, len(population))
        lifted, num_prompts = rung.lift(population), self._sizer.size if self._sizer else None
        groups = [
            Group(lifted[first : first + size], run.bucket(generation, number, num_prompts))
            for number, first in enumerate(range(0, len(population), size))
        ]
        fitness: list[float] = []
        evaluations: list[Evaluation] = []
        for made, pool in self._evaluator.evaluate_groups("search", generation, groups):
            with blamed(who_made(run.combination, "the combination")):
                worth = fitness_of(run.combination, made, pool, Place("search", generation, len(fitness)))
            fitness.extend(worth if len(groups) == 1 else worth - worth.mean())
            evaluations += made
        optimizer.tell(population, np.array(fitness))
        if self._sizer:
            self._sizer.update(np.stack([evaluation.values for evaluation in evaluations]))
        self._evaluator.store.record_generation(run.id, generation, optimizer.sigma)
        self._evaluator.watch.generation_told(
            run=run, generation=generation, evaluations=evaluations, sigma=optimizer.sigma
        )
        self.best_training = max(self.best_training, *(evaluation.fitness for evaluation in evaluations))
        self.generation += 1

    def _exhausted(self, optimizer: Optimizer, population_size: int) -> str:
        run, evaluator = self._evaluator.run, self._evaluator
        bucket = run.bucket(self.generation, size=self._sizer.size if self._sizer else None)
        pool = run.combination.pool(bucket)
        pools = len(pool) * population_size // group_size(optimizer, run.config, population_size) if pool else 0
        return exhausted(run.config.budget, self._spent, population_size * len(bucket) + pools, evaluator.seconds)

    @property
    def _spent(self) -> int:
        """Images generated for the search so far."""
        return sum(self._evaluator.images[stage] for stage in SEARCH_STAGES)

    def _due(self) -> bool:
        """Whether it is time for a check."""
        validation = self._evaluator.run.config.validation
        if validation.every_images is None:
            return self.generation % validation.every == 0
        return self._spent // validation.every_images > self._judged_at // validation.every_images


def group_size(optimizer: Optimizer, config: Config, population_size: int) -> int:
    """How many candidates share a bucket: what the optimizer wants, else what is configured, else all.

    Raises:
        ConfigError: If the population cannot be split so, or optimizer and configuration want different groups.
    """
    own, asked = optimizer.group_size, config.group_size
    if own and asked and own != asked:
        raise ConfigError(
            f"group_size {asked} cannot be used: optimizer {config.optimizer.name!r} makes groups of {own} by itself; "
            f"leave group_size empty, and set the optimizer's own option if it has one"
        )
    size = own or asked or population_size
    if population_size % size:
        raise ConfigError(
            f"a population of {population_size} cannot be split into groups of {size}; "
            f"choose optimizer.population_size and group_size so that it can"
        )
    if config.adaptive_bucket and size < population_size:
        raise ConfigError(
            f"adaptive_bucket sizes the one bucket of a generation, and optimizer {config.optimizer.name!r} makes "
            f"groups of {size} with a bucket each; leave adaptive_bucket empty"
        )
    return size


def _sizer(evaluator: Evaluator) -> BucketSizer | None:
    config = evaluator.run.config
    if config.adaptive_bucket is None:
        return None
    adaptive = config.adaptive_bucket
    return BucketSizer(
        config.bucket_size, low=adaptive.low, high=adaptive.high, rate=adaptive.rate, largest=adaptive.largest
    )
