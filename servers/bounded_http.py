"""An HTTP server that bounds what a client may take, whoever it is: the ground that the reward server stands on.

    connections   CONNECTIONS at once; one more displaces the one that has waited longest without a whole request
    a head        HEAD_BYTES, in `Patience.head` seconds from its first byte
    a body        as large as the handler allows, as long as it arrives at RATE; all of them together `most_held`
    its JSON      as many values as the handler allows, DEEPEST within each other, counted before one is made
    a refusal     DRAINED bytes of the request are read after it, for `Patience.refusal` seconds

Only the standard library, on Python 3.9 and later.
"""

from __future__ import annotations

import io
import json
import math
import re
import socket
import socketserver
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

CONNECTIONS = 64
HEAD_BYTES = 1 << 16
DRAINED = 1 << 24
RATE = 1 << 16  # bytes a second, on average
_BUFFER = 1 << 13
#: Lists and objects within each other in a request.
DEEPEST = 64
_NESTING = re.compile(rb'["\[\]{}]')


class RefusalError(Exception):
    """What a request or a start is refused for: an HTTP status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(" ".join(shown(sentence).split())[:1000])
        self.status = status


@dataclass(frozen=True)
class Patience:
    """Seconds for which a client is waited for.

    Attributes:
        head: For the head of a request.
        idle: For another request on the same connection.
        body: For a body, beside the time that it takes at `RATE`.
        answer: To take an answer.
        refusal: To take a refusal and hang up.
    """

    head: float = 10.0
    idle: float = 60.0
    body: float = 30.0
    answer: float = 60.0
    refusal: float = 2.0


class BoundedServer(socketserver.ThreadingTCPServer):
    """A server that listens once it is made and answers inside `serve_forever`.

    Args:
        address: Host and port.
        handler: A `BoundedHandler`.
        most_held: Bytes of bodies in memory at once, of all connections.
        patience: How long clients are waited for.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self, address: tuple[str, int], handler: type[BoundedHandler], most_held: int, patience: Patience
    ) -> None:
        self.patience, self._most_held, self._held = patience, most_held, 0
        self._turn = threading.Condition()
        #: Connections in the order in which they began to wait, and what for: a head, a body, or an answer.
        self._open: dict[Any, str] = {}
        self._stopping = False
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection; where there are too many, in the place of another."""
        with self._turn:
            if len(self._open) >= CONNECTIONS:
                waiting = sorted(self._open.items(), key=lambda entry: ("head", "body", "answer").index(entry[1]))
                if waiting[0][1] == "answer":
                    with suppress(OSError):
                        request.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    super().shutdown_request(request)
                    return
                self._hang_up(waiting[0][0])
            self._open[request] = "head"
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection that has ended."""
        with self._turn:
            self._open.pop(request, None)
        super().shutdown_request(request)

    @contextmanager
    def admitted(self, connection: Any) -> Iterator[None]:
        """Work on a request whose sender may ask; the server does not end before.

        Raises:
            RefusalError: If the server is ending.
        """
        if self._stopping:
            raise RefusalError(503, "this server is stopping")
        self.waits_for(connection, "body")
        try:
            yield
        finally:
            with suppress(ConnectionError):
                self.waits_for(connection, "head")

    def waits_for(self, connection: Any, what: str) -> None:
        """Note what a connection waits for now; one that waits for an answer keeps its place.

        Raises:
            ConnectionError: If it has lost it.
        """
        with self._turn:
            if self._open.pop(connection, None) is None:
                raise ConnectionError("another client has its place")
            self._open[connection] = what
            self._turn.notify_all()

    def hold(self, num_bytes: int) -> None:
        """Count bytes of bodies that are in memory, or are no longer where it is negative.

        Raises:
            RefusalError: If there are too many.
        """
        with self._turn:
            if num_bytes > 0 and self._held + num_bytes > self._most_held:
                raise RefusalError(503, "too many large requests are arriving already; try again later")
            self._held += num_bytes

    def finish(self) -> None:
        """Wait for the answers to what has been asked, and hang up."""
        with self._turn:
            self._stopping = True
            self._turn.wait_for(lambda: all(what == "head" for what in self._open.values()))
            for connection in list(self._open):
                self._hang_up(connection)

    def _hang_up(self, connection: Any) -> None:
        """End a connection, which its thread finds out by itself."""
        del self._open[connection]
        self._turn.notify_all()
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Forget clients that went away; show what is our own fault."""
        if not isinstance(sys.exc_info()[1], OSError):
            show_traceback()


class _Arriving(io.RawIOBase):
    """What a connection brings: until a deadline, and as much as there is room for."""

    def __init__(self, connection: Any) -> None:
        self.connection, self.deadline, self.room = connection, 0.0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("it took too long")  # noqa: UP041  # Python 3.9
        if self.room <= 0:
            raise RefusalError(431, f"the head of the request has more than {HEAD_BYTES} bytes")
        self.connection.settimeout(left)
        count = int(self.connection.recv_into(memoryview(buffer)[: self.room]))
        self.room -= count
        return count


class BoundedHandler(BaseHTTPRequestHandler):
    """One connection, in a thread of its own."""

    server: BoundedServer
    protocol_version = "HTTP/1.1"
    server_version = "trimpot"
    sys_version = ""
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Put bounds between the connection and what is read of it."""
        super().setup()
        self.rfile.close()
        self.arriving = _Arriving(self.connection)
        self.rfile = io.BufferedReader(self.arriving, _BUFFER)
        self.wait = self.server.patience.head

    def handle_one_request(self) -> None:
        """Take a request's head within its time and room."""
        self.command, self.requestline, self.request_version = "", "", "HTTP/1.1"
        self.close_connection, self.arriving.room = True, HEAD_BYTES + _BUFFER
        try:
            self.arriving.deadline = time.monotonic() + self.wait
            if self.rfile.peek(1):  # type: ignore[attr-defined]
                self.arriving.deadline = time.monotonic() + self.server.patience.head
                super().handle_one_request()
        except RefusalError as refusal:
            self.refuse(refusal)
        except socket.timeout:  # noqa: UP041  # Python 3.9
            self.close_connection = True
        self.wait = self.server.patience.idle

    def handle_expect_100(self) -> bool:
        """Say nothing yet: who may not ask is not asked for more."""
        return True

    def length(self) -> int:
        """How many bytes follow the request's head.

        Raises:
            RefusalError: If it does not say so, or in two ways.
        """
        if "Transfer-Encoding" in self.headers:
            raise RefusalError(411, "the request must have a body and say its Content-Length")
        said = set(self.headers.get_all("Content-Length", ["0"]))
        if len(said) > 1:
            raise RefusalError(400, "the request says two different Content-Lengths")
        length = said.pop()
        if not re.fullmatch("[0-9]{1,18}", length):
            raise RefusalError(400, f"the Content-Length {length[:40]!r} is no number of bytes")
        return int(length)

    @contextmanager
    def body(self, length: int) -> Iterator[bytearray]:
        """The request's body, as long as it is needed.

        Raises:
            RefusalError: If it does not come in time, or there is no room for it.
            ConnectionError: If the client goes away.
        """
        if self.headers.get("Expect", "").lower() == "100-continue" and self.request_version == "HTTP/1.1":
            self.connection.settimeout(self.server.patience.answer)
            self.send_response_only(100)
            self.end_headers()
        body = bytearray()
        try:
            try:
                for chunk in self._chunks(length, self.server.patience.body):
                    self.server.hold(len(chunk))
                    body += chunk
            except socket.timeout:  # noqa: UP041  # Python 3.9
                raise RefusalError(408, f"of {length} bytes {len(body)} came in time; send fewer at once") from None
            if len(body) < length:
                raise ConnectionError("the client went away in the middle of its request")
            self.server.waits_for(self.connection, "answer")
            yield body
        finally:
            self.server.hold(-len(body))

    def _chunks(self, most: int, patience: float) -> Iterator[bytes]:
        """What arrives, of so many bytes at most, as long as it does so at `RATE`."""
        begun, received = time.monotonic(), 0
        self.arriving.room = most
        while received < most:
            self.arriving.deadline = begun + patience + received / RATE
            chunk = self.rfile.read1(min(most - received, 1 << 16))
            if not chunk:
                return
            received += len(chunk)
            yield chunk

    def answer(self, status: int, body: dict[str, Any]) -> None:
        """Answer in JSON."""
        encoded = json.dumps(body, allow_nan=False).encode()
        self.connection.settimeout(self.server.patience.answer)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        if self.close_connection:
            self.send_header("Connection", "close")
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(encoded)

    def refuse(self, refusal: RefusalError, drained: int = DRAINED) -> None:
        """Say why not, and hear the client out for a while, or it may never see that."""
        self.close_connection = True
        self.answer(refusal.status, {"error": str(refusal)})
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            for _ in self._chunks(drained, self.server.patience.refusal):
                pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses, said like everything else."""
        self.refuse(RefusalError(int(code), message or f"HTTP error {int(code)}"))

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


def shown(text: str, *kept: str) -> str:
    """A stranger's text without what a terminal would act on."""
    return "".join(character if character.isprintable() or character in kept else " " for character in text)


