"""The seams: what a backbone, a reward, a searcher and a store must be.

Each is small enough to implement from this page. `trimpot.testing` holds their contracts as tests to inherit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..ground.errors import ModelError
from .bucket import Bucket
from .knobs import KnobSpace, Setting, Vector

if TYPE_CHECKING:
    from .evaluation import Evaluation, Place

Population = NDArray[np.float64]
Output = Any


class Adapter(ABC):
    """A frozen backbone with knobs.

    Attributes:
        space: The knobs.
        num_steps: Denoising steps an image, or None where the backbone has no such notion.
        makes: `image` or `video` where outputs are PIL images or lists of them, else None.
        frozen: Knobs left out of the space since they cannot reach the output.
        outputs_per_call: How many outputs `generate` is best given at once. What one call made is recorded before the
            next begins, so this is also what an interruption can cost, and what is handed to a worker at a time. A
            resumed run repeats the very same calls, which keeps it bit-equal even where a model's arithmetic depends
            on the size of a batch.
        largest_batch: The most outputs at once for which memory has sufficed so far; None where nothing is halved. May
            be set to less, so that workers that share a run agree.
        mixes_buckets: Whether candidates on different buckets share a call, which `generate_each` is then given.
        changes_no_number: Options of its factory that change no number, each with the reason, such as where files
            are kept meanwhile; every other option belongs to its identity.

    Example:
        >>> class Line(Adapter):
        ...     space = KnobSpace([Knob("slope"), Knob("offset", default=0.0)])
        ...     def generate(self, population, bucket):
        ...         for slope, offset in population:
        ...             yield [slope * float(prompt) + offset for prompt in bucket.prompts]
        ...     def describe(self):
        ...         return {"id": "line"}
    """

    space: KnobSpace
    num_steps: int | None = None
    makes: Literal["image", "video"] | None = None
    frozen: tuple[str, ...] = ()
    outputs_per_call: int = 16
    largest_batch: int | None = None
    mixes_buckets: bool = False
    changes_no_number: Mapping[str, str] = {}

    def prepare(self, prompts: Sequence[str]) -> None:  # noqa: B027  # most have nothing to prepare
        """Get ready for these prompts, before the first `generate`.

        Others may still be asked for, and many of these may never be: what can wait until it is needed, such as
        encoding a prompt, better waits.
        """

    def keep_in(self, folder: Path) -> None:  # noqa: B027  # most have nothing to keep
        """Keep below this folder, from now on, what is made of prompts once; called before `prepare`, if at all.

        Later runs and other processes of this machine are given the same folder, at the same time too. Whoever keeps
        something there sees to it that outputs are the same to the bit with it and without, that what another backbone
        left there is never used, and that the folder can be deleted between runs. Without one, keep it in memory.

        Args:
            folder: It may not be there yet.
        """

    @abstractmethod
    def generate(self, population: Population, bucket: Bucket) -> Iterable[Sequence[Output]]:
        """Make one output a prompt for every candidate.

        An output depends on its candidate, prompt and seed alone.

        Args:
            population: Shape (population_size, num_knobs), inside the bounds.
            bucket: num_outputs prompts with their seeds.

        Returns:
            For each candidate in order, its num_outputs outputs in bucket order.
        """

    def generate_each(self, population: Population, buckets: Sequence[Bucket]) -> Iterable[Sequence[Output]]:
        """Make outputs of candidates that each have a bucket of their own.

        As it stands, consecutive candidates on one bucket are a call of `generate`, and candidates on different
        buckets never share a call. Override it where outputs of any candidates, prompts and seeds can share a batch.

        Args:
            population: Shape (population_size, num_knobs), inside the bounds.
            buckets: For each candidate its prompts and seeds.

        Returns:
            For each candidate in order, its outputs in bucket order.
        """
        begin = 0
        for bucket, members in groupby(buckets):
            end = begin + len(list(members))
            yield from self.generate(population[begin:end], bucket)
            begin = end

    @abstractmethod
    def describe(self) -> Mapping[str, Any]:
        """Everything about the backbone that can change an output, JSON-like.

        At least `id`; for models also revision or weights digest, dtype, guidance and sizes. It goes into
        the run's fingerprint and into the calibration file.
        """

    def neutrals(self) -> Mapping[str, Setting]:
        """The settings an uncalibrated user could choose from, by label.

        A calibration is measured against the best of them: for a guided model, the neutral scales at every
        guidance worth trying. The first is the backbone's own default.
        """
        return {"neutral": self.space.to_setting(self.space.defaults)}

    def with_steps(self, num_steps: int) -> Adapter:
        """The same backbone at another number of denoising steps.

        Raises:
            ModelError: If the backbone has no such notion.
        """
        raise ModelError(f"{type(self).__name__} has no denoising steps to vary; leave by_steps.steps empty")

    def tied(self, granularity: str) -> Mapping[str, Sequence[str]]:
        """How its knobs are tied at a coarser granularity, for a search that goes from coarse to fine.

        Args:
            granularity: `block`, `layer`, `gate`, or what else the backbone knows.

        Returns:
            Coarse knob's name to the names of the knobs it stands for; together every knob once.

        Raises:
            ModelError: If the backbone knows no such granularity, or it is finer than its own.
        """
        raise ModelError(f"{type(self).__name__} knows no granularity {granularity!r}; leave ladder empty")

    def export(self, setting: Setting, neutral: Setting) -> Mapping[str, Any]:
        """What a calibration file must say for `setting` to be applied to a bare model, JSON-like.

        For a model: every member's scales by module path and its weight, the weight of `neutral` beside it.
        Empty where the setting says it all.
        """
        return {}


class Objective(ABC):
    """A reward: anything that gives an output a score and needs no gradient.

    Attributes:
        calls_at_once: How many calls of `score` may be under way at once; more than one where the work is done by a
            server that takes several.
        waits: Whether `score` must not be called while the backbone generates, as where both need the memory of one
            GPU. Otherwise it is called in a thread of its own, while the next outputs are generated.
        scores_sets: Whether a score depends on the prompt's other outputs too, as a measure of diversity does.
        changes_no_number: Options of its factory that change no number, each with the reason, such as where files
            are kept meanwhile; every other option belongs to its identity.

    Example:
        >>> class Level(Objective):
        ...     def score(self, outputs, prompts):
        ...         return np.array([-abs(output) for output in outputs])
        ...     def describe(self):
        ...         return {"version": 1}
    """

    calls_at_once: int = 1
    waits: bool = False
    scores_sets: bool = False
    changes_no_number: Mapping[str, str] = {}

    def prepare(self, metadata: Mapping[str, Mapping[str, Any]]) -> None:  # noqa: B027  # most need nothing
        """Take note of what prompt files say of their prompts, once, before the first `score`.

        Args:
            metadata: Prompt to its metadata, such as GenEval's `include` and `tag`; only prompts that have any.
        """

    @property
    def takes_metadata(self) -> bool:
        """Whether it overrides `prepare`, so that metadata belong to its identity."""
        return type(self).prepare is not Objective.prepare

    @abstractmethod
    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Score outputs.

        Args:
            outputs: num_outputs outputs of the adapter.
            prompts: The prompt of each.

        Returns:
            Shape (num_outputs,), finite, higher is better. A score depends on its output and prompt alone.
        """

    def tag(self, prompt: str) -> str | None:
        """What kind of prompt it is, for a report that breaks scores down by kind; None where there are none."""
        return None

    def describe(self) -> Mapping[str, Any]:
        """Everything that can change a score, JSON-like: weights, processor, versions, options."""
        return {}


