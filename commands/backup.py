"""The command `backup`: copy a whole store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import FOLDER, JsonOption, StoreOption, app, print_json


@app.command()
def backup(
    destination: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    images: Annotated[
        bool,
        typer.Option(*("--outputs/--no-outputs", "--images/--no-images"), help="Whether to copy the kept outputs too."),
    ] = True,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Copy a whole store, even while runs write to it, and check every record of the copy.

    A copy of the database's file alone may lack the records in its -wal file.

    Example:  trimpot backup /mnt/archive/trimpot-runs
    """
    from ..storage import SqliteStore
    from ..storage.backup import back_up

    with SqliteStore(store, create=False) as opened:
        back_up(opened, destination, images=images)
        num_runs = len(opened.runs())
    if as_json:
        print_json({"backup": str(destination), "runs": num_runs, "images": images})
    else:
        typer.echo(f"{num_runs} {'run is' if num_runs == 1 else 'runs are'} copied to {destination}")
