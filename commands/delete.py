"""The command `delete`: delete runs, comparisons, analyses and studies of a store."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from .app import FOLDER, JsonOption, StoreOption, app, print_json
from .completion import stored_names

if TYPE_CHECKING:
    from ..storage.deletion import Left, Loss


@app.command()
def delete(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Runs, comparisons with their runs, analyses, or studies.",
            autocompletion=stored_names,
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Delete runs with their scores, files and kept outputs; what other runs use too stays.

    What will go is said first. On a terminal you are asked; elsewhere, --yes is needed.

    Example:  trimpot delete shapes-1 shapes-2 --yes
    """
    from dataclasses import asdict

    from ..engine.nouns import common
    from ..storage import SqliteStore
    from ..storage.deletion import Deletion

    with SqliteStore(store, create=False) as opened:
        deletion = Deletion(opened, names)
        loss = deletion.loss()
        made = [(opened.run(run).outcome or {}).get("makes", "image") for run in loss.runs]
        outputs = common([*made, *(["image"] if loss.num_studies else [])])
        if not yes and not sys.stdin.isatty():
            typer.echo(
                f"trimpot: nothing is deleted, since nobody can be asked here; add --yes for {_told(loss, outputs)}",
                err=True,
            )
            raise typer.Exit(2)
        for sentence in (_told(loss, outputs), *_told_besides(loss)):
            typer.echo(sentence, err=as_json)
        if not yes:
            typer.confirm("Delete?", abort=True, err=as_json)
        left = deletion.carry_out()
    if as_json:
        freed = {"freed_bytes": left.num_bytes, "num_kept_images_left": left.num_kept_images, "compact": left.compact}
        print_json({**asdict(loss), **freed})
    for sentence in _told_after(left, outputs):
        typer.echo(sentence, err=as_json)


def _told(loss: Loss, outputs: str) -> str:
    """Return what will go, as a sentence."""
    if not loss.runs and not loss.analyses and not loss.num_studies:
        return f"{', '.join(loss.names)}: what is left of an earlier deletion"
    evaluations = f"{loss.num_evaluations:,} evaluations with the scores of {loss.num_images:,} {outputs}"
    others = [name for name in loss.names if name not in loss.runs]
    told = [evaluations] if loss.runs else []
    told += [f"{loss.num_answers:,} answers of raters"] if loss.num_studies else []
    told += [f"{loss.num_kept_images:,} kept {outputs}", f"{_size(loss.num_bytes)} in all"]
    return f"{', '.join([*others, *loss.runs])}: {', '.join(told)}"


def _told_besides(loss: Loss) -> list[str]:
    told = []
    if loss.num_shared:
        told.append(f"{loss.num_shared:,} more evaluations belong to others too and stay")
    if loss.descendants:
        began = ", ".join(loss.descendants)
        told.append(f"{began} began at a result that goes, and can go on: the numbers it began at are kept with it")
    return told


def _told_after(left: Left, outputs: str) -> list[str]:
    told = [f"deleted; {_size(left.num_bytes)} are free again"]
    if left.num_kept_images:
        told.append(
            f"{left.num_kept_images:,} {outputs} stay for now, because a run that is being worked on may use them; "
            f"the next `trimpot delete` removes them"
        )
    if not left.compact:
        told.append("the database file keeps its size while it is in use; new records fill the room in it")
    return told


def _size(num_bytes: float) -> str:
    """Return a number of bytes with a unit, such as `31.2 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} bytes" if unit == "bytes" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"
