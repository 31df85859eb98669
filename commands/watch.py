"""The command `watch`: a live page of the runs of a store."""

from __future__ import annotations

from typing import Annotated

import typer

from .app import FOLDER, StoreOption, app


@app.command()
def watch(
    store: StoreOption = FOLDER,
    host: Annotated[str, typer.Option(help="Address to listen at; one that others reach needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 selects a free port.")] = 8300,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="TRIMPOT_TOKEN", help="The token that a browser must bring; made up where others reach the page."
        ),
    ] = None,
) -> None:
    """Show the runs of a store on a live page until Ctrl-C; it reads only, before, during and after a run.

    Example:  trimpot watch --port 8300
    """
    from ..watching import watch_server
    from .signals import stopping_cleanly

    server = watch_server(store, host=host, port=port, token=token or None)
    typer.echo(f"watching {store} at {server.link} (Ctrl-C ends it)")
    with stopping_cleanly():
        server.run()
