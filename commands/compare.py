"""The command `compare`: compare optimizers and protocols on one knob space."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..ground.errors import ConfigError, TrimpotError, near_misses
from ..ground.folders import store_option
from .app import FOLDER, JsonOption, StoreOption, app, print_json
from .completion import contenders, keys, sources
from .signals import status_of, stopping_cleanly

if TYPE_CHECKING:
    from ..comparison.design import Design
    from ..comparison.page import Files
    from ..comparison.summary import Summary
    from ..storage import SqliteStore


@app.command()
def compare(
    source: Annotated[
        str,
        typer.Argument(
            help="With --contender: a preset or configuration; else: a comparison's file or name.",
            autocompletion=sources,
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="With --contender: dotted keys for all contenders.", autocompletion=keys),
    ] = None,
    contender: Annotated[
        list[str] | None,
        typer.Option(
            "-c", "--contender", help="A protocol's or an optimizer's name; at least two.", autocompletion=contenders
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="With --contender: runs of each contender.")] = 5,
    outputs: Annotated[
        int | None, typer.Option("--outputs", min=1, help="With --contender: outputs of every run's search.")
    ] = None,
    images: Annotated[int | None, typer.Option("--images", min=1, help="The same as --outputs.", hidden=True)] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="With --contender: prefix of the comparison's name.")
    ] = None,
    reports: Annotated[bool, typer.Option("--reports", help="Also write a report of every run.")] = False,
    look: Annotated[bool, typer.Option("--look", help="Only write the page of existing results; run nothing.")] = False,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Compare optimizers and protocols over several seeds with equal numbers of outputs; a stopped comparison goes on.

    Example:  trimpot compare shapes --contender cma-es --contender random --seeds 5 --outputs 4000
    """
    from ..comparison.page import write_comparison
    from ..comparison.progress import ComparisonProgress
    from ..comparison.running import compare as work_on
    from ..setup.config import presets
    from ..storage import SqliteStore

    if outputs is not None and images is not None:
        raise ConfigError("--outputs and --images are two names of one option; leave one of them out")
    named_so, asked = ("--outputs", outputs) if images is None else ("--images", images)
    given = {"overrides": overrides, "contender": contender, "images": asked, "name": name, "typed": named_so}
    known = {} if contender else _known(store)
    if known and source not in [*known, *presets()] and not Path(source).exists():
        raise ConfigError(f"no comparison or file {source!r}; {near_misses(source, known)}")
    design = known[source]() if source in known else _design(source, seeds, given)
    named = source if source in known else None
    console = Console(stderr=as_json, highlight=False)
    if look:
        comparison, failed = named or _existing(design, store), False
    else:
        progress = ComparisonProgress(console)
        try:
            with progress, stopping_cleanly():
                worked = work_on(
                    design,
                    store,
                    progress,
                    illustrated=reports,
                    command=_command(source, seeds, given, store),
                    name=named,
                )
        except KeyboardInterrupt as stop:
            typer.echo(f"\ntrimpot: stopped; nothing is lost{_hint(progress.comparison, store)}", err=True)
            raise typer.Exit(status_of(stop)) from None
        except TrimpotError as error:
            error.args = (f"{error}{_hint(progress.comparison, store)}",)
            raise
        comparison, failed = worked.comparison, bool(worked.failures)
    with SqliteStore(store, create=False) as opened:
        if reports:
            _write_missing_reports(opened, comparison)
        summary, files = write_comparison(opened, comparison)
    if as_json:
        from ..comparison.machine import as_json as for_programs

        print_json({**for_programs(summary), "page": str(files.page), "table": str(files.table)})
    else:
        _print(console, summary, files)
    if failed and not summary.num_finished:
        raise typer.Exit(1)


def _design(source: str, seeds: int, given: dict[str, Any]) -> Design:
    """Return the design of the comparison, from the options or from a file."""
    from ..comparison.design import read_design

    if given["contender"]:
        return _asked(source, seeds, given)
    if stray := [option for key, option in (("images", given["typed"]), ("name", "--name")) if given[key]]:
        raise ConfigError(f"{stray[0]} goes with --contender; name at least two contenders, or set it in {source}")
    if given["overrides"]:
        raise ConfigError(f"overrides go with --contender; set {given['overrides'][0]!r} in {source} under 'overrides'")
    return read_design(source)


