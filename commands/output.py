"""Standard output and standard error that may fail without stopping the work.

A progress line that cannot be written, because the disk is full or the reader has gone, must not end a run of many
hours. Text that cannot be written is lost; the records of the run are not.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable
from typing import Any, TextIO


class Enduring:
    """A text stream that writes until it fails, and then drops everything.

    Attributes:
        failure: The error that stopped the writing, or None. A reader that has closed its end is no failure.

    Args:
        stream: The stream to write to; None, in a process without such a stream, drops everything.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # open until the process ends
        self._silent = False
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write a text, or drop it if writing has failed before."""
        self._try(self._stream.write, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        self._try(self._stream.writelines, lines)

    def flush(self) -> None:
        """Write the buffered text."""
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
        """Drop the text in the stream's buffer, so that Python does not report it when the process ends."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
