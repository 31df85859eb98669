"""The state of a search: fitness of a generation, reasons to stop, recommendations. The loop is in `engine.loop`."""

from __future__ import annotations

import numpy as np

from ..ground.errors import ConfigError
from .bucket_sizing import BucketSizer
from .checking import is_geometric
from .evaluation import POOL, Evaluation, Place
from .evaluator import Evaluator
from .jobs import Group
from .knobs import Setting, Vector
from .ladder import Rung
from .nouns import noun
from .schema import Config
from .scoring import fitness_of
from .seams import Optimizer, Population
from .sensitivity import spread_by_sensitivity
from .stopping import exhausted
from .vetting import blamed, who_made

SEARCH_STAGES = ("reference", "sensitivity", "search", "reference" + POOL, "sensitivity" + POOL, "search" + POOL)


class Search:
    """The state of a search through the rungs of a ladder, one after the other.

    Attributes:
        generation: The number of generations told so far, over all rungs.
        best_training: The best training fitness of any candidate. It is optimistic, so never report it as a result.
        reference: The evaluation, on the first training bucket, of the setting that the search began from.
        stop_reason: Why the search of this rung has ended; empty while the search continues.
        num_groups: The number of groups evaluated so far.
        num_silent: How many of them told the search nothing, because all their candidates had the same fitness.

    Args:
        evaluator: The run's evaluator.
        start: The setting to begin from.
    """

    def __init__(self, evaluator: Evaluator, start: Setting) -> None:
        self._evaluator = evaluator
        self._at: Vector = evaluator.run.adapter.space.to_vector(start)
        [self.reference] = evaluator.evaluate("reference", 0, self._at[None], evaluator.run.bucket(0))
        self.generation = 0
        self.best_training = self.reference.fitness
        self.stop_reason = ""
        self.num_groups = self.num_silent = 0
        self._sizer = _sizer(evaluator)
        self._recommended_at = 0  # images

    def begin(self, number: int, rung: Rung) -> Optimizer:
        """Begin a rung at the setting where the last rung ended.

        Args:
            number: The index of the rung.
            rung: The space to search, and the number of generations.

        Returns:
            The optimizer that searches the rung's space.
        """
        run = self._evaluator.run
        if number:
            self._at = self.recommend()
        rung = rung.holding(self._at)
        if run.config.sensitivity:
            rung = spread_by_sensitivity(self._evaluator, rung, number, rung.lower(self._at))
        self._rung, self._begun, self._last = rung, self.generation, self.generation + rung.generations
        self._optimizer = run.optimizer(rung.space, rung.lower(self._at))
        self.stop_reason = ""
        self._evaluator.watch.stage_started(run=run, stage="search")
        return self._optimizer

    def recommend(self) -> Vector:
        """Return the optimizer's recommendation as a vector of the adapter's space, shape (num_knobs,)."""
        self._recommended_at = self._spent
        vector: Vector = self._rung.lift(self._optimizer.recommend()[None])[0]
        return vector

    def affords(self, population: Population) -> bool:
        """Return whether the budget suffices for a generation; if not, set `stop_reason`."""
        run, evaluator, size = self._evaluator.run, self._evaluator, len(population)
        bucket = run.bucket(self.generation, size=self._sizer.size if self._sizer else None)
        pool = run.combination.pool(bucket)
        pools = len(pool) * size // group_size(self._optimizer, run.config, size) if pool else 0
        following, outputs = size * len(bucket) + pools, noun(run.adapter.makes)
        self.stop_reason = exhausted(run.config.budget, self._spent, following, evaluator.seconds, outputs)
        return not self.stop_reason

    def evaluate(self, population: Population) -> Vector:
        """Evaluate all groups of a generation at once.

        Args:
            population: Shape (population_size, num_knobs) of the rung's space.

        Returns:
            The fitness of every candidate, shape (population_size,).
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
            self.num_groups += 1
            self.num_silent += bool(np.ptp(worth) == 0)
            fitness.extend(worth if len(groups) == 1 else worth - worth.mean())
            self._evaluations += made
        return np.array(fitness)

    def close_generation(self) -> None:
        """Record a generation that was told, notify the watcher, and update the bucket size and `stop_reason`."""
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
        """Set the reason to stop, unless one is set already; an empty reason changes nothing."""
        self.stop_reason = self.stop_reason or reason

    @property
    def check_is_due(self) -> bool:
        """Whether the optimizer's recommendation is due to be checked on the validation bucket."""
        validation = self._evaluator.run.config.validation
        if validation.every_images is not None:
            return self._spent // validation.every_images > self._recommended_at // validation.every_images
        if validation.every == "geometric":
            return is_geometric(self.generation - self._begun)
        return self.generation % validation.every == 0

    @property
    def _spent(self) -> int:
        """The number of images that the search has used so far."""
        return sum(self._evaluator.images[stage] for stage in SEARCH_STAGES)


def group_size(optimizer: Optimizer, config: Config, population_size: int) -> int:
    """Return how many candidates share a bucket: the optimizer's number, else the configured one, else the population.

    Raises:
        ConfigError: If the population cannot be split into such groups, or optimizer and configuration disagree.
    """
    own, asked = optimizer.group_size, config.group_size
    if own and asked and own != asked:
        raise ConfigError(
            f"group_size {asked} cannot be used: optimizer {config.optimizer.name!r} makes groups of {own} by itself; "
            f"leave group_size empty and set the optimizer's own option if it has one, or name another optimizer"
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
            f"groups of {size} with a bucket each; leave adaptive_bucket empty, or name another optimizer"
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
