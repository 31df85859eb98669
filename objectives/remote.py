"""A reward served by another process over HTTP. It waits for an absent server, and refuses a changed reward.

`servers/reward_server.py` implements the server and documents the protocol; `trimpot serve` and the scripts in
`servers/` start a server.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..engine.hooks import Register, hookimpl
from ..engine.knobs import digest
from ..engine.seams import Objective, Output
from ..ground.errors import ConfigError, Notice, ScoreError, printable
from ..ground.plain import number, plain, quoted
from .asking import LONGEST_WAIT, SHORTEST_WAIT, Asked, check_url, colon, error_in
from .wire import request

PROTOCOL = 1
TOKEN_VARIABLE = "TRIMPOT_TOKEN"
MOST_AT_ONCE = 65_536
_MOST_BYTES = 1 << 20  # largest answer, plus 64 bytes for every score asked for


class Remote(Objective):
    """A reward served by another process.

    The constructor reads the fingerprint of the served reward. A later answer with another fingerprint is refused, so
    that two rewards never score one run.

    Args:
        url: The address of the server.
        timeout: Seconds without a byte after which a request is sent again; at most a week.
        patience: Seconds to wait for a server that is away; at most a week.
        batch_size: The number of outputs in a request.
        compression: The compression of the images sent, from 0 (none, fastest on one machine) to 9.
        token: The token to show to the server; None shows none.

    Raises:
        ConfigError: If the address is invalid, or a number is out of range.
        ScoreError: If no reward server answers at the address.
    """

    calls_at_once = 4  # a server that takes fewer requests lets the others wait

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
        check_url(url, "reward server", "http://127.0.0.1:8200", TOKEN_VARIABLE)
        self.url = url.rstrip("/")
        self._server = Asked(url, self._name(), "a remote reward", timeout=timeout, patience=patience, token=token)
        self._batch_size = _whole(batch_size, "batch_size of a remote reward", 1, MOST_AT_ONCE)
        self._compression = _whole(compression, "compression of a remote reward", 0, 9)
        self._metadata: Mapping[str, Mapping[str, Any]] = {}
        self._fingerprint = ""
        self._description, self._fingerprint, self._takes_metadata, self.scores_sets = self._health()

    def prepare(self, metadata: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep the metadata of prompt files for later requests, and let the server check it. See `Objective.prepare`.

        Raises:
            ScoreError: If the server cannot use the metadata.
        """
        if metadata and not self._takes_metadata:
            warnings.warn(
                f"{self._name()} takes no metadata, so the other columns of prompt files are not sent to it",
                Notice,
                stacklevel=2,
            )
        self._metadata = dict(metadata) if self._takes_metadata else {}
        if self._metadata:
            self._score([], [], self._metadata)

    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Ask the server, `batch_size` outputs at a time. See `Objective.score`.

        Raises:
            ScoreError: If the server refuses, stays away, or answers with an invalid score.
        """
        scores: list[float] = []
        size = len(outputs) if self.scores_sets else self._batch_size
        for begin in range(0, len(outputs), max(1, size)):
            part = slice(begin, begin + size)
            known = {prompt: self._metadata[prompt] for prompt in prompts[part] if prompt in self._metadata}
            scores += self._score(outputs[part], list(prompts[part]), known)
        return np.array(scores, dtype=np.float64)

    def describe(self) -> Mapping[str, Any]:
        """Describe the served reward by its own description, its fingerprint, and a digest of the metadata sent.

        The address is left out, because it changes no score. See `Objective.describe`.
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
                raise ScoreError(
                    f"{self._name()} gave {shown} for prompt {quoted(prompt)}; scores must be finite numbers"
                )
        return [float(score) for score in scores]

    def _health(self) -> tuple[dict[str, Any], str, bool, bool]:
        """Return the reward's description and fingerprint, whether it takes metadata, and whether it scores sets."""
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
        """Ask the server, and wait for it while it is away."""
        most = _MOST_BYTES + 64 * num_scores
        status, answer = self._server.ask(method, path, body, most, "list of scores")
        return self._read(status, answer)

    def _read(self, status: int, answer: bytes) -> dict[str, Any]:
        """Return the JSON object of an answer, or raise an error with the sentence of a refusal."""
        sentence = error_in(answer)
        if status == 409 and self._fingerprint:
            raise self._another(None, sentence)
        if status != 200:
            raise ScoreError(f"{self._name()} refused with status {status}{colon(sentence)}")
        return self._server.object_in(answer)

    def _another(self, fingerprint: object, sentence: str = "") -> ScoreError:
        return ScoreError(
            f"{self._name()} no longer serves the reward this run was begun with, {self._fingerprint}"
            f"{colon(sentence or f'it now is {fingerprint!r:.60}')}; start that one there again and resume"
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
    """A reward that another process serves at `url`; `trimpot serve` starts a server.

    Args:
        url: The address of the server, such as http://127.0.0.1:8200.
        timeout: Seconds without a byte after which a request is sent again; at most a week.
        patience: Seconds to wait for a server that is away; at most a week.
        batch_size: The number of outputs in a request.
        compression: The lossless compression of the images sent, from 0 (none) to 9.
        token_env: The environment variable that holds the server's token, if the server wants one. The token itself
            does not belong in a configuration, which is stored and shown.
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
    """Register the reward served by another process."""
    register("remote", make_remote)


def _whole(value: object, name: str, low: int, high: int) -> int:
    found = number(value, name, low=low, high=high)
    if found != int(found):
        raise ConfigError(f"{name} must be a whole number, not {found:g}")
    return int(found)


def _printable(value: Any) -> Any:
    """Remove control characters from all strings in a server's JSON, because the strings will be shown."""
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
