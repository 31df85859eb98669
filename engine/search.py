"""Where a search stands: what a generation is worth, when it ends, what it recommends. The loop is `engine.loop`."""

from __future__ import annotations

import numpy as np

from ..ground.errors import ConfigError
from .bucket_sizing import BucketSizer
from .evaluation import POOL, Evaluation, Place
from .evaluator import Evaluator
from .jobs import Group
from .knobs import Setting, Vector
from .ladder import Rung
from .schema import Config
from .scoring import fitness_of
from .seams import Optimizer, Population
from .sensitivity import spread_by_sensitivity
from .stopping import exhausted
from .vetting import blamed, who_made

SEARCH_STAGES = ("reference", "sensitivity", "search", "reference" + POOL, "sensitivity" + POOL, "search" + POOL)


class Search:
    """Where a search stands, in one rung of a ladder after the other.

    Attributes:
        generation: Generations told so far, over all rungs.
        best_training: The best training fitness of any candidate. Optimistic: never a result.
        reference: The setting that the search began from, on the first training bucket.
        stop_reason: Why the search of this rung has ended; empty while it goes on.

    Args:
        evaluator: Of the run.
        start: Where to begin.
    """

    def __init__(self, evaluator: Evaluator, start: Setting) -> None:
        self._evaluator = evaluator
        self._at: Vector = evaluator.run.adapter.space.to_vector(start)
        [self.reference] = evaluator.evaluate("reference", 0, self._at[None], evaluator.run.bucket(0))
        self.generation = 0
        self.best_training = self.reference.fitness
        self.stop_reason = ""
        self._sizer = _sizer(evaluator)
        self._recommended_at = 0  # images

    def begin(self, number: int, rung: Rung) -> Optimizer:
        """Begin to search in a space, where the last rung ended.

        Args:
            number: Which rung it is.
            rung: The space, and how long.

        Returns:
            The optimizer that searches it.
        """
        run = self._evaluator.run
        if number:
            self._at = self.recommend()
        if run.config.sensitivity:
            rung = spread_by_sensitivity(self._evaluator, rung, number, rung.lower(self._at))
        self._rung, self._last = rung, self.generation + rung.generations
        self._optimizer = run.optimizer(rung.space, rung.lower(self._at))
        self.stop_reason = ""
        self._evaluator.watch.stage_started(run=run, stage="search")
        return self._optimizer

    def recommend(self) -> Vector:
        """What the optimizer recommends, shape (num_knobs,) of the adapter's space."""
        self._recommended_at = self._spent
        vector: Vector = self._rung.lift(self._optimizer.recommend()[None])[0]
        return vector

    def affords(self, population: Population) -> bool:
        """Whether the budget lasts for a generation; else that is the reason to stop."""
        run, evaluator, size = self._evaluator.run, self._evaluator, len(population)
        bucket = run.bucket(self.generation, size=self._sizer.size if self._sizer else None)
        pool = run.combination.pool(bucket)
        pools = len(pool) * size // group_size(self._optimizer, run.config, size) if pool else 0
        self.stop_reason = exhausted(run.config.budget, self._spent, size * len(bucket) + pools, evaluator.seconds)
        return not self.stop_reason

    def evaluate(self, population: Population) -> Vector:
        """Evaluate a generation, all groups at once.

        Args:
            population: Shape (population_size, num_knobs) of the rung's space.

        Returns:
            What candidates are worth to the optimizer, shape (population_size,).
        """
        run, generation = self._evaluator.run, self.generation
        size = group_size(self._optimizer, run.config, len(population))
        lifted, num_prompts = self._rung.lift(population), self._sizer.size if self._sizer else None
        groups = [
            Group(lifted[first : first + size], run.bucket(generation, number, num_prompts))
            for number, first in enumerate(range(0, len(population), size))
        ]
        fitness: list[float] = []
        self._evaluations: list[Evaluation] = []
        for made, pool in self._evaluator.evaluate_groups("search", generation, groups):
            with blamed(who_made(run.combination, "the combination")):
                worth = fitness_of(run.combination, made, pool, Place("search", generation, len(fitness)))
            fitness.extend(worth if len(groups) == 1 else worth - worth.mean())
            self._evaluations += made
        return np.array(fitness)

    def close_generation(self) -> None:
        """Note what a generation has shown once it is told: to the store, to those who watch, and for what follows."""
        run, evaluator, made = self._evaluator.run, self._evaluator, self._evaluations
        if self._sizer:
            self._sizer.update(np.stack([evaluation.values for evaluation in made]))
        sigma = self._optimizer.sigma
        evaluator.store.record_generation(run.id, self.generation, sigma)
        evaluator.watch.generation_told(run=run, generation=self.generation, evaluations=made, sigma=sigma)
        self.best_training = max(self.best_training, *(evaluation.fitness for evaluation in made))
        self.generation += 1
        self.stop_reason = self._optimizer.stop_reason() or ""
        if self.generation >= self._last:
            self.stop_at(f"all {self.generation} generations are done")

    def stop_at(self, reason: str) -> None:
        """Stop for a reason, if there is one and none was given before."""
        self.stop_reason = self.stop_reason or reason

    @property
    def check_is_due(self) -> bool:
        """Whether it is time to judge what the optimizer recommends."""
        validation = self._evaluator.run.config.validation
        if validation.every_images is None:
            return self.generation % validation.every == 0
        return self._spent // validation.every_images > self._recommended_at // validation.every_images

    @property
    def _spent(self) -> int:
        """Images generated for the search so far."""
        return sum(self._evaluator.images[stage] for stage in SEARCH_STAGES)


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
