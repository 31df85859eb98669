"""The commands `soup`, `lift` and `diff`: calibrations made of calibrations, and what differs between two."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..ground.errors import CalibrationError
from .app import FOLDER, JsonOption, PartOptions, StoreOption, app, print_json
from .completion import one_of, stored_runs

if TYPE_CHECKING:
    from ..engine.calibration import Calibration

Source = Annotated[
    str, typer.Argument(help="A run, a calibration file, its folder, or a hub id.", autocompletion=stored_runs)
]
ToOption = Annotated[Path, typer.Option("--to", help="The file to write.")]
MOST_LINES = 10


@app.command()
def soup(
    calibrations: Annotated[
        list[str], typer.Argument(help="Runs, calibration files, folders or hub ids.", autocompletion=stored_runs)
    ],
    weights: Annotated[
        str | None, typer.Option("--weights", help="A weight each, such as 0.5,0.5; default: equal, with the sum 1.")
    ] = None,
    to: ToOption = Path("soup.json"),
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Mix calibrations of one model: what each departs from neutral is summed, with its weight.

    The result has no gain until `trimpot measure` has measured it.

    Example:  trimpot soup shapes-1 shapes-2 --weights 0.5,0.5 --to soup.json
    """
    from ..calibrations.soup import soup as mix

    shares = None if weights is None else [_weight(word) for word in weights.split(",")]
    _write(mix([_read(each, store) for each in calibrations], shares, name=to.stem), to, as_json)


@app.command()
def lift(
    calibration: Source,
    granularity: Annotated[
        str, typer.Option("--to", help="layer or gate.", autocompletion=one_of(("layer", "gate")))
    ] = "gate",
    output: Annotated[
        Path | None, typer.Option("--output", help="The file to write; default: NAME-GRANULARITY.json.")
    ] = None,
    option: PartOptions = None,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Write a calibration with finer knobs, to search on from there; no output changes.

    Options of the adapter, such as model, are given with -o.

    Example:  trimpot lift shapes-1 --to gate
    """
    from ..calibrations.lift import lift as finer
    from ..setup.config import parse_options

    made = finer(_read(calibration, store), granularity, **parse_options(option or []))
    _write(made, output or Path(f"{made.provenance.run}.json"), as_json)


@app.command()
def diff(
    first: Source,
    second: Source,
    to: Annotated[Path, typer.Option("--to", help="The page to write.")] = Path("diff.html"),
    look: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open the page; default: on a terminal.")
    ] = None,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Compare two calibrations knob by knob: a page with pictures by depth, and a list of what differs most.

    Example:  trimpot diff shapes-1 shapes-2
    """
    from rich.console import Console
    from rich.table import Table

    from ..calibrations.contrast import caution, contrast, sentence, write_contrast

    found = contrast(_read(first, store), _read(second, store))
    write_contrast(to, found)
    if as_json:
        print_json({"page": str(to), **found.to_json()})
    else:
        table = Table(box=None, pad_edge=False)
        for heading in (found.by, found.first, found.second, "difference"):
            table.add_column(heading, justify="left" if heading == found.by else "right")
        for pair in found.largest_first[:MOST_LINES]:
            table.add_row(pair.name, f"{pair.first:.4f}", f"{pair.second:.4f}", f"{pair.change:+.4f}")
        console = Console(highlight=False, markup=False)
        console.print(sentence(found), soft_wrap=True)
        if found.made_on:
            console.print(caution(found), soft_wrap=True)
        console.print(table)
        typer.echo(to)
    if look or (look is None and not as_json and sys.stdout.isatty()):
        typer.launch(str(to.absolute()))


def _read(source: str, store: Path) -> Calibration:
    from ..applying.located import located_calibration
    from ..engine.calibration import Calibration

    return Calibration.load(located_calibration(source, store=store))


def _write(made: Calibration, to: Path, as_json: bool) -> None:
    from ..runs.measuring import refuse_existing

    refuse_existing(to)
    made.save(to)
    if as_json:
        parents = [parent.model_dump() for parent in made.provenance.parents]
        print_json({"calibration": str(to), "knobs": len(made.setting), "parents": parents})
    else:
        typer.echo(to)


def _weight(word: str) -> float:
    try:
        weight = float(word)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise CalibrationError(
            f"--weights: {word.strip()[:40]!r} is no number; give one a calibration, such as 0.5,0.5"
        )
    return weight
