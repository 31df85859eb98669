"""Combining objectives: the formulas, against computations of their own, and whole runs that replay bit for bit."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from closed_form import SMALL, Hill, MemoryStore, Notes, hill_plugin, hill_plugins
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from trimpot.engine.bucket import Bucket
from trimpot.engine.evaluation import COMBINED, Evaluation
from trimpot.engine.hooks import hookimpl
from trimpot.engine.loop import calibrate
from trimpot.engine.run import Run
from trimpot.engine.seams import Adapter, Combination, Objective
from trimpot.ground.errors import ConfigError, TrimpotError
from trimpot.objectives.combining import Constrained, Pareto, Weighted, WinRate, crowding_distance, pareto_fitness
from trimpot.objectives.combining import win_rate as rate
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plan import plan
from trimpot.setup.plugins import Plugins
from trimpot.testing import CombinationContract

WEIGHTS = CombinationContract.weights
scores = st.floats(-20, 20, allow_subnormal=False)
pools = st.lists(scores, min_size=2, max_size=12).map(np.array)
fronts = st.integers(1, 3).flatmap(
    lambda columns: arrays(
        np.float64, st.tuples(st.integers(1, 12), st.just(columns)), elements=st.integers(-3, 3).map(float)
    )
)


class TestWeighted(CombinationContract):
    @pytest.fixture
    def combination(self) -> Combination:
        return Weighted(WEIGHTS)


class TestWeightedBothWays(CombinationContract):
    weights = {"first": 1.0, "second": -2.0}  # noqa: RUF012

    @pytest.fixture
    def combination(self) -> Combination:
        return Weighted(self.weights)


class TestWinRate(CombinationContract):
    @pytest.fixture
    def combination(self) -> Combination:
        return WinRate(WEIGHTS, 4, {"second": 0.3})


class TestWinRateWithAFrontier(CombinationContract):
    @pytest.fixture
    def combination(self) -> Combination:
        return WinRate(WEIGHTS, 4, {"second": 0.3}, frontier=True)


class TestPareto(CombinationContract):
    weights = {"first": 1.0, "second": -0.5}  # noqa: RUF012

    @pytest.fixture
    def combination(self) -> Combination:
        return Pareto(self.weights)


class TestConstrained(CombinationContract):
    @pytest.fixture
    def combination(self) -> Combination:
        return Constrained(WEIGHTS, {"guard": 0.1}, 10.0)


# Win rates


def sigmoid(x: float) -> float:
    """The long way, without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


@given(pools, pools, st.floats(0.1, 10))
def test_a_win_rate_is_the_mean_of_bradley_terry_probabilities(
    own: NDArray[np.float64], others: NDArray[np.float64], temperature: float
) -> None:
    found = rate(own, np.tile(others, (len(own), 1)), temperature)
    for value, score in zip(found, own, strict=True):
        assert value == pytest.approx(sum(sigmoid((score - y) / temperature) for y in others) / len(others), rel=1e-12)
        assert 0 <= value <= 1


@given(pools)
def test_rates_of_mutual_comparisons_add_up_to_half_their_number(pool: NDArray[np.float64]) -> None:
    """CaPO's leave-one-out form: sigmoid(x) + sigmoid(-x) is 1, so N calibrated rewards add up to N / 2."""
    others = np.stack([np.delete(pool, index) for index in range(len(pool))])
    assert rate(pool, others).sum() == pytest.approx(len(pool) / 2, rel=1e-12)


@given(pools, pools, st.floats(-5, 5), st.floats(0, 5))
def test_a_win_rate_knows_no_shift_and_grows_with_the_score(
    own: NDArray[np.float64], others: NDArray[np.float64], shift: float, more: float
) -> None:
    opponents = np.tile(others, (len(own), 1))
    np.testing.assert_allclose(rate(own + shift, opponents + shift), rate(own, opponents), rtol=1e-9, atol=1e-12)
    assert np.all(rate(own + more, opponents) >= rate(own, opponents))


def test_a_win_rate_depends_on_scale_which_a_temperature_undoes() -> None:
    own, others = np.array([1.0]), np.array([[0.0, 0.5]])
    assert rate(own / 26, others / 26)[0] == pytest.approx(0.507, abs=0.001)  # differences this small say nothing
    assert rate(own, others)[0] == pytest.approx(0.677, abs=0.001)
    np.testing.assert_allclose(rate(own / 26, others / 26, temperature=1 / 26), rate(own, others))


