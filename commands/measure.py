"""The command `measure`: the gain of any calibration, on held-out prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..ground.errors import ConfigError
from .app import FOLDER, JsonOption, StoreOption, app
from .calibrate import worked
from .completion import configurations, stored_runs


@app.command()
def measure(
    calibration: Annotated[
        str, typer.Argument(help="A run, a calibration file, its folder, or a hub id.", autocompletion=stored_runs)
    ],
    config: Annotated[
        list[str] | None,
        typer.Argument(
            help="A preset or a YAML file, and dotted keys: test.num_prompts=64; default: as it was calibrated.",
            autocompletion=configurations,
        ),
    ] = None,
    steps: Annotated[
        str | None, typer.Option("--steps", help="Other numbers of steps to measure at as well, such as 4,20.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="A file to write: the calibration with the gain that was measured.")
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="The calibration's revision on the hub.")] = None,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Measure a calibration against the neutral setting at its best, on prompts that no search saw.

    Its own configuration says with which model, rewards and prompts; CONFIG and keys change that. Every image is
    recorded, so that the same command goes on where it was stopped.

    Example:  trimpot measure shapes-1 test.num_prompts=64 --steps 4,8 --to measured.json
    """
    from ..applying.located import located_calibration
    from ..engine.calibration import Calibration
    from ..runs.measuring import measure as begin
    from ..runs.measuring import refuse_existing

    file = located_calibration(calibration, revision=revision, store=store)
    if to is not None:
        refuse_existing(to)
    given = list(config or [])
    source = given.pop(0) if given and "=" not in given[0] else None
    numbers = _numbers(steps)
    found = worked(
        lambda watchers: begin(file, source, given, steps=numbers, folder=store, watchers=watchers), store, as_json
    )
    if to is not None:
        Calibration.load(found["calibration"]).save(to)
        if not as_json:
            typer.echo(to)


def _numbers(steps: str | None) -> tuple[int, ...]:
    words = [] if steps is None else steps.split(",")
    for word in words:
        if not word.strip().isdecimal() or not 1 <= int(word) <= 10_000:
            raise ConfigError(f"--steps: {word.strip()[:40]!r} is no number of steps; give numbers such as 4,20")
    return tuple(dict.fromkeys(int(word) for word in words))
