"""The command `sample`: try a calibration on prompts of your own, with pictures on a page or with printed answers."""

from __future__ import annotations

import sys
import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from .app import FOLDER, JsonOption, PartOptions, StoreOption, app, print_json
from .completion import stored_runs

if TYPE_CHECKING:
    from ..engine.calibration import Calibration


@app.command()
def sample(
    calibration: Annotated[
        str, typer.Argument(help="A run, a calibration file, its folder, or a hub id.", autocompletion=stored_runs)
    ],
    prompts: Annotated[list[str], typer.Argument(help="One or more prompts, each in quotation marks.")],
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=1, max=1000, help="Outputs of each prompt; default: 4, or 1 if seeds do nothing."),
    ] = None,
    first_seed: Annotated[int, typer.Option("--first-seed", min=0, help="The seed of the first output.")] = 0,
    compare: Annotated[bool, typer.Option("--compare", help="Show the neutral model's outputs as well.")] = False,
    strength: Annotated[float, typer.Option("--strength", help="0 is neutral, 1 is calibrated; -1 to 2.")] = 1.0,
    revision: Annotated[str | None, typer.Option("--revision", help="The calibration's revision on the hub.")] = None,
    option: PartOptions = None,
    to: Annotated[Path | None, typer.Option("--to", help="The page to write; default: sample.html.")] = None,
    look: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open the page; default: on a terminal.")
    ] = None,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Draw prompts with a calibrated model, on one page, or print a language model's answers.

    Options such as device are given with -o; for a language model, also how to write, such as max_new_tokens.

    Example:  trimpot sample shapes-1 "two red circles" --seeds 4 --compare
    """
    from ..applying.applied import load_calibration
    from ..applying.base import load_pipeline
    from ..applying.located import located_calibration
    from ..applying.recipe import is_of_language
    from ..applying.samples import samples
    from ..engine.calibration import Calibration
    from ..ground.errors import CalibrationError
    from ..reports.sheet import write_sheet
    from ..setup.config import parse_options

    file = located_calibration(calibration, revision=revision, store=store)
    options = parse_options(option or [])
    if is_of_language(made := Calibration.load(file)):
        if to is not None or look:
            raise CalibrationError(
                "a language model's answers are printed, not drawn on a page; leave out --to and --open"
            )
        _answer(file, made, prompts, seeds, first_seed, compare, strength, options, as_json)
        return
    to, seeds = to or Path("sample.html"), seeds or 4
    pipe = load_pipeline(file, **options)
    pipe.set_progress_bar_config(disable=True)
    applied = load_calibration(pipe, file, strength)
    each = samples(pipe, applied, prompts, range(first_seed, first_seed + seeds), compare=compare)
    console = Console(stderr=True, highlight=False)
    total = len(prompts) * seeds
    shown = list(track(each, "drawing", total, console=console, disable=not console.is_terminal))
    told = ", ".join(f"{name} {value}" for name, value in applied.recommended.items())
    words = [f"{applied!r}".strip("<>"), f"Each image was made with {told}."]
    write_sheet(to, f"Samples of {applied.calibration.provenance.run}", words, shown)
    if as_json:
        print_json({"page": str(to), "images": total * (1 + compare), "call": applied.recommended})
    else:
        typer.echo(to)
    if look or (look is None and not as_json and sys.stdout.isatty()):
        typer.launch(str(to.absolute()))


def _answer(
    file: Path,
    calibration: Calibration,
    prompts: list[str],
    seeds: int | None,
    first_seed: int,
    compare: bool,
    strength: float,
    given: dict[str, Any],
    as_json: bool,
) -> None:
    """Print what a language model says to prompts."""
    from ..applying.applied import load_calibration
    from ..applying.base import load_pipeline
    from ..applying.language import WRITING, asking, texts, writing
    from ..ground.errors import CalibrationError, Notice

    options = writing(calibration, {name: value for name, value in given.items() if name in WRITING})
    if seeds and seeds > 1 and options.temperature == 0:
        raise CalibrationError(
            "greedy answers depend on no seed; leave out --seeds, or draw tokens with -o temperature=1"
        )
    seeds = seeds or (4 if options.temperature else 1)
    pipe = load_pipeline(calibration, **{name: value for name, value in given.items() if name not in WRITING})
    with warnings.catch_warnings():  # prompts are put here as they were put when it was measured
        warnings.filterwarnings("ignore", "the calibration was measured with", Notice)
        applied = load_calibration(pipe, file, strength)
    made = texts(
        pipe,
        applied,
        prompts,
        range(first_seed, first_seed + seeds),
        options,
        asking(calibration, given),
        compare=compare,
    )
    if as_json:
        call = options.model_dump(mode="json", include=set(WRITING))
        print_json({"answers": [each._asdict() for each in made], "call": call})
        return
    sides = ("neutral", "calibrated") if compare else ("calibrated",)
    for each in made:
        typer.echo(each.prompt if seeds == 1 else f"{each.prompt}  (seed {each.seed})")
        for side in sides:
            typer.echo(textwrap.indent(f"{side}: {getattr(each, side)}", "  "))
