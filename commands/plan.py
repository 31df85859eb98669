"""The commands `plan` and `init`: predict a run's images, time, cost and memory; write the configuration of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .app import JsonOption, app, print_json
from .completion import keys
from .proposing import (
    MemoryOption,
    ModelArgument,
    PriceOption,
    RateOption,
    as_values,
    configuration,
    priced,
    print_choice,
    print_forecast,
)


@app.command()
def plan(
    config: ModelArgument,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Dotted keys: optimizer.sigma0=0.1", autocompletion=keys)
    ] = None,
    memory: MemoryOption = None,
    price: PriceOption = None,
    rate: RateOption = None,
    devices: Annotated[int, typer.Option("--devices", min=1, help="The number of devices, to count device-hours.")] = 1,
    measure: Annotated[
        bool, typer.Option("--measure", help="Load the model and measure the rate; presets and YAML files always do.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Predict images, hours, cost and memory of a run, without beginning the run.

    For a model, this also tells what would be chosen and why. That needs the model's configuration alone, no weights.

    Example:  trimpot plan black-forest-labs/FLUX.1-dev --memory 24GB --price 2.5
    """
    from ..runs.forecast import forecast

    chosen, proposal = configuration(config, overrides or [], memory)
    measured = proposal is None or measure
    found = priced(forecast(chosen, rate, measured=measured), rate, price, devices)
    if as_json:
        print_json(found if proposal is None else {**found, **as_values(proposal)})
        return
    console = Console(highlight=False)
    if proposal is not None:
        print_choice(console, proposal)
    print_forecast(console, found)
    if proposal is not None:
        from ..defaults.fit import RULE

        console.print(f"\n[dim]{RULE}[/]", soft_wrap=True)


@app.command()
def init(
    config: ModelArgument,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Dotted keys: optimizer.sigma0=0.1", autocompletion=keys)
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", help="The file to write; default: the model's name.yaml.")] = None,
    memory: MemoryOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the configuration that `trimpot calibrate MODEL` would run, with the reason for every choice, to edit it.

    Example:  trimpot init black-forest-labs/FLUX.1-dev --memory 24GB
    """
    from ..defaults.writing import commented, write
    from ..ground.errors import ConfigError

    _, proposal = configuration(config, overrides or [], memory)
    if proposal is None:
        raise ConfigError(f"{config} is a configuration already; copy it to edit it, or give a model")
    path = to or Path(f"{proposal.values['name']}.yaml")
    write(commented(proposal), path, force=force)
    if as_json:
        print_json({"file": str(path), **as_values(proposal)})
    else:
        typer.echo(path)
