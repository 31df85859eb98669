"""Derive from a factory's signature which options it takes, and check the options of a configuration against it.

The options of a function are its annotated parameters, those of a class the parameters of its `__init__`. Parameters
that the engine fills, such as the first ones of an optimizer or a combination, are not options.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from ..ground.errors import ConfigError, PluginError, near_misses
from ..ground.mistakes import mistake_of
from ..ground.plain import LARGEST, short
from .mistakes import sentences_of

MOST_WHOLE = 2**63 - 1
GIVEN = {"combinations": (1, ()), "optimizers": (1, ("start", "seed"))}  # filled: number by position, names by keyword
_LENIENT = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
_NO_DEFAULT = inspect.Parameter.empty
_TRUTH_VALUES = {"yes", "no", "on", "off"}


@dataclass(frozen=True)
class Option:
    """A keyword that a configuration may give to a factory.

    Attributes:
        name: The name of the parameter.
        annotation: The annotation of the parameter, or `Any` if it has none.
        required: Whether the parameter has no default.
        default: The default of the parameter, if it has one.
    """

    name: str
    annotation: Any
    required: bool
    default: Any = None


class Options:
    """The options that a factory takes.

    Args:
        factory: A function or a class.
        kind: The kind of part that the factory makes: `adapters`, `optimizers` and so on.

    Attributes:
        open_ended: Whether the factory also takes arbitrary other keywords.

    Raises:
        PluginError: If the factory is neither, or the engine cannot call it with the arguments that it fills.
    """

    def __init__(self, factory: Callable[..., Any], kind: str) -> None:
        num_positional, given = GIVEN.get(kind, (0, ()))
        parameters = list(_signature(factory).parameters.values())
        _check_call(parameters, num_positional, given)
        hints = _hints(factory)
        positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        filled = {each.name for each in positional[:num_positional]} | set(given)
        self._own = ("name", "weight") if kind == "objectives" else ("name",)  # keys of every part of this kind
        self.open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters)
        self._options = {
            each.name: Option(each.name, hints.get(each.name, Any), each.default is _NO_DEFAULT, each.default)
            for each in parameters
            if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY) and each.name not in filled
        }

    def __iter__(self) -> Iterator[Option]:
        return iter(self._options.values())

    @property
    def names(self) -> list[str]:
        """The names of all options, in the order of the signature."""
        return list(self._options)

    def default(self, name: str) -> Any:
        """Return the value of an option that is left out; None if there is no such option, or it cannot be left out."""
        found = self._options.get(name)
        return None if found is None or found.required else found.default

    def read(self, options: Mapping[str, Any], title: str) -> tuple[dict[str, Any], list[str]]:
        """Check options against their annotations.

        Args:
            options: The options in a configuration.
            title: The beginning of the sentences, such as `adapter 'flux'`.

        Returns:
            The options converted to the annotated types, and a sentence for every mistake.
        """
        missing = [each.name for each in self if each.required and each.name not in options]
        mistakes = [f"{title} needs the option {name!r}" for name in missing]
        checked: dict[str, Any] = {}
        for name, value in options.items():
            if name in self._options:
                try:
                    checked[name] = self.check(name, value)
                except ConfigError as error:
                    mistakes.append(f"{title}: {error}")
            elif self.open_ended:
                checked[name] = value
            else:
                own = get_close_matches(str(name), self._own)
                mistakes.append(f"{title} takes no option {short(name)}; {near_misses(name, [*self._options, *own])}")
        return checked, mistakes

    def check(self, name: str, value: Any) -> Any:
        """Convert a value to the annotated type of an option.

        Raises:
            ConfigError: If the value cannot be converted.
        """
        try:
            return _checked(self._options[name], value)
        except ValidationError as error:
            raise ConfigError("; ".join(f"option {said}" for said in sentences_of(error, {name: value}))) from None
        except _RefusedError as error:
            raise ConfigError(f"option {name!r}: {error}") from None


class _RefusedError(ValueError):
    """A refused value that pydantic would silently convert."""


def _checked(option: Option, value: Any) -> Any:
    """Convert a value to the annotated type; a single value becomes a list of one if a list is annotated."""
    schema = _schema(option.name, option.annotation)
    given = {option.name: value}
    try:
        found = schema.validate_python(given)
    except ValidationError as error:
        single = isinstance(value, (str, int, float)) and any("_type" in each["type"] for each in error.errors())
        if not single or isinstance(value, bool):
            raise
        try:
            found = schema.validate_python({option.name: [value]})
        except ValidationError:
            raise error from None
    if _holds_truth_value(value):
        _spelled_out(schema, option.name, value)
    result = found[option.name]
    _check_leaves(result, free="typing.Any" in str(option.annotation))
    return result


def _schema(name: str, annotation: Any) -> TypeAdapter[Any]:
    """Make a validator of a mapping with only this option, so that errors begin with the option's name."""
    import typing_extensions

    make: Any = typing_extensions.TypedDict
    kind = make("Option", {name: annotation})
    kind.__pydantic_config__ = _LENIENT
    try:
        return TypeAdapter(kind)
    except PydanticUserError as error:
        said = " ".join(str(error).partition(". ")[0].split())
        raise PluginError(f"the annotation of its option {name!r} cannot be checked: {said}") from None


