"""A reward that another process serves: asked over HTTP, waited for while it is away, and held to what it was.

The other side is `servers/reward_server.py`, which documents the protocol; `trimpot serve` and the scripts in
`servers/` start one.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
import warnings
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..engine.hooks import Register, hookimpl
from ..engine.knobs import digest
from ..engine.seams import Objective, Output
from ..ground.errors import ConfigError, Notice, ScoreError, printable
from ..ground.plain import number, plain
from .wire import request

if TYPE_CHECKING:
    import tenacity

PROTOCOL = 1
TOKEN_VARIABLE = "TRIMPOT_TOKEN"
#: Statuses of a server, or of a proxy before it, that is starting, stopping or busy.
_AWAY = (502, 503, 504)
LONGEST_WAIT = 7 * 86_400.0  # seconds: longer is never, and beyond what a socket can be told
SHORTEST_WAIT = 1e-3
MOST_AT_ONCE = 65_536
_MOST_BYTES = 1 << 20  # of an answer, and 64 more for every score asked for
_log = logging.getLogger("trimpot.remote")


class _AwayError(Exception):
    """The server cannot be asked just now; says why."""


class Remote(Objective):
    """A reward served by another process.

    It is pinned when this is made: an answer under another fingerprint is refused, so that one run is never
    scored by two rewards.

    Args:
        url: Where the server listens.
        timeout: Seconds without a byte after which a request is asked again, a week at most.
        patience: Seconds for which a server that is away is waited for, a week at most.
        batch_size: Outputs asked for in one request.
        compression: Of the images on their way, from 0 (none, fastest on one machine) to 9.
        token: What the server wants to be shown, if anything.

    Raises:
        ConfigError: If the address is none, or a number is none that can be waited or sent by.
        ScoreError: If there is no such server.
    """

    calls_at_once = 4  # a server that takes fewer has the others wait

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 600.0,
        patience: float = 120.0,
        batch_size: int = 64,
        compression: int = 0,
        token: str | None = None,
    ) -> None:
        import httpx

        _check_url(url)
        self.url = url.rstrip("/")
        self._timeout = number(timeout, "timeout of a remote reward", low=SHORTEST_WAIT, high=LONGEST_WAIT)
        self._patience = number(patience, "patience of a remote reward", low=0, high=LONGEST_WAIT)
        self._batch_size = _whole(batch_size, "batch_size of a remote reward", 1, MOST_AT_ONCE)
        self._compression = _whole(compression, "compression of a remote reward", 0, 9)
        headers = {"Accept-Encoding": "identity"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        limits = httpx.Timeout(self._timeout, connect=min(self._timeout, 10.0))
        self._client = httpx.Client(
            timeout=limits,
            headers=headers,
            trust_env=False,  # no proxy for a neighbour
            verify=self.url.startswith("https:"),  # plain HTTP needs no certificates, which take a while to load
        )
        weakref.finalize(self, self._client.close)
        self._metadata: Mapping[str, Mapping[str, Any]] = {}
        self._fingerprint = ""
        self._description, self._fingerprint, self._takes_metadata, self.scores_sets = self._health()

    def prepare(self, metadata: Mapping[str, Mapping[str, Any]]) -> None:
        """Have the server try what prompt files say of their prompts, and send it along. See `Objective.prepare`.

        Raises:
            ScoreError: If the server cannot use it.
        """
        if metadata and not self._takes_metadata:
            warnings.warn(
                f"{self._name()} takes no metadata, so what prompt files say of their prompts does not reach it",
                Notice,
                stacklevel=2,
            )
        self._metadata = dict(metadata) if self._takes_metadata else {}
        if self._metadata:
            self._score([], [], self._metadata)

    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Ask the server, `batch_size` outputs at a time. See `Objective.score`.

        Raises:
            ScoreError: If the server refuses, stays away, or answers what no score can be.
        """
        scores: list[float] = []
        size = len(outputs) if self.scores_sets else self._batch_size
        for begin in range(0, len(outputs), max(1, size)):
            part = slice(begin, begin + size)
            known = {prompt: self._metadata[prompt] for prompt in prompts[part] if prompt in self._metadata}
            scores += self._score(outputs[part], list(prompts[part]), known)
        return np.array(scores, dtype=np.float64)

    def describe(self) -> Mapping[str, Any]:
        """What the server says of itself, its fingerprint, and the metadata it is sent. See `Objective.describe`.

        Where it listens changes no score.
        """
        sent = {"metadata": digest(self._metadata)} if self._metadata else {}
        return {"served": self._description, "fingerprint": self._fingerprint, **sent}

    def _score(
        self, outputs: Sequence[Output], prompts: list[str], metadata: Mapping[str, Mapping[str, Any]]
    ) -> list[float]:
        head = {"protocol": PROTOCOL, "fingerprint": self._fingerprint, "prompts": prompts}
        if metadata:
            head["metadata"] = metadata
        answer = self._ask("POST", "/score", request(head, outputs, self._compression), len(prompts))
        if answer.get("fingerprint") != self._fingerprint:
            raise self._another(answer.get("fingerprint"))
        scores = answer.get("scores")
        if not isinstance(scores, list) or len(scores) != len(prompts):
            count = len(scores) if isinstance(scores, list) else "no list of"
            raise ScoreError(f"{self._name()} gave {count} scores for {len(prompts)} outputs")
        for score, prompt in zip(scores, prompts, strict=True):
            if isinstance(score, bool) or not isinstance(score, (int, float)) or not _is_finite(score):
                shown = repr(score)[:60]
                raise ScoreError(f"{self._name()} gave {shown} for prompt {prompt!r}; scores must be finite numbers")
        return [float(score) for score in scores]

    def _health(self) -> tuple[dict[str, Any], str, bool, bool]:
        """Who is there, its fingerprint, whether metadata changes scores, and whether it scores sets."""
        answer = self._ask("GET", "/health")
        if "protocol" not in answer:
            raise ScoreError(f"{self._name()} is no reward server: its /health says nothing of a protocol")
        if answer["protocol"] != PROTOCOL:
            raise ScoreError(
                f"{self._name()} speaks protocol {answer['protocol']!r:.40} and this version of trimpot {PROTOCOL}; "
                f"update the older of the two"
            )
        description, fingerprint = answer.get("description"), answer.get("fingerprint")
        if not isinstance(description, dict) or not isinstance(fingerprint, str) or not fingerprint:
            raise ScoreError(f"{self._name()} is no reward server: its /health lacks a fingerprint or description")
        if len(fingerprint) > 100 or fingerprint != printable(fingerprint):
            raise ScoreError(f"{self._name()} is no reward server: its fingerprint is {fingerprint[:40]!r}")
        clean = _printable(plain(description, f"the description of {self._name()}", ScoreError))
        return clean, fingerprint, answer.get("metadata") is True, answer.get("scores_sets") is True

    def _ask(self, method: str, path: str, body: bytes | None = None, num_scores: int = 0) -> dict[str, Any]:
        """Ask until there is an answer or patience ends."""
        import tenacity

        begun: list[float] = []

        def enough(state: tenacity.RetryCallState) -> bool:
            begun.append(time.monotonic())
            return begun[-1] - begun[0] >= self._patience

        def tell(state: tenacity.RetryCallState) -> None:
            if state.attempt_number == 1 and state.outcome is not None:
                _log.warning(
                    "%s is away (%s); waiting %g s for it", self._name(), state.outcome.exception(), self._patience
                )

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_AwayError),
            wait=tenacity.wait_exponential(multiplier=0.1, max=5),
            stop=enough,
            before_sleep=tell,
            reraise=True,
        )
        try:
            status, answer = retrying(self._exchange, method, path, body, _MOST_BYTES + 64 * num_scores)
        except _AwayError as error:
            raise ScoreError(
                f"{self._name()} has been away for {self._patience:g} s ({error}); start it there and resume"
            ) from None
        return self._read(status, answer)

    def _exchange(self, method: str, path: str, body: bytes | None, most: int) -> tuple[int, bytes]:
        """One request and the raw bytes of its answer."""
        import httpx

        headers = {"Content-Type": "application/json"} if body is not None else {}
        answer, deadline = bytearray(), time.monotonic() + self._timeout
        try:
            with self._client.stream(method, self.url + path, content=body, headers=headers) as response:
                for chunk in response.iter_raw(1 << 16):
                    answer += chunk
                    if len(answer) > most:
                        raise ScoreError(f"{self._name()} sent more than {most} bytes where a few were due")
                    if time.monotonic() > deadline:
                        raise _AwayError(f"its answer did not end within {self._timeout:g} s")
        except httpx.TransportError as error:
            raise _AwayError(f"{type(error).__name__}: {error}".removesuffix(": ")) from None
        if response.status_code in _AWAY:
            raise _AwayError(f"status {response.status_code}{_colon(_error_in(bytes(answer)))}")
        return response.status_code, bytes(answer)

    def _read(self, status: int, answer: bytes) -> dict[str, Any]:
        """The JSON object of an answer, or the sentence of a refusal."""
        sentence = _error_in(answer)
        if status == 409 and self._fingerprint:
            raise self._another(None, sentence)
        if status != 200:
            raise ScoreError(f"{self._name()} refused with status {status}{_colon(sentence)}")
        try:
            found = json.loads(answer)
        except (ValueError, RecursionError):
            start = answer[:40].decode("utf-8", "replace")
            raise ScoreError(f"{self._name()} did not answer in JSON but with {start!r}") from None
        if not isinstance(found, dict):
            raise ScoreError(f"{self._name()} answered with a JSON {type(found).__name__}, not an object")
        return found

    def _another(self, fingerprint: object, sentence: str = "") -> ScoreError:
        return ScoreError(
            f"{self._name()} is no longer the reward this run was begun with, {self._fingerprint}"
            f"{_colon(sentence or f'it now is {fingerprint!r:.60}')}; start that one there again and resume"
        )

    def _name(self) -> str:
        return f"the reward server at {self.url}"


