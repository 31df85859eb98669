"""The command line. Commands live in `commands/`; here they meet their plugins and their errors."""

from __future__ import annotations

import sys
import traceback
import warnings
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

from .commands import backup, calibrate, compare, parts, plan, rescore, runs, serve
from .commands.app import app
from .commands.output import Enduring
from .engine.errors import TrimpotError, printable

__all__ = ["app", "backup", "calibrate", "compare", "main", "parts", "plan", "rescore", "runs", "serve"]


def main() -> None:
    """Run the command line; what a user caused is one sentence on stderr, and exit code 1."""
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
    """Run the command line; return or exit with its code."""
    with_traceback = "--traceback" in sys.argv
    warnings.showwarning = _show
    try:
        from .engine.plugins import plugins

        plugins().manager.hook.register_commands(cli=app)
        app()
    except TrimpotError as error:
        if with_traceback:
            traceback.print_exc()
        print(f"trimpot: {error}", file=sys.stderr)
        return 1
    return 0


_show_others = warnings.showwarning


def _show(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
    """Print a warning of our own as a sentence, without the line of code that it came from."""
    if category.__module__.partition(".")[0] == "trimpot":
        print(f"trimpot: {printable(str(message))}", file=sys.stderr)
    else:
        _show_others(message, category, *where, **options)
