"""Ask a server over HTTP, again and again while it is away, and read no more of its answer than was agreed."""

from __future__ import annotations

import json
import logging
import time
import weakref
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..ground.errors import ConfigError, ScoreError, printable
from ..ground.plain import number

if TYPE_CHECKING:
    import tenacity

LONGEST_WAIT = 7 * 86_400.0  # seconds; sockets do not accept much longer timeouts
SHORTEST_WAIT = 1e-3
#: Statuses that a server, or a proxy in front of a server, sends while the server starts, stops or is busy.
AWAY = (502, 503, 504)
_log = logging.getLogger("trimpot.remote")


class AwayError(Exception):
    """The server cannot be reached at the moment; the message says why."""


class Asked:
    """A server that is asked.

    Args:
        url: Its address.
        name: What it is called in messages, such as `the reward server at URL`.
        whose: What its numbers are called in messages, such as `a remote reward`.
        timeout: Seconds without a byte after which a request is sent again; at most a week.
        patience: Seconds to wait for a server that is away; at most a week.
        token: The token to show to the server; None shows none.
        away: The statuses that a server sends while it cannot answer.

    Raises:
        ConfigError: If a number is out of range.
    """

    def __init__(
        self,
        url: str,
        name: str,
        whose: str,
        *,
        timeout: float,
        patience: float,
        token: str | None,
        away: tuple[int, ...] = AWAY,
    ) -> None:
        import httpx

        self.url, self.name, self._away = url.rstrip("/"), name, away
        self._timeout = number(timeout, f"timeout of {whose}", low=SHORTEST_WAIT, high=LONGEST_WAIT)
        self._patience = number(patience, f"patience of {whose}", low=0, high=LONGEST_WAIT)
        headers = {"Accept-Encoding": "identity"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx.Client(
            timeout=httpx.Timeout(self._timeout, connect=min(self._timeout, 10.0)),
            headers=headers,
            trust_env=False,  # the server is asked directly, without a proxy
            verify=self.url.startswith("https:"),  # HTTP needs no certificates, which are slow to load
        )
        weakref.finalize(self, self._client.close)

    def ask(self, method: str, path: str, body: bytes | None, most: int, kind: str) -> tuple[int, bytes]:
        """Send a request again and again until the server answers or `patience` has passed.

        Args:
            method: The method of HTTP.
            path: The path below the server's address.
            body: JSON, or None.
            most: The largest number of bytes of the answer.
            kind: What the answer is, for the message if it is larger.

        Returns:
            The status and the bytes of the answer.

        Raises:
            ScoreError: If the server stays away, or answers with more than `most` bytes.
        """
        import tenacity

        begun: list[float] = []

        def enough(state: tenacity.RetryCallState) -> bool:
            begun.append(time.monotonic())
            return begun[-1] - begun[0] >= self._patience

        def tell(state: tenacity.RetryCallState) -> None:
            if state.attempt_number == 1 and state.outcome is not None:
                _log.warning(
                    "%s is away (%s); waiting %g s for it", self.name, state.outcome.exception(), self._patience
                )

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(AwayError),
            wait=tenacity.wait_exponential(multiplier=0.1, max=5),
            stop=enough,
            before_sleep=tell,
            reraise=True,
        )
        try:
            return retrying(self._exchange, method, path, body, most, kind)
        except AwayError as error:
            raise ScoreError(
                f"{self.name} has been away for {self._patience:g} s ({error}); start it there and resume"
            ) from None

    def _exchange(self, method: str, path: str, body: bytes | None, most: int, kind: str) -> tuple[int, bytes]:
        """Send a request once, and return the status and the bytes of the answer."""
        import httpx

        headers = {"Content-Type": "application/json"} if body is not None else {}
        answer, deadline = bytearray(), time.monotonic() + self._timeout
        try:
            with self._client.stream(method, self.url + path, content=body, headers=headers) as response:
                for chunk in response.iter_raw(1 << 16):
                    answer += chunk
                    if len(answer) > most:
                        raise ScoreError(f"{self.name} sent more than {most} bytes, which is no {kind}")
                    if time.monotonic() > deadline:
                        raise AwayError(f"its answer did not end within {self._timeout:g} s")
        except httpx.TransportError as error:
            raise AwayError(f"{type(error).__name__}: {error}".removesuffix(": ")) from None
        if response.status_code in self._away:
            raise AwayError(f"status {response.status_code}{colon(error_in(bytes(answer)))}")
        return response.status_code, bytes(answer)

    def object_in(self, answer: bytes) -> dict[str, Any]:
        """Return the JSON object of an answer.

        Raises:
            ScoreError: If the answer is none.
        """
        try:
            found = json.loads(answer)
        except (ValueError, RecursionError):
            start = answer[:40].decode("utf-8", "replace")
            raise ScoreError(f"{self.name} did not answer in JSON but with {start!r}") from None
        if not isinstance(found, dict):
            raise ScoreError(f"{self.name} answered with a JSON {type(found).__name__}, not an object")
        return found


def check_url(url: str, server: str, example: str, variable: str) -> None:
    """Check the address of a server.

    Args:
        url: The address.
        server: What the server is called in a message.
        example: An address that could be one.
        variable: The environment variable for a token.

    Raises:
        ConfigError: If it is none, or holds a secret.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment:
        raise ConfigError(f"url {url!r} is no address of a {server}, such as {example}")
    if parts.username is not None:
        raise ConfigError(
            f"the url of the {server} at {parts.hostname} holds a user name, which would be stored with the "
            f"run; give a token in the environment variable {variable} instead"
        )


def error_in(answer: bytes) -> str:
    """Return the error sentence in a server's answer, or an empty text; some servers wrap it in an object."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return ""
    sentence = found.get("error") if isinstance(found, dict) else None
    if isinstance(sentence, dict):
        sentence = sentence.get("message")
    return " ".join(printable(sentence).split())[:500] if isinstance(sentence, str) else ""


def colon(sentence: str) -> str:
    """Return a sentence after a colon, or nothing."""
    return f": {sentence}" if sentence else ""
