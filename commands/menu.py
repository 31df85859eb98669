"""What can be done next with a finished run: a menu on a terminal, the same commands elsewhere.

Every entry is a command of the application with its arguments, and is offered only if the command is there and the
result allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from ..ground.errors import TrimpotError
from .app import FOLDER, app

MORE = 50  # generations, when the menu goes on


@dataclass(frozen=True)
class Entry:
    """One entry of the menu.

    Attributes:
        title: What it does.
        command: The command that does it.
        arguments: Its arguments after the run's name.
        of_a_gain: Whether it is only offered for a result that may be applied.
        ask: The question that gives its last argument, or None.
    """

    title: str
    command: str
    arguments: tuple[str, ...] = ()
    of_a_gain: bool = False
    ask: str | None = None


ENTRIES = (
    Entry("try a prompt, neutral beside calibrated", "sample", ("--compare",), ask="prompt"),
    Entry(f"go on with {MORE} more generations", "resume", (f"generations=+{MORE}",)),
    Entry("publish the calibration on the hub", "push", of_a_gain=True, ask="repository (owner/name)"),
    Entry("write the transformer with the calibration in its weights", "export", ("--as", "baked"), of_a_gain=True),
)


def commands() -> set[str]:
    """Return the names of all commands of the application."""
    return {str(each.name or getattr(each.callback, "__name__", "")) for each in app.registered_commands}


def offered(*, gained: bool, known: set[str] | None = None) -> list[Entry]:
    """Return the entries that exist and that a result allows."""
    there = commands() if known is None else known
    return [each for each in ENTRIES if each.command in there and (gained or not each.of_a_gain)]


def menu(
    console: Console,
    summary: Mapping[str, Any],
    store: Path,
    *,
    ask: Callable[[str], str] = typer.prompt,
    show: Callable[[Path], object] | None = None,
    run: Callable[[list[str]], object] | None = None,
) -> None:
    """Ask what to do next until the user leaves.

    Args:
        console: The console to write to.
        summary: What `runs.results.summary` returned.
        store: The folder of the store.
        ask: Asks a question and returns the answer.
        show: Opens a report.
        run: Runs a command line.
    """
    from ..reports.standing import standing_of

    gained = standing_of(summary["outcome"]).may_be_applied
    entries = offered(gained=gained)
    titles = ["look at the report", *(each.title for each in entries), "leave"]
    while True:
        console.print()
        for position, title in enumerate(titles, 1):
            console.print(f"  {position}  {title}")
        try:
            answer = ask("What next?").strip()
            if answer in ("", str(len(titles)), "q", "leave"):
                return
            if answer == "1":
                (show or look)(Path(summary["report"]))
            elif answer.isdecimal() and answer.isascii() and 2 <= int(answer) < len(titles):
                entry = entries[int(answer) - 2]
                asked = [] if entry.ask is None else ["--", ask(entry.ask)]
                where = [] if store == FOLDER else ["--store", str(store)]
                (run or _run)([entry.command, summary["run"], *entry.arguments, *where, *asked])
                if entry.command == "resume":  # which prints the new result, and ends with it
                    return
            else:
                console.print(f"[yellow]{escape(repr(answer))} is none of 1 to {len(titles)}[/]")
        except TrimpotError as error:  # the run is finished: what fails here fails alone
            console.print(f"[yellow]{escape(str(error))}[/]")
        except typer.Abort:
            return


def look(report: Path) -> None:
    """Open a report in the browser, or say where it is."""
    if typer.launch(str(report.absolute())):
        typer.echo(f"no browser could be opened; the report is {report}", err=True)


def _run(arguments: list[str]) -> None:
    try:
        app(arguments, standalone_mode=False)
    except SystemExit:
        return
