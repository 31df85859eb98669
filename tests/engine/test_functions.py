"""Plain functions as objectives and backbones: what they may be and return, their options, what is said of others."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pytest
import trimpot
from PIL import Image
from trimpot.engine.answer import Answer
from trimpot.engine.bucket import Bucket
from trimpot.engine.functions import FunctionAdapter, FunctionObjective, mark_of, name_of, objective_factory
from trimpot.engine.seams import Adapter
from trimpot.ground.errors import ConfigError, ModelError, Notice, PluginError
from trimpot.setup.factory import Options
from trimpot.testing import AdapterContract, ObjectiveContract

KNOBS = [trimpot.Knob("slope"), trimpot.Knob("offset", low=-1, high=1, default=0)]
BUCKET = Bucket(("one", "three"), (4, 9))


@trimpot.objective
def shortness(outputs: Sequence[Any], prompts: Sequence[str], *, power: float = 1.0) -> list[float]:
    """How short."""
    return [-(len(str(output)) ** power) for output in outputs]


@trimpot.adapter(KNOBS)
def line(setting: dict[str, float], prompt: str, seed: int, *, noise: float = 0.0) -> float:
    """A line."""
    return setting["slope"] * len(prompt) + setting["offset"] + noise * (seed % 7) + seed / 2**32


@trimpot.adapter(KNOBS, makes="image")
def painted(setting: dict[str, float], prompt: str, seed: int) -> Image.Image:
    """A grey picture."""
    return Image.new("L", (8, 8), int(9 * len(prompt) * setting["slope"] + 9 * setting["offset"] + seed % 50))


def made(function: Callable[..., Any], **options: Any) -> Any:
    mark = mark_of(function)
    assert mark is not None
    return mark.factory(**options)


def adapter_of(function: Callable[..., Any], makes: Literal["image", "video", "text"] | None = None) -> Adapter:
    adapter: Adapter = made(trimpot.adapter(KNOBS, makes=makes)(function))
    return adapter


def outputs_of(adapter: Adapter, population: Any = ((1.0, 0.0),)) -> list[list[Any]]:
    return list(adapter.generate(np.array(population, dtype=float), BUCKET))


class TestShortness(ObjectiveContract):
    @pytest.fixture
    def objective(self) -> FunctionObjective:
        return made(shortness)  # type: ignore[no-any-return]

    @pytest.fixture
    def examples(self) -> list[tuple[object, str]]:
        return [("a", "one"), ("abc", "two"), ("abcdef", "three")]


class TestLine(AdapterContract):
    @pytest.fixture
    def adapter(self) -> FunctionAdapter:
        return made(line)  # type: ignore[no-any-return]


class TestPainted(AdapterContract):
    @pytest.fixture
    def adapter(self) -> FunctionAdapter:
        return made(painted)  # type: ignore[no-any-return]


def test_a_decorated_function_stays_what_it_was() -> None:
    assert line({"slope": 2.0, "offset": 0.5}, "abc", 2**31) == 7.0
    assert shortness(["ab"], ["x"], power=2.0) == [-4.0]
    assert (line.__name__, line.__doc__) == ("line", "A line.")


def test_a_function_is_told_every_knob_by_name_and_each_prompt_with_its_seed() -> None:
    heard: list[Any] = []

    @trimpot.adapter(KNOBS)
    def listening(setting: dict[str, float], prompt: str, seed: int) -> float:
        heard.append((setting, prompt, seed))
        return 0.0

    outputs_of(made(listening), [[1.5, 0.25], [0.5, -1.0]])
    first, second = {"slope": 1.5, "offset": 0.25}, {"slope": 0.5, "offset": -1.0}
    assert heard == [(first, "one", 4), (first, "three", 9), (second, "one", 4), (second, "three", 9)]
    assert all(type(value) is float for setting, _, _ in heard for value in setting.values())
    assert all(type(seed) is int for _, _, seed in heard)


def test_a_function_that_changes_the_setting_it_is_given_changes_nothing_else() -> None:
    def greedy(setting: dict[str, float], prompt: str, seed: int) -> float:
        return setting.pop("slope")

    assert outputs_of(adapter_of(greedy)) == [[1.0, 1.0]]


def test_the_knobs_are_those_of_the_decorator() -> None:
    space = made(line).space
    assert space.names == ("slope", "offset")
    assert list(space.defaults) == [1.0, 0.0]


def test_an_objective_is_given_lists_of_its_own() -> None:
    def emptying(outputs: list[Any], prompts: list[str]) -> list[float]:
        found = [float(output) for output in outputs]
        outputs.clear()
        prompts.clear()
        return found

    outputs, prompts = [1.0, 2.0], ["a", "b"]
    assert list(made(trimpot.objective(emptying)).score(outputs, prompts)) == [1.0, 2.0]
    assert (outputs, prompts) == ([1.0, 2.0], ["a", "b"])


def test_parameters_after_the_required_ones_are_options_with_their_annotations() -> None:
    def scored(outputs: Any, prompts: Any, scale: float = 2.0, *, kind: Literal["a", "b"] = "a") -> Any:
        return [scale * output + (kind == "b") for output in outputs]

    factory = objective_factory(scored)
    options = Options(factory, "objectives")
    assert options.names == ["scale", "kind"]
    assert [options.default(name) for name in options.names] == [2.0, "a"]
    assert options.read({"scale": "much"}, "it")[1] and options.read({"kind": "c"}, "it")[1]
    assert not options.read({"scale": 3, "kind": "b"}, "it")[1]
    assert list(factory(scale=3.0, kind="b").score([1.0], ["p"])) == [4.0]
    assert list(factory().score([1.0], ["p"])) == [2.0]
    assert Options(mark_of(line).factory, "adapters").names == ["noise"]  # type: ignore[union-attr]
    assert outputs_of(made(line, noise=1.0)) != outputs_of(made(line))


def test_any_number_of_options_is_none_that_a_configuration_can_name() -> None:
    def scored(outputs: Any, prompts: Any, *rest: Any, **more: Any) -> Any:
        return outputs

    assert Options(objective_factory(scored), "objectives").names == []


@pytest.mark.parametrize(
    "function",
    [
        lambda outputs, prompts: outputs,
        lambda *given: given[0],
        lambda outputs, prompts, /: outputs,
        functools.partial(lambda scale, outputs, prompts: [scale * each for each in outputs], 1.0),
    ],
    ids=["two names", "any number", "positions only", "a partial"],
)
def test_whatever_can_be_called_with_outputs_and_prompts_is_an_objective(function: Callable[..., Any]) -> None:
    assert list(objective_factory(function)().score([1.0, 2.0], ["a", "b"])) == [1.0, 2.0]


def test_a_bound_method_and_an_object_that_can_be_called_are_objectives() -> None:
    class Scorer:
        def score(self, outputs: Any, prompts: Any) -> Any:
            return outputs

        __call__ = score

    for function in (Scorer().score, Scorer()):
        assert objective_factory(function)().score([3.0], ["a"]) == [3.0]
    assert [name_of(Scorer().score), name_of(Scorer()), name_of(functools.partial(max, 1))] == [
        "score",
        "Scorer",
        "max",
    ]


async def _later(outputs: Any, prompts: Any) -> Any:
    return outputs


def _yielding(outputs: Any, prompts: Any) -> Any:
    yield 1.0


NO_OBJECTIVES: dict[str, tuple[Any, str]] = {
    "no arguments": (lambda: [], "takes 0 arguments by position; let it take outputs and prompts"),
    "outputs alone": (lambda outputs: outputs, "takes 1 argument by position; let it take outputs and prompts"),
    "keywords alone": (lambda *, outputs, prompts: outputs, "takes 0 arguments by position"),
    "three that are needed": (lambda outputs, prompts, scale: outputs, "needs 'scale' as well; give 'scale' a default"),
    "asynchronous": (_later, "_later is asynchronous; write an ordinary function"),
    "a generator": (_yielding, "_yielding yields; write a function that returns"),
    "a class": (dict, "is no function; write one that is called as f(outputs, prompts)"),
    "a number": (3, "3 is no function"),
    "a module": (np, "is no function"),
}


@pytest.mark.parametrize("what", NO_OBJECTIVES)
def test_what_cannot_be_an_objective_is_refused_when_it_is_decorated(what: str) -> None:
    thing, said = NO_OBJECTIVES[what]
    with pytest.raises(PluginError) as refused:
        trimpot.objective(thing)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_keyword_that_is_needed_is_an_option_that_is_needed() -> None:
    def scored(outputs: Any, prompts: Any, *, scale: float) -> Any:
        return [scale * output for output in outputs]

    options = Options(objective_factory(scored), "objectives")
    assert options.read({}, "it")[1] == ["it needs the option 'scale'"]
    assert not options.read({"scale": 2}, "it")[1]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda setting, prompt: 0, "takes 2 arguments by position; let it take setting and prompt and seed"),
        (lambda setting, prompt, seed, steps: 0, "needs 'steps' as well; give 'steps' a default"),
        (_later, "asynchronous"),
        (_yielding, "yields"),
        (dict, "no function"),
    ],
    ids=["no seed", "one more", "asynchronous", "a generator", "a class"],
)
def test_what_cannot_be_a_backbone_is_refused_when_it_is_decorated(function: Any, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        trimpot.adapter(KNOBS)(function)


@pytest.mark.parametrize(
    "knobs",
    ["slope", ["slope"], {"slope": 1.0}, 3, None, line, [trimpot.Knob], KNOBS[0]],
    ids=lambda each: type(each).__name__,
)
def test_knobs_are_a_list_of_knobs(knobs: Any) -> None:
    with pytest.raises(PluginError, match=r"give a list of trimpot\.Knob"):
        trimpot.adapter(knobs)


@pytest.mark.parametrize("knobs", [[], [trimpot.Knob("a"), trimpot.Knob("a")]], ids=["none", "two of a name"])
def test_there_are_knobs_and_each_has_a_name_of_its_own(knobs: Any) -> None:
    with pytest.raises(ConfigError):
        trimpot.adapter(knobs)


@pytest.mark.parametrize("makes", ["images", "audio", True, 3, ""], ids=repr)
def test_what_is_made_is_one_of_four_words(makes: Any) -> None:
    with pytest.raises(PluginError, match="say 'image', 'video', 'text' or None"):
        trimpot.adapter(KNOBS, makes=makes)


PICTURE = Image.new("RGB", (4, 4))


@pytest.mark.parametrize(
    ("makes", "output", "said"),
    [
        (None, None, "returned nothing for prompt 'one'; let it return what it made"),
        ("image", None, "returned nothing"),
        ("image", np.zeros((4, 4, 3)), "makes images and returned a ndarray; let it return a PIL image"),
        ("image", [PICTURE], "makes images and returned a list"),
        ("video", PICTURE, "makes videos and returned a Image; let it return a list of PIL images"),
        ("video", [], "makes videos and returned a list"),
        ("video", [PICTURE, 3], "makes videos and returned a list"),
        ("video", np.zeros((2, 4, 4, 3)), "makes videos and returned a ndarray"),
        ("text", 3, "makes texts and returned a int; let it return a str"),
        ("text", PICTURE, "makes texts and returned a Image"),
    ],
)
def test_what_a_backbone_returns_is_what_it_makes(makes: Any, output: Any, said: str) -> None:
    def mine(setting: Any, prompt: str, seed: int) -> Any:
        return output

    with pytest.raises(ModelError) as refused:
        outputs_of(adapter_of(mine, makes))
    assert said in str(refused.value) and str(refused.value).startswith("mine ") and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("makes", "output"),
    [
        ("image", PICTURE),
        ("video", [PICTURE, PICTURE]),
        ("video", (PICTURE,)),
        (None, 0.0),
        (None, "text"),
        (None, []),
        ("text", ""),
        ("text", Answer("a")),
    ],
)
def test_what_is_made_is_handed_on_as_it_is(makes: Any, output: Any) -> None:
    adapter = adapter_of(lambda setting, prompt, seed: output, makes)
    assert adapter.makes == makes
    assert all(each is output for row in outputs_of(adapter) for each in row)


def test_pictures_of_a_backbone_that_does_not_say_so_are_noticed_once() -> None:
    adapter = adapter_of(lambda setting, prompt, seed: PICTURE)
    with pytest.warns(Notice, match=r"write @trimpot.adapter\(knobs, makes='image'\) to see them") as told:
        outputs_of(adapter)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outputs_of(adapter)


def test_a_function_is_registered_under_its_own_name_or_another() -> None:
    def name(decorate: Callable[[Any], Any]) -> str:
        def mine(*given: Any) -> Any:
            return given[0]

        mark = mark_of(decorate(mine))
        assert mark is not None
        return mark.name

    decorators = [trimpot.objective, trimpot.objective(), trimpot.objective("a-name"), trimpot.adapter(KNOBS)]
    assert [*map(name, decorators), name(trimpot.adapter(KNOBS, name="b"))] == ["mine", "mine", "a-name", "mine", "b"]


def test_descriptions_are_the_function_s_first_line_and_name() -> None:
    assert mark_of(shortness).factory.__doc__ == "How short."  # type: ignore[union-attr]
    assert made(shortness).describe() == {"function": "shortness"}
    assert made(line).describe() == {"id": "line"}
    assert objective_factory(functools.partial(shortness, power=2.0)).__doc__ is None  # not that of partials