def test_a_tiny_temperature_counts_wins() -> None:
    assert rate(np.array([1.0, 1.0, 1.0]), np.array([[0.0, 2.0], [0.0, 1.0], [0.0, 0.0]]), 1e-308).tolist() == [
        0.5, 0.75, 1.0,
    ]  # fmt: skip


def test_a_prompt_meets_the_same_opponents_in_every_bucket() -> None:
    combination = WinRate({"height": 1.0}, 5)
    one = combination.pool(Bucket(("a", "b", "b"), (1, 2, 3)))
    other = combination.pool(Bucket(("c", "b", "a"), (9, 8, 7)))

    def opponents(pool: Bucket) -> dict[str, list[int]]:
        return {p: [s for q, s in zip(pool.prompts, pool.seeds, strict=True) if q == p] for p in pool.prompts}

    assert list(opponents(one)) == ["a", "b"] and list(opponents(other)) == ["c", "b", "a"]
    assert all(opponents(one)[prompt] == opponents(other)[prompt] for prompt in ("a", "b"))
    seeds = [*one.seeds, *opponents(other)["c"]]
    assert len(set(seeds)) == len(seeds) == 15 and all(0 <= seed < 2**31 for seed in seeds)


def test_outputs_meet_their_own_prompt_s_opponents_and_rewards_are_averaged_by_weight() -> None:
    combination = WinRate({"first": 3.0, "second": 1.0}, 2, {"second": 0.5})
    bucket = Bucket(("b", "a", "b"), (1, 2, 3))
    pool = Evaluation(
        {}, combination.pool(bucket), None, {"first": (0.0, 1.0, 10.0, 11.0), "second": (5.0, 5.0, 6.0, 6.0)}, {}
    )
    values = combination.values(
        {"first": np.array([0.5, 10.0, 1.0]), "second": np.array([5.0, 5.0, 7.0])}, bucket, pool
    )
    expected = [
        0.75 * (sigmoid(0.5) + sigmoid(-0.5)) / 2 + 0.25 * 0.5,
        0.75 * (sigmoid(0.0) + sigmoid(-1.0)) / 2 + 0.25 * sigmoid(-2.0),
        0.75 * (sigmoid(1.0) + sigmoid(0.0)) / 2 + 0.25 * sigmoid(4.0),
    ]
    assert values.tolist() == pytest.approx(expected, rel=1e-12)


def test_a_frontier_ranks_candidates_by_their_win_rates_and_not_by_their_scores() -> None:
    """One great output raises a mean score, and wins no more than a good one: a win rate ends at 1."""
    combination = WinRate({"first": 1.0, "second": 1.0}, 1, 0.1, frontier=True)
    bucket = Bucket(("a", "a"), (1, 2))
    pool = Evaluation({}, combination.pool(bucket), None, {"first": (0.0,), "second": (0.0,)}, {})
    scores = {"great once": (9.0, -1.0), "good twice": (1.0, 1.0), "else": (-1.0, -1.0)}
    seconds = {"great once": (0.0, 0.0), "good twice": (0.0, 0.0), "else": (1.0, 1.0)}
    made = [Evaluation({}, bucket, None, {"first": scores[each], "second": seconds[each]}, {}) for each in scores]
    great, good, other = combination.fitness(made, pool)
    assert good > great + 0.5 and other > great + 0.5
    means = np.array([[np.mean(each.scores[name]) for name in ("first", "second")] for each in made])
    assert pareto_fitness(means)[0] > pareto_fitness(means)[1]
    assert combination.describe() != WinRate(combination.weights, 1, 0.1).describe()


# Pareto


