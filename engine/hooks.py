"""What a plugin can say, and when it is asked.

A plugin is a module or package named by an entry point of the group `trimpot`:

    [project.entry-points.trimpot]
    my-models = "my_package.plugin"

Each function below may be implemented there with `@trimpot.hookimpl`. Factories are ordinary functions with
typed keyword arguments: a configuration's keys are checked against them, so a factory is its own schema.
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
    """Marks a `Source` among annotations."""


#: An option that is a file or folder if there is one, or if it is written as one; otherwise an id on the hub.
Source = Annotated[str, OfTheHubOrHere()]
Factory = Callable[..., Any]
Register = Callable[[str, Factory], None]

hookspec = pluggy.HookspecMarker("trimpot")
hookimpl = pluggy.HookimplMarker("trimpot")


@hookspec
def register_adapters(register: Register) -> None:
    """Name adapters: `register("my-model", factory)`, where `factory(**options)` gives an Adapter."""


@hookspec
def register_objectives(register: Register) -> None:
    """Name objectives: `factory(**options)` gives an Objective."""


@hookspec
def register_combinations(register: Register) -> None:
    """Name ways of combining objectives: `factory(weights, **options)` gives a Combination."""


@hookspec
def register_optimizers(register: Register) -> None:
    """Name optimizers: `factory(space, *, start, seed, **options)` gives an Optimizer."""


@hookspec
def register_prompts(register: Register) -> None:
    """Name prompt sets: `factory(**options)` gives a PromptSet."""


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
    """The optimised score has risen on validation while something watched has moved away. Watch only."""
