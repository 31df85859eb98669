"""Waiting for a state, however long a busy machine takes to reach it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

LONG = 300.0  # seconds after which what has not come is not coming; no machine is so busy


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < deadline, "it never held"
        time.sleep(0.01)


def receive(connection: socket.socket, count: int) -> bytes:
    """So many bytes, in however many pieces they come; fewer only if the other side has hung up."""
    read = b""
    while len(read) < count and (more := connection.recv(count - len(read))):
        read += more
    return read
