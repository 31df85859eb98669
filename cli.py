"""The command line: wires the rooms together, nothing else."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .engine.errors import TrimpotError

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    help="Calibrate frozen models: tune a few hundred scales against a reward nobody can differentiate.\n\n"
    "Start with:  trimpot calibrate shapes",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

StoreOption = Annotated[
    Path, typer.Option("--store", envvar="TRIMPOT_STORE", help="Folder of the database and the runs' files.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
FOLDER = Path("trimpot-runs")


@app.callback()
def _options(
    context: typer.Context,
    show_traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error came from.")] = False,
) -> None:
    context.obj = show_traceback


@app.command()
def calibrate(
    config: Annotated[str, typer.Argument(help="A preset's name or the path of a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted keys: optimizer.sigma0=0.1")] = None,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Calibrate a backbone from a preset or a configuration.

    Example:  trimpot calibrate shapes generations=40 optimizer.sigma0=0.2
    """
    from .engine.config import load_config
    from .session import start

    checked = load_config(config, overrides or [])
    _work(lambda watchers: start(checked, store, watchers), store, as_json)


@app.command()
def resume(
    run: Annotated[str | None, typer.Argument(help="The run's name; the latest unfinished one if left out.")] = None,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Go on with a run where it stopped, to the same result as if it never had.

    Example:  trimpot resume shapes-1
    """
    from .session import resume as go_on

    _work(lambda watchers: go_on(run, store, watchers), store, as_json)


def _work(work: Callable[[Any], str], store: Path, as_json: bool) -> None:
    from .reports.console import ProgressWatcher, print_result

    console = Console(stderr=as_json, highlight=False)
    progress = ProgressWatcher(console)
    try:
        with progress:
            run_id = work((progress,))
    except KeyboardInterrupt:
        typer.echo(f"\ntrimpot: stopped; nothing is lost{_resume_hint(progress.run_id, store)}", err=True)
        raise typer.Exit(130) from None
    except TrimpotError as error:
        error.args = (f"{error}{_resume_hint(progress.run_id, store)}",)
        raise
    found = _summary(store, run_id)
    if as_json:
        _print_json(_short(found))
    else:
        print_result(console, found)


def _resume_hint(run_id: str | None, store: Path) -> str:
    """How to go on, if there is a run to go on with."""
    if run_id is None:
        return ""
    where = "" if store == FOLDER else f" --store {store}"
    return f"; go on with `trimpot resume {run_id}{where}`"


@app.command()
def runs(store: StoreOption = FOLDER, as_json: JsonOption = False) -> None:
    """List the runs of a store.

    Example:  trimpot runs
    """
    from .session import summary
    from .storage import SqliteStore

    with SqliteStore(store, create=False) as opened:
        found = [_short(summary(opened, row)) for row in opened.runs()]
    if as_json:
        _print_json(found)
        return
    from .reports.console import duration, interval, signed

    table = Table(box=None, pad_edge=False)
    for heading in ("run", "status", "images", "time", "gain"):
        table.add_column(heading)
    for each in found:
        gain = f"{signed(each['gain']['mean'])} {interval(each['gain'])}" if each["gain"] else ""
        table.add_row(each["run"], each["status"], f"{each['num_images']:,}", duration(each["seconds"]), gain)
    Console(highlight=False).print(table)


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Show what a run did and found.

    Example:  trimpot show shapes-1 --json
    """
    found = _summary(store, run)
    if as_json:
        _print_json(found)
        return
    from .reports.console import duration, print_result

    console = Console(highlight=False)
    console.print(f"[bold]{escape(found['run'])}[/]  {found['status']}, begun {found['created']}")
    console.print(f"digest {found['digest']}, {found['num_evaluations']} evaluations")
    console.print("versions " + ", ".join(f"{name} {version}" for name, version in found["versions"].items()))
    if found["outcome"]:
        print_result(console, found)
    else:
        console.print(f"{found['num_images']:,} images in {duration(found['seconds'])} so far")
        if found["error"]:
            console.print(f"stopped: {escape(found['error'])}")
        console.print(f"go on with  [bold]trimpot resume {escape(found['run'])}[/]")


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Write a run's report, finished or not, as one self-contained HTML file.

    Example:  trimpot report shapes-1
    """
    from .reports import write_report
    from .session import Files
    from .storage import SqliteStore

    with SqliteStore(store, create=False) as opened:
        row = opened.run(run)
        files = Files.of(opened.run_folder(row.id))
        write_report(opened, row.id, files)
    if as_json:
        _print_json({"run": row.id, "report": str(files.report)})
    else:
        typer.echo(files.report)


@app.command()
def knobs(
    adapter: Annotated[str, typer.Argument(help="An adapter's name; `trimpot plugins` lists them.")],
    granularity: Annotated[str | None, typer.Option("-g", "--granularity", help="block, layer or gate.")] = None,
    option: Annotated[list[str] | None, typer.Option("-o", "--option", help="Adapter option: key=value.")] = None,
    count: Annotated[bool, typer.Option("--count", help="Print only how many there are.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the knobs of a backbone.

    Example:  trimpot knobs shapes --granularity gate --count
    """
    from dataclasses import asdict

    from .engine.config import parse_options
    from .engine.plugins import plugins

    options = parse_options(option or [])
    if granularity is not None:
        options["granularity"] = granularity
    space = plugins().make("adapters", adapter, options).space
    if count:
        typer.echo(len(space))
    elif as_json:
        _print_json([asdict(knob) for knob in space])
    else:
        table = Table(box=None, pad_edge=False)
        for heading in ("knob", "default", "low", "high", "spread"):
            table.add_column(heading, justify="left" if heading == "knob" else "right")
        for knob in space:
            table.add_row(knob.name, *(f"{v:g}" for v in (knob.default, knob.low, knob.high, knob.spread)))
        Console(highlight=False).print(table)


@app.command(name="plugins")
def list_plugins(as_json: JsonOption = False) -> None:
    """List adapters, objectives, optimizers and prompts by name, and plugins that could not be imported.

    Example:  trimpot plugins
    """
    import inspect

    from .engine.plugins import KINDS, plugins

    known = plugins()
    found = [
        {
            "kind": each.kind,
            "name": each.name,
            "from": each.origin,
            "about": _first_line(inspect.getdoc(each.factory)),
        }
        for kind in KINDS
        for each in known.registrations(kind)
    ]
    broken = [{"name": each.name, "from": each.origin, "reason": each.reason} for each in known.broken]
    if as_json:
        _print_json({"plugins": found, "broken": broken})
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("kind", "name", "from", ""):
        table.add_column(heading)
    for entry in found:
        table.add_row(*(escape(value) for value in entry.values()))
    console = Console(highlight=False)
    console.print(table)
    for entry in broken:
        console.print(
            f"[red]could not import[/] {escape(entry['name'])} of {escape(entry['from'])}: {escape(entry['reason'])}"
        )


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]


def _summary(store: Path, run_id: str) -> dict[str, Any]:
    from .session import summary
    from .storage import SqliteStore

    with SqliteStore(store, create=False) as opened:
        return summary(opened, opened.run(run_id))


def _short(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in ("outcome", "config", "versions")}


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def main() -> None:
    """Run the command line; what a user caused is one sentence on stderr, and exit code 1."""
    with_traceback = "--traceback" in sys.argv
    try:
        from .engine.plugins import plugins

        plugins().manager.hook.register_commands(cli=app)
        app()
    except TrimpotError as error:
        if with_traceback:
            traceback.print_exc()
        print(f"trimpot: {error}", file=sys.stderr)
        sys.exit(1)