def _holds_truth_value(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_truth_value, value.values()))
    return isinstance(value, bool) or (isinstance(value, (list, tuple)) and any(map(_holds_truth_value, value)))


def _spelled_out(schema: TypeAdapter[Any], name: str, value: Any) -> None:
    """Refuse `true` for a number: Python would use 1, but the user did not write a number."""

    def spelled(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: spelled(each) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [spelled(each) for each in value]
        return str(value).lower() if isinstance(value, bool) else value

    try:
        schema.validate_python({name: spelled(value)})
    except ValidationError as error:
        raise _RefusedError(f"{mistake_of(error.errors()[0])}, not {short(value)}") from None


def _check_leaves(value: Any, free: bool) -> None:
    """Refuse numbers that are not finite or too large and, if `free`, words that may mean true or false."""
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        for each in value.values() if isinstance(value, Mapping) else value:
            _check_leaves(each, free)
    elif free and isinstance(value, str) and value.lower() in _TRUTH_VALUES:
        raise _RefusedError(f"{value!r} may be a word or a truth value; write true or false")
    elif isinstance(value, float) and not abs(value) <= LARGEST:
        raise _RefusedError(f"must be finite and at most {LARGEST:g}, not {value:g}")
    elif isinstance(value, int) and abs(value) > MOST_WHOLE:
        raise _RefusedError(f"must be at most {MOST_WHOLE:,}, not {short(value)}")


def _signature(factory: Any) -> inspect.Signature:
    if not callable(factory):
        kind = type(factory).__name__
        raise PluginError(f"a factory is a function or a class, not {_article(kind)} that is made already")
    if inspect.iscoroutinefunction(factory) or inspect.isasyncgenfunction(factory):
        raise PluginError("its factory is asynchronous; write an ordinary function")
    if inspect.isgeneratorfunction(factory):
        raise PluginError("its factory is a generator; write a function that returns the part")
    try:
        return inspect.signature(factory)
    except (TypeError, ValueError):
        raise PluginError("its factory has no signature to read options from; wrap it in a function") from None


def _article(kind: str) -> str:
    return f"a{'n' if kind[:1].lower() in 'aeiou' else ''} {kind}"


def _check_call(parameters: list[inspect.Parameter], num_positional: int, given: tuple[str, ...]) -> None:
    """Check that the engine can call a factory with these parameters."""
    inspected = inspect.Signature(parameters)
    wanted = {each.name: None for each in parameters if each.default is _NO_DEFAULT and each.kind is each.KEYWORD_ONLY}
    try:
        inspected.bind_partial(*[None] * num_positional, **{**wanted, **dict.fromkeys(given)})
    except TypeError as error:
        first = {1: "the knob space first, and " if given else "the weights first", 0: ""}[num_positional]
        raise PluginError(
            f"its factory is given {first}{' and '.join(given)}{' by keyword' if given else ''}: {error}"
        ) from None
    positional_only = [each for each in parameters if each.kind is each.POSITIONAL_ONLY][num_positional:]
    if missing := [each.name for each in positional_only if each.default is _NO_DEFAULT]:
        raise PluginError(f"its factory has {missing[0]!r} by position only, so no configuration can give it")


def _hints(factory: Any) -> dict[str, Any]:
    """Return the evaluated annotations of a factory's parameters."""
    while isinstance(factory, functools.partial):
        factory = factory.func
    if isinstance(factory, type):
        factory = factory.__init__  # type: ignore[misc]
    elif not inspect.isroutine(factory):
        factory = type(factory).__call__  # a callable object
    if "__annotations__" not in getattr(factory, "__dict__", {}) and not hasattr(factory, "__annotations__"):
        return {}
    try:
        return get_type_hints(factory, include_extras=True)
    except Exception as error:  # annotations are the plugin's code, which may raise anything
        raise PluginError(f"its factory's annotations cannot be read: {type(error).__name__}: {error}") from None
