"""Adapters and objectives made of plain functions.

    @trimpot.objective
    def brightness(outputs, prompts):
        return [mean_of(output) for output in outputs]

    @trimpot.adapter([trimpot.Knob("warmth"), trimpot.Knob("offset", low=-1, high=1, default=0)], makes="image")
    def camera(setting, prompt, seed):
        return picture_of(prompt, seed, setting["warmth"], setting["offset"])

A decorated function stays what it was, and can be called as before. Its further parameters are options that a
configuration can set, so that it is its own schema, like every factory.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from numpy.typing import NDArray

from ..ground.errors import ModelError, Notice, PluginError
from ..ground.plain import short
from .answer import Answer
from .bucket import Bucket
from .hooks import Factory
from .knobs import Knob, KnobSpace
from .seams import MEDIA, Adapter, Medium, Objective, Output, Population

MARK = "trimpot_part"  # the attribute of a decorated function
SCORES = ("outputs", "prompts")
MAKES = ("setting", "prompt", "seed")

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Marked:
    """What a decorator says of a function.

    Attributes:
        kind: `adapters` or `objectives`.
        name: The name under which the function's file or package registers it.
        factory: Makes the part from the function's options.
    """

    kind: str
    name: str
    factory: Factory


@overload
def objective(name: F, /) -> F: ...
@overload
def objective(name: str | None = None, /) -> Callable[[F], F]: ...
def objective(name: Any = None, /) -> Any:
    """Make an objective of a function `score(outputs, prompts)`, which returns one number an output.

    Write `@trimpot.objective` above the function, or `@trimpot.objective("a-name")` for a name other than its own. The
    function is given a list of outputs and the prompt of each; higher numbers are better. Parameters after the first
    two are options that a configuration can set.

    Args:
        name: The name for configurations.

    Raises:
        PluginError: If the function cannot be called with outputs and prompts.

    Example:
        >>> @objective
        ... def shortness(outputs, prompts, *, power: float = 1.0):
        ...     return [-len(output) ** power for output in outputs]
    """
    if name is not None and not isinstance(name, str):
        return _marked(name, "objectives", None, objective_factory(name))
    return lambda function: _marked(function, "objectives", name, objective_factory(function))


def adapter(
    knobs: Sequence[Knob], *, name: str | None = None, makes: Medium | None = None, uses_seed: bool = True
) -> Callable[[F], F]:
    """Make a backbone of a function `generate(setting, prompt, seed)`, which returns one output.

    Write `@trimpot.adapter([...])` above the function. `setting` maps the name of every knob to its value. The same
    setting, prompt and seed must always give the same output. Parameters after the first three are options that a
    configuration can set. To make several outputs in one batch, subclass `Adapter` instead.

    Args:
        knobs: The knobs.
        name: The name for configurations; default: the function's own.
        makes: `image` if the outputs are PIL images, `video` if they are lists of PIL images, `text` if they are texts.
            Reports then show them.
        uses_seed: Whether an output depends on its seed. Set it to False for a function that ignores `seed`: a prompt
            then has one output only, and nothing speaks of seeds.

    Raises:
        ConfigError: If there are no knobs, or two of one name.
        PluginError: If the function cannot be called with a setting, a prompt and a seed, or the knobs are none.

    Example:
        >>> @adapter([Knob("slope"), Knob("offset", default=0.0)])
        ... def line(setting, prompt, seed):
        ...     return setting["slope"] * len(prompt) + setting["offset"]
    """
    if (
        isinstance(knobs, (str, Mapping))
        or not isinstance(knobs, Sequence)
        or not all(_is_knob(each) for each in knobs)
    ):
        raise PluginError(f"@trimpot.adapter is given {short(knobs)}; give a list of trimpot.Knob")
    if makes not in (*MEDIA, None):
        raise PluginError(
            f"@trimpot.adapter is told that it makes {short(makes)}; say {', '.join(map(repr, MEDIA))} or None"
        )
    if not isinstance(uses_seed, bool):
        raise PluginError(f"@trimpot.adapter is told uses_seed={short(uses_seed)}; say True or False")
    space = KnobSpace(knobs)

    def decorate(function: F) -> F:
        def make(called: Callable[..., Output], options: Mapping[str, Any]) -> Adapter:
            return FunctionAdapter(called, options, space, makes, uses_seed)

        return _marked(function, "adapters", name, _factory(function, MAKES, make))

    return decorate


def objective_factory(function: Callable[..., Any]) -> Factory:
    """Return a factory that makes an objective of a function from the function's options.

    Raises:
        PluginError: If the function cannot be called with outputs and prompts.
    """
    return _factory(function, SCORES, FunctionObjective)


def mark_of(thing: object) -> Marked | None:
    """Return what a decorator said of a function, or None."""
    found = getattr(thing, MARK, None) if inspect.isroutine(thing) else None
    return found if isinstance(found, Marked) else None


def name_of(thing: object) -> str:
    """Return the name of a function, the function's name of a partial, or the name of an object's class."""
    named = getattr(thing, "func", thing)
    return str(getattr(named, "__name__", type(named).__name__))


class FunctionObjective(Objective):
    """An objective that calls a function.

    Args:
        function: Takes outputs and prompts.
        options: Further arguments, by keyword.
    """

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        self._function, self._options = function, dict(options)

    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[Any]:
        """See `Objective.score`."""
        scores: NDArray[Any] = self._function(list(outputs), list(prompts), **self._options)
        return scores  # whatever it is: every objective's scores are looked at by their caller

    def describe(self) -> Mapping[str, Any]:
        """See `Objective.describe`."""
        return {"function": name_of(self._function)}


class FunctionAdapter(Adapter):
    """A backbone that calls a function for every output.

    Args:
        function: Takes a setting, a prompt and a seed.
        options: Further arguments, by keyword.
        space: The knobs.
        makes: See `Adapter`.
        uses_seed: See `Adapter`.
    """

    def __init__(
        self,
        function: Callable[..., Output],
        options: Mapping[str, Any],
        space: KnobSpace,
        makes: Medium | None,
        uses_seed: bool = True,
    ) -> None:
        self._function, self._options = function, dict(options)
        self.space, self.makes, self.uses_seed = space, makes, uses_seed
        self._told = False

    def generate(self, population: Population, bucket: Bucket) -> Iterator[list[Output]]:
        """See `Adapter.generate`."""
        for row in population:
            yield [self._made(row, prompt, seed) for prompt, seed in zip(bucket.prompts, bucket.seeds, strict=True)]

    def _made(self, row: Any, prompt: str, seed: int) -> Output:
        output = self._function(self.space.to_setting(row), prompt, seed, **self._options)
        who = name_of(self._function)
        if output is None:
            raise ModelError(f"{who} returned nothing for prompt {short(prompt)}; let it return what it made")
        if self.makes == "text":
            if not isinstance(output, (str, Answer)):
                raise ModelError(f"{who} makes texts and returned a {type(output).__name__}; let it return a str")
            return output
        frames = output if self.makes == "video" and isinstance(output, (list, tuple)) and output else [output]
        pictures = all(_is_picture(each) for each in frames) and (self.makes != "video" or frames is output)
        if self.makes and not pictures:
            wanted = (
                "a list of PIL images" if self.makes == "video" else "a PIL image, such as PIL.Image.fromarray(array)"
            )
            raise ModelError(
                f"{who} makes {self.makes}s and returned a {type(output).__name__}; let it return {wanted}"
            )
        if pictures and not self.makes and not self._told:
            self._told = True
            warnings.warn(
                f"{who} returns pictures; write @trimpot.adapter(knobs, makes='image') to see them in the report",
                Notice,
                stacklevel=2,
            )
        return output

    def describe(self) -> Mapping[str, Any]:
        """See `Adapter.describe`."""
        return {"id": name_of(self._function)}


def _is_knob(each: object) -> bool:
    return isinstance(each, Knob)


def _is_picture(output: object) -> bool:
    from PIL.Image import Image

    return isinstance(output, Image)


def _marked(function: F, kind: str, name: str | None, factory: Factory) -> F:
    setattr(function, MARK, Marked(kind, name or name_of(function), factory))
    return function


def _factory(
    function: Callable[..., Any], given: Sequence[str], make: Callable[[Callable[..., Any], Mapping[str, Any]], object]
) -> Factory:
    """Return a factory whose options are the parameters of a function after those that it is given."""
    options = _options_of(function, given)

    def factory(**chosen: Any) -> object:
        return make(function, chosen)

    hints = getattr(function, "__annotations__", {})
    factory.__name__, factory.__doc__ = name_of(function), inspect.getdoc(function) if _has_doc(function) else None
    factory.__wrapped__ = function  # type: ignore[attr-defined]  # annotations are names of the function's module
    factory.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    factory.__annotations__ = {each.name: hints[each.name] for each in options if each.name in hints}
    return factory


def _has_doc(function: object) -> bool:
    return inspect.isroutine(function) and bool(function.__doc__)


def _options_of(function: Callable[..., Any], given: Sequence[str]) -> list[inspect.Parameter]:
    """Return the parameters of a function that a configuration can set, as keywords.

    Raises:
        PluginError: If the function cannot be called with the given arguments alone.
    """
    call = f"{name_of(function)}({', '.join(given)})"
    if not callable(function) or inspect.isclass(function):
        raise PluginError(f"{short(function)} is no function; write one that is called as f({', '.join(given)})")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise PluginError(f"{name_of(function)} is asynchronous; write an ordinary function")
    if inspect.isgeneratorfunction(function):
        raise PluginError(f"{name_of(function)} yields; write a function that returns")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # functions written in C may have no signature
        return []
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    rest = positional[len(given) :]
    any_number = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    if len(positional) < len(given) and not any_number:
        taken = f"{len(positional)} argument{'' if len(positional) == 1 else 's'}"
        raise PluginError(f"it is called as {call}, and takes {taken} by position; let it take {' and '.join(given)}")
    if missing := [each.name for each in rest if each.default is each.empty]:
        raise PluginError(f"it is called as {call}, and needs {missing[0]!r} as well; give {missing[0]!r} a default")
    options = [each for each in rest if each.kind is each.POSITIONAL_OR_KEYWORD]
    options += [each for each in parameters if each.kind is each.KEYWORD_ONLY]
    return [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in options]
