"""The command `rescore`: score the kept images of a run with another reward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .app import FOLDER, JsonOption, PartOptions, PluginOption, StoreOption, app, plugins_with, print_json
from .completion import parts, stored_runs

if TYPE_CHECKING:
    from ..reports.watched import Moved


@app.command()
def rescore(
    run: Annotated[str, typer.Argument(help="The run's name.", autocompletion=stored_runs)],
    objective: Annotated[
        str,
        typer.Option(
            "--objective", help="An objective's name; `trimpot plugins` lists them.", autocompletion=parts("objectives")
        ),
    ],
    option: PartOptions = None,
    plugin: PluginOption = None,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Score the kept images of a run with a reward that the run did not use; the run's report then shows the result.

    Example:  trimpot rescore shapes-1 --objective jpeg-size
    """
    from dataclasses import asdict

    from rich.progress import Progress

    from ..reports.facts import decimals_for
    from ..reports.nouns import noun
    from ..reports.words import caution, gain_text, taken_on
    from ..runs.rescoring import rescore as score_kept
    from ..setup.config import typed_options

    known = plugins_with(plugin)
    console = Console(stderr=as_json, highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("scoring", total=None)
        found = score_kept(
            run,
            objective,
            typed_options("objectives", objective, option or [], known),
            store,
            lambda done, total: progress.update(task, completed=done, total=total),
            known,
        )
    if as_json:
        print_json(found.to_json())
        return
    named = noun(found.makes)
    console.print(
        f"[bold]{escape(found.objective)}[/] on the {named} that {escape(found.run)} kept, "
        f"{taken_on(vars(found), named)} of validation for every setting"
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("after generation", "neutral", "calibrated", "change", ""):
        table.add_column(heading, justify="right")

    def add(title: str, moved: Moved, remark: str) -> None:
        decimals = decimals_for(moved.change.high - moved.change.low)
        numbers = [f"{value:.{decimals}f}" for value in (moved.neutral, moved.calibrated)]
        table.add_row(title, *numbers, gain_text(asdict(moved.change), decimals), remark)

    for check in found.checks:
        add(str(check.generation), check.moved, "chosen" if check.chosen else "")
    if found.test:
        add("test", found.test, taken_on(asdict(found.test.change), named))
    console.print(table)
    if rough := caution(vars(found)):
        console.print(f"[yellow]{rough}[/]")
    if not any(check.chosen for check in found.checks):
        console.print(f"the run chose its neutral setting, or did not keep {named} of the setting it chose")
    if found.num_lacking:
        console.print(f"the {named} of {found.num_lacking} recommendations were not kept")
