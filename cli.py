"""The entry point of the command line: adds the commands of plugins and turns errors into one sentence."""

from __future__ import annotations

import sys
import traceback
import warnings
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

import typer

from .commands import (
    analyse,
    backup,
    calibrate,
    combine,
    compare,
    delete,
    export,
    importing,
    measure,
    parts,
    plan,
    publish,
    rescore,
    runs,
    sample,
    serve,
    study,
    watch,
)
from .commands.app import app
from .commands.output import Enduring
from .commands.usage import unknown_option, wrong_dash
from .ground.errors import PluginError, TrimpotError, near_misses, printable
from .ground.extras import missing

__all__ = [
    "analyse",
    "app",
    "backup",
    "calibrate",
    "combine",
    "compare",
    "delete",
    "export",
    "importing",
    "main",
    "measure",
    "parts",
    "plan",
    "publish",
    "rescore",
    "runs",
    "sample",
    "serve",
    "study",
    "watch",
]


def main() -> None:
    """Run the command line; print an error that the user caused as one sentence on stderr.

    The exit code is 1 if a command cannot be done as asked, and 2 if the command line cannot be understood.
    """
    output, errors = Enduring(sys.stdout), Enduring(sys.stderr)
    with redirect_stdout(cast(TextIO, output)), redirect_stderr(cast(TextIO, errors)):
        try:
            code = _run()
        except SystemExit as ending:
            code = ending.code
        output.flush()
        if output.failure:
            said = output.failure.strerror or output.failure
            print(f"trimpot: the output could not be written ({said}); what was recorded is kept", file=sys.stderr)
    sys.exit(code or int(output.failure is not None))


def _run() -> str | int | None:
    """Run the command; return its exit code, or exit with it."""
    warnings.showwarning = _show
    arguments = sys.argv[1:]
    if sentence := wrong_dash(arguments):
        _end(sentence, 2)
    try:
        _add_commands()
        status = app(standalone_mode=False)
    except TrimpotError as error:
        if "--traceback" in arguments:
            traceback.print_exc()
        _end(str(error), 1)
    except ImportError as error:
        absent = missing(error, "this command")
        if absent is None or "--traceback" in arguments:
            raise
        _end(str(absent), 1)
    except OSError as error:  # a full disk, an invalid path
        if "--traceback" in arguments:
            traceback.print_exc()
        _end(": ".join(str(each)[:200] for each in (error.filename, error.strerror or error) if each), 1)
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        if not str(error.format_message()):  # without arguments, the help has been shown
            sys.exit(2)
        _end(_usage(error, arguments), 2)
    return status if isinstance(status, int) else 0


def _add_commands() -> None:
    """Let plugins add commands; refuse a name that exists already."""
    from .setup.plugins import plugins

    own = _names(app)
    plugins().add_commands(app)
    names = _names(app)
    for name in names[len(own) :]:
        if names.count(name) > 1:
            raise PluginError(f"a plugin adds the command {name!r}, which exists already; uninstall it, or rename it")


def _usage(error: Any, arguments: list[str]) -> str:
    """Return the sentence for a usage error raised by typer."""
    option, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if type(error).__name__ == "NoSuchOption" and option:
        takes = context.command.params if context else []
        known = [name for each in takes for name in (*each.opts, *each.secondary_opts)]
        return unknown_option(option, arguments, known)
    message = " ".join(str(error.format_message()).split()).rstrip(".")
    if message.startswith("No such command"):
        name = message.split("'")[1]
        return f"no command {name!r}; {near_misses(name, _names(app))}"
    command = f" {context.info_name}" if context is not None and context.parent is not None else ""
    return f"{message[:1].lower()}{message[1:]}; `trimpot{command} --help` shows how it is typed"


def _names(cli: typer.Typer) -> list[str]:
    return [str(command.name or getattr(command.callback, "__name__", "")) for command in cli.registered_commands]


def _end(sentence: str, status: int) -> None:
    print(f"trimpot: {sentence}", file=sys.stderr)
    sys.exit(status)


_show_others = warnings.showwarning


def _show(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
    """Print a warning of trimpot as a sentence, without the line of code that raised it."""
    if category.__module__.partition(".")[0] == "trimpot":
        print(f"trimpot: {printable(str(message))}", file=sys.stderr)
    else:
        _show_others(message, category, *where, **options)
