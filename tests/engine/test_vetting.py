"""An optimizer in a run: told what it asked last, once, with a number for each candidate."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from closed_form import Ridge
from numpy.typing import NDArray
from trimpot.engine.seams import Optimizer
from trimpot.engine.vetting import HeldOptimizer
from trimpot.ground.errors import PluginError

SPACE = Ridge.space
LOW, HIGH = SPACE.bounds


class Notebook(Optimizer):
    """Asks for three points near its defaults, and writes down what it is told."""

    def __init__(self) -> None:
        self.asked, self.told = 0, list[Any]()

    def ask(self) -> NDArray[np.float64]:
        self.asked += 1
        return SPACE.defaults + 0.01 * self.asked * np.array([[-1.0], [0.0], [1.0]])

    def tell(self, population: NDArray[np.float64], fitness: NDArray[np.float64]) -> None:
        self.told.append((population.tolist(), list(fitness)))

    def recommend(self) -> NDArray[np.float64]:
        return SPACE.defaults


def held(optimizer: Optimizer | None = None) -> tuple[HeldOptimizer, Any]:
    """An optimizer and who holds it."""
    wrapped = optimizer or Notebook()
    return HeldOptimizer(wrapped, SPACE, "the searcher"), wrapped


def test_what_is_told_is_passed_on_as_it_is() -> None:
    optimizer, notebook = held()
    expected = []
    for fitness in ([1.0, 2.0, 3.0], [0.0, -1.0, 0.5]):
        population = optimizer.ask()
        optimizer.tell(population, np.array(fitness))
        expected.append((population.tolist(), fitness))
    assert notebook.told == expected
    assert notebook.asked == 2


def test_nothing_can_be_told_that_was_not_asked() -> None:
    optimizer, notebook = held()
    with pytest.raises(ValueError, match="the searcher was told without being asked; call ask"):
        optimizer.tell(SPACE.defaults[None], np.zeros(1))
    assert notebook.told == []


def test_what_was_asked_is_told_once() -> None:
    optimizer, notebook = held()
    population = optimizer.ask()
    optimizer.tell(population, np.zeros(3))
    with pytest.raises(ValueError, match="told without being asked"):
        optimizer.tell(population, np.zeros(3))
    assert len(notebook.told) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda asked: asked[::-1],
        lambda asked: asked[:-1],
        lambda asked: np.concatenate([asked, asked[:1]]),
        lambda asked: asked[:, :-1],
        lambda asked: np.nextafter(asked, 99),
        lambda asked: asked[None],
    ],
)
def test_no_other_population_is_told(change: Any) -> None:
    optimizer, notebook = held()
    population = optimizer.ask()
    other = change(population)
    with pytest.raises(ValueError, match="told another population than it asked for; tell what ask"):
        optimizer.tell(other, np.zeros(len(other)))
    assert notebook.told == []
    optimizer.tell(population, np.zeros(3))  # it still waits for what it asked
    assert len(notebook.told) == 1


def test_only_the_population_asked_for_last_is_told() -> None:
    optimizer, notebook = held()
    first, second = optimizer.ask(), optimizer.ask()
    with pytest.raises(ValueError, match="another population"):
        optimizer.tell(first, np.zeros(3))
    optimizer.tell(second, np.zeros(3))
    assert notebook.told == [(second.tolist(), [0.0] * 3)]


def test_a_population_that_was_changed_in_place_is_another() -> None:
    optimizer, _ = held()
    population = optimizer.ask()
    population += 0.001
    with pytest.raises(ValueError, match="another population"):
        optimizer.tell(population, np.zeros(3))


@pytest.mark.parametrize(
    ("fitness", "said"),
    [
        ([0.0, 1.0], r"3 candidates need as many fitness values, not an array of shape \(2,\)"),
        ([0.0] * 4, r"not an array of shape \(4,\)"),
        ([[0.0]] * 3, r"not an array of shape \(3, 1\)"),
        (0.0, r"not an array of shape \(\)"),
        ([0.0, np.nan, 1.0], "told fitness that is not finite"),
        ([0.0, -np.inf, 1.0], "told fitness that is not finite"),
    ],
)
def test_every_candidate_has_a_finite_fitness(fitness: Any, said: str) -> None:
    optimizer, notebook = held()
    population = optimizer.ask()
    with pytest.raises(ValueError, match=said):
        optimizer.tell(population, np.array(fitness))
    optimizer.tell(population, np.zeros(3))
    assert len(notebook.told) == 1


def test_an_error_of_its_own_is_still_its_own() -> None:
    class Failing(Notebook):
        def tell(self, population: NDArray[np.float64], fitness: NDArray[np.float64]) -> None:
            raise ValueError("no covariance")

    optimizer, _ = held(Failing())
    with pytest.raises(PluginError, match="the searcher failed: ValueError: no covariance"):
        optimizer.tell(optimizer.ask(), np.zeros(3))


@pytest.mark.parametrize("knob", range(5))
@pytest.mark.parametrize("side", ["below", "above"])
def test_each_knob_is_held_to_its_own_bounds(knob: int, side: str) -> None:
    """Past a bound by no more than rounding may do to numbers of its range, a point is inside; beyond, it is not."""

    class Stray(Notebook):
        past = 0.0

        def ask(self) -> NDArray[np.float64]:
            point = np.stack([SPACE.defaults, SPACE.defaults])
            bound, sign = (LOW, -1) if side == "below" else (HIGH, 1)
            point[1, knob] = bound[knob] + sign * self.past * (HIGH - LOW)[knob]
            return point

        def recommend(self) -> NDArray[np.float64]:
            return self.ask()[1]

    optimizer, stray = held(Stray())
    for stray.past in (0.0, 5e-10):
        assert optimizer.ask().shape == (2, 5)
        assert optimizer.recommend().shape == (5,)
    stray.past = 2e-9
    bounds = re.escape(f"bounds [{LOW[knob]:g}, {HIGH[knob]:g}]")
    with pytest.raises(PluginError, match=f"the searcher asked for .* for a knob with {bounds}"):
        optimizer.ask()
    with pytest.raises(PluginError, match=f"the searcher recommends .* for a knob with {bounds}"):
        optimizer.recommend()
