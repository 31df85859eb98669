"""Finding plugins by name.

The built-ins are plugins too: they are loaded from one tuple and register through the same hooks.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, get_type_hints

import pluggy
from pydantic import ConfigDict, TypeAdapter, ValidationError, validate_call

from . import hooks
from .errors import ConfigError, PluginError, near_misses
from .hooks import Factory
from .identity import made_of

GROUP = "trimpot"
KINDS = ("adapters", "objectives", "combinations", "optimizers", "prompts")
BUILT_IN = (
    "trimpot.engine.prompt_files",
    "trimpot.adapters",
    "trimpot.adapters.spaces",
    "trimpot.objectives",
    "trimpot.objectives.combining",
    "trimpot.objectives.judges",
    "trimpot.objectives.remote",
    "trimpot.optimizers",
    "trimpot.comparison.surrogate",
)


@dataclass(frozen=True)
class Registration:
    """A name that a plugin gave to a factory.

    Attributes:
        kind: One of `KINDS`.
        name: What a configuration calls it.
        factory: Makes it from keyword options.
        origin: The distribution it came from.
    """

    kind: str
    name: str
    factory: Factory
    origin: str


@dataclass(frozen=True)
class Broken:
    """A plugin that could not be imported: its entry point, distribution and the reason."""

    name: str
    origin: str
    reason: str


class Plugins:
    """Every registered factory, by kind and name.

    Attributes:
        manager: The pluggy manager; its hooks announce what a run does.
        broken: Plugins that could not be imported; they stop only the runs that name them.
    """

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hooks)
        self.broken: list[Broken] = []
        self._registered: dict[str, dict[str, Registration]] = {kind: {} for kind in KINDS}
        for module in BUILT_IN:
            self.add(importlib.import_module(module), name=module, origin="trimpot")
        for entry in importlib.metadata.entry_points(group=GROUP):
            origin = entry.dist.name if entry.dist else entry.value
            try:
                self.add(entry.load(), name=entry.name, origin=origin)
            except PluginError:
                raise
            except Exception as error:  # a stranger's import may fail in any way
                self.broken.append(Broken(entry.name, origin, f"{type(error).__name__}: {error}"))

    def add(self, plugin: object, *, name: str, origin: str) -> None:
        """Register a plugin object and collect what it names.

        Raises:
            PluginError: If it names something that another distribution has named already.
        """
        self.manager.register(plugin, name=name)
        for kind in KINDS:
            others = [other for other in self.manager.get_plugins() if other is not plugin]
            caller = self.manager.subset_hook_caller(f"register_{kind}", remove_plugins=others)
            caller(register=lambda name, factory, kind=kind: self._register(kind, name, factory, origin))

    def _register(self, kind: str, name: str, factory: Factory, origin: str) -> None:
        taken = self._registered[kind].get(name)
        if taken is not None:
            raise PluginError(
                f"two plugins register {kind} {name!r}: {taken.origin} and {origin}; uninstall one of them"
            )
        self._registered[kind][name] = Registration(kind, name, factory, origin)

    def announce(self, event: str, facts: Mapping[str, Any]) -> None:
        """Tell every plugin that watches what a run does.

        A watcher that raises is warned about and told no more: watching must not stop a run.
        """
        for implementation in getattr(self.manager.hook, event).get_hookimpls():
            plugin = implementation.plugin
            try:
                implementation.function(**{name: facts[name] for name in implementation.argnames})
            except Exception as error:  # a stranger's watcher may fail in any way
                warnings.warn(
                    f"plugin {implementation.plugin_name} failed while watching and is told no more: {error}",
                    stacklevel=2,
                )
                self.manager.unregister(plugin)

    def registrations(self, kind: str) -> list[Registration]:
        """What is registered of a kind, by name."""
        return [self._registered[kind][name] for name in sorted(self._registered[kind])]

    def get(self, kind: str, name: str) -> Registration:
        """Find a registration.

        A factory that takes a `method` stands for a family: `nevergrad:DE` is `nevergrad` with the method `DE`.

        Raises:
            PluginError: If there is none; the message lists near misses and plugins that failed to import.
        """
        family, colon, method = name.partition(":")
        found = self._registered[kind].get(family)
        if colon and found and "method" in inspect.signature(found.factory).parameters:
            return replace(found, name=name, factory=_with_method(found.factory, method))
        try:
            return self._registered[kind][name]
        except KeyError:
            message = f"no {kind.rstrip('s')} {name!r}; {near_misses(name, self._registered[kind])}"
            if self.broken:
                message += " (could not import: " + "; ".join(f"{b.name}: {b.reason}" for b in self.broken) + ")"
            raise PluginError(message) from None

    def options(self, kind: str, name: str) -> list[str]:
        """Names of the options that a factory takes.

        Raises:
            PluginError: If the name is unknown.
        """
        parameters = inspect.signature(self.get(kind, name).factory).parameters.values()
        return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]

    def check(self, kind: str, name: str, options: Iterable[str], given: Iterable[str] = ()) -> None:
        """Check a name and its options' names, before anything costly is made.

        Raises:
            PluginError: If the name is unknown.
            ConfigError: If an option is, or a family's method.
        """
        family, _, method = name.partition(":")
        if method and name not in self._registered[kind] and family in self._registered[kind]:
            hints = get_type_hints(self._registered[kind][family].factory, include_extras=True)
            TypeAdapter(hints.get("method", str)).validate_python(method)
        parameters = inspect.signature(self.get(kind, name).factory).parameters.values()
        takes = [option for option in self.options(kind, name) if option not in given]
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
        for option in options:
            if option not in takes and not open_ended:
                raise ConfigError(
                    f"{kind.rstrip('s')} {name!r} takes no option {option!r}; {near_misses(option, takes)}"
                )

    def make(self, kind: str, name: str, options: Mapping[str, Any], *positional: Any, **given: Any) -> Any:
        """Make one by name.

        Args:
            kind: One of `KINDS`.
            name: The registered name.
            options: What the configuration says, checked against the factory's annotated parameters.
            *positional: Passed through unchecked.
            **given: Keywords the engine supplies itself, which a configuration may not set.

        Raises:
            PluginError: If the name is unknown.
            ConfigError: If an option is unknown or of the wrong type.
        """
        self.check(kind, name, options, given)
        factory, where = self.get(kind, name).factory, f"{kind.rstrip('s')} {name!r}"
        checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(factory)
        try:
            return checked(*positional, **given, **options)
        except ValidationError as error:
            first = error.errors()[0]
            option = ".".join(str(part) for part in first["loc"])
            if first["type"] == "missing_keyword_only_argument":
                raise ConfigError(f"{where} needs the option {option!r}") from None
            raise ConfigError(
                f"{where}: option {option!r}: {first['msg'].removeprefix('Value error, ')}, not {first['input']!r}"
            ) from None

    def made_of(self, kind: str, name: str, made: object, options: Mapping[str, Any]) -> Any:
        """What a part is made of; see `engine.identity.made_of`.

        Args:
            kind: One of `KINDS`.
            name: The registered name.
            made: What `make` gave.
            options: What it was given.
        """
        found = self.get(kind, name)
        return made_of(kind, name, found.origin, found.factory, made, options)


def _with_method(factory: Factory, method: str) -> Factory:
    """A factory with its method chosen, so that an option cannot choose another."""
    chosen = partial(factory, method=method)
    signature = inspect.signature(factory)
    others = [parameter for name, parameter in signature.parameters.items() if name != "method"]
    chosen.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
    return chosen


@cache
def plugins() -> Plugins:
    """The process's plugins, loaded once."""
    return Plugins()
