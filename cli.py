"""The command line. Commands live in `commands/`; here they meet their plugins and their errors."""

from __future__ import annotations

import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from typing import TextIO, cast

from .commands import backup, calibrate, compare, parts, plan, rescore, runs, serve
from .commands.app import app
from .commands.output import Enduring
from .engine.errors import TrimpotError

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
