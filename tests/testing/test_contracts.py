"""The contracts hold what keeps them, and catch what breaks them: each kind of breach, by the test made for it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from closed_form import Height, Hill, MemoryStore, Ridge
from numpy.typing import NDArray
from trimpot.engine.bucket import Bucket
from trimpot.engine.knobs import KnobSpace, Vector
from trimpot.engine.seams import Adapter, Objective, Optimizer, Store
from trimpot.ground.errors import PluginError, TrimpotError
from trimpot.optimizers.random_search import RandomSearch
from trimpot.testing import AdapterContract, ObjectiveContract, OptimizerContract, StoreContract

_numbers = itertools.count()


class _Distant(Hill):
    """The hill, which looks different from every prompt."""

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
        for outputs in super().generate(population, bucket):
            yield [output - len(prompt) for output, prompt in zip(outputs, bucket.prompts, strict=True)]


class TestHill(AdapterContract):
    """The tests' own backbone keeps the contract."""

    prompts = ("a view", "another view", "and a third")

    @pytest.fixture
    def adapter(self) -> Adapter:
        return _Distant()


class _DistantRidge(Ridge):
    """The ridge, which looks different from every prompt."""

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
        for outputs in super().generate(population, bucket):
            yield [output - len(prompt) for output, prompt in zip(outputs, bucket.prompts, strict=True)]


class TestRidge(AdapterContract):
    """The tests' backbone of unlike knobs keeps the contract."""

    prompts = TestHill.prompts

    @pytest.fixture
    def adapter(self) -> Adapter:
        return _DistantRidge()


class TestHeight(ObjectiveContract):
    """The tests' own reward keeps the contract."""

    @pytest.fixture
    def objective(self) -> Objective:
        return Height()

    @pytest.fixture
    def examples(self) -> list[tuple[Any, str]]:
        return [(0.5, "a"), (-1.0, "b"), (2.0, "c")]


class TestMemoryStore(StoreContract):
    """The tests' own store keeps the contract."""

    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()

    def begin_run(self, store: Store) -> str:
        return f"run-{next(_numbers)}"


class _Neighbourly(_Distant):
    """Its outputs depend on the other candidates."""

    def generate(self, population, bucket):  # type: ignore[no-untyped-def]
        for outputs in super().generate(population, bucket):
            yield [output + population.mean() for output in outputs]


class _Placed(_Distant):
    """Its seeds belong to places in the bucket, not to prompts."""

    def generate(self, population, bucket):  # type: ignore[no-untyped-def]
        return super().generate(population, Bucket(bucket.prompts, tuple(range(len(bucket)))))


class _Restless(_Distant):
    """It draws its noise from the global generator."""

    def generate(self, population, bucket):  # type: ignore[no-untyped-def]
        for outputs in super().generate(population, bucket):
            yield [output + np.random.rand() for output in outputs]


class _Deaf(_Distant):
    """Two of its knobs move nothing."""

    def generate(self, population, bucket):  # type: ignore[no-untyped-def]
        return super().generate(population * [1, 0, 1, 1, 0], bucket)


class _Short(_Distant):
    """It leaves out an output."""

    def generate(self, population, bucket):  # type: ignore[no-untyped-def]
        for outputs in super().generate(population, bucket):
            yield outputs[:-1]


class _Outside(_Distant):
    """Its neutral setting lies outside its bounds."""

    def neutrals(self):  # type: ignore[no-untyped-def]
        return {"neutral": dict.fromkeys(self.space.names, 7.0)}


class _Unspeakable(_Distant):
    """Its description cannot be written down."""

    def describe(self):  # type: ignore[no-untyped-def]
        return {"id": "hill", "dtype": np.float32}


class _Addressed(_Distant):
    """It says where in memory its model lies."""

    def describe(self):  # type: ignore[no-untyped-def]
        return {"id": "hill", "model": repr(object())}


class _Counting(_Distant):
    """It says how often it was asked."""

    def describe(self):  # type: ignore[no-untyped-def]
        return {"id": "hill", "calls": len(self.calls)}


