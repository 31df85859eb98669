"""Plugins: found by name, checked before they run, and unable to hurt a run that does not name them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from closed_form import Hill, MemoryStore, Notes, hill_plugin, hill_run
from trimpot.engine.hooks import hookimpl
from trimpot.engine.loop import calibrate
from trimpot.ground.errors import ConfigError, PluginError
from trimpot.objectives.combining import Weighted
from trimpot.runs.work import Announcer
from trimpot.setup.plugins import KINDS, Plugins


def _plugin(**factories: Any) -> object:
    """A plugin that names adapters, and a combination where one is called `family`."""

    class Plugin:
        @hookimpl
        def register_adapters(self, register: Any) -> None:
            for name, factory in factories.items():
                if name != "family":
                    register(name, factory)

        @hookimpl
        def register_combinations(self, register: Any) -> None:
            if "family" in factories:
                register("family", factories["family"])

    return Plugin()


class Typed(Hill):
    """An adapter that remembers how it was made."""

    def __init__(self, *given: object) -> None:
        super().__init__()
        self.given = given


def _typed(*, speed: int, colour: str = "red", exact: bool = False) -> Typed:
    return Typed(speed, colour, exact)


@pytest.fixture
def plugins() -> Plugins:
    """The built-ins and one plugin of tests."""
    known = Plugins()
    known.add(_plugin(typed=_typed), name="typed-plugin", origin="trimpot-typed")
    return known


def test_the_built_ins_register_through_the_same_hooks() -> None:
    found = {kind: {each.name for each in Plugins().registrations(kind)} for kind in KINDS}
    assert found["adapters"] >= {"sd3", "shapes", "simulated", "sphere"}
    assert found["objectives"] >= {"shapes"}
    assert found["optimizers"] >= {"cma-es", "grouped", "nevergrad", "random"}
    assert found["prompts"] >= {"files", "shapes"}


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("adapters", "shape", "no adapter 'shape'; did you mean 'shapes'"),
        ("optimizers", "cmaes", "no optimizer 'cmaes'; did you mean 'cma-es'"),
        ("objectives", "shaeps", "no objective 'shaeps'; did you mean 'shapes'"),
        ("prompts", "qqqq", "'qqqq'; known: 'addition', 'calibri', .*'files', .*'numbers', .*'shapes'"),
    ],
)
def test_an_unknown_name_lists_near_misses(kind: str, name: str, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        Plugins().get(kind, name)


class Family(Weighted):
    """A combination that remembers how it was made."""

    def __init__(self, *given: object) -> None:
        super().__init__({"height": 1.0})
        self.given = given


def _of_family(weights: int, *, method: str, speed: int = 1) -> Family:
    return Family(weights, method, speed)


def test_a_name_with_a_colon_chooses_a_factory_s_method() -> None:
    known = Plugins()
    known.add(_plugin(family=_of_family, typed=_typed), name="family-plugin", origin="trimpot-family")
    assert known.make("combinations", "family:fast", {"speed": "3"}, 7).given == (7, "fast", 3)
    assert known.make("combinations", "family", {"method": "fast"}, 7).given == (7, "fast", 1)
    found = known.get("combinations", "family:fast")
    assert (found.name, found.origin) == ("family:fast", "trimpot-family")
    known.check("combinations", "family:fast", {"speed": 2})
    assert known.options("combinations", "family:fast") == ["speed"]
    assert [each.name for each in known.registrations("combinations")].count("family:fast") == 0


@pytest.mark.parametrize(
    ("name", "options", "error", "said"),
    [
        (
            "family:fast",
            {"method": "slow"},
            ConfigError,
            "combination 'family:fast' takes no option 'method'; known: 'speed'",
        ),
        (
            "family:fast",
            {"sped": 1},
            ConfigError,
            "combination 'family:fast' takes no option 'sped'; did you mean 'speed'",
        ),
        ("family", {}, ConfigError, "combination 'family' needs the option 'method'"),
        ("family-fast", {}, PluginError, "no combination 'family-fast'; did you mean 'family'"),
        ("famly:fast", {}, PluginError, "no combination 'famly:fast'; did you mean 'family'"),
    ],
)
def test_a_name_with_a_colon_that_does_not_fit_is_said_in_one_sentence(
    name: str, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    known = Plugins()
    known.add(_plugin(family=_of_family, typed=_typed), name="family-plugin", origin="trimpot-family")
    with pytest.raises(error, match=said):
        known.make("combinations", name, options, 7)


def test_a_clash_names_both_distributions(plugins: Plugins) -> None:
    with pytest.raises(PluginError, match="adapters 'typed': trimpot-typed and trimpot-other"):
        plugins.add(_plugin(typed=_typed), name="other-plugin", origin="trimpot-other")


def test_one_name_may_mean_an_adapter_and_an_objective() -> None:
    known = Plugins()
    assert known.get("adapters", "shapes") is not known.get("objectives", "shapes")


def test_options_reach_the_factory_with_their_types(plugins: Plugins) -> None:
    assert plugins.make("adapters", "typed", {"speed": "3", "exact": True}).given == (3, "red", True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sped": 3}, "adapter 'typed' takes no option 'sped'; did you mean 'speed'"),
        ({"speed": "fast"}, "adapter 'typed': option 'speed': should be a whole number, not 'fast'"),
        ({"speed": 1, "colour": 7}, "adapter 'typed': option 'colour': should be a text, not 7"),
        ({}, "adapter 'typed' needs the option 'speed'"),
    ],
)
def test_an_option_that_does_not_fit_is_said_in_one_sentence(
    plugins: Plugins, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        plugins.make("adapters", "typed", options)
    assert "\n" not in str(caught.value)


def test_a_configuration_may_not_set_what_the_engine_supplies() -> None:
    with pytest.raises(ConfigError, match="optimizer 'cma-es' takes no option 'seed'"):
        Plugins().make("optimizers", "cma-es", {"seed": 3}, Hill.space, start=Hill.space.defaults, seed=0)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import a_module_that_is_not_there", "ModuleNotFoundError: No module named 'a_module_that_is_not_there'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        (
            "from trimpot import hookimpl\n@hookimpl\ndef register_adapters(register):\n    raise OSError('no device')",
            "OSError: no device",
        ),
        (
            "from trimpot import hookimpl\n@hookimpl\ndef register_adapters(registre):\n    pass",
            "PluginValidationError: .*registre",
        ),
    ],
)
def test_a_broken_plugin_is_shown_and_stops_only_runs_that_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    (tmp_path / "broken_plugin.py").write_text(source)
    information = tmp_path / "trimpot_broken-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: trimpot-broken\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[trimpot]\nbroken = broken_plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "broken_plugin", raising=False)

    known = Plugins()
    monkeypatch.delitem(sys.modules, "broken_plugin", raising=False)

    [broken] = known.broken
    assert (broken.name, broken.origin) == ("broken", "trimpot-broken")
    with pytest.raises(
        PluginError,
        match=rf"(?s)no adapter 'broken-model'.*could not load the plugin 'broken' \(trimpot-broken\): {reason}",
    ):
        known.get("adapters", "broken-model")
    assert known.get("adapters", "shapes").origin == "trimpot"


def test_a_plugin_that_fails_while_watching_does_not_stop_a_run() -> None:
    heard: list[int] = []

    class Careless:
        @hookimpl
        def evaluation_recorded(self, place: Any) -> None:
            heard.append(place.position)
            raise RuntimeError("the dashboard is down")

    class Careful:
        @hookimpl
        def generation_told(self, generation: int, sigma: float | None) -> None:
            heard.append(100 + generation)

    known = Plugins()
    known.add(Careless(), name="careless", origin="tests")
    known.add(Careful(), name="careful", origin="tests")
    with pytest.warns(UserWarning, match=r"plugin careless \(tests\) failed while watching.*the dashboard is down"):
        watched = calibrate(hill_run(), MemoryStore(), Announcer(known))
    assert heard == [0, 100, 101, 102]
    assert watched == calibrate(hill_run(), MemoryStore(), Notes())


def test_plugins_do_not_see_each_other_s_registrations() -> None:
    known = Plugins()
    known.add(hill_plugin(), name="hill-plugin", origin="tests")
    assert known.get("adapters", "hill").origin == "tests"
    assert known.get("adapters", "sd3").origin == "trimpot"


def test_the_built_ins_register_whatever_was_imported_before() -> None:
    importlib.import_module("trimpot.optimizers.cma_es")
    importlib.import_module("trimpot.objectives.shapes")
    known = Plugins()
    assert all(callable(each.factory) for kind in KINDS for each in known.registrations(kind))


def test_a_method_that_a_family_does_not_have_is_said_before_anything_is_made() -> None:
    known = Plugins()
    known.check("optimizers", "nevergrad:TwoPointsDE", {"sigma0": 0.1})
    with pytest.raises(ConfigError, match="nevergrad has no optimizer 'TwoPontsDE'; did you mean 'TwoPointsDE'"):
        known.check("optimizers", "nevergrad:TwoPontsDE", {"sigma0": 0.1})