class Combination(ABC):
    """How the scores of several objectives become what is optimised.

    Attributes:
        uses: Objectives of weight 0 that it needs in the search nevertheless.
        pool_in_search_only: Whether `fitness` alone looks at the pool, so that held-out outputs need none.
        changes_no_number: Options of its factory that change no number, each with the reason, such as where files
            are kept meanwhile; every other option belongs to its identity.

    Example:
        >>> class Worst(Combination):
        ...     def values(self, scores, bucket, pool):
        ...         return np.min(np.stack(list(scores.values())), axis=0)
    """

    uses: tuple[str, ...] = ()
    pool_in_search_only: bool = False
    changes_no_number: Mapping[str, str] = {}

    def pool(self, bucket: Bucket) -> Bucket | None:
        """The outputs of the neutral model that outputs on `bucket` are judged against, or None.

        They are made at the run's own number of steps, whatever the steps of what is judged against them.
        """
        return None

    @abstractmethod
    def values(
        self, scores: Mapping[str, NDArray[np.float64]], bucket: Bucket, pool: Evaluation | None
    ) -> NDArray[np.float64]:
        """One number an output; on held-out prompts their mean is what settings are compared by.

        Args:
            scores: Objective name to scores, each of shape (num_outputs,).
            bucket: The outputs' prompts and seeds.
            pool: The neutral model's outputs that `pool` asked for.

        Returns:
            Shape (num_outputs,), finite, higher is better.
        """

    def fitness(self, evaluations: Sequence[Evaluation], pool: Evaluation | None) -> NDArray[np.float64]:
        """What candidates of a group are worth to the optimizer; the mean of their values unless overridden.

        Args:
            evaluations: The group's candidates on their bucket.
            pool: The neutral model's outputs that `pool` asked for.

        Returns:
            Shape (len(evaluations),), finite, higher is better.
        """
        return np.array([evaluation.fitness for evaluation in evaluations], dtype=np.float64)

    def admits(self, candidate: Evaluation, neutral: Evaluation) -> bool:
        """Whether a setting may be chosen, judged on validation outputs beside the neutral setting's."""
        return True

    def describe(self) -> Mapping[str, Any]:
        """Everything that can change a value, JSON-like."""
        return {}