@pytest.mark.parametrize(
    ("adapter", "promise"),
    [
        (_Neighbourly, "test_a_candidate_alone_equals_itself_in_a_population"),
        (_Placed, "test_outputs_come_in_the_order_of_the_prompts"),
        (_Placed, "test_prompt_and_seed_reach_the_output"),
        (_Restless, "test_the_same_request_makes_the_same_outputs"),
        (_Restless, "test_global_random_state_is_not_touched"),
        (_Deaf, "test_every_knob_moves_an_output"),
        (_Short, "test_every_candidate_gets_one_output_a_prompt"),
        (_Outside, "test_its_neutrals_are_points_of_the_space"),
        (_Unspeakable, "test_its_description_is_json_like_and_names_it"),
        (_Addressed, "test_its_description_is_json_like_and_names_it"),
        (_Counting, "test_its_description_does_not_change_with_use"),
    ],
)
def test_an_adapter_that_breaks_a_promise_is_caught(adapter: type[Adapter], promise: str) -> None:
    contract = TestHill()
    getattr(contract, promise)(_Distant())
    with pytest.raises((AssertionError, TrimpotError)):
        getattr(contract, promise)(adapter())


def test_adapters_that_differ_must_describe_themselves_apart() -> None:
    contract, moved = TestHill(), _Distant()
    moved.describe = lambda: {"id": "hill", "moved": True}  # type: ignore[method-assign]
    contract.test_what_makes_other_outputs_describes_itself_otherwise(_Distant(), [moved])
    with pytest.raises(AssertionError):
        contract.test_what_makes_other_outputs_describes_itself_otherwise(_Distant(), [moved, _Distant()])


def test_dead_knobs_that_are_known_may_be_named_and_must_be_dead() -> None:
    class Known(TestHill):
        def dead_knobs(self, adapter: Adapter) -> list[str]:
            return ["knob.1", "knob.4"]

    Known().test_every_knob_moves_an_output(_Deaf())
    with pytest.raises(AssertionError, match="said to be dead"):
        Known().test_every_knob_moves_an_output(_Distant())


class _Ranked(Objective):
    """Scores outputs by their rank among the others."""

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        return np.argsort(np.argsort(outputs)).astype(np.float64)


class _Moody(Objective):
    """Adds a random number."""

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        return np.array(outputs) + random.random()


class _Averaging(Objective):
    """Gives one score for all."""

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        return np.array(np.mean(outputs))


class _Numbed(Objective):
    """Gives everything the same score."""

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        return np.zeros(len(outputs))


class _First(Objective):
    """Adds a bonus for being first."""

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        return np.array(outputs) + (np.arange(len(outputs)) == 0)


class _Worn(Objective):
    """It says how much it has scored."""

    scored = 0

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        self.scored += len(outputs)
        return np.array(outputs)

    def describe(self) -> dict[str, Any]:
        return {"scored": self.scored}


@pytest.mark.parametrize(
    ("objective", "promise"),
    [
        (_Ranked, "test_a_score_does_not_depend_on_its_neighbours"),
        (_First, "test_a_score_does_not_depend_on_the_order"),
        (_Moody, "test_scoring_is_deterministic"),
        (_Averaging, "test_every_output_gets_one_finite_score"),
        (_Numbed, "test_outputs_are_told_apart"),
        (_Worn, "test_its_description_does_not_change_with_use"),
    ],
)
def test_an_objective_that_breaks_a_promise_is_caught(objective: type[Objective], promise: str) -> None:
    examples = [(0.5, "a"), (-1.0, "b"), (2.0, "c")]
    getattr(TestHeight(), promise)(Height(), examples)
    with pytest.raises(AssertionError):
        getattr(TestHeight(), promise)(objective(), examples)


class _Clocked(RandomSearch):
    """Draws from the global generator."""

    def ask(self) -> NDArray[np.float64]:
        return super().ask() * 0.5 + 0.25 * np.random.rand()


class _Unbounded(RandomSearch):
    """Forgets the bounds."""

    def ask(self) -> NDArray[np.float64]:
        return super().ask() + 5


