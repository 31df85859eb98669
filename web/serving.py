"""A server for pages of our own: an address to listen at, a token where others can reach it, a clean end.

with Server(routes, port=8300).serving() as server:
    print(server.link)
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from ..ground.errors import ConfigError, TrimpotError
from .guard import Admits, Guard, same, sentence_of

PATIENCE = 3  # seconds that answers under way have once the server is told to stop
MOST_AT_ONCE = 256  # connections; each further one is told to come again later
_WHY = {
    errno.EADDRINUSE: "another program listens there already",
    errno.EACCES: "this user may not listen there",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


class Server:
    """Serves pages to browsers. It listens as soon as it is made, and answers inside `serving` or `run`.

    Attributes:
        token: The token that every request must bring, or None if none is required.
        host: The address it listens at.
        port: The port it listens at.

    Args:
        routes: The pages. Errors that they raise become pages of one sentence.
        host: The address to listen at; any but this machine's loopback needs a token.
        port: The port to listen at; 0 selects a free one.
        token: The token to require; None generates one where a token is needed.
        admits: Whether a token is admitted besides `token`, for pages that know several people by theirs; given, a
            token is always required.

    Raises:
        ConfigError: If it cannot listen at the address, or the token cannot be sent.
    """

    def __init__(
        self,
        routes: Sequence[BaseRoute],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        admits: Admits | None = None,
    ) -> None:
        if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token != ""):
            raise ConfigError("the token must be printable ASCII without spaces at its ends, and not empty")
        if token is None and (admits is not None or not is_loopback(host)):
            token = secrets.token_urlsafe(24)
        self.host, self.token = host, token
        self._socket = listening(host, port)
        self.port = int(self._socket.getsockname()[1])
        own = same(token) if token is not None else None
        admitted = own if own is None or admits is None else lambda given: own(given) or admits(given)
        app = Starlette(
            routes=list(routes),
            exception_handlers=dict.fromkeys((HTTPException, TrimpotError, Exception), sentence_of),
        )
        guard = Guard(
            app, admitted, {host.lower(), "localhost", "127.0.0.1", "::1"}, f"trimpot-{self.port}", self._ends
        )
        config = uvicorn.Config(
            guard,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MOST_AT_ONCE,
            timeout_graceful_shutdown=PATIENCE,
        )
        self._server = uvicorn.Server(config)

    @property
    def url(self) -> str:
        """The address of the first page, without a token."""
        name = socket.gethostname() if self.host in ("0.0.0.0", "::", "") else self.host
        return f"http://{f'[{name}]' if ':' in name else name}:{self.port}/"

    @property
    def link(self) -> str:
        """The address of the first page, with the token if one is required."""
        return self.link_with(self.token)

    def link_with(self, token: str | None, path: str = "") -> str:
        """Return the address of a page with a token of one's own.

        Args:
            token: The token; None for an address without one.
            path: The path of the page, without a slash at its beginning.
        """
        from urllib.parse import quote

        return f"{self.url}{path}" + (f"?token={quote(token, safe='')}" if token else "")

    @contextlib.contextmanager
    def serving(self) -> Iterator[Server]:
        """Answer requests in a thread of its own, inside the `with` block; the port is free after it."""
        thread = threading.Thread(target=self._server.run, args=([self._socket],), name="pages", daemon=True)
        thread.start()
        try:
            while not self._server.started and thread.is_alive():
                time.sleep(0.005)
            if not thread.is_alive():
                raise ConfigError(f"the server of {self.url} could not begin")
            self._thread = thread
            yield self
        finally:
            self._server.should_exit = True
            thread.join(PATIENCE + 2)
            self.close()

    def run(self) -> None:
        """Answer requests until this thread is interrupted, as by Ctrl-C, which ends it and raises nothing."""
        with contextlib.suppress(KeyboardInterrupt), self.serving():
            while self._thread.is_alive():
                self._thread.join(0.5)

    def close(self) -> None:
        """Free the port, also of a server that never served."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _ends(self) -> bool:
        return self._server.should_exit


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address.

    Raises:
        ConfigError: If nothing can listen there.
    """
    where = f"cannot listen at {host} port {port}"
    if not 0 <= port <= 65535:
        raise ConfigError(f"{where}: ports are numbers from 0 (a free one) to 65535; choose another --port")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ConfigError(f"{where}: {host!r} is no address of a machine; choose another --host") from None
    family, kind, protocol, _, address = found[0]
    made = socket.socket(family, kind, protocol)
    try:
        if hasattr(socket, "SO_REUSEPORT"):  # on Windows, the option would take a port from another program
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(128)
    except OSError as error:
        made.close()
        why = _WHY.get(error.errno or 0, error.strerror or str(error))
        option = "--host" if error.errno == errno.EADDRNOTAVAIL else "--port"
        raise ConfigError(f"{where}: {why}; choose another {option}") from None
    return made


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
