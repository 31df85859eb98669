"""The hooks that a plugin can implement, and when each is called.

A plugin is a module or package named by an entry point of the group `trimpot`:

    [project.entry-points.trimpot]
    my-models = "my_package.plugin"

The module may implement each function below with `@trimpot.hookimpl`. Factories are ordinary functions with typed
keyword arguments. A configuration's keys are checked against these arguments, so a factory is its own schema.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import pluggy

if TYPE_CHECKING:
    import typer

    from .alarm import Alarm
    from .evaluation import Evaluation, Place
    from .record import Check
    from .run import Run


class OfTheHubOrHere:
    """Marks the annotation `Source`."""


#: An option that names a file or folder if it exists or looks like a path, and otherwise an id on the hub.
Source = Annotated[str, OfTheHubOrHere()]
Factory = Callable[..., Any]
Register = Callable[[str, Factory], None]

hookspec = pluggy.HookspecMarker("trimpot")
hookimpl = pluggy.HookimplMarker("trimpot")


@hookspec
def register_adapters(register: Register) -> None:
    """Register adapters by name: `register("my-model", factory)`, where `factory(**options)` returns an Adapter."""


@hookspec
def register_objectives(register: Register) -> None:
    """Register objectives by name: `factory(**options)` returns an Objective."""


@hookspec
def register_combinations(register: Register) -> None:
    """Register combinations by name: `factory(weights, **options)` returns a Combination."""


@hookspec
def register_optimizers(register: Register) -> None:
    """Register optimizers by name: `factory(space, *, start, seed, **options)` returns an Optimizer."""


@hookspec
def register_prompts(register: Register) -> None:
    """Register prompt sets by name: `factory(**options)` returns a PromptSet."""


@hookspec
def register_trackers(register: Register) -> None:
    """Register trackers by name: `factory(**options)` returns a `trimpot.engine.tracker.Tracker`."""


@hookspec
def register_commands(cli: typer.Typer) -> None:
    """Add commands to the command line."""


@hookspec
def run_started(run: Run, work_done: int) -> None:
    """Work on a run begins; `work_done` denoising steps of it are recorded already. Watch only."""


@hookspec
def stage_started(run: Run, stage: str) -> None:
    """A stage of a run begins: `baseline`, `sensitivity`, `search` or `test`. Watch only."""


@hookspec
def evaluation_recorded(run: Run, place: Place, evaluation: Evaluation) -> None:
    """An evaluation has been committed to the store. Watch only."""


@hookspec
def generation_told(run: Run, generation: int, evaluations: Sequence[Evaluation], sigma: float | None) -> None:
    """A generation has been told to the optimizer. Watch only."""


@hookspec
def recommendation_judged(run: Run, check: Check) -> None:
    """A recommendation has been judged on validation outputs, now or before the run was resumed. Watch only."""


@hookspec
def alarm_raised(run: Run, alarm: Alarm) -> None:
    """The optimised score has risen on validation while a watched score got worse. Watch only."""