def make_remote(
    *,
    url: str,
    timeout: Annotated[float, Field(ge=SHORTEST_WAIT, le=LONGEST_WAIT)] = 600.0,
    patience: Annotated[float, Field(ge=0, le=LONGEST_WAIT)] = 120.0,
    batch_size: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = 64,
    compression: Annotated[int, Field(ge=0, le=9)] = 0,
    token_env: str = TOKEN_VARIABLE,
) -> Objective:
    """A reward that another process serves at `url`; `trimpot serve` starts one.

    Args:
        url: Where it listens, such as http://127.0.0.1:8200.
        timeout: Seconds without a byte after which a request is asked again, a week at most.
        patience: Seconds for which a server that is away is waited for, a week at most.
        batch_size: Outputs asked for in one request.
        compression: Of the images on their way, always lossless, from 0 (none) to 9.
        token_env: The environment variable that holds the server's token, if it wants one. The token itself
            has no place in a configuration, which is stored and shown.
    """
    return Remote(
        url,
        timeout=timeout,
        patience=patience,
        batch_size=batch_size,
        compression=compression,
        token=os.environ.get(token_env) or None,
    )


@hookimpl
def register_objectives(register: Register) -> None:
    """Name the reward that others serve."""
    register("remote", make_remote)


def _whole(value: object, name: str, low: int, high: int) -> int:
    found = number(value, name, low=low, high=high)
    if found != int(found):
        raise ConfigError(f"{name} must be a whole number, not {found:g}")
    return int(found)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment:
        raise ConfigError(f"url {url!r} is no address of a reward server, such as http://127.0.0.1:8200")
    if parts.username is not None:
        raise ConfigError(
            f"the url of the reward server at {parts.hostname} holds a user name, which would be stored with the "
            f"run; give a token in the environment variable {TOKEN_VARIABLE} instead"
        )


def _error_in(answer: bytes) -> str:
    """The sentence with which a server says what is wrong, or nothing."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return ""
    sentence = found.get("error") if isinstance(found, dict) else None
    return " ".join(printable(sentence).split())[:500] if isinstance(sentence, str) else ""


def _printable(value: Any) -> Any:
    """JSON of a server, whose strings will be shown."""
    if isinstance(value, dict):
        return {printable(key): _printable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_printable(each) for each in value]
    return printable(value) if isinstance(value, str) else value


def _is_finite(score: float) -> bool:
    try:
        return math.isfinite(score)
    except OverflowError:  # an integer beyond every float
        return False


def _colon(sentence: str) -> str:
    return f": {sentence}" if sentence else ""
