"""Run code that a model wrote, with tests, in a process of its own. Read what it does not protect from.

The process is started anew for every text. It has no network, no secrets of this process's environment, an empty
folder as its working folder, and limits of time, memory, file size and number of files. `guarded.py` refuses, from
inside, whatever Python reports to audit hooks: sockets, other processes, signals, foreign functions, and files outside
the folder and of Python itself.

This is a fence against what a model writes by accident. It is no sandbox: code that sets out to escape, such as through
a fault of the interpreter, acts with the rights of the user who runs trimpot. If that matters, run trimpot in a
container or a virtual machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from ...engine.seams import Output
from ...ground.errors import ConfigError, Notice, ScoreError
from .texts import KeyedObjective, unfenced

GUARD = Path(__file__).with_name("guarded.py")
MOST_PRINTED = 4096  # bytes that are read of what the process says; it says one word


class UnitTests(KeyedObjective):
    """1 if the code in a text passes the tests of the prompt's record, else 0.

    The record's `tests` are Python code that is executed after the text's code in the same namespace, and that raises
    an error if a test fails, as the assertions of HumanEval and MBPP do (Chen et al. 2021, arXiv 2107.03374).

    Args:
        allow_execution: Whether code that a model wrote may be executed on this machine.
        with_prompt: Whether the prompt is the beginning of the code.
        timeout: Seconds of the process.
        memory: MiB of the process's address space.

    Raises:
        ConfigError: If execution was not allowed, or this system cannot limit a process.
    """

    def __init__(self, allow_execution: bool, with_prompt: bool, timeout: float, memory: int) -> None:
        super().__init__("unit-tests", ("tests",), with_prompt=with_prompt, timeout=timeout, memory=memory)
        if not allow_execution:
            raise ConfigError(
                "objective 'unit-tests' executes code that a model writes on this machine, in a process without "
                "network that is no sandbox; read docs/rewards.md, and set allow_execution: true if you accept that"
            )
        if os.name != "posix":
            raise ConfigError("objective 'unit-tests' cannot limit processes on this system; use Linux or macOS")
        warnings.warn(
            "objective 'unit-tests' EXECUTES CODE THAT THE MODEL WRITES on this machine: in a process of its own, "
            "without network and with limits, which stops accidents and no attacker",
            Notice,
            stacklevel=3,
        )
        self._with_prompt, self._timeout, self._memory = with_prompt, timeout, memory

    def worth(self, output: Output, prompt: str) -> float:
        """See `TextObjective.worth`."""
        tests, text = self.text_said_of(prompt, "tests"), self.text(output)
        code = prompt + text if self._with_prompt else unfenced(text)
        return float(passes(code, tests, self._timeout, self._memory))


def passes(code: str, tests: str, timeout: float, memory: int) -> bool:
    """Return whether code passes tests, in a process of its own.

    Args:
        code: The code.
        tests: Python code that is executed after it, in the same namespace.
        timeout: Seconds of the process.
        memory: MiB of the process's address space.

    Raises:
        ScoreError: If the process cannot be started.
    """
    word = secrets.token_hex(16)  # said only once the last test has passed: code that ends the process says nothing
    with tempfile.TemporaryDirectory(prefix="trimpot-tests-", ignore_cleanup_errors=True) as folder:
        asked = {"code": code, "tests": tests, "word": word, "seconds": timeout, "mib": memory, "folder": folder}
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(GUARD)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder},
                start_new_session=True,
            )
        except OSError as error:
            raise ScoreError(f"objective 'unit-tests' cannot start a process: {error.strerror or error}") from None
        try:
            said, _ = process.communicate(json.dumps(asked).encode(), timeout=timeout + 5)
        except subprocess.TimeoutExpired:
            return False
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=5)
        return said[:MOST_PRINTED].decode("ascii", "replace").strip() == word
