"""Find plugins by name.

The built-in parts are plugins too: they are loaded from one tuple and register through the same hooks.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from ..engine import hooks
from ..engine.code import TRIMPOT
from ..engine.functions import Marked, mark_of
from ..engine.hooks import Factory
from ..engine.identity import made_of
from ..engine.vetting import blamed, check_made, told
from ..ground.errors import ConfigError, PluginError, TrimpotError, near_misses
from ..ground.plain import short
from .live import ORIGIN, PREFIX, Live, as_begun
from .mistakes import listed
from .plugin_files import module_of
from .registration import Broken, Registration, one_of

__all__ = ["GROUP", "KINDS", "Broken", "Joined", "Plugins", "Registration", "plugins"]

GROUP = "trimpot"
KINDS = ("adapters", "objectives", "combinations", "optimizers", "prompts", "trackers")
BUILT_IN = (
    "trimpot.prompts",
    "trimpot.adapters",
    "trimpot.adapters.language.factory",
    "trimpot.adapters.spaces",
    "trimpot.objectives",
    "trimpot.objectives.combining",
    "trimpot.objectives.judges",
    "trimpot.objectives.remote",
    "trimpot.optimizers",
    "trimpot.surrogate.adapter",
    "trimpot.trackers",
)
_NAME = re.compile(r"\w[\w.+-]*")
_FILES = {  # the hint if a file or folder is given instead of a name
    "prompts": "give three files: prompts.name=files prompts.train=... prompts.validation=... prompts.test=..., or the "
    "folder of a published set: prompts.name=t2i-compbench prompts.source=...",
    "adapters": "give a checkpoint as the model of an adapter: adapter.name=diffusers adapter.model=...",
}


class Plugins:
    """Every registered factory, by kind and name.

    Attributes:
        manager: The pluggy manager; its hooks announce the events of a run.
        broken: Plugins that could not be imported; they stop only the runs that name them.
    """

    def __init__(self) -> None:
        self.manager = _manager()
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
            except BaseException as error:  # importing a plugin may raise anything, even SystemExit
                self.broken.append(Broken(entry.name, origin, told(error)))

    def add(self, plugin: object, *, name: str, origin: str) -> None:
        """Register a plugin object with all its factories, or none of them if something is wrong.

        Args:
            plugin: A module or an object with hooks.
            name: The entry point of the plugin.
            origin: The distribution of the plugin.

        Raises:
            PluginError: If the plugin implements no hook or a wrong one, registers an invalid name or factory, or
                registers a name that is taken already.
        """
        _check_hooks(plugin)
        if self.manager.is_registered(plugin):
            raise PluginError("it is registered already, under another entry point; keep one of them")
        try:
            self.manager.register(plugin, name=self._label(plugin, name, origin))
            found = [each for kind in KINDS for each in self._asked(plugin, kind, name, origin)]
            for each in found:
                self._check(each)
        except BaseException:
            if self.manager.is_registered(plugin):
                self.manager.unregister(plugin)
            raise
        for each in found:
            self._registered[each.kind][each.name] = each

    def joined(self, files: Sequence[str] = (), live: Live | None = None) -> Plugins:
        """Return these plugins together with those of one run: single files, and objects of a Python program.

        Args:
            files: Absolute paths of Python files.
            live: The objects.

        Raises:
            PluginError: If a file cannot be used or registers nothing, if a name is taken, or if an object is no part.
        """
        if not (files or live):
            return self
        found = Plugins.__new__(Plugins)
        found.manager = _manager()
        for name, plugin in self.manager.list_name_plugin():
            found.manager.register(plugin, name=name)
        found.broken = list(self.broken)
        found._registered = {kind: dict(known) for kind, known in self._registered.items()}
        for path in files:
            module = module_of(path)
            if hasattr(module, "register_commands"):
                raise PluginError(f"the plugin file {path:.300} adds commands, which only an installed package can do")
            try:
                found.add(module, name=Path(path).stem, origin=Path(path).name)
            except PluginError as error:
                raise PluginError(f"the plugin file {path:.300} cannot be used: {error}") from None
            except (Exception, SystemExit) as error:  # a stranger's hook may raise anything
                raise PluginError(f"the plugin file {path:.300} cannot be used: {told(error)}") from error
        live = live or Live()
        for (kind, name), (factory, home) in live.factories().items():
            new = Registration(kind, name, factory, ORIGIN, home)
            found._check(new)
            found._registered[kind][name] = replace(new, known_code=as_begun(live.objects[kind, name], new.code))
        return found

    def _label(self, plugin: object, name: str, origin: str) -> str:
        """Return the manager's name for a plugin; files in two folders may be called the same."""
        label = f"{name} ({origin})"
        return f"{name} ({getattr(plugin, '__file__', id(plugin))})" if self.manager.has_plugin(label) else label

    def _asked(self, plugin: object, kind: str, name: str, origin: str) -> list[Registration]:
        """Return the registrations of a kind that a plugin makes."""
        found: list[Registration] = []

        def register(label: str, factory: Factory) -> None:
            if not isinstance(label, str) or not _NAME.fullmatch(label):
                raise PluginError(
                    f"it registers {kind} under the name {label!r}; a name is a word of letters, digits and -_.+"
                )
            if label in [each.name for each in found]:
                raise PluginError(f"it registers {kind} {label!r} twice; give one of them another name")
            found.append(Registration(kind, label, factory, origin, name))

        for each in _marked(plugin):
            if each.kind == kind:
                register(each.name, each.factory)
        others = [other for other in self.manager.get_plugins() if other is not plugin]
        self.manager.subset_hook_caller(f"register_{kind}", remove_plugins=others)(register=register)
        return found

    def _check(self, new: Registration) -> None:
        taken = self._registered[new.kind].get(new.name)
        if taken is not None:
            cure = f"give it another name in {new.origin}" if new.origin.endswith(".py") else "uninstall one of them"
            both = f"{taken.origin} and {'another ' * (taken.origin == new.origin)}{new.origin}"
            raise _ClashError(f"two plugins register {new.kind} {new.name!r}: {both}; {cure}")
        try:
            new.options  # noqa: B018  # read now, so that a factory that cannot be called is reported at once
        except PluginError as error:
            raise PluginError(f"it registers {new.title}, but {error}") from None
        if new.origin != TRIMPOT:
            new.code  # noqa: B018  # read right after the import, because the author may edit the file during a run

    def announce(self, event: str, facts: Mapping[str, Any]) -> None:
        """Announce an event of a run to every plugin that implements its hook.

        A plugin that raises is reported in a warning and gets no more events, because watching must not stop a run.
        """
        for implementation in getattr(self.manager.hook, event).get_hookimpls():
            plugin = implementation.plugin
            try:
                implementation.function(**{name: facts[name] for name in implementation.argnames})
            except (Exception, SystemExit) as error:  # a plugin may raise anything
                warnings.warn(
                    f"plugin {implementation.plugin_name} failed while watching and gets no more events: {told(error)}",
                    stacklevel=2,
                )
                self.manager.unregister(plugin)

    def add_commands(self, cli: Any) -> None:
        """Let every plugin add commands to the command line, a `typer.Typer`.

        A plugin that fails is listed in `broken` and does not stop the others.
        """
        for implementation in self.manager.hook.register_commands.get_hookimpls():
            try:
                implementation.function(**dict.fromkeys(implementation.argnames, cli))
            except (Exception, SystemExit) as error:  # a plugin may raise anything
                name, _, origin = implementation.plugin_name.removesuffix(")").partition(" (")
                self.broken.append(Broken(name, origin, told(error)))

    def registrations(self, kind: str) -> list[Registration]:
        """Return the registrations of a kind, sorted by name."""
        return [self._registered[kind][name] for name in sorted(self._registered[kind])]

    def get(self, kind: str, name: str) -> Registration:
        """Find a registration.

        A factory with the option `method` is a family: `nevergrad:DE` is `nevergrad` with the method `DE`.

        Raises:
            PluginError: If the name is unknown; the message lists near misses and plugins that failed to import.
        """
        if name.startswith(PREFIX):
            if given := self._registered[kind].get(name):
                return given
            raise PluginError(
                f"{one_of(kind)} {short(name.removeprefix(PREFIX))} is an object of a Python program, which no store "
                f"or file holds; go on from Python, and give it again"
            )
        family, colon, method = name.partition(":")
        found = self._registered[kind].get(family)
        if colon and found and "method" in found.options.names:
            found.options.check("method", method)
            return replace(found, name=name, factory=_with_method(found.factory, method), family=found)
        if not colon and found:
            return found
        message = f"no {one_of(kind)} {short(name)}; {near_misses(name, self._registered[kind])}"
        if kind in _FILES and ("/" in name or "\\" in name or re.search(r"\.\w{2,5}$", name)):
            message = f"no {one_of(kind)} {short(name)}; {_FILES[kind]}"
        if self.broken:
            message += "; could not load " + "; ".join(f"{_named(b.name, b.origin)}: {b.reason}" for b in self.broken)
        raise PluginError(message)

    def options(self, kind: str, name: str) -> list[str]:
        """Return the names of the options that a factory takes.

        Raises:
            PluginError: If the name is unknown.
        """
        return self.get(kind, name).options.names

    def mistakes(self, kind: str, name: str, options: Mapping[str, Any]) -> list[str]:
        """Return a sentence for every mistake in a name and its options, without making the part."""
        try:
            return self._read(kind, name, options)[2]
        except TrimpotError as error:
            return [str(error)]

    def check(self, kind: str, name: str, options: Mapping[str, Any]) -> None:
        """Check a name and its options without making the part.

        Raises:
            PluginError: If the name is unknown.
            ConfigError: If an option or a family's method is unknown, or an option is missing or has a wrong value.
        """
        found, _, mistakes = self._read(kind, name, options)
        if mistakes:
            raise ConfigError(mistakes[0] if len(mistakes) == 1 else listed(found.title, mistakes))

    def make(self, kind: str, name: str, options: Mapping[str, Any], *positional: Any, **given: Any) -> Any:
        """Make a part by name.

        Args:
            kind: One of `KINDS`.
            name: The registered name.
            options: The options in the configuration, checked against the factory's annotated parameters.
            *positional: Positional arguments that the engine fills; not checked.
            **given: Keyword arguments that the engine fills; a configuration cannot set them.

        Raises:
            PluginError: If the name is unknown, or the factory fails or makes an object of another kind.
            ConfigError: If an option is unknown, missing or of the wrong type.
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
        """Describe the code, options and libraries of a part; see `engine.identity.made_of`.

        Args:
            kind: One of `KINDS`.
            name: The registered name.
            made: The part that `make` returned, or None.
            options: The options that `make` was given.
        """
        return made_of(self.get(kind, name), made, options)

    def libraries(self, kind: str, name: str) -> Mapping[str, str]:
        """Return the installed distributions that a part's code imports, with their versions."""
        return self.get(kind, name).code.libraries

    def _read(self, kind: str, name: str, options: Mapping[str, Any]) -> tuple[Registration, dict[str, Any], list[str]]:
        """Return a registration, the options converted for its factory, and a sentence for every mistake in them."""
        found = self.get(kind, name)
        checked, mistakes = found.options.read(options, found.title)
        if not found.options.names:  # the user may have meant another part, which takes the option
            for option in options:
                others = [each.name for each in self.registrations(kind) if option in each.options.names]
                said = f"{found.title} takes no option {short(option)}; "
                does = f"{said}{others[0]!r} does; set the name to it" if others else ""
                mistakes = [does if does and mistake.startswith(said) else mistake for mistake in mistakes]
        return found, checked, mistakes


