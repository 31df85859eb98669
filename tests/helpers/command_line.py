"""The command line in this process, which has imported what it needs already."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from trimpot import cli


class Ended(NamedTuple):
    """The end of a command."""

    returncode: Any
    stdout: str
    stderr: str


def typed(*arguments: str, cwd: Path | None = None, output: Any = None) -> Ended:
    """What a command comes to that is typed in a folder, with an output of its own or another one."""
    own, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("default")
        if cwd is not None:
            patch.chdir(cwd)
        patch.delenv("TRIMPOT_STORE", raising=False)
        patch.setattr(sys, "argv", ["trimpot", *arguments])
        patch.setattr(sys, "stdout", own if output is None else output)
        patch.setattr(sys, "stderr", errors)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return Ended(ended.value.code, own.getvalue(), errors.getvalue())
