"""The command `sample`: try a calibration on prompts of your own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from .app import FOLDER, JsonOption, PartOptions, StoreOption, app, print_json
from .completion import stored_runs


@app.command()
def sample(
    calibration: Annotated[
        str, typer.Argument(help="A run, a calibration file, its folder, or a hub id.", autocompletion=stored_runs)
    ],
    prompts: Annotated[list[str], typer.Argument(help="One or more prompts, each in quotation marks.")],
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="The number of images of each prompt.")] = 4,
    first_seed: Annotated[int, typer.Option("--first-seed", min=0, help="The seed of the first image.")] = 0,
    compare: Annotated[bool, typer.Option("--compare", help="Show the neutral model's images as well.")] = False,
    strength: Annotated[float, typer.Option("--strength", help="0 is neutral, 1 is calibrated; -1 to 2.")] = 1.0,
    revision: Annotated[str | None, typer.Option("--revision", help="The calibration's revision on the hub.")] = None,
    option: PartOptions = None,
    to: Annotated[Path, typer.Option("--to", help="The page to write.")] = Path("sample.html"),
    look: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open the page; default: on a terminal.")
    ] = None,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Draw prompts with a calibrated model, on one page; options such as device are given with -o.

    Example:  trimpot sample shapes-1 "two red circles" --seeds 4 --compare
    """
    from ..applying.applied import load_calibration
    from ..applying.base import load_pipeline
    from ..applying.located import located_calibration
    from ..applying.samples import samples
    from ..reports.sheet import write_sheet
    from ..setup.config import parse_options

    file = located_calibration(calibration, revision=revision, store=store)
    pipe = load_pipeline(file, **parse_options(option or []))
    pipe.set_progress_bar_config(disable=True)
    applied = load_calibration(pipe, file, strength)
    made = samples(pipe, applied, prompts, range(first_seed, first_seed + seeds), compare=compare)
    console = Console(stderr=True, highlight=False)
    total = len(prompts) * seeds
    shown = list(track(made, "drawing", total, console=console, disable=not console.is_terminal))
    told = ", ".join(f"{name} {value}" for name, value in applied.recommended.items())
    words = [f"{applied!r}".strip("<>"), f"Each image was made with {told}."]
    write_sheet(to, f"Samples of {applied.calibration.provenance.run}", words, shown)
    if as_json:
        print_json({"page": str(to), "images": total * (1 + compare), "call": applied.recommended})
    else:
        typer.echo(to)
    if look or (look is None and not as_json and sys.stdout.isatty()):
        typer.launch(str(to.absolute()))
