"""The program that executes a model's code with tests; `execution.py` starts it. It imports the standard library only.

It reads JSON from its standard input, limits itself, and says a word on its standard output once all tests have passed.
An audit hook cannot be removed by code in Python. See `execution.py` for what that does not protect from.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from typing import Any

MIB = 1 << 20
LARGEST_FILE = 16 * MIB
MOST_FILES = 64
HARMLESS = ("/dev/null", "/dev/urandom", "/dev/random", "/dev/zero")
REFUSED = (
    "socket.", "subprocess.", "ctypes.", "pty.", "os.exec", "os.fork", "os.forkpty", "os.kill", "os.killpg",
    "os.posix_spawn", "os.spawn", "os.system", "os.startfile", "os.setxattr", "os.removexattr", "syslog.", "signal.",
    "ftplib.", "http.client.", "imaplib.", "nntplib.", "poplib.", "smtplib.", "telnetlib.", "urllib.", "webbrowser.",
    "mmap.", "fcntl.", "resource.", "sys.addaudithook", "_posixsubprocess.", "cpython.run_",
)  # fmt: skip
WRITING = (
    "os.chflags", "os.chmod", "os.chown", "os.lchmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
    "os.symlink", "os.truncate", "os.utime", "shutil.", "tempfile.",
)  # fmt: skip


class RefusedError(PermissionError):
    """What the guarded code may not do."""


def limit(seconds: float, mib: int) -> None:
    """Limit this process's time, memory, files and processes."""
    whole = max(1, int(seconds + 0.999))
    signal.setitimer(signal.ITIMER_REAL, seconds)  # SIGALRM ends the process
    wanted = {
        "RLIMIT_CPU": whole,
        "RLIMIT_AS": mib * MIB,
        "RLIMIT_FSIZE": LARGEST_FILE,
        "RLIMIT_NOFILE": MOST_FILES,
        "RLIMIT_CORE": 0,
    }
    for name, value in wanted.items():
        kind = getattr(resource, name, None)
        if kind is not None:
            try:
                resource.setrlimit(kind, (value, value))
            except (OSError, ValueError):  # macOS does not limit the address space
                continue


def guard(folder: str) -> None:
    """Refuse from now on what `REFUSED` names, and files outside a folder."""
    inside = os.path.realpath(folder)
    readable = [
        inside,
        *{os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, os.path.dirname(os.__file__))},
    ]
    realpath, fsdecode, writes = os.path.realpath, os.fsdecode, os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    within = os.path.commonpath

    def lies_in(path: Any, folders: list[str]) -> bool:
        if isinstance(path, int):
            return True  # a file that is open already
        found = realpath(fsdecode(path))
        return any(within([found, each]) == each for each in folders)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(REFUSED):
            raise RefusedError(event)
        if event == "open":
            path, mode, flags = arguments
            if path is None or isinstance(path, int) or fsdecode(path) in HARMLESS:
                return
            writing = bool((flags or 0) & writes) or any(each in (mode or "") for each in "wax+")
            if not lies_in(path, [inside] if writing else readable):
                raise RefusedError(event)
        elif event.startswith(WRITING) and event not in ("tempfile.mkstemp", "tempfile.mkdtemp"):
            paths = [each for each in arguments if isinstance(each, (str, bytes, os.PathLike))]
            if not all(lies_in(path, [inside]) for path in paths):
                raise RefusedError(event)
        elif event == "import" and arguments[0] in ("ctypes", "_ctypes", "_posixsubprocess", "_socket", "socket"):
            raise ImportError(f"{arguments[0]} is refused here")

    sys.addaudithook(hook)


def main() -> None:
    """Execute what the standard input names, and say its word if everything passed."""
    asked = json.loads(sys.stdin.buffer.read())
    say = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    limit(asked["seconds"], asked["mib"])
    guard(asked["folder"])
    namespace: dict[str, Any] = {"__name__": "__main__"}
    code, tests, word = asked.pop("code"), asked.pop("tests"), asked.pop("word")
    exec(compile(code, "answer", "exec"), namespace)
    exec(compile(tests, "tests", "exec"), namespace)
    os.write(say, word.encode())
    os._exit(0)


if __name__ == "__main__":
    main()
