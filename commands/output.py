"""Standard output and error that may fail without stopping what is being done.

A full disk or a reader that has gone must not end a run of many hours at a progress line. What could not be written is
lost; what was recorded is not.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable
from typing import Any, TextIO


class Enduring:
    """A text stream that writes for as long as it can.

    Attributes:
        failure: Why it has stopped writing, or None. A reader that has gone is no failure: it has what it wanted.

    Args:
        stream: Where to write; None, as where a process began without one, is nowhere.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # as long as the process
        self._silent = False
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write, or do nothing once that has failed."""
        self._try(self._stream.write, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of them."""
        self._try(self._stream.writelines, lines)

    def flush(self) -> None:
        """Write what waits."""
        self._try(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, work: Callable[..., object], *given: object) -> None:
        if self._silent:
            return
        try:
            work(*given)
        except OSError as error:
            self._silent = True
            self.failure = None if error.errno in (errno.EPIPE, errno.ESHUTDOWN) else error
            self._to_nowhere()

    def _to_nowhere(self) -> None:
        """Send what still waits in the stream's buffer nowhere, so that ending the process does not complain of it."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
