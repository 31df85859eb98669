"""The commands `runs`, `show` and `report`: list runs, show a run, and write its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..ground.errors import TrimpotError, printable
from .app import FOLDER, JsonOption, StoreOption, app, print_json


@app.command()
def runs(store: StoreOption = FOLDER, as_json: JsonOption = False) -> None:
    """List the runs of a store. If a run is damaged, the others are listed and the exit status is 1.

    Example:  trimpot runs
    """
    from ..runs.results import summary
    from ..storage import SqliteStore

    found = []
    with SqliteStore(store, create=False) as opened:
        rows, wrong = opened.readable_runs()
        told = [str(error) for error in wrong]
        for row in rows:
            try:
                found.append(short(summary(opened, row)))
            except TrimpotError as error:
                told.append(f"cannot show run {row.id}: {error}")
        unknown = "" if told else opened.unknown_folders()
    if as_json:
        print_json(found)
    else:
        _print_table(found)
    for sentence in filter(None, (*told, unknown)):
        typer.echo(f"trimpot: {printable(sentence)}", err=True)
    if told:
        raise typer.Exit(1)


def _print_table(found: list[dict[str, Any]]) -> None:
    from ..reports.console import duration, interval, signed

    table = Table(box=None, pad_edge=False)
    descends = any(each["parent"] for each in found)
    for heading in ("run", "status", "images", "time", "gain", *(("begun at",) if descends else ())):
        table.add_column(heading)
    for each in found:
        gain = f"{signed(each['gain']['mean'])} {interval(each['gain'])}" if each["gain"] else ""
        cells = [each["run"], each["status"], f"{each['num_images']:,}", duration(each["seconds"]), gain]
        table.add_row(*cells, *([each["parent"]["run"]] if each["parent"] else ()))
    Console(highlight=False).print(table)


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Show the progress and the result of a run.

    Example:  trimpot show shapes-1 --json
    """
    found = summary_of(store, run)
    if as_json:
        print_json(found)
        return
    from ..reports.console import duration, print_alarms, print_result
    from ..runs.descent import told_parent

    console = Console(highlight=False)
    console.print(f"[bold]{escape(found['run'])}[/]  {found['status']}, begun {found['created']}")
    console.print(f"digest {found['digest']}, {found['num_evaluations']} evaluations")
    console.print("versions " + ", ".join(f"{name} {version}" for name, version in found["versions"].items()))
    for later in found["continued"]:
        changed = set(later.items()) - set(found["versions"].items())
        console.print("went on with " + ", ".join(f"{name} {version}" for name, version in sorted(changed)))
    if found["parent"]:
        console.print(f"begun at the result of {escape(told_parent(found['parent']))}")
    for before in found["extended"]:
        said = before["stop_reason"] or "it had not finished"
        console.print(f"extended after {before['num_images']:,} images ({escape(said)}; digest {before['digest']})")
    if found["outcome"]:
        print_result(console, found)
        if found["status"] == "unreported":
            console.print(f"the report is not written yet: [bold]trimpot resume {escape(found['run'])}[/]")
    else:
        print_alarms(console, found)
        console.print(f"{found['num_images']:,} images in {duration(found['seconds'])} so far")
        if found["error"]:
            console.print(f"stopped: {escape(found['error'])}")
        console.print(f"go on with  [bold]trimpot resume {escape(found['run'])}[/]")


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="Write the report to this file, not to the run's folder.")
    ] = None,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Write a run's report, finished or not, as one self-contained HTML file.

    Example:  trimpot report shapes-1
    """
    from dataclasses import replace

    from ..reports import write_report
    from ..runs.results import Files
    from ..runs.results import report as write_own
    from ..storage import SqliteStore

    with SqliteStore(store, create=False) as opened:
        row = opened.run(run)
        if to is None:
            files = write_own(opened, row.id)
        else:
            files = replace(Files.of(opened.folder / row.id), report=to)
            write_report(opened, row.id, files)
    if as_json:
        print_json({"run": row.id, "report": str(files.report)})
    else:
        typer.echo(files.report)


def summary_of(store: Path, run_id: str) -> dict[str, Any]:
    """Return the summary of a run in a store."""
    from ..runs.results import summary
    from ..storage import SqliteStore

    with SqliteStore(store, create=False) as opened:
        return summary(opened, opened.run(run_id))


_LONG = ("outcome", "config", "versions", "continued", "extended")


def short(found: dict[str, Any]) -> dict[str, Any]:
    """Return a run's summary without its long parts."""
    return {key: value for key, value in found.items() if key not in _LONG}
