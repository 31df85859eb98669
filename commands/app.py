"""The application, and the options and the JSON output that all commands share."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..ground.folders import DEFAULT_STORE

if TYPE_CHECKING:
    from ..setup.plugins import Plugins

app = typer.Typer(
    help="Calibrate frozen models: tune a few hundred scales against a reward nobody can differentiate.\n\n"
    "Start with:  trimpot calibrate shapes",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

StoreOption = Annotated[
    Path, typer.Option("--store", envvar="TRIMPOT_STORE", help="The folder of the database and the runs' files.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
PartOptions = Annotated[list[str] | None, typer.Option("-o", "--option", help="An option of the part: key=value.")]
PluginOption = Annotated[
    list[Path] | None, typer.Option("--plugin", help="A Python file that registers parts; may be given several times.")
]
FOLDER = DEFAULT_STORE


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"trimpot {version('trimpot')}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    show_traceback: Annotated[bool, typer.Option("--traceback", help="Show the traceback of an error.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print trimpot's version.")
    ] = False,
) -> None:
    context.obj = show_traceback


def plugins_with(files: list[Path] | None) -> Plugins:
    """Return the installed plugins together with files named on the command line."""
    from ..setup.plugin_files import files_in
    from ..setup.plugins import plugins

    return plugins().joined(files_in([str(each) for each in files or ()], Path.cwd()))


def print_json(value: object) -> None:
    """Print a value as JSON, with infinite numbers as strings and control characters escaped."""
    from ..ground.plain import plain

    text = json.dumps(plain(value, "what is printed"), indent=2, ensure_ascii=False, allow_nan=False)
    typer.echo(
        re.sub("[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", lambda match: f"\\u{ord(match[0]):04x}", text)
    )
