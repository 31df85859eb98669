"""The searchers of nevergrad: they keep the contract, or are refused in a sentence."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from trimpot.engine.knobs import Knob, KnobSpace, Vector
from trimpot.engine.seams import Optimizer
from trimpot.ground.errors import ConfigError, MissingError, TrimpotError
from trimpot.optimizers import make_nevergrad, nevergrad_probe
from trimpot.optimizers.nevergrad_probe import NUM_GENERATIONS, listing, probe
from trimpot.optimizers.nevergrad_search import Nevergrad, registry
from trimpot.setup.plugins import Plugins
from trimpot.testing import OptimizerContract
from waiting import LONG

SPACE = KnobSpace([Knob(f"knob.{index}", low=-1, high=2, spread=1 + index / 4) for index in range(6)])
QUICK = {"DE": False, "DiagonalCMA": True, "OnePlusOne": False, "TBPSA": True}  # whether it climbs noisy hills
SLOW = {"CMA": True, "MetaModel": True, "NGOpt": True, "PSO": False, "TwoPointsDE": False}


class _Contract(OptimizerContract):
    """For one method."""

    method = ""

    def make(self, space: KnobSpace, start: Vector, seed: int) -> Optimizer:
        return Nevergrad(space, start=start, seed=seed, method=self.method, population_size=10, budget=10 * 60)


for _method, _improves in {**QUICK, **SLOW}.items():
    _fewest = 2 if _method == "DiagonalCMA" else 1
    _class = type(f"Test{_method}", (_Contract,), {"method": _method, "improves": _improves, "fewest_knobs": _fewest})
    globals()[_class.__name__] = pytest.mark.slow(_class) if _method in SLOW else _class
del _class


def _make(method: str, **options: Any) -> Nevergrad:
    return Nevergrad(SPACE, start=SPACE.defaults, seed=0, method=method, **options)


@pytest.mark.parametrize("method", ["CMA", "DE", "RandomSearch"])
def test_sigma0_is_in_units_of_each_knob_s_spread(method: str) -> None:
    space = KnobSpace([Knob("fine", low=-99, high=99, spread=0.1), Knob("coarse", low=-999, high=999, spread=10)])
    search = Nevergrad(space, start=space.defaults, seed=0, method=method, sigma0=0.5, population_size=500)
    fine, coarse = search.ask().std(axis=0)
    assert coarse / fine == pytest.approx(100, rel=0.2)
    wide = Nevergrad(space, start=space.defaults, seed=0, method=method, sigma0=1.0, population_size=500)
    assert wide.ask().std(axis=0) == pytest.approx([2 * fine, 2 * coarse], rel=0.2)


@pytest.mark.parametrize("method", ["DE", "OnePlusOne", "PSO", "TwoPointsDE"])
def test_higher_fitness_is_better(method: str) -> None:
    search = _make(method, population_size=20)
    for _ in range(25):
        population = search.ask()
        search.tell(population, -np.square(population - 0.4).sum(axis=1))
    assert np.square(search.recommend() - 0.4).sum() < 0.5 * np.square(SPACE.defaults - 0.4).sum()


def test_metamodels_that_have_learned_enough_go_on() -> None:
    """Without noise and with few knobs a metamodel is used at once."""
    search = _make("MetaModel", population_size=10)
    for _ in range(12):
        population = search.ask()
        search.tell(population, -np.square(population - 0.4).sum(axis=1))
    assert np.square(search.recommend() - 0.4).sum() < 0.2 * np.square(SPACE.defaults - 0.4).sum()


def test_a_search_of_one_knob_changes_no_other() -> None:
    """nevergrad's method decides in one dimension to use another library, which a wider search must not inherit."""
    one = KnobSpace([Knob("alone")])
    with pytest.raises(ConfigError, match=r"DiagonalCMA cannot search here.*fcmaes"):
        make_nevergrad(one, start=one.defaults, seed=0, method="DiagonalCMA", population_size=10)
    wide = _make("DiagonalCMA", population_size=10)
    wide.tell(population := wide.ask(), np.zeros(len(population)))


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@pytest.mark.parametrize(
    "method", ["RecombiningDiscreteLenglerOnePlusOne", "SmallLognormalDiscreteOnePlusOne", "PolyLN"]
)
def test_methods_that_draw_from_the_global_generator_have_one_of_their_own(method: str) -> None:
    histories = []
    for seed in (1, 2):
        with _global_seed(seed):
            before = random.getstate(), str(np.random.get_state())
            search = _make(method, population_size=8, budget=80)
            history = []
            for _ in range(8):
                history.append(population := search.ask())
                search.tell(population, -np.square(population - 0.4).sum(axis=1))
            assert (random.getstate(), str(np.random.get_state())) == before
            histories.append(np.stack(history))
    assert np.array_equal(*histories)


