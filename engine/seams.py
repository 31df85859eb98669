"""The seams: the base classes of backbones, rewards, combinations and searchers, and the protocol of stores.

Each is small enough to implement from this page. `trimpot.testing` holds tests of their contracts, to inherit from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from ..ground.errors import ModelError
from .bucket import Bucket, PromptSet
from .knobs import KnobSpace, Setting, Vector

if TYPE_CHECKING:
    from .evaluation import Evaluation, Place

Population = NDArray[np.float64]
Output = Any
Medium = Literal["image", "video", "text"]
MEDIA: tuple[str, ...] = get_args(Medium)


class Adapter(ABC):
    """A frozen backbone with knobs.

    Attributes:
        space: The knobs.
        num_steps: Denoising steps an image, or None if the backbone has no steps.
        makes: `image` if outputs are PIL images, `video` if they are lists of PIL images, `text` if they are texts or
            objects of the class `engine.answer.Answer`, else None.
        holds: What its texts come with, for objectives that read more than a text: `written` if the model wrote them,
            and the attributes `reference`, `options` and `divergence` of `Answer`; None if that is not known.
        uses_seed: Whether an output depends on its seed. If not, a prompt has one output only: several seeds a prompt
            and buckets larger than their pool of prompts are refused.
        frozen: Names of knobs left out of the space because they cannot change the output.
        outputs_per_call: The largest number of outputs that one call of `generate` should make. A call is also the
            unit of a worker's job, and the most that an interruption can lose. A resumed run repeats the same calls,
            so that it is equal bit for bit even if a model's arithmetic depends on the size of a batch.
        largest_batch: The largest batch that has fitted in memory so far; None if the adapter never halves a batch.
            Workers of one run lower this number until all use the same.
        mixes_buckets: Whether one call of `generate_each` may hold candidates on different buckets.
        changes_no_number: The factory's options that change no number, each with the reason, such as a folder for
            temporary files. Every other option belongs to the adapter's identity.

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
    makes: Medium | None = None
    holds: tuple[str, ...] | None = None
    uses_seed: bool = True
    frozen: tuple[str, ...] = ()
    outputs_per_call: int = 16
    largest_batch: int | None = None
    mixes_buckets: bool = False
    changes_no_number: Mapping[str, str] = {}

    def take_metadata(self, metadata: Mapping[str, Mapping[str, Any]]) -> None:  # noqa: B027  # most need nothing
        """Receive the metadata that prompt files give for their prompts, once, before anything else.

        Override it if more than the prompt's text decides what is made or measured, such as the answer whose
        likelihood a language model computes. The metadata then belong to the adapter's identity.

        Args:
            metadata: Prompt to its metadata, such as `answer` and `options`; only prompts that have any.
        """

    @property
    def takes_metadata(self) -> bool:
        """Whether the class overrides `take_metadata`."""
        return type(self).take_metadata is not Adapter.take_metadata

    def take_prompts(self, prompts: PromptSet) -> None:  # noqa: B027  # most need nothing
        """Receive the prompts of a run, once, after `take_metadata`.

        Override it if what is made of a prompt depends on others, such as training prompts that a language model is
        shown with their answers. The choice then belongs into `describe`.

        Args:
            prompts: All prompts, told apart by what they are for.
        """

    def check_prompts(self, prompts: Sequence[str]) -> None:  # noqa: B027  # most take any prompt
        """Refuse prompts that cannot be used, before a run begins; called once, after `take_prompts`.

        Args:
            prompts: All prompts of the run.

        Raises:
            ModelError: If a prompt cannot be used, for example because it has no answer or is too long.
        """

    def prepare(self, prompts: Sequence[str]) -> None:  # noqa: B027  # most have nothing to prepare
        """Prepare for these prompts, before the first `generate`.

        `generate` may also be given other prompts, and may never be given some of these. Leave work such as encoding a
        prompt until the prompt is needed.
        """

    def keep_in(self, folder: Path) -> None:  # noqa: B027  # most have nothing to keep
        """Set a folder for files that are made once from prompts, such as encodings.

        Called once in every process of a run, before anything else. An object of a Python program that several runs
        share is called again by each of them, with the folder of that run's store; the newest folder counts.

        Later runs and other processes of this machine get the same folder, possibly at the same time. An adapter that
        keeps files in the folder must make bit-equal outputs with and without them, must never use the files of
        another backbone, and must allow the folder to be deleted between runs. Without a folder, keep such results in
        memory.

        Args:
            folder: The folder, which may not exist yet.
        """

    @abstractmethod
    def generate(self, population: Population, bucket: Bucket) -> Iterable[Sequence[Output]]:
        """Make one output a prompt for every candidate.

        An output must depend only on its candidate, prompt and seed.

        Args:
            population: Shape (population_size, num_knobs), within the bounds.
            bucket: num_outputs prompts with their seeds.

        Returns:
            For each candidate in order, its num_outputs outputs in bucket order.
        """

    def generate_each(self, population: Population, buckets: Sequence[Bucket]) -> Iterable[Sequence[Output]]:
        """Make the outputs of candidates that each have their own bucket.

        This default calls `generate` once for each run of consecutive candidates on the same bucket. Override the
        method if outputs of any candidates, prompts and seeds can share a batch.

        Args:
            population: Shape (population_size, num_knobs), within the bounds.
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
        """Describe everything about the backbone that can change an output, as a JSON-like mapping.

        The mapping holds at least `id`; for models also revision or weights digest, dtype, guidance and sizes. It
        becomes part of the run's fingerprint and of the calibration file.
        """

    def neutrals(self) -> Mapping[str, Setting]:
        """Return, by label, the settings that an uncalibrated user could choose.

        A calibration is measured against the best of these settings. For a guided model, they are the neutral scales
        at every plausible guidance. The first is the backbone's own default.
        """
        return {"neutral": self.space.to_setting(self.space.defaults)}

    def with_steps(self, num_steps: int) -> Adapter:
        """Return the same backbone at another number of denoising steps.

        Raises:
            ModelError: If the backbone has no denoising steps.
        """
        raise ModelError(f"{type(self).__name__} has no denoising steps to vary; leave by_steps.steps empty")

    def tied(self, granularity: str) -> Mapping[str, Sequence[str]]:
        """Return how the knobs are tied at a coarser granularity, for a search that goes from coarse to fine.

        Args:
            granularity: `block`, `layer`, `gate`, or another name that the backbone defines.

        Returns:
            The name of each coarse knob to the names of the knobs that it replaces; every knob occurs exactly once.

        Raises:
            ModelError: If the backbone does not define the granularity, or its own knobs are coarser.
        """
        raise ModelError(f"{type(self).__name__} knows no granularity {granularity!r}; leave ladder empty")

    def export(self, setting: Setting, neutral: Setting) -> Mapping[str, Any]:
        """Return the data that a calibration file needs to apply `setting` to a bare model, as a JSON-like mapping.

        For a model: every member's scales by module path, its weight, and its weight under `neutral`. Empty if the
        setting alone is enough.
        """
        return {}


class Objective(ABC):
    """A reward: anything that scores outputs. It needs no gradient.

    Attributes:
        calls_at_once: How many calls of `score` may run at the same time; more than 1 if, for example, a server that
            takes several requests does the work.
        waits: Whether `score` must not run while the backbone generates, for example because both need the memory of
            one GPU. Otherwise `score` runs in another thread while the next outputs are generated.
        scores_sets: Whether a score also depends on the prompt's other outputs, like a measure of diversity.
        needs: The keys that the metadata of every prompt must hold, such as `answer`; a run does not begin without.
        reads: What a score is computed from: one or more media, as in `Adapter.makes`, and any of the names in
            `Adapter.holds`; empty if anything may be scored. A run whose outputs are nothing of that does not begin.
        changes_no_number: The factory's options that change no number, each with the reason, such as a folder for
            temporary files. Every other option belongs to the objective's identity.

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
    needs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    changes_no_number: Mapping[str, str] = {}

    def prepare(self, metadata: Mapping[str, Mapping[str, Any]]) -> None:  # noqa: B027  # most need nothing
        """Receive the metadata that prompt files give for their prompts, once, before the first `score`.

        Args:
            metadata: Prompt to its metadata, such as GenEval's `include` and `tag`; only prompts that have any.
        """

    @property
    def takes_metadata(self) -> bool:
        """Whether the class overrides `prepare`, so that metadata belong to the objective's identity."""
        return type(self).prepare is not Objective.prepare

    @abstractmethod
    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Score outputs.

        Args:
            outputs: num_outputs outputs of the adapter.
            prompts: The prompt of each.

        Returns:
            Shape (num_outputs,), finite, higher is better. A score depends only on its output and prompt, unless
            `scores_sets`.
        """

    def tag(self, prompt: str) -> str | None:
        """Return the kind of a prompt, by which reports break scores down; None if the objective has no kinds."""
        return None

    def describe(self) -> Mapping[str, Any]:
        """Describe everything that can change a score (weights, versions, options), as a JSON-like mapping."""
        return {}


class Combination(ABC):
    """Combines the scores of several objectives into the fitness that is optimised.

    Attributes:
        uses: Objectives that the combination needs in the search although their weight is 0.
        pool_in_search_only: Whether only `fitness` uses the pool, so that none is generated for held-out outputs.
        changes_no_number: The factory's options that change no number, each with the reason, such as a folder for
            temporary files. Every other option belongs to the combination's identity.

    Example:
        >>> class Worst(Combination):
        ...     def values(self, scores, bucket, pool):
        ...         return np.min(np.stack(list(scores.values())), axis=0)
    """

    uses: tuple[str, ...] = ()
    pool_in_search_only: bool = False
    changes_no_number: Mapping[str, str] = {}

    def pool(self, bucket: Bucket) -> Bucket | None:
        """Return the bucket on which the neutral model makes the outputs that `values` and `fitness` compare with.

        These outputs, the pool, are always made at the run's own number of steps.

        Args:
            bucket: The bucket of the outputs to be valued.

        Returns:
            The pool's bucket, or None if the combination needs no pool.
        """
        return None

    @abstractmethod
    def values(
        self, scores: Mapping[str, NDArray[np.float64]], bucket: Bucket, pool: Evaluation | None
    ) -> NDArray[np.float64]:
        """Return the value of every output. On held-out prompts, settings are compared by their mean value.

        Args:
            scores: Objective name to scores, each of shape (num_outputs,).
            bucket: The outputs' prompts and seeds.
            pool: The evaluation of the neutral model on the bucket that `pool` returned, or None.

        Returns:
            Shape (num_outputs,), finite, higher is better.
        """

    def fitness(self, evaluations: Sequence[Evaluation], pool: Evaluation | None) -> NDArray[np.float64]:
        """Return the fitness of a group's candidates: the mean of each candidate's values, unless overridden.

        Args:
            evaluations: The evaluations of the group's candidates.
            pool: The evaluation of the neutral model on the bucket that `pool` returned, or None.

        Returns:
            Shape (len(evaluations),), finite, higher is better.
        """
        return np.array([evaluation.fitness for evaluation in evaluations], dtype=np.float64)

    def admits(self, candidate: Evaluation, neutral: Evaluation) -> bool:
        """Return whether a setting may be chosen, given its validation evaluation and the neutral setting's."""
        return True

    def describe(self) -> Mapping[str, Any]:
        """Describe everything that can change a value, as a JSON-like mapping."""
        return {}


