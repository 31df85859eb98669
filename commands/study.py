"""The command `study`: show pictures to people, blind, and say what they prefer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from ..ground.errors import ConfigError, near_misses
from ..ground.folders import store_option
from .app import FOLDER, JsonOption, StoreOption, app, print_json
from .completion import studied
from .signals import stopping_cleanly

if TYPE_CHECKING:
    from ..storage import SqliteStore
    from ..studies.beginning import Asked
    from ..studies.page import Files
    from ..studies.results import Result


@app.command()
def study(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Runs or calibrations, to show beside the neutral model; folders of pictures; or a study's name.",
            autocompletion=studied,
        ),
    ],
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="A file of prompts: of the folders' pictures, or others to draw.")
    ] = None,
    raters: Annotated[int | None, typer.Option("--raters", min=1, help="Raters, each with a link; default: 5.")] = None,
    pairs: Annotated[
        int | None, typer.Option("--pairs", min=1, max=1000, help="Pairs that each rater sees; default: 60.")
    ] = None,
    checks: Annotated[
        int | None,
        typer.Option("--checks", min=0, max=100, help="Pairs with a known answer; default: a tenth."),
    ] = None,
    neutral_steps: Annotated[
        int | None, typer.Option("--neutral-steps", min=1, help="Steps of the neutral side; default: as calibrated.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws sides and orders.")] = 0,
    name: Annotated[str | None, typer.Option("--name", help="Prefix of the study's name.")] = None,
    results: Annotated[bool, typer.Option("--results", help="Only show and write the result; serve nothing.")] = False,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets others reach it.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 selects a free port.")] = 8400,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Show people pairs of pictures, blind, and ask which is better; every answer is kept at once.

    A link is printed for each rater. The same command, or the study's name, goes on; --results says what is known.

    Example:  trimpot study shapes-1 --raters 5 --pairs 60
    """
    from ..studies import page

    folders = _pictures_only(sources)
    with _opened(store, create=folders and not results) as opened:
        study_name, asked = _found(opened, sources, prompts, pairs, checks, neutral_steps, seed)
        if results:
            if study_name is None:
                raise ConfigError(f"no study of {', '.join(sources)} has begun; leave --results out to begin one")
            found, files = page.write_results(opened, study_name)
            _print_result(found, files, as_json)
            return
        if study_name is None:
            assert asked is not None, "what is no name is asked for"
            study_name = _begun(opened, asked, raters, name)
        elif name is not None:
            raise ConfigError(f"{study_name} has its name already; leave --name out")
        from ..studies.beginning import with_raters

        with_raters(opened, study_name, raters)
    _serve(study_name, store, host, port, as_json)


def _serve(study_name: str, store: Path, host: str, port: int, as_json: bool) -> None:
    from ..studies.app import rater_pages
    from ..web import Server

    with rater_pages(store, study_name) as pages:
        server = Server(pages.routes, host=host, port=port, admits=pages.admits)
        links = {f"rater {each.number}": server.link_with(token) for token, each in pages.raters.items()}
        where = store_option(store)
        if as_json:
            print_json({"study": study_name, "links": list(links.values())})
        else:
            typer.echo(f"{study_name}: one link for each rater; whoever has a link can answer")
            for who, link in links.items():
                typer.echo(f"  {who:<9} {link}")
            typer.echo(f"Ctrl-C stops; `trimpot study {study_name} --results{where}` shows what is known")
        import sys

        sys.stdout.flush()
        try:
            with stopping_cleanly():
                server.run()
        except KeyboardInterrupt:
            server.close()
    typer.echo(f"trimpot: stopped; every answer is kept, `trimpot study {study_name}{where}` goes on", err=True)


def _found(
    opened: SqliteStore,
    sources: list[str],
    prompts: Path | None,
    pairs: int | None,
    checks: int | None,
    neutral_steps: int | None,
    seed: int,
) -> tuple[str | None, Asked | None]:
    """Return the study that is named or that was begun with the same words, and what is asked for."""
    from ..storage import Studies
    from ..studies.beginning import asked_for, found

    if len(sources) == 1 and sources[0] in Studies(opened).names():
        given = {"--prompts": prompts, "--pairs": pairs, "--checks": checks, "--neutral-steps": neutral_steps}
        for option, value in {**given, "--seed": seed or None}.items():
            if value is not None:
                raise ConfigError(f"{sources[0]} has begun, and what it shows is fixed; leave {option} out")
        return sources[0], None
    known = near_misses(sources[0], Studies(opened).names())
    if len(sources) == 1 and known.startswith("did you mean") and not Path(sources[0]).exists():
        rows = opened.readable_runs()[0]
        if sources[0] not in {row.id for row in rows}:
            meant = near_misses(sources[0], [*Studies(opened).names(), *(row.id for row in rows)])
            raise ConfigError(f"no study, run or calibration {sources[0]!r}; {meant}")
    asked = asked_for(
        opened, sources, prompts=prompts, pairs=pairs, checks=checks, neutral_steps=neutral_steps, seed=seed
    )
    return found(opened, asked), asked


def _begun(opened: SqliteStore, asked: Asked, raters: int | None, name: str | None) -> str:
    from ..studies.beginning import begin
    from ..studies.design import RATERS

    console = Console(stderr=True, highlight=False)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as shown, stopping_cleanly():
        task = shown.add_task("pictures", total=None)

        def progress(done: int, total: int) -> None:
            shown.update(task, completed=done, total=total)

        return begin(opened, asked, raters=raters or RATERS, name=name, progress=progress)


def _pictures_only(sources: list[str]) -> bool:
    """Return whether sources are folders here that hold no calibration: such a study may begin a store."""
    from ..studies.beginning import is_folder_of_pictures

    return all(is_folder_of_pictures(Path(each).expanduser()) for each in sources)


def _opened(store: Path, *, create: bool) -> SqliteStore:
    from ..storage import SqliteStore

    return SqliteStore(store, create=create)


def _print_result(result: Result, files: Files, as_json: bool) -> None:
    from ..studies.words import TITLES, headline, left_out, net, percent, progress

    if as_json:
        print_json({**result.to_json(), "page": str(files.page), "table": str(files.table)})
        return
    console = Console(highlight=False)
    typer.echo(headline(result))
    typer.echo(progress(result))
    for name, found in result.verdicts.items():
        console.print()
        shown = Table(title=TITLES[name], title_justify="left", box=None, pad_edge=False)
        for head in ("", "chosen", "no difference", "other chosen", "wins minus losses"):
            shown.add_column(head, justify="left" if not head else "right", no_wrap=not head)
        for each in found.matches:
            first, second = (escape(result.design.entrants[at]) for at in (each.first, each.second))
            cells = (percent(each.wins), percent(each.ties), percent(each.losses), net(each.net))
            shown.add_row(f"{first} : {second}", *(escape(cell.replace(" [", "\n[")) for cell in cells))
        console.print(shown)
        told: list[Any] = [f"{each.name} {100 * each.agreement.value:.0f} %" for each in found.rewards]
        if told:
            typer.echo(f"Rewards that choose as people do: {', '.join(told)}")
    console.print()
    typer.echo(left_out(result))
    typer.echo(files.page)
    typer.echo(files.table)
