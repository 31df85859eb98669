"""The command `serve`: serve a reward to other processes."""

from __future__ import annotations

from typing import Annotated

import typer

from .app import PartOptions, PluginOption, app, plugins_with
from .completion import parts


@app.command()
def serve(
    objective: Annotated[
        str,
        typer.Argument(help="An objective's name; `trimpot plugins` lists them.", autocompletion=parts("objectives")),
    ],
    option: PartOptions = None,
    plugin: PluginOption = None,
    host: Annotated[str, typer.Option(help="Address to listen at; one that others reach needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 selects a free port.")] = 8200,
    token: Annotated[str | None, typer.Option(envvar="TRIMPOT_TOKEN", help="The token that clients must send.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Outputs scored at once; default: all of a request.")] = None,
) -> None:
    """Serve an objective to runs in other processes until Ctrl-C; the runs use the objective `remote` with the url.

    Example:  trimpot serve pickscore --port 8200
    """
    from ..engine.identity import described
    from ..ground.errors import ConfigError
    from ..servers.reward_server import RefusalError, Scorer
    from ..servers.reward_server import serve as serve_scorer
    from ..setup.assembly import scoring_versions
    from ..setup.config import typed_options

    known = plugins_with(plugin)
    options = typed_options("objectives", objective, option or [], known)
    made = known.make("objectives", objective, options)
    says = described("objective", None, made, known.made_of("objectives", objective, made, options))
    prepare = made.prepare if made.takes_metadata else None
    says = {**says, "versions": scoring_versions(known, objective)}
    scorer = Scorer(objective, made.score, says, prepare, made.scores_sets)
    try:
        serve_scorer(scorer, host, port, token or None, batch_size)
    except RefusalError as refusal:
        raise ConfigError(str(refusal)) from None
