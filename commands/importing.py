"""The command `import`: a vector of the published code as a calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import JsonOption, PartOptions, app, print_json
from .completion import one_of

ADAPTERS, GRANULARITIES = ("flux", "sd3", "qwen-image"), ("block", "layer", "gate")


@app.command(name="import")
def import_vector(
    file: Annotated[Path, typer.Argument(help="A file cmaes_step_*.json of the published code.")],
    adapter: Annotated[
        str | None,
        typer.Option("--adapter", help="flux, sd3 or qwen-image; default: as told.", autocompletion=one_of(ADAPTERS)),
    ] = None,
    granularity: Annotated[
        str | None,
        typer.Option(
            "-g", "--granularity", help="block, layer or gate; default: as told.", autocompletion=one_of(GRANULARITIES)
        ),
    ] = None,
    as_meant: Annotated[
        bool, typer.Option("--as-meant", help="Apply the values that the published code forgets to apply.")
    ] = False,
    to: Annotated[Path | None, typer.Option("--to", help="The file to write; default: NAME.calibration.json.")] = None,
    option: PartOptions = None,
    as_json: JsonOption = False,
) -> None:
    """Read a vector of the published code of Calibri, every coordinate by its name, as a calibration.

    Options of the adapter, such as model, are given with -o. The calibration has no gain until it is measured.

    Example:  trimpot import cmaes_step_0040.json --adapter flux --granularity gate
    """
    from ..exchange.vectors import read_vector
    from ..ground.errors import CalibrationError
    from ..setup.config import parse_options

    found = read_vector(
        file, adapter=adapter, granularity=granularity, as_meant=as_meant, **parse_options(option or [])
    )
    to = to or Path(f"{file.stem}.calibration.json")
    if to.exists():
        raise CalibrationError(f"{to} exists already; name another file with --to")
    found.calibration.save(to)
    for sentence in found.told:
        typer.echo(f"trimpot: {sentence}", err=True)
    if as_json:
        made = found.calibration
        print_json({"calibration": str(to), "backbone": made.backbone["id"], "knobs": len(made.setting)})
    else:
        typer.echo(to)
