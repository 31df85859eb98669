"""A reward server that is away is waited for, with patience and no longer."""

from __future__ import annotations

import inspect
import json
import logging
import math
import threading
import time
from typing import Any

import numpy as np
import pytest
from served import answering, http, python, scenes, serving
from trimpot.ground.errors import ConfigError, ScoreError
from trimpot.objectives.remote import Remote
from trimpot.servers.reward_server import PROTOCOL
from trimpot.setup.plugins import Plugins


class Killing(list[Any]):
    """Outputs that end a server when it has been given some of them, and start it again a while later."""

    def __init__(self, outputs: list[Any], server: Any, after: int, delay: float) -> None:
        super().__init__(outputs)
        self.kill, self.restart = threading.Timer(delay, server.kill), threading.Timer(delay + 0.7, server.start)
        self.after = after

    def __getitem__(self, part: Any) -> Any:
        if isinstance(part, slice) and part.start == self.after:
            self.kill.start()
            self.restart.start()
            if self.kill.interval == 0:
                self.kill.join()
        return super().__getitem__(part)


@pytest.mark.parametrize("delay", [0.0, 0.1], ids=["between two requests", "in the middle of one"])
def test_a_server_that_is_killed_and_started_again_is_waited_for(
    delay: float, caplog: pytest.LogCaptureFixture
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 512, 512, 3), dtype=np.uint8)
    with python("jpeg_size.py") as server:
        remote = Remote(server.url, batch_size=24, patience=30)
        expected = remote.score(list(noise), ["any"] * 48)
        outputs = Killing(list(noise), server, 24, delay)
        try:
            with caplog.at_level(logging.WARNING, "trimpot.remote"):
                scores = remote.score(outputs, ["any"] * 48)
        finally:
            outputs.restart.join()
        assert np.array_equal(scores, expected)
        assert [record.getMessage() for record in caplog.records if "is away" in record.getMessage()]


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
    with serving() as server:
        remote = Remote(server.url, patience=0.5)
    begun = time.monotonic()
    with pytest.raises(ScoreError, match=r"has been away for 0\.5 s \(.*refused.*\); start it there and resume"):
        remote.score(scenes("a red circle"), ["a red circle"])
    assert 0.5 <= time.monotonic() - begun < 3


def test_patience_begins_when_the_server_is_away_and_not_when_it_was_asked() -> None:
    health = json.dumps({"protocol": PROTOCOL, "fingerprint": "f", "description": {}}).encode()
    asked: list[float] = []

    def answer(line: bytes) -> bytes:
        if b"/health" in line:
            return http(health)
        asked.append(time.monotonic())
        if len(asked) == 1:
            time.sleep(0.8)  # longer than the patience, and then it dies
            return b""
        return http(b'{"fingerprint": "f", "scores": [2]}')

    with answering(answer) as url:
        assert Remote(url, patience=0.6).score([0], ["x"]) == [2.0]
    assert len(asked) == 2


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"])
def test_a_server_that_is_starting_is_waited_for(status: str) -> None:
    health = json.dumps({"protocol": PROTOCOL, "fingerprint": "f", "description": {}}).encode()
    answers = iter([http(b"<html>", status), http(b"", status), http(health)])
    with answering(lambda line: next(answers)) as url:
        assert Remote(url, patience=10).describe() == {"served": {}, "fingerprint": "f"}


@pytest.mark.parametrize("status", ["400 Bad Request", "401 No", "404 Not Found", "500 Oh", "302 Found"])
def test_a_server_that_refuses_is_not_asked_again(status: str) -> None:
    asked: list[bytes] = []

    def answer(line: bytes) -> bytes:
        asked.append(line)
        return http(b'{"error": "because\\nof the moon"}', status)

    with answering(answer) as url, pytest.raises(ScoreError, match=f"status {status[:3]}: because of the moon"):
        Remote(url, patience=10)
    assert len(asked) == 1


def test_an_answer_that_never_ends_is_given_up() -> None:
    def answer(line: bytes) -> bytes:
        time.sleep(0.3)
        return b""

    with answering(answer) as url, pytest.raises(ScoreError, match=r"away for 0 s \(ReadTimeout"):
        Remote(url, patience=0, timeout=0.1)