def show_traceback() -> None:
    """Print where an error came from, whatever a client put into it."""
    sys.stderr.write(shown(traceback.format_exc(), "\n"))


def parsed(body: bytearray, most_values: int) -> Any:
    """The JSON value of a body.

    Args:
        body: In UTF-8.
        most_values: It may hold, counted before one is made, by the marks that begin them.

    Raises:
        RefusalError: If it holds more, is nested more than `DEEPEST` deep, or is no JSON without doubt.
    """
    if sum(body.count(mark) for mark in b'[{,"\\') > most_values:  # what texts hold of them is counted too
        raise RefusalError(
            413, f"a request of more than {most_values} values is too large; send fewer or smaller outputs at once"
        )
    if _depth(body) > DEEPEST:
        raise RefusalError(400, f"the request is not JSON to read: it is nested more than {DEEPEST} deep; flatten it")
    try:
        return json.loads(
            body.decode(), parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_without_repeats
        )
    except (ValueError, RecursionError) as error:
        raise RefusalError(400, f"the request is not JSON: {error}") from None


def _depth(body: bytearray) -> int:
    """How deep lists and objects are nested in JSON that is not read yet."""
    depth = deepest = position = 0
    while found := _NESTING.search(body, position):
        position = found.end()
        if found[0] in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif found[0] in b"]}":
            depth -= 1
        else:
            position = _end_of_text(body, position)
    return deepest


def _end_of_text(body: bytearray, begin: int) -> int:
    """Where a text of JSON ends that begins here, after its quote; a megabyte of base64 is passed over at once."""
    end = body.find(b'"', begin)
    while end >= 0:
        last = end - 1
        while last >= begin and body[last] == ord("\\"):
            last -= 1
        if (end - last) % 2:  # an even number of backslashes stands before it
            return end + 1
        end = body.find(b'"', end + 1)
    return len(body)


def _no_constant(name: str) -> None:
    raise ValueError(f"it holds {name}")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"it holds {digits[:40]}, which is too large")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found
