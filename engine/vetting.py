"""Checking the parts that plugins make against their contracts, and naming the plugin that breaks one.

The tests in `trimpot.testing` check the same contracts, but a plugin's author may not have run them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from ..ground.errors import PluginError, TrimpotError
from ..ground.extras import missing
from ..ground.plain import number, plain, real_numbers, short
from .bucket import PromptSet
from .code import MARK
from .knobs import KnobSpace, Vector
from .seams import MEDIA, Adapter, Combination, Objective, Optimizer, Population
from .tracker import Tracker

SEAMS: dict[str, type] = {
    "adapters": Adapter,
    "objectives": Objective,
    "combinations": Combination,
    "optimizers": Optimizer,
    "prompts": PromptSet,
    "trackers": Tracker,
}
OF_PLUGIN = " of the plugin "  # in the name of a part that a plugin made
_SLACK = 1e-9  # how far rounding may move a candidate past a bound, relative to the distance of the bounds


@contextmanager
def blamed(who: str) -> Iterator[None]:
    """Turn any error of a plugin's code into a one-sentence error that names the plugin.

    Args:
        who: The beginning of the sentence: `adapter 'mine' of the plugin 'my-models' (my-package)`.

    Raises:
        PluginError: In place of every error that is no TrimpotError; a TrimpotError only gets the plugin's name.
        MissingError: In place of a failed import of a package that an extra installs.
    """
    try:
        yield
    except TrimpotError as error:
        if OF_PLUGIN in who and who not in str(error):
            error.args = (f"{who}: {error}",)
        raise
    except (Exception, SystemExit) as error:  # somebody else's code may fail in any way
        if absent := missing(error, who):
            raise absent from error
        raise PluginError(f"{who} failed: {told(error)}") from error


def told(error: BaseException) -> str:
    """Return an error's class and message on one line."""
    said = " ".join(str(error).split())
    said = said if len(said) <= 300 else said[:297] + "..."
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def mark(made: object, who: str) -> None:
    """Store on a part the name to use in error messages, if the part accepts attributes."""
    with suppress(AttributeError, TypeError):
        object.__setattr__(made, MARK, who)


def who_made(part: object, otherwise: str) -> str:
    """Return how to name a part in an error message: by its name and plugin, if it was made by name.

    Args:
        part: An adapter, objective or combination.
        otherwise: The name to use if it was not.
    """
    found = getattr(part, MARK, None)
    return found if isinstance(found, str) else otherwise


def description_of(part: Adapter | Objective | Combination, who: str) -> dict[str, Any]:
    """Return a part's description of itself as a JSON-like mapping.

    Args:
        part: A part with a method `describe`.
        who: The name of the part in an error message, if the part was not made by name.

    Raises:
        PluginError: If `describe` fails, or returns no mapping.
        ConfigError: If the description is not JSON-like.
    """
    who = who_made(part, who)
    with blamed(f"{who}, asked to describe itself,"):
        described: object = part.describe()
    if not isinstance(described, Mapping):
        raise PluginError(f"{who} describes itself by {short(described)}; let describe() return a mapping")
    return dict(plain(described, f"what {who} says of itself"))


def check_made(kind: str, made: object, who: str) -> None:
    """Check that a factory made a part of its kind, with the attributes that the engine needs.

    Args:
        kind: `adapters`, `objectives` and so on.
        made: The factory's result.
        who: The beginning of an error message.

    Raises:
        PluginError: If the check fails.
    """
    seam = SEAMS[kind]
    name = f"{seam.__module__.partition('.')[0]}.{seam.__name__}"
    if made is None:
        raise PluginError(f"{who} made nothing; let its factory return a {name}")
    if isinstance(made, type):
        raise PluginError(f"{who} made the class {made.__name__} itself; let its factory return an instance")
    if not isinstance(made, seam):
        raise PluginError(f"{who} made {short(made)}, which is no {name}; inherit from it")
    mark(made, who)
    if isinstance(made, Adapter):
        _check_adapter(made, who)


