"""From the name of a model to a configuration, and what is shown of it before it is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..ground.errors import ConfigError
from .completion import configurations

if TYPE_CHECKING:
    from ..defaults.proposal import Proposal
    from ..setup.config import Config

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A hub id, a folder, a transformer's file, a preset's name, or the path of a YAML file.",
        autocompletion=configurations,
    ),
]
MemoryOption = Annotated[
    str | None,
    typer.Option("--memory", help="The memory of the device, such as 24GB; default: that of this machine's."),
]
PriceOption = Annotated[
    float | None, typer.Option("--price", min=0, max=1e9, help="The price of a device-hour, to tell the cost.")
]
RateOption = Annotated[
    float | None,
    typer.Option("--rate", min=1e-9, max=1e9, help="Outputs per second, to tell the hours; see --measure otherwise."),
]


def configuration(
    name: str, overrides: Sequence[str], memory: str | None = None, *, here: bool = False
) -> tuple[Config, Proposal | None]:
    """Return the configuration that a name stands for, and how it was chosen if the name is that of a model.

    Raises:
        ConfigError: If there is none, or it cannot be run as written, or options are given that a preset does not take.
    """
    from ..defaults.model import is_configuration
    from ..setup.config import load_config

    if is_configuration(name):
        if memory is not None:
            raise ConfigError(
                f"--memory chooses the settings of a model, and {name} has its own; leave it out, or give the model"
            )
        return load_config(name, overrides), None
    from ..defaults.proposal import propose

    proposal = propose(name, memory=memory, overrides=overrides, here=here)
    return load_config(proposal.values), proposal


def print_choice(console: Console, proposal: Proposal) -> None:
    """Print what was chosen for a model, with the reason for each."""
    console.print(f"[bold]{escape(proposal.model.given)}[/] on {escape(proposal.machine.name)}")
    for key, reason in proposal.reasons.items():
        value = _shown(_at(proposal.values, key))
        console.print(f"  {escape(key)} = [bold]{escape(value)}[/]  [dim]({escape(reason)})[/]", soft_wrap=True)
    placed = proposal.fit
    waiting = placed.placement.offload != "none" or placed.placement.rewards_wait
    from ..defaults.machine import size

    console.print(
        f"at most {size(placed.device)} of the device's memory"
        + (f", and {size(placed.main)} of main memory for what waits" if waiting else ""),
        soft_wrap=True,
    )


def print_forecast(console: Console, found: Mapping[str, Any]) -> None:
    """Print how much work a run is at most.

    Args:
        console: The console to write to.
        found: What `runs.forecast.forecast` returned, with `gpu_hours`, `price` and `cost`.
    """
    from ..reports.console import duration
    from ..reports.nouns import noun

    named = noun(found["makes"])
    console.print(
        f"{found['knobs']} knobs, up to {found['generations']} generations of {found['population_size']} candidates"
    )
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for stage, count in found["images"].items():
        table.add_row(stage, f"{count:,}")
    if found["images_elsewhere"]:
        table.add_row("at other steps", f"{found['images_elsewhere']:,}")
    table.add_row(named, f"{sum(found['images'].values()) + found['images_elsewhere']:,}")
    console.print(table)
    if found["seconds"] is None:
        console.print(f"hours unknown until the model runs; give --rate {named.upper()}_PER_SECOND to know them now")
        if found["price"] is not None:
            console.print(f"cost unknown with them, at {found['price']:g} a device-hour")
        return
    console.print(f"{found['rate']:.3g} {named} per second ({found['source_of_rate']})")
    cost = "" if found["cost"] is None else f", {found['cost']:,.2f} at {found['price']:g} an hour"
    console.print(f"at most {duration(found['seconds'])}, {found['gpu_hours']:.3g} device-hours{cost}")
    if found["memory"]:
        console.print(f"{found['memory'] / 2**30:.2f} GiB of memory so far")


def priced(found: dict[str, Any], rate: float | None, price: float | None, devices: int) -> dict[str, Any]:
    """Add device-hours and their cost to a forecast."""
    hours = None if found["seconds"] is None else found["seconds"] * devices / 3600
    return {
        **found,
        "gpu_hours": hours,
        "price": price,
        "cost": None if hours is None or price is None else hours * price,
        "source_of_rate": "given" if rate else "measured on two of them; larger batches may be faster",
    }


def as_values(proposal: Proposal) -> dict[str, Any]:
    """Return a proposal as plain values for `--json`."""
    from ..defaults.fit import told

    machine = proposal.machine
    return {
        "model": {"given": proposal.model.given, "source": proposal.model.source, "adapter": proposal.model.adapter},
        "machine": {"kind": machine.kind, "name": machine.name, "memory": machine.memory},
        "values": proposal.values,
        "reasons": proposal.reasons,
        "fit": told(proposal.fit),
    }


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _shown(value: Any) -> str:
    """Return a value of a configuration in few words: of a mapping the keys that say most."""
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key} {_shown(each)}".rstrip() if not isinstance(each, Mapping) else str(key)
            for key, each in value.items()
        )
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    return "" if value is None else str(value)
