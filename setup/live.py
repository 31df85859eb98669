"""Parts that are given as objects of a Python program, in the place of names.

Where a configuration names a part, a caller from Python may give the part itself: an instance, a class, or a function.
The configuration then holds a name that begins with `python:`, and the objects travel beside it. No object is stored:
whoever goes on with the run gives them again.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..engine.bucket import PromptSet
from ..engine.code import Code, code_of
from ..engine.functions import mark_of, name_of, objective_factory
from ..engine.hooks import Factory
from ..engine.installed import MAIN
from ..engine.schema import Config
from ..engine.vetting import SEAMS
from ..ground.errors import ConfigError, PluginError
from ..ground.plain import short

PREFIX = "python:"
ORIGIN = "Python"  # in place of the name of a distribution
KINDS = {
    "adapter": "adapters",
    "objectives": "objectives",
    "combine": "combinations",
    "optimizer": "optimizers",
    "prompts": "prompts",
}  # the keys of a configuration that name parts
_ONE_OF = {**{kind: kind.removesuffix("s") for kind in KINDS.values()}, "prompts": "prompts"}
_MADE_FOR_A_RUN = {"combinations": "the weights", "optimizers": "the knob space, the start and the seed"}
Place = tuple[str, ...]
_WATCHED = ("prompts", "objectives")  # the keys of watched prompts that name parts


@dataclass(frozen=True)
class Import:
    """An object by the module and the name by which any process can import it."""

    module: str
    name: str

    def __call__(self) -> Any:
        """Import the object.

        Raises:
            PluginError: If it cannot be imported here.
        """
        try:
            found: Any = importlib.import_module(self.module)
            for part in self.name.split("."):
                found = getattr(found, part)
        except Exception as error:  # importing may raise anything
            raise PluginError(
                f"this worker cannot import {self.name} from {self.module}: {type(error).__name__}: {error}"
            ) from error
        return found


@dataclass
class _Seen:
    """An object with its code when a run began with it, and after the run's work."""

    thing: Any  # held, so that no other object has its id
    begun: Code
    now: Code


_SEEN: dict[int, _Seen] = {}  # by id


def as_begun(thing: Any, code: Code) -> Code:
    """Return the code that an object had before any run's work; `code` is its code now."""
    seen = _SEEN.get(id(thing))
    if seen is None or seen.thing is not thing or code not in (seen.begun, seen.now):
        seen = _SEEN[id(thing)] = _Seen(thing, code, code)
    return seen.begun


@dataclass(frozen=True)
class Live:
    """Objects of a program that are parts of a run. Only imports of them may be sent to other processes.

    Attributes:
        objects: Kind and name to the object, or to an `Import` of it.
    """

    objects: Mapping[tuple[str, str], Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.objects)

    def __or__(self, other: Live) -> Live:
        return Live({**self.objects, **other.objects})

    def factories(self) -> dict[tuple[str, str], tuple[Factory, str]]:
        """Return, by kind and name, what makes each part, and the module that the object is of.

        Raises:
            PluginError: If an object is no part of its kind.
        """
        found = {}
        for (kind, name), each in self.objects.items():
            thing = each() if isinstance(each, Import) else each
            home = getattr(thing, "__module__", None) or type(thing).__module__
            found[kind, name] = _factory_of(kind, thing, f"{_ONE_OF[kind]} {name.removeprefix(PREFIX)!r}"), str(home)
        return found

    def settle(self) -> None:
        """Remember what the objects have become by a run's work, so that they still count as what they were before.

        An object may keep what it has worked out, such as encoded prompts, in its state, which is part of its identity.
        """
        for part, (factory, _) in self.factories().items():
            if (seen := _SEEN.get(id(self.objects[part]))) and seen.thing is self.objects[part]:
                seen.now = code_of(factory, own=ORIGIN)

    def used_by(self, config: Config) -> Live:
        """Return the objects that a configuration names, without those that another key has replaced."""
        named = {(kind, name) for _, kind, name in _live_parts(config)}
        return Live({part: each for part, each in self.objects.items() if part in named})

    def lacking(self, config: Config) -> list[str]:
        """Return the keys of a configuration whose objects are not given, such as `objectives.mine`."""
        named = {(kind, name): key for key, kind, name in _live_parts(config)}
        return [key for part, key in named.items() if part not in self.objects]

    def for_workers(self) -> Live:
        """Return the objects as other processes can import them.

        Raises:
            ConfigError: If another process could not import one of them.
        """
        return Live(
            {
                part: each if isinstance(each, PromptSet) else _import_of(each, part)  # prompts are plain texts
                for part, each in self.objects.items()
            }
        )

    def remembering(self, config: Config, prompts: PromptSet | None) -> Live:
        """Return the objects together with recorded prompts, in the place of an object that is not given again."""
        if prompts is None:
            return self
        recorded = {config.prompts.name: prompts}
        recorded |= {each.prompts.name: prompts.watched[name] for name, each in config.watch.items()}
        return Live({("prompts", name): each for name, each in recorded.items() if name.startswith(PREFIX)}) | self