def test_the_registry_is_the_same_in_every_process() -> None:
    """Some methods are put together from random numbers when nevergrad is imported."""
    code = (
        "import numpy as np; np.random.seed({}); from trimpot.engine.knobs import *; "
        "from trimpot.optimizers.nevergrad_search import Nevergrad; s = KnobSpace([Knob('a'), Knob('b')]); "
        "print(Nevergrad(s, start=s.defaults, seed=0, method='PolyLN', population_size=40, budget=80).ask().tolist(), "
        "np.random.get_state()[2])"
    )
    said = [
        subprocess.run([sys.executable, "-c", code.format(seed)], capture_output=True, text=True) for seed in (1, 2)
    ]
    assert said[0].stdout == said[1].stdout != ""


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("nevergrad:TwoPontsDE", {}, "nevergrad has no optimizer 'TwoPontsDE'; did you mean 'TwoPointsDE'"),
        ("nevergrad:Xyzzyq", {}, "nevergrad has no optimizer 'Xyzzyq'; known: 'CMA', 'DE', "),
        (
            "nevergrad:Powell",
            {},
            "Powell evaluates one candidate at a time; choose a method that can search a population",
        ),
        ("nevergrad:NGOpt", {}, "'nevergrad:NGOpt' needs the option 'budget', the total number of evaluations"),
        ("nevergrad:VoxelizeMetaModelOnePlusOne", {"population_size": 1}, "at least 2"),
        ("nevergrad", {}, "optimizer 'nevergrad' needs the option 'method'"),
        ("nevergrad:DE", {"method": "PSO"}, "optimizer 'nevergrad:DE' takes no option 'method'"),
        ("nevergrad:DE", {"sigma": 1}, "'nevergrad:DE' takes no option 'sigma'; did you mean 'sigma0'"),
        ("nevergrad:DE", {"sigma0": -1}, "'nevergrad:DE': option 'sigma0': should be at least 1e-09, not -1"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_sentence(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(TrimpotError, match=said) as caught:
        Plugins().make("optimizers", name, options, SPACE, start=SPACE.defaults, seed=0)
    assert "\n" not in str(caught.value)


def test_a_method_with_a_colon_is_the_option_method() -> None:
    one, other = (
        Plugins().make("optimizers", name, {"population_size": 7, **options}, SPACE, start=SPACE.defaults, seed=3)
        for name, options in (("nevergrad:DE", {}), ("nevergrad", {"method": "DE"}))
    )
    assert np.array_equal(one.ask(), other.ask())
    assert len(one.ask()) == 7


def test_without_nevergrad_a_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nevergrad", None)
    with pytest.raises(MissingError, match=r"needs nevergrad; install it with: pip install 'trimpot\[calibrate\]'"):
        _make("DE")


def test_the_probe_says_who_can_search_and_why_others_cannot() -> None:
    assert probe("DE", SPACE, 8) is None
    assert probe("NGOpt", SPACE, 8) is None
    assert "one candidate at a time" in str(probe("Powell", SPACE, 8))
    assert "no optimizer 'Nobody'" in str(probe("Nobody", SPACE, 8))


class _Broken:
    """A registered optimizer with one of many faults."""

    no_parallelization = False

    def __init__(self, fault: str) -> None:
        self._fault, self._kind = fault, registry()["RandomSearch"]

    def __call__(self, **options: Any) -> Any:
        made, fault = self._kind(**options), self._fault

        class Faulty:
            num_asked = 0

            def ask(self) -> Any:
                Faulty.num_asked += 1
                if fault == "asks once" and Faulty.num_asked > 1:
                    raise RuntimeError("tell me first")
                if fault == "reads the clock":
                    made.parametrization.random_state.seed(np.random.default_rng().integers(2**31))
                return made.ask()

            def tell(self, *told: Any) -> None:
                if fault == "cannot be told":
                    raise ValueError("no\nthanks")
                made.tell(*told)

            def provide_recommendation(self) -> Any:
                return made.provide_recommendation()

        return Faulty()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("none", None),
        ("asks once", "fails when asked for a population: RuntimeError: tell me first"),
        ("reads the clock", "does not ask the same again"),
        ("cannot be told", "fails when told scores: ValueError: no"),
    ],
)
def test_every_fault_is_found(fault: str, said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry(), "Faulty", _Broken(fault))
    assert probe("Faulty", SPACE, 8) == said
    if fault in ("asks once", "reads the clock"):
        with pytest.raises(ConfigError, match=f"nevergrad's Faulty cannot search here, because it {said}"):
            Plugins().make("optimizers", "nevergrad:Faulty", {}, SPACE, start=SPACE.defaults, seed=0)


def test_the_listing_tries_methods_in_a_process_of_their_own() -> None:
    begun = time.monotonic()
    rows = {row.method: row for row in listing(6, 8, methods=["DE", "Powell", "PSO"], seconds=LONG)}
    assert [row.reason is None for row in rows.values()] == [True, False, True]
    assert rows["DE"].seconds is not None
    assert 0 < rows["DE"].seconds < (time.monotonic() - begun) / NUM_GENERATIONS


def test_a_method_that_takes_too_long_is_ended_and_the_listing_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nevergrad_probe, "IMPORT_SECONDS", 0.0)  # it has not even imported nevergrad by then
    rows = list(listing(6, 8, methods=["DE", "PSO"], seconds=0.001))
    assert [row.reason for row in rows] == ["takes over 0.001 s a generation"] * 2
