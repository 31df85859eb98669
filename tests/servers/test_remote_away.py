"""A reward server that is away is waited for, with patience and no longer."""

from __future__ import annotations

import inspect
import json
import logging
import math
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from served import answering, http, python, reserved_port, scenes, serving
from trimpot.ground.errors import ConfigError, ScoreError
from trimpot.objectives.remote import Remote
from trimpot.servers.reward_server import PROTOCOL
from trimpot.setup.plugins import Plugins
from waiting import LONG, until


class Told(list[Any]):
    """Outputs that do something when they are asked for some of them."""

    def __init__(self, outputs: list[Any], after: int, then: Callable[[], None]) -> None:
        super().__init__(outputs)
        self._after, self._then = after, then

    def __getitem__(self, part: Any) -> Any:
        if isinstance(part, slice) and part.start == self._after:
            self._then()
        return super().__getitem__(part)


@pytest.mark.parametrize("middle", [False, True], ids=["between two requests", "in the middle of one"])
def test_a_server_that_is_killed_and_started_again_is_waited_for(
    middle: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A stopped process reads nothing of a request that is larger than what is held on the way to it."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 512, 512, 3), dtype=np.uint8)
    with python("jpeg_size.py") as server, caplog.at_level(logging.DEBUG):

        def said(what: str) -> bool:
            return any(what in record.getMessage() for record in list(caplog.records))

        def killed() -> None:
            until(lambda: said("send_request_body.started"))
            server.kill()

        def started_again() -> None:
            until(lambda: said("is away"))
            server.start()

        def end() -> None:
            caplog.clear()
            if middle:
                server.process.send_signal(signal.SIGSTOP)
                others.submit(killed)
            else:
                server.kill()
            restarted.append(others.submit(started_again))

        remote = Remote(server.url, batch_size=16, patience=LONG)
        expected = remote.score(list(noise), ["any"] * 32)
        restarted: list[Future[None]] = []
        with ThreadPoolExecutor(2) as others:
            scores = remote.score(Told(list(noise), 16, end), ["any"] * 32)
            restarted[0].result()
        assert np.array_equal(scores, expected)


NO_NUMBERS = (math.inf, -math.inf, math.nan, -1, 1e300, 10**400, True, None, "soon", [1.0], 1j)
OUT_OF_RANGE = {
    "timeout": (0, 604_801),
    "patience": (-1e-9, 604_801),
    "batch_size": (0, 2.5, 65_537),
    "compression": (9.5, 10),
}

REFUSED = [(option, bad) for option, others in OUT_OF_RANGE.items() for bad in (*NO_NUMBERS, *others)]


@pytest.mark.parametrize(("option", "bad"), REFUSED)
def test_a_number_that_cannot_be_waited_or_sent_by_is_refused_before_anybody_is_asked(option: str, bad: Any) -> None:
    """By the class, and by the factory that configurations go through; nothing listens at this address."""
    url = "http://127.0.0.1:9"
    for make in (
        lambda: Remote(url, **{option: bad}),
        lambda: Plugins().make("objectives", "remote", {"url": url, "patience": 0, option: bad}),
    ):
        with pytest.raises(ConfigError, match=option) as caught:
            make()
        assert "\n" not in str(caught.value)


def test_every_number_of_a_remote_reward_is_among_those() -> None:
    annotated = inspect.signature(Remote.__init__).parameters.values()
    assert {each.name for each in annotated if each.annotation in ("float", "int")} == set(OUT_OF_RANGE)


def test_a_server_that_stays_away_is_given_up_after_the_patience() -> None:
    with reserved_port() as port:
        with serving(port=port) as server:
            remote = Remote(server.url, patience=0.5)
        begun = time.monotonic()
        with pytest.raises(ScoreError, match=r"has been away for 0\.5 s \(.*refused.*\); start it there and resume"):
            remote.score(scenes("a red circle"), ["a red circle"])
        assert time.monotonic() - begun >= 0.5


def test_patience_begins_when_the_server_is_away_and_not_when_it_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that stands still, but for the answer that takes longer than the patience and then does not come."""
    now = 0.0
    monkeypatch.setattr("trimpot.objectives.asking.time", SimpleNamespace(monotonic=lambda: now))
    health = json.dumps({"protocol": PROTOCOL, "fingerprint": "f", "description": {}}).encode()
    asked: list[bytes] = []

    def answer(line: bytes) -> bytes:
        nonlocal now
        if b"/health" in line:
            return http(health)
        asked.append(line)
        if len(asked) == 1:
            now += 100
            return b""
        return http(b'{"fingerprint": "f", "scores": [2]}')

    with answering(answer) as url:
        assert Remote(url, patience=60).score([0], ["x"]) == [2.0]
    assert len(asked) == 2


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"])
def test_a_server_that_is_starting_is_waited_for(status: str) -> None:
    health = json.dumps({"protocol": PROTOCOL, "fingerprint": "f", "description": {}}).encode()
    answers = iter([http(b"<html>", status), http(b"", status), http(health)])
    with answering(lambda line: next(answers)) as url:
        assert Remote(url, patience=LONG).describe() == {"served": {}, "fingerprint": "f"}


@pytest.mark.parametrize("status", ["400 Bad Request", "401 No", "404 Not Found", "500 Oh", "302 Found"])
def test_a_server_that_refuses_is_not_asked_again(status: str) -> None:
    asked: list[bytes] = []

    def answer(line: bytes) -> bytes:
        asked.append(line)
        return http(b'{"error": "because\\nof the moon"}', status)

    with answering(answer) as url, pytest.raises(ScoreError, match=f"status {status[:3]}: because of the moon"):
        Remote(url, patience=LONG)
    assert len(asked) == 1


def test_an_answer_that_does_not_come_is_given_up() -> None:
    given_up = threading.Event()

    def answer(line: bytes) -> bytes:
        given_up.wait(LONG)
        return b""

    with answering(answer) as url:
        with pytest.raises(ScoreError, match=r"away for 0 s \(ReadTimeout"):
            Remote(url, patience=0, timeout=0.1)
        given_up.set()