class Optimizer(ABC):
    """An ask/tell searcher. It works on vectors and knows nothing of models.

    Two optimizers made with the same arguments and told the same numbers must ask for the same populations, bit for
    bit. An optimizer must neither read nor write global random state.

    Attributes:
        group_size: How many consecutive candidates share a bucket, for a method that needs several groups a
            generation; None for a single group. With several groups, each fitness is told minus its group's mean.
        changes_no_number: The factory's options that change no number, each with the reason, such as a folder for
            temporary files. Every other option belongs to the optimizer's identity.

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
        """Return new candidates, shape (population_size, num_knobs), within the bounds."""

    @abstractmethod
    def tell(self, population: Population, fitness: Vector) -> None:
        """Learn the fitness of candidates.

        Args:
            population: Shape (population_size, num_knobs), as returned by `ask`.
            fitness: Shape (population_size,), finite, higher is better.
        """

    @abstractmethod
    def recommend(self) -> Vector:
        """Return the vector to ship, shape (num_knobs,): the distribution's mean rather than its best sample."""

    def stop_reason(self) -> str | None:
        """Return why further search is pointless, or None to continue."""
        return None

    @property
    def sigma(self) -> float | None:
        """The overall step size in units of the spreads, or None if the method has none."""
        return None


class Store(Protocol):
    """Keeps every evaluation. The shipped implementation is `storage.SqliteStore`.

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
        """Return the evaluations recorded at a stage and generation of a run, by position."""

    def find(self, key: str) -> Evaluation | None:
        """Return the evaluation with this key, from any run; None if there is none."""

    def record(self, run: str, made: Sequence[tuple[Place, str, Evaluation]]) -> None:
        """Commit evaluations with their places and keys, all or none; they are durable when this returns."""

    @property
    def keeper(self) -> Callable[[Sequence[Output]], Sequence[str]]:
        """A picklable function that writes images or answers to files named by content, and returns the names."""

    def record_outputs(self, key: str, files: Sequence[str]) -> None:
        """Record the names of the files that hold an evaluation's outputs, so that later rewards can score them."""

    def record_generation(self, run: str, generation: int, sigma: float | None) -> None:
        """Record the optimizer's step size after a generation."""
