"""Reward servers for tests: in a thread, in a process that can be killed, and ones that misbehave."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from trimpot.objectives.shapes.drawing import draw, to_bytes
from trimpot.objectives.shapes.reward import ShapesReward
from trimpot.objectives.shapes.scenes import parse
from trimpot.servers.reward_server import RewardServer, Scorer
from waiting import LONG

SERVERS = Path(__file__).parents[2] / "servers"
SHAPES = Scorer("shapes", ShapesReward().score, ShapesReward().describe())


def scenes(*prompts: str, seed: int = 0) -> list[Any]:
    """A picture for every prompt, 32 x 32 uint8."""
    return [to_bytes(draw(parse(prompt), np.random.default_rng(seed))) for prompt in prompts]


@contextmanager
def serving(scorer: Scorer = SHAPES, port: int = 0, **options: Any) -> Iterator[RewardServer]:
    """A server in a thread of this process."""
    server = RewardServer(scorer, port=port, **options)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.close()


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that no other process is given, before, between and after those that listen on it."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port = int(holder.getsockname()[1])
        if sys.platform != "linux":  # which lets a second socket bind it; others do not
            holder.close()
        yield port


class ServerProcess:
    """A server in a process of its own, which can be killed and started again where it was.

    Args:
        *command: What starts it, without the port.
    """

    def __init__(self, *command: str) -> None:
        self.command = command
        self._reserved = ExitStack()
        self.port = self._reserved.enter_context(reserved_port())
        self.start()

    def start(self) -> None:
        """Start it, on the same port as before, and wait until it listens."""
        self.process = subprocess.Popen(
            [*self.command, "--port", str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.line)
        if found is None:
            raise AssertionError(f"it did not start: {self.line}{self.process.communicate()}")
        self.url, self.port = found[0], int(found[1])

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._reserved.close()


def python(script: str, *arguments: str) -> ServerProcess:
    """A script of `servers/` with this interpreter."""
    return ServerProcess(sys.executable, str(SERVERS / script), *arguments)


@contextmanager
def answering(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """A bare socket that answers every connection's first request with the bytes `answer` makes of its first line."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        ended = threading.Event()

        def work() -> None:
            while not ended.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection, suppress(ConnectionError):  # who has heard enough hangs up
                    connection.settimeout(LONG)
                    connection.sendall(answer(_request(connection)))

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


def _request(connection: socket.socket) -> bytes:
    """A request's first line, after all of it was read."""
    read = b""
    while b"\r\n\r\n" not in read and (more := connection.recv(1 << 16)):
        read += more
    head, _, body = read.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    left = int(length[1]) - len(body) if length else 0
    while left > 0 and (more := connection.recv(1 << 16)):
        left -= len(more)
    return head.partition(b"\r\n")[0]


def http(body: bytes, status: str = "200 OK") -> bytes:
    """An HTTP answer."""
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status.encode(), len(body)) + body
