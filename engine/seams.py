"""The seams: what a backbone, a reward, a searcher and a store must be.

Each is small enough to implement from this page. `trimpot.testing` holds their contracts as tests to inherit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .bucket import Bucket
from .errors import ModelError
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

    def candidates_per_call(self, num_prompts: int) -> int:
        """How many candidates `generate` is best given at once.

        What one call made is recorded before the next begins, so this is also what an interruption can cost.
        A resumed run repeats the very same calls, which keeps it bit-equal even where a model's arithmetic
        depends on the size of a batch.
        """
        return 1

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

    def export(self, setting: Setting, neutral: Setting) -> Mapping[str, Any]:
        """What a calibration file must say for `setting` to be applied to a bare model, JSON-like.

        For a model: every member's scales by module path and its weight, the weight of `neutral` beside it.
        Empty where the setting says it all.
        """
        return {}


class Objective(ABC):
    """A reward: anything that gives an output a score and needs no gradient."""

    @abstractmethod
    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Score outputs.

        Args:
            outputs: num_outputs outputs of the adapter.
            prompts: The prompt of each.

        Returns:
            Shape (num_outputs,), finite, higher is better. A score depends on its output and prompt alone.
        """

    def describe(self) -> Mapping[str, Any]:
        """Everything that can change a score, JSON-like: weights, processor, versions, options."""
        return {}


class Optimizer(ABC):
    """An ask/tell searcher. It works in vectors and knows nothing of models.

    Two optimizers made with the same arguments and told the same numbers ask the same populations, bit for
    bit; global random state is neither read nor written.
    """

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
    """Where every evaluation is kept. `storage.SqliteStore` is the one that ships."""

    def recorded(self, run: str, stage: str, generation: int) -> Mapping[int, Evaluation]:
        """Evaluations recorded at a stage and generation of a run, by position."""

    def find(self, key: str) -> Evaluation | None:
        """An evaluation with this key, of any run."""

    def record(self, run: str, place: Place, key: str, evaluation: Evaluation) -> None:
        """Commit one evaluation at its place; durable when this returns."""

    def record_generation(self, run: str, generation: int, sigma: float | None) -> None:
        """Keep the optimizer's step size after a generation."""
