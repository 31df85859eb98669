"""An HTTP server that limits the memory, connections and time of its clients; the reward server is built on it.

    connections   at most CONNECTIONS; another one replaces the connection that has waited longest without a request
    a head        at most HEAD_BYTES, within `Patience.head` seconds of its first byte
    a body        as large as the handler allows, arriving at RATE at least; all bodies together at most `most_held`
    its JSON      as many values as the handler allows, nested at most DEEPEST deep, counted before parsing
    a refusal     after it, at most DRAINED bytes of the request are read, for at most `Patience.refusal` seconds

It needs only the standard library of Python 3.9 or later.
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
#: The greatest depth of nested lists and objects in a request.
DEEPEST = 64
_NESTING = re.compile(rb'["\[\]{}]')


class RefusalError(Exception):
    """The refusal of a request, or of starting the server: an HTTP status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(" ".join(shown(sentence).split())[:1000])
        self.status = status


@dataclass(frozen=True)
class Patience:
    """Time limits for a client, in seconds.

    Attributes:
        head: To send the head of a request.
        idle: To begin another request on the same connection.
        body: To send a body, in addition to the time that the body takes at `RATE`.
        answer: To receive an answer.
        refusal: To receive a refusal and hang up.
    """

    head: float = 10.0
    idle: float = 60.0
    body: float = 30.0
    answer: float = 60.0
    refusal: float = 2.0


class BoundedServer(socketserver.ThreadingTCPServer):
    """A server that listens as soon as it is constructed and answers inside `serve_forever`.

    Args:
        address: Host and port.
        handler: A `BoundedHandler`.
        most_held: The largest number of bytes of all bodies in memory at the same time.
        patience: The time limits for clients.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self, address: tuple[str, int], handler: type[BoundedHandler], most_held: int, patience: Patience
    ) -> None:
        self.patience, self._most_held, self._held = patience, most_held, 0
        self._turn = threading.Condition()
        #: Connections in the order in which they began to wait, each with what it waits for: head, body or answer.
        self._open: dict[Any, str] = {}
        self._stopping = False
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Accept a connection; if there are too many, replace another connection or refuse the new one."""
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
        """Mark a connection as having a request, inside the `with` block; `finish` waits for the end of the block.

        Raises:
            RefusalError: If the server is stopping.
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
        """Record what a connection waits for now; a connection that waits for an answer cannot be replaced.

        Raises:
            ConnectionError: If the connection has been replaced.
        """
        with self._turn:
            if self._open.pop(connection, None) is None:
                raise ConnectionError("another client has its place")
            self._open[connection] = what
            self._turn.notify_all()

    def hold(self, num_bytes: int) -> None:
        """Count bytes of bodies in memory; a negative number counts bytes that were released.

        Raises:
            RefusalError: If the bodies in memory would exceed the limit.
        """
        with self._turn:
            if num_bytes > 0 and self._held + num_bytes > self._most_held:
                raise RefusalError(503, "too many large requests are arriving already; try again later")
            self._held += num_bytes

    def finish(self) -> None:
        """Wait until every request has its answer, and close all connections."""
        with self._turn:
            self._stopping = True
            self._turn.wait_for(lambda: all(what == "head" for what in self._open.values()))
            for connection in list(self._open):
                self._hang_up(connection)

    def _hang_up(self, connection: Any) -> None:
        """Close a connection; its thread notices by itself."""
        del self._open[connection]
        self._turn.notify_all()
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of the connection; print the traceback of any other error."""
        if not isinstance(sys.exc_info()[1], OSError):
            show_traceback()


class _Arriving(io.RawIOBase):
    """The bytes that a connection receives, up to a deadline and a number of bytes."""

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
    """The handler of one connection, in a thread of its own."""

    server: BoundedServer
    protocol_version = "HTTP/1.1"
    server_version = "trimpot"
    sys_version = ""
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Limit the time and the bytes of everything read from the connection."""
        super().setup()
        self.rfile.close()
        self.arriving = _Arriving(self.connection)
        self.rfile = io.BufferedReader(self.arriving, _BUFFER)
        self.wait = self.server.patience.head

    def handle_one_request(self) -> None:
        """Read the head of a request within its limits of time and size, and handle the request."""
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
        """Send no 100 Continue yet: `body` sends it, once the request has not been refused."""
        return True

    def length(self) -> int:
        """Return the length of the request's body in bytes.

        Raises:
            RefusalError: If the request does not state a length, or states two different lengths.
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
        """Receive the request's body, and keep it in memory inside the `with` block.

        Raises:
            RefusalError: If the body does not arrive in time, or too many bodies are in memory.
            ConnectionError: If the client disconnects.
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
        """Yield at most `most` bytes as they arrive, for `patience` seconds plus the time that they take at `RATE`."""
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
        """Send an answer in JSON."""
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
        """Send a refusal, then read on for a while, since a client that is still sending may miss it otherwise."""
        self.close_connection = True
        self.answer(refusal.status, {"error": str(refusal)})
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            for _ in self._chunks(drained, self.server.patience.refusal):
                pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send the standard library's refusals in the same form as all others."""
        self.refuse(RefusalError(int(code), message or f"HTTP error {int(code)}"))

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def shown(text: str, *kept: str) -> str:
    """Replace the unprintable characters of a text by spaces, except those in `kept`."""
    return "".join(character if character.isprintable() or character in kept else " " for character in text)


def show_traceback() -> None:
    """Print the traceback of the current error without unprintable characters, which a client may have sent."""
    sys.stderr.write(shown(traceback.format_exc(), "\n"))


def parsed(body: bytearray, most_values: int) -> Any:
    """Parse the JSON value of a body.

    Args:
        body: JSON in UTF-8.
        most_values: The largest number of values, estimated before parsing from the characters that begin them.

    Raises:
        RefusalError: If the body holds more values, is nested more than `DEEPEST` deep, is not JSON, or has a number
            that is not finite or an object that has a key twice.
    """
    if sum(body.count(mark) for mark in b'[{,"\\') > most_values:  # also counts these characters inside texts
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
    """Return how deep lists and objects are nested in JSON, without parsing it."""
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
    """Return the position after a JSON string whose first character is at `begin`; skips long base64 quickly."""
    end = body.find(b'"', begin)
    while end >= 0:
        last = end - 1
        while last >= begin and body[last] == ord("\\"):
            last -= 1
        if (end - last) % 2:  # an even number of backslashes precedes the quotation mark
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
