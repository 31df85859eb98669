"""What a plugin registers: a factory under a name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ..engine.code import TRIMPOT, Code, code_of
from ..engine.hooks import Factory
from ..engine.vetting import OF_PLUGIN
from .factory import Options
from .live import PREFIX


@dataclass(frozen=True)
class Registration:
    """A factory that a plugin registered under a name.

    Attributes:
        kind: One of `plugins.KINDS`.
        name: The name in configurations.
        factory: The function or class that makes the part from keyword options.
        origin: The distribution that the plugin belongs to.
        plugin: The entry point of that distribution.
        family: The registration that a method was chosen from (`nevergrad` for `nevergrad:DE`), or None.
        known_code: The code of the factory, if it is not what the factory has now.
    """

    kind: str
    name: str
    factory: Factory
    origin: str
    plugin: str = ""
    family: Registration | None = None
    known_code: Code | None = None

    @cached_property
    def options(self) -> Options:
        """The options that the factory takes."""
        return Options(self.factory, self.kind)

    @property
    def title(self) -> str:
        """The name of the part in a sentence, such as `optimizer 'cma-es'`."""
        return f"{one_of(self.kind)} {self.name.removeprefix(PREFIX)!r}"

    @property
    def who(self) -> str:
        """The title with the plugin and its distribution, unless the part is built in."""
        return self.title if self.origin == TRIMPOT else f"{self.title}{OF_PLUGIN}{self.plugin!r} ({self.origin})"

    @cached_property
    def code(self) -> Code:
        """The code of the factory; see `engine.code`."""
        if self.known_code is not None:
            return self.known_code
        return self.family.code if self.family else code_of(self.factory, own=self.origin)


@dataclass(frozen=True)
class Broken:
    """A plugin that could not be imported: its entry point, its distribution, and the reason."""

    name: str
    origin: str
    reason: str


def one_of(kind: str) -> str:
    """Return the word for one part of a kind."""
    return kind if kind == "prompts" else kind.removesuffix("s")