class _Trusting(RandomSearch):
    """Does not look at lengths."""

    def tell(self, population: NDArray[np.float64], fitness: Vector) -> None:
        super().tell(population[: len(fitness)], fitness)


class _Possessive(RandomSearch):
    """Knows a population only by the very array that it gave."""

    _given: NDArray[np.float64] | None = None

    def ask(self) -> NDArray[np.float64]:
        self._given = super().ask()
        return self._given

    def tell(self, population: NDArray[np.float64], fitness: Vector) -> None:
        assert population is self._given
        super().tell(population, fitness)


class _Lent(RandomSearch):
    """Lends out its own array."""

    def recommend(self) -> Vector:
        self._best = self._start
        return self._best


class _Leftover(RandomSearch):
    """Says that its populations are groups of 4, which they are not."""

    group_size = 4


class _Absolute(RandomSearch):
    """Compares candidates of one group with those of another."""

    group_size = 2

    def ask(self) -> NDArray[np.float64]:
        steps = self._generator.standard_normal((10, len(self._start)))
        return np.clip(self._best + 0.1 * steps, self._low, self._high)


@pytest.mark.parametrize(
    ("optimizer", "promise"),
    [
        (_Leftover, "test_a_population_is_a_whole_number_of_groups"),
        (_Absolute, "test_what_all_of_a_group_have_in_common_changes_nothing"),
        (_Clocked, "test_the_same_seed_and_fitness_ask_the_same_populations"),
        (_Clocked, "test_two_optimizers_do_not_disturb_each_other"),
        (_Clocked, "test_global_random_state_is_neither_read_nor_written"),
        (_Unbounded, "test_populations_have_the_right_shape_and_lie_inside_the_bounds"),
        (_Trusting, "test_as_many_fitness_values_as_candidates_are_required"),
        (_Possessive, "test_it_is_told_what_it_asked_and_once"),
        (_Lent, "test_recommending_changes_nothing"),
        (RandomSearch, "test_it_climbs_a_noisy_hill"),
    ],
)
def test_an_optimizer_that_breaks_a_promise_is_caught(optimizer: type[RandomSearch], promise: str) -> None:
    class Contract(OptimizerContract):
        def make(self, space: KnobSpace, start: Vector, seed: int) -> Optimizer:
            return optimizer(space, start=start, seed=seed)

    with pytest.raises((AssertionError, PluginError, pytest.fail.Exception)):
        getattr(Contract(), promise)()


class _Rounding(MemoryStore):
    """Keeps seven digits."""

    def record(self, run, made):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        for place, key, evaluation in made:
            scores = {name: tuple(float(f"{value:.7g}") for value in row) for name, row in evaluation.scores.items()}
            super().record(run, [(place, key, replace(evaluation, scores=scores))])


class _Overwriting(MemoryStore):
    """Lets a second record replace the first."""

    def record(self, run, made):  # type: ignore[no-untyped-def]
        for place, _, _ in made:
            self.keys.pop((run, place), None)
        super().record(run, made)


class _Weighing(MemoryStore):
    """Gives every evaluation the weights of the run that made it."""

    def record(self, run, made):  # type: ignore[no-untyped-def]
        super().record(run, made)
        self.evaluations.update((key, evaluation) for _, key, evaluation in made)


class _Unordered(MemoryStore):
    """Gives evaluations back as they were recorded."""

    def recorded(self, run, stage, generation):  # type: ignore[no-untyped-def]
        return dict(reversed(super().recorded(run, stage, generation).items()))


@pytest.mark.parametrize(
    ("store", "promise"),
    [
        (_Rounding, "test_what_is_recorded_is_found_bit_for_bit"),
        (_Overwriting, "test_a_place_is_taken_once"),
        (_Unordered, "test_places_are_ordered_and_kept_apart"),
        (_Weighing, "test_what_is_read_back_has_no_weights"),
    ],
)
def test_a_store_that_breaks_a_promise_is_caught(store: type[MemoryStore], promise: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(TestMemoryStore(), promise)(store=store())