class _ClashError(PluginError):
    """Two plugins registered the same name, so a configuration with this name is ambiguous."""


def _named(plugin: str, origin: str) -> str:
    return f"the plugin {plugin!r} ({origin})"


def _check_hooks(plugin: object) -> None:
    """Refuse a plugin with hooks that would never be called, which pluggy silently ignores."""
    known = [name for name, each in vars(hooks).items() if hasattr(each, "trimpot_spec")]
    marked = [name for name in dir(plugin) if hasattr(getattr(plugin, name, None), "trimpot_impl")]
    for name in marked:
        if name not in known:
            raise PluginError(f"it implements the unknown hook {name!r}; {near_misses(name, known)}")
    for name in known:
        if name not in marked and callable(getattr(plugin, name, None)):
            raise PluginError(f"its {name} is not marked as a hook; write @trimpot.hookimpl above it")
    if not marked and not _marked(plugin):
        raise PluginError(
            "it implements no hook; write one, such as register_adapters, under @trimpot.hookimpl, or write "
            "@trimpot.objective above a function"
        )


def _marked(plugin: object) -> list[Marked]:
    """Return what decorators say of the functions that a module defines, without those that it imports."""
    if not isinstance(plugin, ModuleType):
        return []
    own = [each for each in vars(plugin).values() if getattr(each, "__module__", None) == plugin.__name__]
    return [mark for each in own if (mark := mark_of(each))]


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hooks)
    return manager


def _with_method(factory: Factory, method: str) -> Factory:
    """Fix the method of a factory, so that an option cannot choose another method."""
    chosen = partial(factory, method=method)
    signature = inspect.signature(factory)
    others = [parameter for name, parameter in signature.parameters.items() if name != "method"]
    chosen.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
    return chosen


@cache
def plugins() -> Plugins:
    """Return the plugins of this process, which are loaded once."""
    return Plugins()


@dataclass(frozen=True)
class Joined:
    """Returns the plugins of one run, in this process or a worker's.

    Attributes:
        files: See `Plugins.joined`.
        live: See `Plugins.joined`.
    """

    files: tuple[str, ...] = ()
    live: Live | None = None

    def __call__(self) -> Plugins:
        """Return the plugins.

        Raises:
            PluginError: If a file or an object cannot be used here.
        """
        return plugins().joined(self.files, self.live)