def _asked(source: str, seeds: int, given: dict[str, Any]) -> Design:
    from ..comparison.design import make_design
    from ..setup.config import read_values

    if given["images"] is None:
        raise ConfigError("set the number of outputs of every search, such as --outputs 4000")
    names = given["contender"]
    shared, _ = read_values(source, given["overrides"] or [])
    return make_design(
        {
            "name": given["name"],
            "config": shared,
            "contenders": names,
            "seeds": seeds,
            "images": given["images"],
        },
        "--contender",
        default_name=f"compare-{Path(source).stem}",
    )


def _known(store: Path) -> dict[str, Any]:
    """Return the comparisons in the store: functions that load their designs, by name."""
    from functools import partial

    from ..comparison.results import design_of
    from ..storage import Comparisons, SqliteStore
    from ..storage.database import FILE_NAME

    if not (store / FILE_NAME).exists():
        return {}
    with SqliteStore(store, create=False) as opened:
        comparisons = Comparisons(opened)
        return {name: partial(design_of, comparisons.get(name)) for name in comparisons.names()}


def _existing(design: Design, store: Path) -> str:
    from ..comparison.running import find
    from ..storage import SqliteStore

    with SqliteStore(store, create=False) as opened:
        name = find(opened, design, design.plugins)
    if name is None:
        raise ConfigError(f"nothing of this comparison is in {store}; leave out --look to begin it")
    return name


def _write_missing_reports(opened: SqliteStore, comparison: str) -> None:
    """Write the reports of runs that finished before reports were asked for; these reports have no pictures."""
    from ..runs.results import Files as RunFiles
    from ..runs.results import report
    from ..storage import Comparisons

    for run in Comparisons(opened).members(comparison).values():
        files = RunFiles.of(opened.run_folder(run))
        if opened.run(run).outcome is not None and not files.report.exists():
            report(opened, run)


def _command(source: str, seeds: int, given: dict[str, Any], store: Path) -> str:
    """Return the command line, to be kept with the comparison."""
    words = ["trimpot", "compare", source, *(given["overrides"] or [])]
    for label in given["contender"] or []:
        words += ["--contender", label]
    if given["contender"]:
        words += ["--seeds", str(seeds), given["typed"], str(given["images"])]
    if given["name"]:
        words += ["--name", given["name"]]
    return shlex.join(words) + store_option(store)


def _hint(comparison: str | None, store: Path) -> str:
    """Return the end of a sentence that says how to continue the comparison, if it exists already."""
    return f"; go on with `trimpot compare {comparison}{store_option(store)}`" if comparison else ""


def _print(console: Console, summary: Summary, files: Files) -> None:
    from ..comparison.summary import SHARES
    from ..comparison.words import failures, headline, interval_text, verdict

    console.print(f"\n[bold]{escape(headline(summary))}[/]")
    for sentence in filter(None, (verdict(summary), *failures(summary))):
        console.print(escape(sentence))
    if summary.gains:
        table = Table(box=None, pad_edge=False)
        table.add_column("contender")
        targets = summary.target(SHARES[0]) is not None
        headings = [f"to {share:.0%}" for share in SHARES] if targets else []
        results = summary.results
        for heading in (results.seeds, "gain", *headings):
            table.add_column(heading, justify="right", no_wrap=heading.startswith("gain"))
        for label, found in summary.gains.items():
            row = [escape(label), str(len(summary.results.of(label))), escape(interval_text(found))]
            for share in SHARES if targets else ():
                expected = summary.expected(label, share)
                row.append(f"{expected[0]:,.0f}" if expected and expected[1] else "never")
            table.add_row(*row)
        console.print(table)
        told = f"gain: interquartile mean of {results.seeds} on test prompts, with its 95 % interval"
        if targets:
            told += f"; to 50%: expected {results.noun} to half the way from the neutral score to the best reached"
        console.print(told, style="dim")
    console.print(f"\npage   {escape(str(files.page))}\ntable  {escape(str(files.table))}", soft_wrap=True)
