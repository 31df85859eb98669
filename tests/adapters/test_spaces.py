"""Spaces with a known optimum: the adapter contract, and that their best and their expectation are what they say."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from closed_form import MemoryStore, Notes
from trimpot.adapters.spaces.bounded import BoundedReward
from trimpot.adapters.spaces.closed_forms import ClosedForm, ellipsoid, low_effective_dimension, sphere
from trimpot.adapters.spaces.fields import Field, stream
from trimpot.adapters.spaces.simulated import GAINS, VARIANTS, SimulatedReward
from trimpot.adapters.spaces.simulation import Simulation
from trimpot.engine.bucket import Bucket, draw_bucket
from trimpot.engine.loop import calibrate
from trimpot.engine.seams import Adapter
from trimpot.ground.errors import ConfigError, ModelError
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plugins import Plugins
from trimpot.testing import AdapterContract

NUMBERS = Plugins().make("prompts", "numbers", {})


class TestSimulatedReward(AdapterContract):
    """The simulated reward, tied by layer."""

    prompts = NUMBERS.train[:3]

    @pytest.fixture
    def adapter(self) -> Adapter:
        return SimulatedReward(76, "rugged", world=1)

    @pytest.fixture
    def others(self) -> list[Adapter]:
        return [SimulatedReward(57, "rugged", world=1), SimulatedReward(76, "quiet", 1), SimulatedReward(76, "rugged")]


class TestBoundedReward(AdapterContract):
    """The bounded simulated reward, tied by layer."""

    prompts = NUMBERS.train[:3]

    @pytest.fixture
    def adapter(self) -> Adapter:
        return BoundedReward(76, world=1)

    @pytest.fixture
    def others(self) -> list[Adapter]:
        return [BoundedReward(57, world=1), BoundedReward(76), SimulatedReward(76, world=1)]


class TestSphere(AdapterContract):
    """A noisy sphere."""

    prompts = NUMBERS.train[:3]

    @pytest.fixture
    def adapter(self) -> Adapter:
        return sphere(20, 0.1, 0)


class TestEllipsoid(AdapterContract):
    """A noisy ellipsoid."""

    @pytest.fixture
    def adapter(self) -> Adapter:
        return ellipsoid(20, 0.1, 0, 1e3)


class TestLowEffectiveDimension(AdapterContract):
    """Few directions of many knobs."""

    @pytest.fixture
    def adapter(self) -> Adapter:
        return low_effective_dimension(40, 0.1, 0, 4)

    @pytest.fixture
    def others(self) -> list[Adapter]:
        """Of these a description says the number of knobs by their space."""
        changed = [(40, 0.2, 0, 4), (40, 0.1, 1, 4), (40, 0.1, 0, 5)]
        return [low_effective_dimension(*each) for each in changed]


def _bucket(size: int, seed: int = 0) -> Bucket:
    return draw_bucket(NUMBERS.train, size, seed)


@pytest.mark.parametrize(
    "space", [SimulatedReward(57), SimulatedReward(114, "noisy"), sphere(30, 2.0, 0)], ids=["57", "noisy", "sphere"]
)
def test_the_expected_score_is_the_mean_over_prompts_and_seeds(space: SimulatedReward | ClosedForm) -> None:
    population = space.space.defaults + 0.2 * np.random.default_rng(0).standard_normal((4, len(space.space)))
    scores = space.scores(population, _bucket(5000))
    error = scores.std(axis=1) / np.sqrt(scores.shape[1])
    assert np.all(np.abs(scores.mean(axis=1) - space.exact(population)) < 4 * error)


def test_generating_gives_the_scores() -> None:
    space = SimulatedReward(57)
    population, bucket = np.stack([space.space.defaults, space.best]), _bucket(3)
    assert np.array_equal(np.array(list(space.generate(population, bucket))), space.scores(population, bucket))


def test_a_prompt_and_its_seed_are_luck_that_near_candidates_share() -> None:
    """Scores less their expectation: the same difficulty for all, and less in common the farther candidates are."""
    space = SimulatedReward(114)
    start, generator = space.space.defaults, np.random.default_rng(0)
    direction = generator.standard_normal(114)
    population = start + np.outer([0, 0.001, 0.05, 0.25, 1.0], direction)
    bucket = _bucket(1500)
    luck = space.scores(population, bucket) - space.exact(population)[:, None]
    assert luck[0].std() == pytest.approx(np.sqrt(2.5**2 + 1 + 1), rel=0.05)
    apart = [(luck[0] - other).std() for other in luck[1:]]
    assert apart == sorted(apart)
    assert apart[0] < 0.05
    assert 0.8 < apart[2] < 1.6
    assert apart[3] < 2.1


@pytest.mark.parametrize("num_knobs", [57, 76, 114, 216, 482])
def test_the_best_setting_is_best_and_worth_what_the_simulation_says(num_knobs: int) -> None:
    space = SimulatedReward(num_knobs, world=2)
    assert len(space.space) == num_knobs
    best, start = space.best, space.space.defaults
    assert space.exact(start[None])[0] == pytest.approx(11.4)
    nearby = best + 0.02 * np.random.default_rng(0).standard_normal((200, num_knobs))
    assert space.exact(np.clip(nearby, -1, 2)).max() <= space.exact(best[None])[0] + 1e-6
    wanted = GAINS[max(114, num_knobs)]
    assert wanted * (0.75 if num_knobs < 114 else 1.0) <= space.reachable_gain <= wanted + 0.8


@pytest.mark.parametrize("num_knobs", [57, 114, 216, 482])
def test_the_bounded_reward_has_its_best_near_below_neutral_and_nothing_far_away(num_knobs: int) -> None:
    space = BoundedReward(num_knobs, world=2)
    best, start = space.best, space.space.defaults
    generator = np.random.default_rng(0)
    nearby = best + 0.02 * generator.standard_normal((200, num_knobs))
    assert space.exact(nearby).max() <= space.exact(best[None])[0] + 1e-6
    assert 0.1 < space.reachable_gain < 0.3
    assert np.mean(best < 1) > 0.75
    far = start + 0.5 * generator.standard_normal((50, num_knobs))
    assert space.exact(far).max() < 0.05 < 0.4 < space.exact(start[None])[0]


def test_the_bounded_reward_s_expectation_is_the_mean_of_its_scores_which_are_between_0_and_1() -> None:
    space, generator = BoundedReward(114, world=3), np.random.default_rng(0)
    population = space.space.defaults + np.outer([0, 0.05, 0.1, 0.15], generator.standard_normal(114))
    scores = space.scores(population, _bucket(4000))
    assert scores.min() > 0 and scores.max() < 1
    np.testing.assert_allclose(scores.mean(axis=1), space.exact(population), atol=5 * 0.35 / np.sqrt(4000))


def test_prompts_of_the_bounded_reward_disagree_about_the_best_setting() -> None:
    """Averaged over seeds, which of two settings is better depends on the prompt far more often than by luck."""
    space, generator = BoundedReward(114), np.random.default_rng(0)
    pair = space.space.defaults + 0.1 * generator.standard_normal((2, 114))
    names = tuple(each for each in NUMBERS.train[:40] for _ in range(200))
    one, other = space.scores(pair, Bucket(names, tuple(range(len(names)))))
    means = (one - other).reshape(40, 200)
    sure = abs(means.mean(axis=1)) > 4 * means.std(axis=1) / np.sqrt(200)
    better = sure & (means.mean(axis=1) > 0)
    assert 4 <= better.sum() <= sure.sum() - 4


def test_fifty_seven_and_seventy_six_knobs_are_the_hundred_and_fourteen_tied() -> None:
    fine, bucket = SimulatedReward(114), _bucket(4)
    for num_knobs in (57, 76):
        coarse = SimulatedReward(num_knobs)
        moved = coarse.space.defaults + 0.3 * np.random.default_rng(0).standard_normal(num_knobs)
        setting = coarse.space.to_setting(moved)
        spread = {
            name: value
            for name in fine.space.names
            for knob, value in setting.items()
            if name == knob or name.startswith(f"{knob}.")
        }
        assert len(spread) == 114
        same = fine.space.to_vector(spread)
        np.testing.assert_allclose(coarse.scores(moved[None], bucket), fine.scores(same[None], bucket), rtol=1e-12)


@pytest.mark.parametrize("space", [SimulatedReward(114, "rugged"), BoundedReward(114)], ids=["simulated", "bounded"])
def test_the_slope_is_the_derivative(space: Simulation) -> None:
    world, spread = space._world, 0.3 if isinstance(space, SimulatedReward) else 0.1
    move = spread * np.random.default_rng(0).standard_normal(114)
    value, slope = world.slope(move)
    assert value == world.expected(move)
    steps = 1e-6 * np.eye(114)
    numeric = [(world.expected(move + step) - world.expected(move - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(slope, numeric, rtol=1e-5, atol=1e-5)


def test_a_first_sample_about_the_optimum_loses_what_the_landscape_says() -> None:
    for variant in ("separable", "coupled"):
        world = SimulatedReward(482, variant)._world
        samples = 0.25 * np.random.default_rng(0).standard_normal((400, 482))
        loss = np.mean([world._quadratic(world._root * sample) for sample in samples])
        assert loss == pytest.approx(VARIANTS[variant].loss, rel=0.25)


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - {"default"}))
def test_every_variant_is_another_reward(variant: str) -> None:
    population, bucket = np.full((1, 57), 0.9), _bucket(2)
    one, other = SimulatedReward(57), SimulatedReward(57, variant)
    assert not np.array_equal(one.scores(population, bucket), other.scores(population, bucket))
    assert one.describe() != other.describe()
    made = Plugins().make("adapters", "simulated", {"num_knobs": 57, "variant": variant})
    assert np.array_equal(made.scores(population, bucket), other.scores(population, bucket))


def test_another_world_is_another_model() -> None:
    population, bucket = np.full((1, 57), 0.9), _bucket(2)
    for first, second in (
        (SimulatedReward(57), SimulatedReward(57, world=1)),
        (sphere(57, 0.1, 0), sphere(57, 0.1, 1)),
    ):
        assert not np.array_equal(first.scores(population, bucket), second.scores(population, bucket))
        assert not np.array_equal(first.exact(population), second.exact(population))


def test_generating_takes_milliseconds() -> None:
    space = SimulatedReward(482)
    population = space.space.defaults + 0.2 * np.random.default_rng(0).standard_normal((32, 482))
    seconds = []
    for seed in range(5):
        begun = time.process_time()
        space.scores(population, _bucket(16, seed))
        seconds.append(time.process_time() - begun)
    assert min(seconds) < 0.05


@pytest.mark.parametrize(
    "space",
    [sphere(20, 0.0, 0), ellipsoid(20, 0.0, 0, 1e3), low_effective_dimension(40, 0.0, 0, 4)],
    ids=["sphere", "ellipsoid", "low"],
)
def test_closed_forms_have_their_optimum_where_they_say(space: ClosedForm) -> None:
    points = np.stack([space.optimum, space.space.defaults])
    np.testing.assert_allclose(space.exact(points), [0, -1], rtol=0, atol=1e-12)
    low, high = space.space.bounds
    assert np.all((low < space.optimum) & (space.optimum < high))
    others = space.optimum + 0.1 * np.random.default_rng(0).standard_normal((50, len(space.space)))
    assert space.exact(others).max() < 0


def test_an_ellipsoid_is_as_ill_conditioned_as_asked() -> None:
    curvature = np.linalg.svd(ellipsoid(12, 0.0, 0, 1e4)._axes, compute_uv=False) ** 2
    assert curvature.max() / curvature.min() == pytest.approx(1e4)
    np.testing.assert_allclose(np.diff(np.log(np.sort(curvature))), np.log(1e4) / 11, rtol=1e-6)


def test_in_low_effective_dimension_nothing_changes_across() -> None:
    space = low_effective_dimension(40, 0.0, 0, 4)
    assert np.linalg.matrix_rank(space._axes) == 4
    across = np.linalg.svd(space._axes)[2][4:]
    np.testing.assert_allclose(space.exact(space.space.defaults + across), -1, atol=1e-9)
    with pytest.raises(ModelError, match="9 effective directions need at least as many knobs, not 8"):
        low_effective_dimension(8, 0.0, 0, 9)


def test_fields_have_unit_variance_and_fade_with_distance_as_they_should() -> None:
    field = Field(5, (1.0,), (1.0,), np.random.default_rng(0), num_features=512)
    coefficients = np.random.default_rng(1).standard_normal((4000, field.num_coefficients))
    here, there = (coefficients @ field.features(np.full(5, place)) for place in (0.0, 0.4))
    assert here.std() == pytest.approx(1, abs=0.05)
    assert np.corrcoef(here, there)[0, 1] == pytest.approx(np.exp(-5 * 0.4**2 / 2), abs=0.06)


def test_streams_depend_on_every_part_of_their_key() -> None:
    keys: list[tuple[Any, ...]] = [("a", 1), ("a", 2), ("b", 1), ("a",), ("a", 1, "")]
    drawn = {tuple(stream(*key).standard_normal(3)) for key in keys}
    assert len(drawn) == len(keys)
    assert np.array_equal(stream("a", 1).standard_normal(3), stream("a", 1).standard_normal(3))


def test_what_is_no_space_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'num_knobs'.*57, 76, 114, 216 or 482.*not 58"):
        Plugins().make("adapters", "simulated", {"num_knobs": 58})
    with pytest.raises(ConfigError, match=r"'variant'.*not 'calm'"):
        Plugins().make("adapters", "simulated", {"variant": "calm"})


@pytest.mark.parametrize(
    "adapter", ["sphere", "ellipsoid", "low-effective-dimension", {"name": "simulated", "num_knobs": 57}]
)
def test_a_configuration_can_calibrate_it(adapter: Any) -> None:
    config = {
        "adapter": adapter,
        "objectives": "value",
        "prompts": "numbers",
        "optimizer": {"name": "grouped", "population_size": 16},
        "bucket_size": 1,
        "generations": 25,
        "validation": {"num_prompts": 32, "every": 25},
        "test": {"num_prompts": 64},
    }
    _calibrated(config, rise=0.2)


def test_the_default_search_gains_on_the_bounded_reward() -> None:
    config = {
        "adapter": {"name": "simulated-bounded", "num_knobs": 57},
        "objectives": "value",
        "prompts": "numbers",
        "generations": 40,
        "validation": {"num_prompts": 128, "every": 10},
        "test": {"num_prompts": 256},
    }
    _calibrated(config, rise=0.05)


def _calibrated(config: dict[str, Any], rise: float) -> None:
    run = assemble("space-1", load_config(config), Plugins())
    outcome = calibrate(run, MemoryStore(), Notes())
    space: Any = run.adapter
    before, after = space.exact(np.stack([space.space.defaults, space.space.to_vector(outcome.calibrated)]))
    assert after > before + rise
    assert outcome.comparisons[0].gain.mean == pytest.approx(after - before, abs=0.6)
