"""The command line. Commands live in `commands/`; here they meet their plugins and their errors."""

from __future__ import annotations

import sys
import traceback

from .commands import calibrate, compare, parts, plan, rescore, runs, serve
from .commands.app import app
from .engine.errors import TrimpotError

__all__ = ["app", "calibrate", "compare", "main", "parts", "plan", "rescore", "runs", "serve"]


def main() -> None:
    """Run the command line; what a user caused is one sentence on stderr, and exit code 1."""
    with_traceback = "--traceback" in sys.argv
    try:
        from .engine.plugins import plugins

        plugins().manager.hook.register_commands(cli=app)
        app()
    except TrimpotError as error:
        if with_traceback:
            traceback.print_exc()
        print(f"trimpot: {error}", file=sys.stderr)
        sys.exit(1)
