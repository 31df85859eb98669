"""The commands `calibrate` and `resume`: begin a run, or continue it."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ..ground.errors import ConfigError, TrimpotError
from ..ground.folders import store_option
from .analyse import is_analysis, resume_analysis, unfinished_analysis
from .app import FOLDER, JsonOption, StoreOption, app, print_json
from .completion import keys, stored_runs
from .menu import look, menu
from .proposing import (
    ModelArgument,
    PriceOption,
    RateOption,
    configuration,
    priced,
    print_choice,
    print_forecast,
)
from .runs import short, summary_of
from .signals import status_of, stopping_cleanly

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..defaults.proposal import Proposal
    from ..setup.config import Config


@app.command()
def calibrate(
    config: ModelArgument,
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
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Begin without asking, and offer no menu.")] = False,
    memory: Annotated[
        str | None, typer.Option("--memory", help="The most memory to use of the device, such as 20GB; default: all.")
    ] = None,
    price: PriceOption = None,
    rate: RateOption = None,
    show_report: Annotated[bool, typer.Option("--open", help="Open the report at the end.")] = False,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Calibrate a model of which only the name is given, or what a preset or a configuration says.

    For a model, the plan is shown first, and asked for on a terminal.

    Example:  trimpot calibrate shapes generations=40 optimizer.sigma0=0.2
    """
    import json

    from ..runs.descent import result_of
    from ..runs.session import start

    begun = [] if begin_at is None else [f"start={json.dumps(str(result_of(begin_at, store)), ensure_ascii=False)}"]
    chosen, proposal = configuration(config, [*(overrides or []), *begun], memory, here=True)
    if proposal is None and (rate is not None or price is not None):
        raise ConfigError(f"--rate and --price tell the cost of a model's run; for {config}, use `trimpot plan`")
    console = Console(stderr=as_json, highlight=False)
    asking = proposal is not None and not yes and not as_json and console.is_terminal and sys.stdin.isatty()
    if proposal is not None:
        _show_plan(console, chosen, proposal, rate, price, asking=asking)
        if asking and not typer.confirm("Begin?", default=True):
            typer.echo(f"not begun; `trimpot init {config}` writes this configuration to a file, to edit it")
            return
    found = worked(lambda watchers: start(chosen, store, watchers), store, as_json)
    if show_report:
        look(Path(found["report"]))
    if asking:
        menu(console, found, store)


def _show_plan(
    console: Console, config: Config, proposal: Proposal, rate: float | None, price: float | None, *, asking: bool
) -> None:
    """Show what a model's run will be, after everything was checked that can be without its weights."""
    import gc

    from ..ground.devices import free_memory
    from ..runs.forecast import forecast

    proposal.check_here()
    measured = asking and proposal.model.is_local
    found = priced(forecast(config, rate, measured=measured), rate, price, proposal.machine.many)
    gc.collect()
    free_memory()
    print_choice(console, proposal)
    print_forecast(console, found)


@app.command()
def resume(
    run: Annotated[
        str | None,
        typer.Argument(
            help="The name of a run or an analysis; default: the latest unfinished one.", autocompletion=stored_runs
        ),
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
    """Continue a stopped run or analysis, with the same result as without the stop; or extend a finished run.

    Example:  trimpot resume shapes-1
    """
    from ..runs.session import resume as go_on

    if run is None and not overrides and not allow_drift:
        run = unfinished_analysis(store)
    if run is not None and is_analysis(run, store):
        if overrides or allow_drift:
            raise ConfigError(f"{run} is an analysis, which goes on as it was begun; begin another with other keys")
        resume_analysis(run, store, as_json)
        return
    worked(lambda watchers: go_on(run, store, watchers, overrides or [], allow_drift), store, as_json)


def worked(work: Callable[[Any], str], store: Path, as_json: bool) -> dict[str, Any]:
    """Work on a run, show its progress and its result, and return its summary; if it stops, say how to go on."""
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
    return found


def _resume_hint(run_id: str | None, store: Path) -> str:
    """Return the end of a sentence that says how to resume the run, if it has begun."""
    if run_id is None or _has_ended(run_id, store):
        return ""
    where = store_option(store)
    return f"; go on with `trimpot resume {run_id}{where}`"


def _has_ended(run_id: str, store: Path) -> bool:
    """Tell whether a run is finished, which is also the case if it could not be extended."""
    from ..storage import SqliteStore

    with contextlib.suppress(TrimpotError), SqliteStore(store, create=False) as opened:
        return opened.run(run_id).status == "finished"
    return False