def dominates(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool(all(a >= b for a, b in zip(one, other, strict=True)) and any(one > other))


@given(fronts)
def test_a_dominating_candidate_is_above_and_ranks_are_peeled_fronts(points: NDArray[np.float64]) -> None:
    """Against the definition: every pair compared, and fronts peeled off one by one."""
    fitness = pareto_fitness(points)
    for one, other in itertools.permutations(range(len(points)), 2):
        if dominates(points[one], points[other]):
            assert fitness[one] >= fitness[other] + 0.5
        if np.array_equal(points[one], points[other]):
            assert fitness[one] == fitness[other]
    left, rank = set(range(len(points))), 0
    while left:
        front = {i for i in left if not any(dominates(points[j], points[i]) for j in left)}
        assert all(-rank <= fitness[i] <= -rank + 0.5 for i in front)
        left, rank = left - front, rank + 1


@given(fronts, st.randoms(use_true_random=False))
def test_the_order_of_candidates_decides_nothing(points: NDArray[np.float64], random: Any) -> None:
    order = list(range(len(points)))
    random.shuffle(order)
    np.testing.assert_array_equal(pareto_fitness(points[order]), pareto_fitness(points)[order])


def test_crowding_is_that_of_nsga_2() -> None:
    """By hand, on a front of four: the sides of the box between a point's neighbours, over the range."""
    points = np.array([[0.0, 10.0], [1.0, 6.0], [3.0, 5.0], [4.0, 0.0]])
    assert crowding_distance(points).tolist() == pytest.approx([math.inf, 3 / 4 + 5 / 10, 3 / 4 + 6 / 10, math.inf])
    assert pareto_fitness(points).tolist() == pytest.approx([0.5, 0.5 * 1.25 / 2.25, 0.5 * 1.35 / 2.35, 0.5])


def made(**named: float) -> Evaluation:
    """A candidate with these mean scores."""
    bucket = Bucket(("a", "b"), (1, 2))
    return Evaluation({}, bucket, None, {name: (value - 1, value + 1) for name, value in named.items()}, {})


def test_the_sign_of_a_weight_says_which_way_is_better() -> None:
    candidates = [made(good=1, bad=1), made(good=1, bad=0), made(good=2, bad=5)]
    up_and_down = Pareto({"good": 1.0, "bad": -7.0}).fitness(candidates, None)
    assert up_and_down[1] > up_and_down[0] and up_and_down[2] >= 0
    both_up = Pareto({"good": 0.1, "bad": 1.0}).fitness(candidates, None)
    assert np.argmax(both_up) == 2 and both_up[0] > both_up[1]


# Constraints


def test_a_candidate_pays_for_what_it_falls_short_and_for_nothing_else() -> None:
    combination = Constrained({"height": 2.0}, {"guard": -0.5}, penalty=3.0)
    pool = made(height=4, guard=10)  # standard deviations: 2 of its values, 1 of the guard's scores
    kept, poor, fallen = made(height=6, guard=9.5), made(height=6, guard=9.0), made(height=6, guard=7.5)
    kept, poor, fallen = (replace(each, weights={"height": 2.0}) for each in (kept, poor, fallen))
    fitness = combination.fitness([kept, poor, fallen], pool)
    assert fitness.tolist() == pytest.approx([12, 12 - 3 * 2 * 0.5, 12 - 3 * 2 * 2])
    assert [combination.admits(each, pool) for each in (kept, poor, fallen)] == [True, False, False]


# Whole runs


class Nearness(Objective):
    """How near an output is to -1: at odds with its height, which would be 0 at best."""

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        return -np.abs(np.array(outputs) + 1)


class Both:
    """Names `nearness` beside the hill's own height."""

    @hookimpl
    def register_objectives(self, register: Any) -> None:
        register("nearness", lambda: Nearness())  # a factory is a function


@functools.cache
def hill_and_both() -> Plugins:
    known = Plugins()
    known.add(hill_plugin(), name="hill-plugin", origin="tests")
    known.add(Both(), name="both", origin="tests")
    return known


def run_of(combine: Any, config: Mapping[str, Any] | None = None, adapter: Adapter | None = None) -> Run:
    """A small run on the hill by two objectives."""
    known = hill_and_both()
    if adapter is not None:
        known = hill_plugins(adapter)
        known.add(Both(), name="both", origin="tests")
    both: dict[str, Any] = {"height": {"weight": 1}, "nearness": {"weight": 0.5}}
    asked = load_config({**SMALL, "objectives": both, "combine": combine, **(config or {})})
    return replace(assemble("", asked, known), id="hill-1")


COMBINATIONS: list[dict[str, Any]] = [
    {"name": "weighted"},
    {"name": "winrate", "references": 3, "temperature": {"height": 0.2}},
    {"name": "pareto"},
    {"name": "constrained", "floors": {"nearness": 0.0}},
    {"name": "winrate", "references": 2, "frontier": True},
]


@pytest.mark.parametrize("combine", COMBINATIONS, ids=lambda each: each["name"])
def test_interrupted_at_any_evaluation_a_combining_run_resumes_to_the_same_end(combine: dict[str, Any]) -> None:
    config = {"generations": 2, "optimizer": {"name": "cma-es", "population_size": 4}, "group_size": 2}
    undisturbed, notes = MemoryStore(), Notes()
    expected = calibrate(run_of(combine, config), undisturbed, notes)
    total = len(notes.evaluations)
    for moment in range(1, total + 1, 4 if combine["name"] == "weighted" else 5):  # test_loop.py stops it anywhere
        store, after = MemoryStore(), Notes()
        with pytest.raises(KeyboardInterrupt):
            calibrate(run_of(combine, config), store, Notes(patience=moment))
        assert calibrate(run_of(combine, config), store, after) == expected
        assert store.digest("hill-1") == undisturbed.digest("hill-1")
        assert len(after.evaluations) == total - moment
    assert (COMBINED in notes.evaluations[-1].evaluation.scores) == (combine["name"] != "weighted")


def stages(notes: Notes) -> dict[str, int]:
    """How many outputs were recorded at each stage."""
    found: dict[str, int] = {}
    for each in notes.evaluations:
        found[each.place.stage] = found.get(each.place.stage, 0) + len(each.evaluation.bucket)
    return found


def test_a_pool_is_recorded_once_before_what_is_judged_against_it() -> None:
    notes, store, adapter = Notes(), MemoryStore(), Hill(64)
    config = {"optimizer": {"name": "cma-es", "population_size": 4}, "validation": {"num_prompts": 4, "every": 1}}
    calibrate(run_of(COMBINATIONS[1], config, adapter), store, notes)
    first: dict[tuple[str, int], str] = {}
    for each in notes.evaluations:
        first.setdefault((each.place.stage.removesuffix(" pool"), each.place.generation), each.place.stage)
    assert all(stage.endswith(" pool") for stage in first.values())
    assert stages(notes)["search pool"] == 3 * 3 * 3  # generations, prompts, references
    generated = sum(adapter.calls) - 4  # the proof that a run begins with
    replayed = Hill()
    calibrate(run_of(COMBINATIONS[1], config, replayed), store, Notes())
    assert replayed.calls == []
    distinct = {(e.evaluation.bucket.fingerprint, *e.evaluation.setting.values()) for e in notes.evaluations}
    assert generated == len(distinct)  # checks share one pool, found instead of made again


def test_a_budget_of_images_counts_a_pool_once() -> None:
    notes = Notes()
    config = {
        "generations": 50,
        "optimizer": {"name": "cma-es", "population_size": 6},
        "budget": {"images": 200},
        "validation": {"num_prompts": 4, "every": 50},
    }
    outcome = calibrate(run_of(COMBINATIONS[1], config), MemoryStore(), notes)
    spent = sum(count for stage, count in stages(notes).items() if stage.startswith(("reference", "search")))
    assert spent == 3 + 9 + outcome.num_generations * (18 + 9) <= 200 < spent + 27
    first = 3 + 9 + 18 + 9
    calibrate(run_of(COMBINATIONS[1], {**config, "budget": {"images": first}}), MemoryStore(), Notes())
    with pytest.raises(ConfigError, match="6 candidates on 3 prompts are 18 outputs, after 21 outputs for comparison"):
        run_of(COMBINATIONS[1], {**config, "budget": {"images": first - 1}})


@pytest.mark.parametrize("combine", COMBINATIONS[1::2], ids=lambda each: each["name"])
def test_a_plan_counts_the_pools(combine: dict[str, Any]) -> None:
    config = {
        "optimizer": {"name": "cma-es", "population_size": 4},
        "group_size": 2,
        "generations": 4,
        "sensitivity": {"num_prompts": 2},
    }
    run, notes = run_of(combine, config), Notes()
    calibrate(run, MemoryStore(), notes)
    assert plan(run).images["pools"] == sum(n for stage, n in stages(notes).items() if stage.endswith(" pool"))


def test_values_at_other_steps_are_rates_against_the_same_pool() -> None:
    """Else the neutral model would win half its comparisons at any number of steps, and steps could not be compared."""

    class Stepped(Hill):
        num_steps = 4

        def generate(self, population: Any, bucket: Any) -> Any:
            for outputs in super().generate(population, bucket):
                yield [output - 4 / self.num_steps for output in outputs]

        def with_steps(self, num_steps: int) -> Adapter:
            other = Stepped()
            other.num_steps = num_steps
            return other

    config = {"by_steps": {"steps": [16, 1], "num_prompts": 5, "num_validation": 4}}
    notes = Notes()
    outcome = calibrate(run_of(COMBINATIONS[1], config, Stepped()), MemoryStore(), notes)
    neutral = {each.num_steps: each.neutral for each in outcome.comparisons}
    assert neutral[1] < neutral[4] < neutral[16]
    assert {e.evaluation.num_steps for e in notes.evaluations if e.place.stage.endswith(" pool")} == {4}


def test_what_falls_short_on_validation_is_never_chosen() -> None:
    """The hill's top is far above -1, so climbing it costs nearness."""
    config = {"generations": 30, "bucket_size": 8, "validation": {"num_prompts": 20, "every": 2, "patience": 99}}
    floors = {"name": "constrained", "floors": {"nearness": -0.15}}
    only_height = {"objectives": {"height": {"weight": 1}, "nearness": {"weight": 0}}}
    notes = Notes()
    outcome = calibrate(run_of(floors, {**config, **only_height}), MemoryStore(), notes)
    [neutral] = [e.evaluation for e in notes.evaluations if e.place.stage == "baseline"]
    checks = {e.place.generation: e.evaluation for e in notes.evaluations if e.place.stage == "validation"}

    def nearness(evaluation: Evaluation) -> float:
        return float(np.mean(evaluation.scores["nearness"]))

    free = calibrate(run_of("weighted", {**config, **only_height}), MemoryStore(), Notes())
    assert free.chosen.score > outcome.chosen.score  # the floor costs something here, or this test says nothing
    for check in outcome.checks[1:]:
        assert check.admitted == (nearness(checks[check.generation]) >= nearness(neutral) - 0.15)
    assert outcome.chosen.admitted and outcome.chosen.score > outcome.checks[0].score
    assert outcome.chosen.score == max(check.score for check in outcome.checks if check.admitted)


@pytest.mark.parametrize(
    ("combine", "said"),
    [
        ("winrates", "no combination 'winrates'; did you mean 'winrate'?"),
        ({"name": "winrate", "temperatur": 2}, "takes no option 'temperatur'; did you mean 'temperature'?"),
        ({"name": "winrate", "references": 0}, "'references'.*at least 1, not 0"),
        ({"name": "winrate", "temperature": 0}, "temperature of 'height' is 0; it must be positive and finite"),
        ({"name": "winrate", "temperature": {"hight": 1}}, "temperature names 'hight', .* did you mean 'height'?"),
        ({"name": "constrained"}, "combination 'constrained' needs the option 'floors'"),
        ({"name": "constrained", "floors": {}}, "option 'floors': .* 1 or more entries"),
        ({"name": "constrained", "floors": {"nearnes": 0}}, "combine names the objective 'nearnes'; did you mean 'nea"),
        ({"name": "constrained", "floors": {"height": 0}, "penalty": 0}, "'penalty': should be more than 0, not 0"),
    ],
)
def test_a_mistake_is_one_sentence(combine: Any, said: str) -> None:
    with pytest.raises(TrimpotError, match=said) as caught:
        run_of(combine)
    assert "\n" not in str(caught.value)


def test_shares_of_win_rates_are_positive() -> None:
    with pytest.raises(ConfigError, match=r"objective 'nearness' has weight -1, but shares"):
        run_of("winrate", {"objectives": {"height": {}, "nearness": {"weight": -1}}})


def test_no_objective_may_take_the_combination_s_name() -> None:
    with pytest.raises(ConfigError, match="combined"):
        run_of("winrate", {"objectives": {"combined": {"name": "height"}}})
