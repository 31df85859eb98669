"""The command line in this process, and all that it can be told."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, NamedTuple

import pytest
import typer.main
from trimpot import cli
from trimpot.commands.app import app
from trimpot.ground.errors import Notice


class Said(NamedTuple):
    status: int
    out: str
    err: str


def typed(*words: str, stdin: str = "") -> Said:
    """What a command prints, and its exit status; nobody sits at the terminal."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["trimpot", *words])
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
            warnings.simplefilter("default", Notice)  # is said, as outside of tests
            cli.main()
    code = ended.value.code
    assert isinstance(code, int)
    return Said(code, out.getvalue(), err.getvalue())


def commands() -> dict[str, Any]:
    """Every command of the application, by name."""
    group: Any = typer.main.get_command(app)
    return dict(sorted(group.commands.items()))


def parameters() -> Iterator[tuple[str, Any]]:
    """Every argument and option of every command, with the command's name."""
    for name, command in commands().items():
        for each in command.params:
            if each.name != "help":
                yield name, each
