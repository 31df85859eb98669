"""What every command shares: the application, its options, and how it prints."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Calibrate frozen models: tune a few hundred scales against a reward nobody can differentiate.\n\n"
    "Start with:  trimpot calibrate shapes",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

StoreOption = Annotated[
    Path, typer.Option("--store", envvar="TRIMPOT_STORE", help="Folder of the database and the runs' files.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
PartOptions = Annotated[list[str] | None, typer.Option("-o", "--option", help="An option of it: key=value.")]
FOLDER = Path("trimpot-runs")


@app.callback()
def _options(
    context: typer.Context,
    show_traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error came from.")] = False,
) -> None:
    context.obj = show_traceback


def print_json(value: object) -> None:
    """Print for programs: infinite numbers as strings, which JSON lacks, and nothing that a terminal acts on."""
    from ..ground.plain import plain

    text = json.dumps(plain(value, "what is printed"), indent=2, ensure_ascii=False, allow_nan=False)
    typer.echo(
        re.sub("[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", lambda match: f"\\u{ord(match[0]):04x}", text)
    )