def taken(values: Mapping[str, Any]) -> tuple[dict[str, Any], Live]:
    """Separate the objects in a configuration, or in its dotted keys, from the values that can be written down.

    Args:
        values: Keys, which may be dotted, and their values.

    Returns:
        The same keys with names in the place of objects, and the objects.
    """
    live: dict[tuple[str, str], Any] = {}
    return {key: _taken(tuple(str(key).split(".")), value, live) for key, value in values.items()}, Live(live)


def by_leaves(values: Mapping[str, Any]) -> dict[str, Any]:
    """Write nested keys dotted, and names of parts in full, so that each key changes nothing beside itself."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        place = tuple(str(key).split("."))
        if isinstance(value, Mapping) and value:
            found |= by_leaves({f"{key}.{inner}": each for inner, each in value.items()})
        elif _kind_at(place) and place[-1] != "name" and isinstance(value, str):
            found[f"{key}.name"] = value
        else:
            found[str(key)] = value
    return found


def lacking_sentence(run: str, keys: list[str]) -> str:
    """Return the sentence that says what is needed to go on with a run that was begun from Python."""
    plain = [f"{key}=..." for key in keys if "." not in key]
    rewards = ", ".join(f"{key.partition('.')[2]!r}: ..." for key in keys if key.startswith("objectives."))
    dotted = ", ".join(f"{key!r}: ..." for key in keys if key.startswith("watch."))
    given = ", ".join(
        [*plain, *([f"objectives={{{rewards}}}"] if rewards else []), *([f"**{{{dotted}}}"] if dotted else [])]
    )
    many = len(keys) > 1
    return (
        f"run {run} was begun from Python with {'objects' if many else 'an object'} of its program as "
        f"{' and '.join(keys)}, which no store holds; go on from Python with the same object{'s' if many else ''}: "
        f"trimpot.resume({run!r}, {given})"
    )


def _kind_at(place: Place) -> str | None:
    """Return the kind of part whose name or value stands at a place of a configuration, or None."""
    if place[-1:] == ("name",):
        place = place[:-1]
    place = _within(place)
    kind = KINDS.get(place[0]) if place else None
    return kind if kind and len(place) == (2 if kind == "objectives" else 1) else None


def _within(place: Place) -> Place:
    """Return a place below `watch.NAME` as if it were one of the whole configuration, and any other as it is."""
    return place[2:] if place[:1] == ("watch",) and place[2:3] and place[2] in _WATCHED else place


def _taken(place: Place, value: Any, live: dict[tuple[str, str], Any]) -> Any:
    inner = _within(place)
    kind = KINDS.get(inner[0])
    if kind is None and place[0] == "watch" and isinstance(value, Mapping):
        return {key: _taken((*place, str(key)), each, live) for key, each in value.items()}
    if kind is None:
        return value
    if inner == ("objectives",) and _is_object(kind, value):
        return {_label(value): _taken((*place, _label(value)), value, live)}
    if inner == ("objectives",) and isinstance(value, (list, tuple)) and any(_is_object(kind, each) for each in value):
        raise ConfigError(
            "objectives are given as a list; give each a name, such as objectives={'one': ..., 'other': ...}"
        )
    if _kind_at(place) and _is_object(kind, value):
        own = inner[1] if kind == "objectives" else _label(value)
        name = PREFIX + ("/".join([place[1], own]) if inner != place else own)
        live[kind, name] = value
        return name if kind != "objectives" or (inner[-1:] == ("name",) and len(inner) == 3) else {"name": name}
    if _kind_at(place) and not isinstance(value, (str, Mapping, list, tuple, bool, int, float, type(None))):
        raise ConfigError(
            f"{'.'.join(place)} is given {short(value)}; give a name, or a function, a class or an object that is "
            f"a trimpot.{SEAMS[kind].__name__}"
        )
    if isinstance(value, Mapping):
        return {key: _taken((*place, str(key)), each, live) for key, each in value.items()}
    return value


def _label(thing: object) -> str:
    """Return a name for an object that is given none."""
    return re.sub(r"[^\w.+-]+", "", name_of(thing))


def _is_object(kind: str, value: Any) -> bool:
    """Return whether a value is meant as a part, and not as the name of one."""
    return isinstance(value, SEAMS[kind]) or (callable(value) and not isinstance(value, (str, Mapping)))


def _factory_of(kind: str, thing: Any, who: str) -> Factory:
    """Return what makes a part of an object.

    Raises:
        PluginError: If the object is no part of this kind.
    """
    seam = SEAMS[kind]
    wanted = f"trimpot.{seam.__name__}"
    if mark := mark_of(thing):
        if mark.kind != kind:
            raise PluginError(f"{who} is given {name_of(thing)}, which is an {_ONE_OF[mark.kind]}")
        return mark.factory
    if isinstance(thing, seam) and kind in _MADE_FOR_A_RUN:
        raise PluginError(
            f"{who} is given a {type(thing).__name__} that is made already; give the class, or a function that "
            f"returns one, because it is made with {_MADE_FOR_A_RUN[kind]} of the run"
        )
    if isinstance(thing, seam):
        return _given(thing)
    if inspect.isclass(thing) and issubclass(thing, tuple(SEAMS.values())) and not issubclass(thing, seam):
        raise PluginError(f"{who} is given the class {thing.__name__}, which is no {wanted}")
    if isinstance(thing, tuple(SEAMS.values())):
        raise PluginError(f"{who} is given a {type(thing).__name__}, which is no {wanted}")
    if inspect.isclass(thing) and not issubclass(thing, seam):
        raise PluginError(f"{who} is given the class {thing.__name__}; let it inherit from {wanted}")
    if inspect.isclass(thing) or kind not in ("adapters", "objectives"):
        return thing  # type: ignore[no-any-return]  # a class or function that makes the part from options
    if kind == "adapters":
        raise PluginError(
            f"{who} is given {name_of(thing)}, a function without knobs; write @trimpot.adapter(knobs) above it"
        )
    try:
        return objective_factory(thing)
    except PluginError as error:
        raise PluginError(f"{who}: {error}") from None


def _given(part: Any) -> Factory:
    """Return a factory of a part that is made already."""

    def given() -> Any:
        return part

    given.__doc__ = inspect.getdoc(type(part))
    return given


def _live_parts(config: Config) -> list[tuple[str, str, str]]:
    """Return the key, the kind and the name of every part of a configuration that is an object of a program."""
    named = [(key, kind, getattr(config, key).name) for key, kind in KINDS.items() if kind != "objectives"]
    named += [(f"objectives.{key}", "objectives", reward.name or key) for key, reward in config.objectives.items()]
    for name, each in config.watch.items():
        named.append((f"watch.{name}.prompts", "prompts", each.prompts.name))
        for key, reward in each.objectives.items():
            named.append((f"watch.{name}.objectives.{key}", "objectives", reward.name or key))
    return [(key, kind, name) for key, kind, name in named if name.startswith(PREFIX)]


def _import_of(thing: Any, part: tuple[str, str]) -> Import:
    if isinstance(thing, Import):
        return thing
    found, module, name = None, getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    if module in sys.modules and module not in MAIN:
        found = sys.modules[module]
        for each in name.split("."):
            found = getattr(found, each, None)
    if found is None or found is not thing:
        raise ConfigError(
            f"workers in other processes cannot have the {_ONE_OF[part[0]]} {name or name_of(thing)}, which only this "
            f"program holds; write it into a file and name that, plugins=['my_file.py'], or leave workers at 1"
        )
    return Import(str(module), name)
