"""The commands `runs`, `show` and `report`: list runs, show a run, and write its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..ground.errors import TrimpotError, printable
from .analyse import is_analysis, report_analysis, show_analysis
from .app import FOLDER, JsonOption, StoreOption, app, print_json
from .completion import one_of, parts, stored_runs

if TYPE_CHECKING:
    from ..runs.listing import Line
    from ..storage import RunRow, SqliteStore

#: As in `runs.listing`, which is imported when it is used.
STATUSES = ("running", "finished", "unreported", "failed", "interrupted")
ORDERS = ("created", "gain", "time", "name")


@app.command()
def runs(
    status: Annotated[
        str | None, typer.Option("--status", help=f"One of {', '.join(STATUSES)}.", autocompletion=one_of(STATUSES))
    ] = None,
    adapter: Annotated[
        str | None, typer.Option("--adapter", help="The adapter's name.", autocompletion=parts("adapters"))
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The adapter's model, or a pattern such as '*FLUX*'.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Begun since a date, such as 2026-05-31, or for 12h, 3d, 2w.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="A pattern of the name, such as 'flux-*'.", autocompletion=stored_runs)
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort", help=f"One of {', '.join(ORDERS)}; default: the latest last.", autocompletion=one_of(ORDERS)
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="List so many; without --sort, the latest.")
    ] = None,
    unfolded: Annotated[bool, typer.Option("--all", help="List the runs of comparisons one by one.")] = False,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """List the runs of a store. If a run is damaged, the others are listed and the exit status is 1.

    The runs of a comparison are one line. Analyses and studies follow, unless some runs or an order are asked for. With
    --json, every record of the runs is read and checked.

    Example:  trimpot runs --status finished --sort gain --limit 10
    """
    from ..runs.listing import Filters, lines_of, ordered
    from ..storage import SqliteStore

    found: list[Any] = []
    with SqliteStore(store, create=False) as opened:
        rows, wrong = opened.readable_runs()
        told = [str(error) for error in wrong]
        asked = Filters(status, adapter, model, since, name).of(rows)
        lines = ordered(lines_of(asked, _comparisons(opened), fold=not unfolded), sort, limit)
        for line in lines:
            read = {row.id: each for row in line.rows if (each := _read(opened, row, told, whole=as_json)) is not None}
            line.rows = [row for row in line.rows if row.id in read]
            if read:
                found.append(_for_programs(line, read) if as_json else _for_people(line, read))
        everything = (status, adapter, model, since, name, sort, limit) == (None,) * 7
        others = _others(opened, told) if everything else []
        unknown = "" if told else opened.unknown_folders()
    if as_json:
        print_json([*found, *others])
    else:
        if found:
            _print_table(found, [row for line in lines for row in line.rows])
        _print_others(others, apart=bool(found))
    for sentence in filter(None, (*told, unknown, "no run is all that is asked for" if rows and not asked else "")):
        typer.echo(f"trimpot: {printable(sentence)}", err=True)
    if told:
        raise typer.Exit(1)


def _comparisons(opened: SqliteStore) -> dict[str, str]:
    """Return the comparison of every run that belongs to one; of several, the first."""
    from ..storage import Comparisons

    comparisons = Comparisons(opened)
    return {run: name for name in reversed(comparisons.names()) for run in comparisons.members(name).values()}


def _read(opened: SqliteStore, row: RunRow, told: list[str], *, whole: bool) -> dict[str, Any] | None:
    """Return the summary of a run, or only its number of outputs; None, and a sentence in `told`, if it is damaged."""
    from ..runs.results import summary

    try:
        return short(summary(opened, row)) if whole else {"num_images": opened.num_images(row.id)}
    except TrimpotError as error:
        told.append(f"cannot show run {row.id}: {error}")
        return None


def _others(opened: SqliteStore, told: list[str]) -> list[dict[str, Any]]:
    """Return what there is besides runs, analyses first; add a sentence to `told` for what is damaged."""
    from ..storage import Analyses, Studies

    found: list[dict[str, Any]] = []
    count = opened.records.tally
    try:
        for row in Analyses(opened).all():
            about = {"kind": row.kind, "status": row.status, "created": row.created, "seconds": row.seconds}
            about["num_evaluations"] = count("analysed", row.id)[0]
            about["headline"] = (row.outcome or {}).get("headline")
            found.append({"run": None, "analysis": row.id, **about})
        studies = Studies(opened)
        for each in studies.all():
            raters = studies.raters(each.id)
            about = {"status": "running" if opened.locked(each.id) else "stopped", "created": each.created}
            about |= {"num_raters": len(raters), "num_answers": sum(count("answers", rater.id)[0] for rater in raters)}
            found.append({"run": None, "study": each.id, **about})
    except TrimpotError as error:
        told.append(str(error))
    return found


def _print_others(others: list[dict[str, Any]], *, apart: bool) -> None:
    """Print a table of the analyses and one of the studies."""
    from ..reports.console import duration

    analyses = [
        [each["analysis"], each["status"], f"{each['num_evaluations']:,}", duration(each["seconds"])]
        for each in others
        if "analysis" in each
    ]
    studies = [
        [each["study"], each["status"], f"{each['num_raters']:,}", f"{each['num_answers']:,}"]
        for each in others
        if "study" in each
    ]
    for heads, rows in (
        (("analysis", "status", "evaluations", "time"), analyses),
        (("study", "status", "raters", "answers"), studies),
    ):
        if rows:
            if apart:
                typer.echo()
            apart = True
            table = Table(box=None, pad_edge=False)
            for heading in heads:
                table.add_column(heading)
            for cells in rows:
                table.add_row(*map(escape, cells))
            Console(highlight=False).print(table)


def _for_programs(line: Line, read: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if not line.folded:
        return {**read[line.name], "comparison": line.comparison}
    return {
        "run": None,
        "comparison": line.comparison,
        "status": line.status,
        "created": line.rows[0].created,
        "num_runs": len(line.rows),
        "num_finished": line.num_finished,
        "num_images": sum(each["num_images"] for each in read.values()),
        "seconds": line.seconds,
        "gain": None,
    }


def _for_people(line: Line, read: dict[str, dict[str, Any]]) -> list[str]:
    from ..reports.console import duration, interval, signed

    gain = f"{signed(line.gain['mean'])} {interval(line.gain)}" if line.gain else ""
    name = f"{line.name} ({len(line.rows)} runs)" if line.folded else line.name
    images = sum(each["num_images"] for each in read.values())
    parent = None if line.folded else line.rows[0].parent
    return [name, line.status, f"{images:,}", duration(line.seconds), gain, str(parent["run"]) if parent else ""]


def _print_table(found: list[list[str]], rows: Sequence[RunRow]) -> None:
    from ..engine.nouns import common

    outputs = common(row.outcome.get("makes", "image") for row in rows if row.outcome)
    table = Table(box=None, pad_edge=False)
    descends = any(cells[-1] for cells in found)
    for heading in ("run", "status", outputs, "time", "gain", *(("begun at",) if descends else ())):
        table.add_column(heading)
    for cells in found:
        table.add_row(*map(escape, cells if descends else cells[:-1]))
    Console(highlight=False).print(table)


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="The run's name.", autocompletion=stored_runs)],
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Show the progress and the result of a run.

    Example:  trimpot show shapes-1 --json
    """
    if is_analysis(run, store):
        show_analysis(run, store, as_json)
        return
    found = summary_of(store, run)
    if as_json:
        print_json(found)
        return
    from ..reports.console import duration, print_alarms, print_result
    from ..reports.nouns import noun
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
        made = f"{before['num_images']:,} {noun(found['makes'])}"
        console.print(f"extended after {made} ({escape(said)}; digest {before['digest']})")
    if found["outcome"]:
        print_result(console, found)
        if found["status"] == "unreported":
            console.print(f"the report is not written yet: [bold]trimpot resume {escape(found['run'])}[/]")
    else:
        print_alarms(console, found)
        console.print(f"{found['num_images']:,} {noun(found['makes'])} in {duration(found['seconds'])} so far")
        if found["error"]:
            console.print(f"stopped: {escape(found['error'])}")
        console.print(f"go on with  [bold]trimpot resume {escape(found['run'])}[/]")


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="The run's name.", autocompletion=stored_runs)],
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

    if is_analysis(run, store):
        report_analysis(run, to, store, as_json)
        return
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