class Optimizer(ABC):
    """An ask/tell searcher. It works in vectors and knows nothing of models.

    Two optimizers made with the same arguments and told the same numbers ask the same populations, bit for
    bit; global random state is neither read nor written.

    Attributes:
        group_size: Consecutive candidates that share a bucket, where the method needs several groups a
            generation; None for one group. Fitness is told less its group's mean.
        changes_no_number: Options of its factory that change no number, each with the reason, such as where files
            are kept meanwhile; every other option belongs to its identity.

    Example:
        >>> class Wander(Optimizer):
        ...     def __init__(self, space, *, start, seed):
        ...         self.space, self.best, self.worth = space, start, -np.inf
        ...         self.random = np.random.default_rng(seed)
        ...     def ask(self):
        ...         steps = 0.1 * self.space.spreads * self.random.standard_normal((4, len(self.space)))
        ...         return np.clip(self.best + steps, *self.space.bounds)
        ...     def tell(self, population, fitness):
        ...         if fitness.max() > self.worth:
        ...             self.best, self.worth = population[fitness.argmax()], fitness.max()
        ...     def recommend(self):
        ...         return self.best
    """

    group_size: int | None = None
    changes_no_number: Mapping[str, str] = {}

    @abstractmethod
    def ask(self) -> Population:
        """Propose candidates: shape (population_size, num_knobs), inside the bounds."""

    @abstractmethod
    def tell(self, population: Population, fitness: Vector) -> None:
        """Learn what candidates were worth.

        Args:
            population: Shape (population_size, num_knobs), as asked.
            fitness: Shape (population_size,), finite, higher is better.
        """

    @abstractmethod
    def recommend(self) -> Vector:
        """The setting to ship, shape (num_knobs,): the distribution's mean, not its luckiest sample."""

    def stop_reason(self) -> str | None:
        """Why searching further is pointless, or None."""
        return None

    @property
    def sigma(self) -> float | None:
        """Overall step size in units of the spreads, or None where the method has none."""
        return None


class Store(Protocol):
    """Where every evaluation is kept. `storage.SqliteStore` is the one that ships.

    Example:
        >>> class InMemory:
        ...     def __init__(self):
        ...         self.keys, self.evaluations, self.files = {}, {}, {}
        ...     def recorded(self, run, stage, generation):
        ...         where = (run, stage, generation)
        ...         keys = {place: key for (of, place), key in self.keys.items() if (of, *place[:2]) == where}
        ...         return {place.position: self.evaluations[key] for place, key in sorted(keys.items())}
        ...     def find(self, key):
        ...         return self.evaluations.get(key)
        ...     def record(self, run, made):
        ...         for place, key, evaluation in made:
        ...             self.keys[run, place] = key
        ...             self.evaluations.setdefault(key, evaluation)
        ...     def keeper(self, outputs):
        ...         return [str(output) for output in outputs]
        ...     def record_outputs(self, key, files):
        ...         self.files[key] = files
        ...     def record_generation(self, run, generation, sigma):
        ...         pass
    """

    def recorded(self, run: str, stage: str, generation: int) -> Mapping[int, Evaluation]:
        """Evaluations recorded at a stage and generation of a run, by position."""

    def find(self, key: str) -> Evaluation | None:
        """An evaluation with this key, of any run."""

    def record(self, run: str, made: Sequence[tuple[Place, str, Evaluation]]) -> None:
        """Commit evaluations with their places and keys, all or none; durable when this returns."""

    @property
    def keeper(self) -> Callable[[Sequence[Output]], Sequence[str]]:
        """What writes images to files that are named by their content, and returns the names; it can be pickled."""

    def record_outputs(self, key: str, files: Sequence[str]) -> None:
        """Keep the names of the files that hold an evaluation's images, so that later rewards can score them."""

    def record_generation(self, run: str, generation: int, sigma: float | None) -> None:
        """Keep the optimizer's step size after a generation."""
