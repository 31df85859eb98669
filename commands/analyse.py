"""The command `analyse`: a question about a backbone or a calibration, answered with a table and a picture."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from ..ground.errors import TrimpotError
from ..ground.folders import store_option
from .app import FOLDER, JsonOption, StoreOption, app, print_json
from .completion import one_of, sources_of_analyses
from .signals import status_of, stopping_cleanly

if TYPE_CHECKING:
    from collections.abc import Callable

#: As in `analyses.kinds`, which is imported when it is used.
KINDS = ("ablation", "cost", "diversity", "granularity", "rewards", "steps")


@app.command()
def analyse(
    kind: Annotated[
        str,
        typer.Argument(metavar="KIND", help=f"What is asked: {', '.join(KINDS)}.", autocompletion=one_of(KINDS)),
    ],
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET... KEY=VALUE...",
            help="A run, a preset, a configuration, a model, or a calibration; options, and dotted keys.",
            autocompletion=sources_of_analyses,
        ),
    ] = None,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Ask a question on held-out prompts, and get a page, a table and numbers; a stopped analysis goes on.

    Every evaluation is recorded and shared with the runs of the store: an output that was made is not made again.

    Example:  trimpot analyse ablation shapes scales=0,0.5,1.5 seeds=5 test.num_prompts=64
    """
    from ..analyses.session import analyse as begin

    words = list(targets or [])
    pairs = [word for word in words if _is_pair(word)]
    named = [word for word in words if not _is_pair(word)]
    where = [] if store == FOLDER else ["--store", str(store)]
    command = shlex.join(["trimpot", "analyse", kind, *words, *where])
    analysed(lambda progress: begin(kind, named, pairs, store, progress, command), store, as_json)


def _is_pair(word: str) -> bool:
    """Return whether a word is `key=value`, and no file whose name has an equals sign."""
    if "=" not in word:
        return False
    try:
        return not Path(word).exists()
    except (OSError, ValueError):
        return True


def is_analysis(name: str | None, store: Path) -> bool:
    """Return whether a name is that of an analysis of a store."""
    from ..storage import Analyses, SqliteStore
    from ..storage.database import FILE_NAME

    if name is None or not (store / FILE_NAME).exists():
        return False
    with contextlib.suppress(TrimpotError), SqliteStore(store, create=False) as opened:
        return name in Analyses(opened).names()
    return False


def unfinished_analysis(store: Path) -> str | None:
    """Return the latest analysis that has stopped unfinished, if no run besides its own was begun later and stopped."""
    from ..storage import Analyses, SqliteStore
    from ..storage.database import FILE_NAME

    if not (store / FILE_NAME).exists():
        return None
    stopped = ("interrupted", "failed", "unreported")
    with SqliteStore(store, create=False) as opened:
        analyses = [row for row in Analyses(opened).all() if row.status in stopped]
        if not analyses:
            return None
        latest = analyses[-1]
        runs = [row for row in opened.readable_runs()[0] if row.status in stopped]
    later = [row for row in runs if row.created > latest.created and not row.id.startswith(f"{latest.id}.")]
    return None if later else latest.id


def analysed(work: Callable[[Any], str], store: Path, as_json: bool) -> None:
    """Work on an analysis, show its progress and what it found; if it stops, say how to go on."""
    from ..analyses.progress import Progress

    console = Console(stderr=as_json, highlight=False)
    progress = Progress(console)
    try:
        with progress, stopping_cleanly():
            name = work(progress)
    except KeyboardInterrupt as stop:
        typer.echo(f"\ntrimpot: stopped; nothing is lost{_hint(progress.analysis, store)}", err=True)
        raise typer.Exit(status_of(stop)) from None
    except TrimpotError as error:
        error.args = (f"{error}{_hint(progress.analysis, store)}",)
        raise
    show_analysis(name, store, as_json)


def resume_analysis(name: str, store: Path, as_json: bool) -> None:
    """Go on with an analysis."""
    from ..analyses.session import resume

    analysed(lambda progress: resume(name, store, progress), store, as_json)


def show_analysis(name: str, store: Path, as_json: bool) -> None:
    """Print what an analysis found, or how far it is."""
    from ..analyses.page import summary
    from ..storage import SqliteStore

    with SqliteStore(store, create=False) as opened:
        found = summary(opened, name)
    if as_json:
        print_json(found)
        return
    from ..reports.console import duration

    console = Console(highlight=False)
    if found["headline"] is None:
        console.print(f"[bold]{escape(name)}[/]  {found['status']}, begun {found['created']}")
        if found["error"]:
            console.print(f"stopped: {escape(found['error'])}")
    else:
        console.print(f"\n[bold]{escape(found['headline'])}[/]", soft_wrap=True)
    images, made, runs = found["num_images"], found["num_images_made"], len(found["runs"])
    told = [f"{images:,} {found['outputs']}, {made:,} of them made for it"] if images else []
    told += [f"{runs:,} run{'s' * (runs > 1)} of the store"] if runs else []
    if told:
        console.print(f"{', '.join(told)}, in {duration(found['seconds'])}")
    if found["page"]:
        console.print(f"\npage   {escape(found['page'])}", soft_wrap=True)
    for path in found["tables"]:
        console.print(f"table  {escape(path)}", soft_wrap=True)
    if found["headline"] is None:
        console.print(f"go on with  [bold]trimpot resume {escape(name)}[/]")


def report_analysis(name: str, to: Path | None, store: Path, as_json: bool) -> None:
    """Write the page of a finished analysis."""
    from ..analyses.page import draw
    from ..storage import SqliteStore

    with SqliteStore(store, create=False) as opened:
        files = draw(opened, name, to)
    if as_json:
        print_json({"analysis": name, "page": str(files.page)})
    else:
        typer.echo(files.page)


def _hint(name: str | None, store: Path) -> str:
    """Return the end of a sentence that says how to go on, if the analysis has begun."""
    return f"; go on with `trimpot resume {name}{store_option(store)}`" if name else ""
