"""The commands `export` and `verify`: a calibration in the formats of others, and the proof that it is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import FOLDER, JsonOption, PartOptions, StoreOption, app, print_json
from .completion import one_of, stored_runs

FORMATS = ("native", "baked", "ia3", "comfyui")  # of exchange.roads, which is too heavy for completion
Source = Annotated[
    str, typer.Argument(help="A run, a calibration file, its folder, or a hub id.", autocompletion=stored_runs)
]


@app.command()
def export(
    calibration: Source,
    road: Annotated[
        str, typer.Option("--as", help=f"One of {', '.join(FORMATS)}.", autocompletion=one_of(FORMATS))
    ] = "native",
    to: Annotated[Path | None, typer.Option("--to", help="The folder to write; default: RUN-FORMAT.")] = None,
    single_file: Annotated[
        Path | None,
        typer.Option("--single-file", help="With baked: the original .safetensors file, to be copied and folded into."),
    ] = None,
    option: PartOptions = None,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Write a calibration in another format, for `trimpot verify` to compare.

    `native` is trimpot's file; `baked` a transformer folder for diffusers, or a checkpoint of a language model, with
    the scales folded into the weights; `ia3` an adapter for PEFT; `comfyui` a folder for ComfyUI's custom_nodes.
    Options of loading, such as device, are given with -o.

    Example:  trimpot export shapes-1 --as native --to shapes-calibrated
    """
    from ..applying.base import load_pipeline
    from ..applying.located import located_calibration
    from ..engine.calibration import Calibration
    from ..exchange.roads import ROADS, check_road
    from ..exchange.roads import export as write
    from ..ground.errors import CalibrationError
    from ..setup.config import parse_options

    file = located_calibration(calibration, store=store)
    check_road(road, single_file)
    made = Calibration.load(file)
    folder = to or Path(f"{made.provenance.run}-{road}")
    options = parse_options(option or [])
    if options and not ROADS[road].needs_pipe:
        raise CalibrationError(f"-o says how the pipeline is loaded, and {road} needs no pipeline; leave it out")
    pipe = load_pipeline(made, **options) if ROADS[road].needs_pipe else None
    write(pipe, made, road, folder, single_file=single_file)
    if as_json:
        print_json({"export": str(folder), "as": road})
    else:
        typer.echo(folder)


@app.command()
def verify(
    calibration: Source,
    folder: Annotated[Path, typer.Argument(help="A folder that `trimpot export` wrote.")],
    option: PartOptions = None,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Load an export by its own side, and print how far its output is from the calibration's.

    Example:  trimpot verify shapes-1 shapes-calibrated
    """
    from ..applying.base import load_pipeline
    from ..applying.located import located_calibration
    from ..exchange.roads import compared, difference, loader_of, road_of
    from ..setup.config import parse_options

    file = located_calibration(calibration, store=store)
    road = road_of(folder)
    loader_of(folder)  # before a large model is loaded
    pipe = load_pipeline(file, **parse_options(option or []))
    of = compared(pipe)
    if hasattr(pipe, "set_progress_bar_config"):  # of diffusers
        pipe.set_progress_bar_config(disable=True)
    largest = difference(pipe, file, folder)
    if as_json:
        print_json({"export": str(folder), "as": road, "of": of, "largest_relative_difference": largest})
    else:
        typer.echo(f"{road}: the largest difference of the {of} is {largest:.1e} of their largest value")
