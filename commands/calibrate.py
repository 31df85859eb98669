"""The commands `calibrate` and `resume`: begin a run, or continue it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ..ground.errors import TrimpotError
from .app import FOLDER, JsonOption, StoreOption, app, print_json
from .completion import configurations, keys, stored_runs
from .runs import short, summary_of
from .signals import status_of, stopping_cleanly

if TYPE_CHECKING:
    from collections.abc import Callable


@app.command()
def calibrate(
    config: Annotated[
        str, typer.Argument(help="A preset's name or the path of a YAML file.", autocompletion=configurations)
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Dotted keys: optimizer.sigma0=0.1", autocompletion=keys)
    ] = None,
    begin_at: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Begin at the result of a run of the store, or at a calibration file or its folder.",
            autocompletion=stored_runs,
        ),
    ] = None,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Calibrate a backbone from a preset or a configuration.

    Example:  trimpot calibrate shapes generations=40 optimizer.sigma0=0.2
    """
    import json

    from ..runs.descent import result_of
    from ..runs.session import start
    from ..setup.config import load_config

    begun = [] if begin_at is None else [f"start={json.dumps(str(result_of(begin_at, store)), ensure_ascii=False)}"]
    checked = load_config(config, [*(overrides or []), *begun])
    _work(lambda watchers: start(checked, store, watchers), store, as_json)


@app.command()
def resume(
    run: Annotated[
        str | None,
        typer.Argument(help="The run's name; default: the latest unfinished run.", autocompletion=stored_runs),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="An extension: generations=+200. Keys that change no number: objectives.vila.url=http://...",
            autocompletion=keys,
        ),
    ] = None,
    allow_drift: Annotated[
        bool, typer.Option("--allow-drift", help="Continue although the backbone, rewards or prompts have changed.")
    ] = False,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Continue a stopped run, with the same result as without the stop; or extend a finished run.

    Example:  trimpot resume shapes-1
    """
    from ..runs.session import resume as go_on

    _work(lambda watchers: go_on(run, store, watchers, overrides or [], allow_drift), store, as_json)


def _work(work: Callable[[Any], str], store: Path, as_json: bool) -> None:
    from ..reports.console import ProgressWatcher, print_result

    console = Console(stderr=as_json, highlight=False)
    progress = ProgressWatcher(console)
    try:
        with progress, stopping_cleanly():
            run_id = work((progress,))
    except KeyboardInterrupt as stop:
        typer.echo(f"\ntrimpot: stopped; nothing is lost{_resume_hint(progress.run_id, store)}", err=True)
        raise typer.Exit(status_of(stop)) from None
    except TrimpotError as error:
        error.args = (f"{error}{_resume_hint(progress.run_id, store)}",)
        raise
    found = summary_of(store, run_id)
    if as_json:
        print_json(short(found))
    else:
        print_result(console, found)


def _resume_hint(run_id: str | None, store: Path) -> str:
    """Return the end of a sentence that says how to resume the run, if it has begun."""
    if run_id is None or _has_ended(run_id, store):
        return ""
    where = "" if store == FOLDER else f" --store {store}"
    return f"; go on with `trimpot resume {run_id}{where}`"


def _has_ended(run_id: str, store: Path) -> bool:
    """Tell whether a run is finished, which is also the case if it could not be extended."""
    from ..storage import SqliteStore

    with contextlib.suppress(TrimpotError), SqliteStore(store, create=False) as opened:
        return opened.run(run_id).status == "finished"
    return False
