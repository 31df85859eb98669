"""Finding plugins by name.

The built-ins are plugins too: they are loaded from one tuple and register through the same hooks.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any

import pluggy

from ..engine import hooks
from ..engine.code import TRIMPOT, Code, code_of
from ..engine.hooks import Factory
from ..engine.identity import made_of
from ..engine.vetting import OF_PLUGIN, blamed, check_made, told
from ..ground.errors import ConfigError, PluginError, TrimpotError, near_misses
from ..ground.plain import short
from .factory import Options
from .mistakes import listed

GROUP = "trimpot"
KINDS = ("adapters", "objectives", "combinations", "optimizers", "prompts")
BUILT_IN = (
    "trimpot.setup.prompt_files",
    "trimpot.adapters",
    "trimpot.adapters.spaces",
    "trimpot.objectives",
    "trimpot.objectives.combining",
    "trimpot.objectives.judges",
    "trimpot.objectives.remote",
    "trimpot.optimizers",
    "trimpot.surrogate.adapter",
)
_NAME = re.compile(r"\w[\w.+-]*")
_FILES = {  # what to write where a file or folder was given for a name
    "prompts": "give three files: prompts.name=files prompts.train=... prompts.validation=... prompts.test=...",
    "adapters": "give a checkpoint as the model of an adapter: adapter.name=diffusers adapter.model=...",
}


@dataclass(frozen=True)
class Registration:
    """A name that a plugin gave to a factory.

    Attributes:
        kind: One of `KINDS`.
        name: What a configuration calls it.
        factory: Makes it from keyword options.
        origin: The distribution it came from.
        plugin: The entry point of that distribution.
        family: The registration that a method was chosen from, if one was.
    """

    kind: str
    name: str
    factory: Factory
    origin: str
    plugin: str = ""
    family: Registration | None = None

    @cached_property
    def options(self) -> Options:
        """What a configuration may give to the factory."""
        return Options(self.factory, self.kind)

    @property
    def title(self) -> str:
        """What to call it in a sentence: `optimizer 'cma-es'`."""
        return f"{_one_of(self.kind)} {self.name!r}"

    @property
    def who(self) -> str:
        """The same with where it comes from, unless that is trimpot itself."""
        return self.title if self.origin == "trimpot" else f"{self.title}{OF_PLUGIN}{self.plugin!r} ({self.origin})"

    @cached_property
    def code(self) -> Code:
        """The code of the factory; see `engine.code`."""
        return self.family.code if self.family else code_of(self.factory, own=self.origin)


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
            except _ClashError:
                raise
            except KeyboardInterrupt:
                raise
            except TrimpotError as error:
                self.broken.append(Broken(entry.name, origin, str(error)))
            except BaseException as error:  # a stranger's import may fail in any way, and may even end the process
                self.broken.append(Broken(entry.name, origin, told(error)))

    def add(self, plugin: object, *, name: str, origin: str) -> None:
        """Register a plugin object and collect what it names: all of it, or nothing if something is wrong.

        Raises:
            PluginError: If it implements no hook, or wrongly; if it names what cannot be named or made; or if
                another distribution has given a name already.
        """
        _check_hooks(plugin)
        if self.manager.is_registered(plugin):
            raise PluginError("it is registered already, under another entry point; keep one of them")
        try:
            self.manager.register(plugin, name=f"{name} ({origin})")
            found = [each for kind in KINDS for each in self._asked(plugin, kind, name, origin)]
            for each in found:
                self._check(each)
        except BaseException:
            if self.manager.is_registered(plugin):
                self.manager.unregister(plugin)
            raise
        for each in found:
            self._registered[each.kind][each.name] = each

    def _asked(self, plugin: object, kind: str, name: str, origin: str) -> list[Registration]:
        """What a plugin names of a kind."""
        found: list[Registration] = []

        def register(label: str, factory: Factory) -> None:
            if not isinstance(label, str) or not _NAME.fullmatch(label):
                raise PluginError(
                    f"it registers {kind} under the name {label!r}; a name is a word of letters, digits and -_.+"
                )
            if label in [each.name for each in found]:
                raise PluginError(f"it registers {kind} {label!r} twice; give one of them another name")
            found.append(Registration(kind, label, factory, origin, name))

        others = [other for other in self.manager.get_plugins() if other is not plugin]
        self.manager.subset_hook_caller(f"register_{kind}", remove_plugins=others)(register=register)
        return found

    def _check(self, new: Registration) -> None:
        taken = self._registered[new.kind].get(new.name)
        if taken is not None:
            raise _ClashError(
                f"two plugins register {new.kind} {new.name!r}: {taken.origin} and {new.origin}; uninstall one of them"
            )
        try:
            new.options  # noqa: B018  # read once, so that a factory nobody can call is said at once
        except PluginError as error:
            raise PluginError(f"it registers {new.title}, but {error}") from None
        if new.origin != TRIMPOT:
            new.code  # noqa: B018  # read as soon as it is imported: its author may edit it while it runs

    def announce(self, event: str, facts: Mapping[str, Any]) -> None:
        """Tell every plugin that watches what a run does.

        A watcher that raises is warned about and told no more: watching must not stop a run.
        """
        for implementation in getattr(self.manager.hook, event).get_hookimpls():
            plugin = implementation.plugin
            try:
                implementation.function(**{name: facts[name] for name in implementation.argnames})
            except (Exception, SystemExit) as error:  # a stranger's watcher may fail in any way
                warnings.warn(
                    f"plugin {implementation.plugin_name} failed while watching and is told no more: {told(error)}",
                    stacklevel=2,
                )
                self.manager.unregister(plugin)

    def add_commands(self, cli: Any) -> None:
        """Let every plugin add commands to the command line, a `typer.Typer`; one that fails stops none of the others.

        It is shown among the broken ones.
        """
        for implementation in self.manager.hook.register_commands.get_hookimpls():
            try:
                implementation.function(**dict.fromkeys(implementation.argnames, cli))
            except (Exception, SystemExit) as error:  # a stranger's command may fail in any way
                name, _, origin = implementation.plugin_name.removesuffix(")").partition(" (")
                self.broken.append(Broken(name, origin, told(error)))

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
        if colon and found and "method" in found.options.names:
            found.options.check("method", method)
            return replace(found, name=name, factory=_with_method(found.factory, method), family=found)
        if not colon and found:
            return found
        message = f"no {_one_of(kind)} {short(name)}; {near_misses(name, self._registered[kind])}"
        if kind in _FILES and ("/" in name or "\\" in name or re.search(r"\.\w{2,5}$", name)):
            message = f"no {_one_of(kind)} {short(name)}; {_FILES[kind]}"
        if self.broken:
            message += "; could not load " + "; ".join(f"{_named(b.name, b.origin)}: {b.reason}" for b in self.broken)
        raise PluginError(message)

    def options(self, kind: str, name: str) -> list[str]:
        """Names of the options that a factory takes.

        Raises:
            PluginError: If the name is unknown.
        """
        return self.get(kind, name).options.names

    def mistakes(self, kind: str, name: str, options: Mapping[str, Any]) -> list[str]:
        """A sentence for everything that is wrong with a name or its options, before anything costly is made."""
        try:
            return self._read(kind, name, options)[2]
        except TrimpotError as error:
            return [str(error)]

    def check(self, kind: str, name: str, options: Mapping[str, Any]) -> None:
        """Check a name and its options, before anything costly is made.

        Raises:
            PluginError: If the name is unknown.
            ConfigError: If an option is, or a family's method, or if one is missing or cannot be what it says.
        """
        found, _, mistakes = self._read(kind, name, options)
        if mistakes:
            raise ConfigError(mistakes[0] if len(mistakes) == 1 else listed(found.title, mistakes))

    def make(self, kind: str, name: str, options: Mapping[str, Any], *positional: Any, **given: Any) -> Any:
        """Make one by name.

        Args:
            kind: One of `KINDS`.
            name: The registered name.
            options: What the configuration says, checked against the factory's annotated parameters.
            *positional: Passed through unchecked.
            **given: Keywords the engine supplies itself, which a configuration may not set.

        Raises:
            PluginError: If the name is unknown, or the factory fails or makes something else.
            ConfigError: If an option is unknown or of the wrong type.
        """
        found, checked, mistakes = self._read(kind, name, options)
        if mistakes:
            raise ConfigError(mistakes[0] if len(mistakes) == 1 else listed(found.title, mistakes))
        with blamed(found.who):
            made = found.factory(*positional, **given, **checked)
        if found.origin != "trimpot":
            check_made(kind, made, found.who)
        return made

    def made_of(self, kind: str, name: str, made: object, options: Mapping[str, Any]) -> dict[str, Any]:
        """What a part is made of; see `engine.identity.made_of`.

        Args:
            kind: One of `KINDS`.
            name: The registered name.
            made: What `make` gave, or None.
            options: What it was given.
        """
        return made_of(self.get(kind, name), made, options)

    def libraries(self, kind: str, name: str) -> Mapping[str, str]:
        """The installed distributions that somebody else's part goes through, with their versions."""
        return self.get(kind, name).code.libraries

    def _read(self, kind: str, name: str, options: Mapping[str, Any]) -> tuple[Registration, dict[str, Any], list[str]]:
        """A registration, the options as its factory is to get them, and a sentence for every mistake in them."""
        found = self.get(kind, name)
        checked, mistakes = found.options.read(options, found.title)
        if not found.options.names:  # then whoever takes the option may have been meant
            for option in options:
                others = [each.name for each in self.registrations(kind) if option in each.options.names]
                said = f"{found.title} takes no option {short(option)}; "
                does = f"{said}{others[0]!r} does; set the name to it" if others else ""
                mistakes = [does if does and mistake.startswith(said) else mistake for mistake in mistakes]
        return found, checked, mistakes


class _ClashError(PluginError):
    """Two plugins gave one name: no run can be trusted to mean either."""


def _one_of(kind: str) -> str:
    return kind if kind == "prompts" else kind.removesuffix("s")


def _named(plugin: str, origin: str) -> str:
    return f"the plugin {plugin!r} ({origin})"


def _check_hooks(plugin: object) -> None:
    """Refuse a plugin whose hooks would never be called, which pluggy passes over in silence."""
    known = [name for name, each in vars(hooks).items() if hasattr(each, "trimpot_spec")]
    marked = [name for name in dir(plugin) if hasattr(getattr(plugin, name, None), "trimpot_impl")]
    for name in marked:
        if name not in known:
            raise PluginError(f"it implements a hook {name!r} that there is not; {near_misses(name, known)}")
    for name in known:
        if name not in marked and callable(getattr(plugin, name, None)):
            raise PluginError(f"its {name} is not marked as a hook; write @trimpot.hookimpl above it")
    if not marked:
        raise PluginError("it implements no hook; write one, such as register_adapters, under @trimpot.hookimpl")


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
