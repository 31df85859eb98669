"""The command `plan`: predict the images, time and memory of a run."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from .app import JsonOption, app, print_json
from .completion import configurations, keys


@app.command()
def plan(
    config: Annotated[
        str, typer.Argument(help="A preset's name or the path of a YAML file.", autocompletion=configurations)
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Dotted keys: optimizer.sigma0=0.1", autocompletion=keys)
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", min=1e-9, help="Images per second; default: measured on two images.")
    ] = None,
    devices: Annotated[int, typer.Option("--devices", min=1, help="The number of devices, to count device-hours.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Predict how many images, how many hours and how much memory a run takes at most, without beginning the run.

    Example:  trimpot plan shapes generations=40
    """
    from ..reports.console import duration
    from ..runs.forecast import forecast
    from ..setup.config import load_config

    found = forecast(load_config(config, overrides or []), rate)
    found["gpu_hours"] = found["seconds"] * devices / 3600
    if as_json:
        print_json(found)
        return
    console = Console(highlight=False)
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
    table.add_row("images", f"{sum(found['images'].values()) + found['images_elsewhere']:,}")
    console.print(table)
    measured = "given" if rate else "measured on two images; larger batches may be faster"
    console.print(f"{found['rate']:.3g} images per second ({measured})")
    console.print(f"at most {duration(found['seconds'])}, {found['gpu_hours']:.3g} device-hours")
    if found["memory"]:
        console.print(f"{found['memory'] / 2**30:.2f} GiB of memory so far")