def _check_adapter(adapter: Adapter, who: str) -> None:
    with blamed(f"{who}, asked for its space,"):
        space: object = getattr(adapter, "space", None)
    if not isinstance(space, KnobSpace):
        raise PluginError(f"{who} has {short(space)} as its space; set `space` to a trimpot.KnobSpace of its knobs")
    steps: object = adapter.num_steps
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise PluginError(f"{who} has num_steps {short(steps)}; set it to a whole number from 1 on, or None")
    if adapter.makes not in (*MEDIA, None):
        raise PluginError(f"{who} makes {short(adapter.makes)}; set `makes` to {', '.join(map(repr, MEDIA))} or None")
    uses: object = adapter.uses_seed
    if not isinstance(uses, bool):
        raise PluginError(f"{who} has uses_seed {short(uses)}; set it to True or False")
    with blamed(f"{who}, asked for its neutral settings,"):
        neutrals: object = adapter.neutrals()
    if not isinstance(neutrals, Mapping) or not neutrals:
        raise PluginError(f"{who} has {short(neutrals)} as neutral settings; give one at least, by a label")
    for label, setting in neutrals.items():
        if not isinstance(setting, Mapping) or not set(setting) <= set(space.names):
            raise PluginError(f"{who}: its neutral setting {label!r} must map knobs of its space to values")
        for name, value in setting.items():
            number(value, f"{who}: its neutral {label!r}, knob {name!r},", error=PluginError)


class HeldOptimizer(Optimizer):
    """An optimizer whose every result is checked, and which must be told exactly the last population it asked for.

    Args:
        optimizer: The wrapped optimizer.
        space: The space that it searches.
        who: The beginning of an error message.

    Raises:
        PluginError: From the constructor and every method, if the optimizer fails or returns an invalid result.
        ValueError: From `tell`, unless it is called once after each `ask`, with the same population and finite fitness.
    """

    def __init__(self, optimizer: Optimizer, space: KnobSpace, who: str) -> None:
        self.wrapped, self._who = optimizer, who
        self._low, self._high = space.bounds
        self._asked: Population | None = None
        size: object = optimizer.group_size
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise PluginError(f"{who} has group_size {short(size)}; set it to a whole number from 1 on, or None")
        self.group_size = optimizer.group_size

    def ask(self) -> Population:
        """See `Optimizer.ask`."""
        with blamed(self._who):
            asked = np.asarray(self.wrapped.ask())
        if asked.ndim != 2 or not len(asked) or asked.shape[1] != len(self._low) or asked.dtype.kind not in "iuf":
            raise PluginError(
                f"{self._who} asked for numbers of shape {asked.shape} and type {asked.dtype}; "
                f"let ask() return shape (population_size, {len(self._low)})"
            )
        population: Population = asked.astype(np.float64, copy=False)
        for row in population:
            self._check_point(row, "asked for")
        self._asked = population.copy()
        return population

    def tell(self, population: Population, fitness: Vector) -> None:
        """See `Optimizer.tell`. A refused call changes nothing."""
        if self._asked is None:
            raise ValueError(f"{self._who} was told without being asked; call ask() before every tell()")
        if not np.array_equal(population, self._asked):
            raise ValueError(f"{self._who} was told another population than it asked for; tell what ask() gave last")
        if np.shape(fitness) != (len(population),):
            raise ValueError(
                f"{len(population)} candidates need as many fitness values, not an array of shape {np.shape(fitness)}"
            )
        if not np.isfinite(fitness).all():
            raise ValueError(f"{self._who} was told fitness that is not finite; give every candidate a number")
        self._asked = None
        with blamed(self._who):
            self.wrapped.tell(population, fitness)

    def recommend(self) -> Vector:
        """See `Optimizer.recommend`."""
        with blamed(self._who):
            recommended = self.wrapped.recommend()
        vector = real_numbers(recommended, len(self._low), f"what {self._who} recommends", PluginError)
        self._check_point(vector, "recommends")
        return vector

    def stop_reason(self) -> str | None:
        """See `Optimizer.stop_reason`."""
        with blamed(self._who):
            reason: object = self.wrapped.stop_reason()
        if reason is None or isinstance(reason, str):
            return reason
        raise PluginError(f"{self._who} gives {short(reason)} as its reason to stop; give a sentence or None")

    @property
    def sigma(self) -> float | None:
        """See `Optimizer.sigma`."""
        with blamed(self._who):
            sigma: object = self.wrapped.sigma
        return None if sigma is None else number(sigma, f"the sigma of {self._who}", error=PluginError)

    def _check_point(self, point: Vector, did: str) -> None:
        slack = _SLACK * (self._high - self._low)
        inside = (point >= self._low - slack) & (point <= self._high + slack)
        if not inside.all():
            index = int(np.argmin(inside))
            raise PluginError(
                f"{self._who} {did} {point[index]:g} for a knob with bounds "
                f"[{self._low[index]:g}, {self._high[index]:g}]; stay finite and inside them"
            )
