"""What a client of the reward server may take: connections, threads, bytes and seconds, whoever it is."""

from __future__ import annotations

import base64
import http.client
import inspect
import io
import json
import socket
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mutated_requests import BODY, TOKEN, accident, answers, check, exchange
from PIL import Image
from served import SHAPES, serving
from trimpot.commands.serve import serve as serve_command
from trimpot.servers import bounded_http
from trimpot.servers.bounded_http import CONNECTIONS, HEAD_BYTES
from trimpot.servers.reward_server import SLOTS, Limits, Patience, RewardServer, Scorer, serve
from waiting import LONG, receive, until

PATIENT = Patience(*[2 * LONG] * 5)  # whoever were waited for would be waited for longer than any test waits


def count(outputs: list[Any], prompts: list[str]) -> list[float]:
    """A score that anything can be given."""
    return [float(len(prompt)) for prompt in prompts]


COUNTING = Scorer("counting", count, {"version": 1})


@pytest.fixture
def server() -> Iterator[RewardServer]:
    """A server with a token."""
    with serving(COUNTING, token=TOKEN, patience=PATIENT) as made:
        yield made


def connect(server: RewardServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=LONG)


def head(length: object, *more: str, token: str | None = TOKEN, method: str = "POST /score") -> bytes:
    lines = [f"{method} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *more]
    lines += [f"Authorization: Bearer {token}"] if token is not None else []
    lines += [f"Content-Length: {length}"] if length is not None else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


BYTES = json.dumps(BODY).encode()
GOOD = head(len(BYTES)) + BYTES


def threads_of(server: RewardServer) -> int:
    """The threads of this server alone, which answer its connections."""
    targets = [getattr(thread, "_target", None) for thread in threading.enumerate()]
    return sum(getattr(target, "__self__", None) is server for target in targets)


def serves(server: RewardServer) -> bool:
    """Whether a client with the token is served, though others are waited for."""
    [(status, body)] = answers(exchange(server, GOOD))
    return (status, body.get("scores")) == (200, [12.0, 13.0])


# ---------------------------------------------------------------------------------------------------------------
# How long a body is.

LENGTHS = ["9" * 5000, "-5", "+5", "5 5", "0x10", "1e3", "5,5", "\xb2", "\xd9\xa3", "", "5\x0b", "1_0", "NaN", "9" * 19]


@pytest.mark.parametrize("length", LENGTHS, ids=lambda length: repr(length[:8]))
def test_a_length_that_is_none_is_refused_once_the_sender_may_ask(
    server: RewardServer, length: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for token, expected in ((TOKEN, 400), (None, 401), ("wrong", 401)):
        for method in ("POST /score", "GET /health"):
            [(status, body)] = answers(exchange(server, head(length, token=token, method=method) + b"{}"))
            assert status == expected and (expected == 401 or "is no number of bytes" in body["error"])
    assert capfd.readouterr().err == ""


def test_a_body_where_none_belongs_is_refused(server: RewardServer) -> None:
    assert check(exchange(server, head(100_000, method="GET /health") + b" " * 100_000)) == [400]
    assert check(exchange(server, head(0, method="GET /health"))) == [200]


def test_two_lengths_or_chunks_are_refused(server: RewardServer) -> None:
    for more in ("Content-Length: 7", "Transfer-Encoding: chunked", "Transfer-Encoding: identity"):
        [(status, _)] = answers(exchange(server, head(5, more) + b"5\r\n{}   \r\n0\r\n\r\n"))
        assert status == (400 if "Length" in more else 411), more
    assert answers(exchange(server, head(len(BYTES), f"Content-Length: {len(BYTES)}") + BYTES))[0][0] == 200
    assert answers(exchange(server, head(10**17)))[0][0] == 413
    assert answers(exchange(server, head(None)))[0][0] == 411


# ---------------------------------------------------------------------------------------------------------------
# Connections and threads.


@pytest.mark.parametrize("begun", [b"", b"POST /sc", head(1000, token=None) + b"{", head(1000, token="wrong")])
def test_a_crowd_without_a_token_is_a_bounded_number_of_threads(begun: bytes) -> None:
    with serving(COUNTING, token=TOKEN, patience=PATIENT) as server, ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connect(server)).sendall(begun)
        assert serves(server)
        until(lambda: threads_of(server) <= CONNECTIONS)
        assert serves(server)


@pytest.mark.parametrize("crowd", [SLOTS, 2 * CONNECTIONS])
def test_slow_bodies_keep_nobody_waiting(crowd: int) -> None:
    with serving(COUNTING, token=TOKEN, patience=PATIENT) as server, ExitStack() as stack:
        for _ in range(crowd):
            stack.enter_context(connect(server)).sendall(head(1000) + b"{")
        for _ in range(3):
            assert serves(server)
        until(lambda: threads_of(server) <= CONNECTIONS)


def test_who_waits_for_an_answer_keeps_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_http, "CONNECTIONS", 3)
    go = threading.Event()

    def score(outputs: list[Any], prompts: list[str]) -> list[float]:
        go.wait(LONG)
        return count(outputs, prompts)

    slow = Scorer("slow", score, {})
    with serving(slow, token=TOKEN, patience=PATIENT) as server, ExitStack() as stack:
        stack.callback(go.set)
        asking = []
        for number in range(1, 4):
            if number == 3:  # there is room in the place of one that is silent, whoever came first
                silent = stack.enter_context(connect(server))
                silent.sendall(b"GET")
                assert check(exchange(server, head(None, method="GET /health"))) == [200]
                assert silent.recv(1) == b""
            asking.append(stack.enter_context(connect(server)))
            asking[-1].sendall(GOOD)
            until(lambda number=number: [*server._open.values()] == ["answer"] * number)  # type: ignore[misc]
        assert exchange(server, GOOD)[:12] == b"HTTP/1.1 503"
        go.set()
        for connection in asking:
            assert receive(connection, 12) == b"HTTP/1.1 200"


def test_bodies_together_take_a_bounded_part_of_memory() -> None:
    body = b" " * (100_000 - len(BYTES)) + BYTES
    most = Limits(body_bytes=100_000)
    with serving(COUNTING, token=TOKEN, limits=most, patience=PATIENT) as server, ExitStack() as stack:
        for _ in range(SLOTS):
            stack.enter_context(connect(server)).sendall(head(100_000) + body[:-1])
        until(lambda: server._held == SLOTS * (100_000 - 1))
        assert answers(exchange(server, head(100_000) + body))[0][0] == 503
        stack.close()
        until(lambda: server._held == 0)
        assert answers(exchange(server, head(100_000) + body))[0][0] == 200


# ---------------------------------------------------------------------------------------------------------------
# Seconds.


def hasty(what: str) -> Any:
    """A server that is patient but for one thing."""
    return serving(COUNTING, token=TOKEN, patience=replace(PATIENT, **{what: 0.3}))


def drip(connection: socket.socket, sent: bytes) -> bool:
    """Send a byte every 20 ms; whether the other side hung up on it."""
    connection.settimeout(0.02)
    for byte in sent:
        try:
            connection.sendall(bytes([byte]))
            if not connection.recv(1 << 16):
                return True
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False


@pytest.mark.parametrize(
    ("what", "sent"),
    [
        ("head", b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 90),
        ("head", b"G" * 500),
        ("head", b"\r\n" * 250),
        ("body", head(1000) + b" " * 500),
        ("refusal", head(1000, token=None) + b" " * 500),
        ("refusal", head("x") + b" " * 500),
    ],
)
def test_who_sends_a_byte_now_and_then_is_not_waited_for_forever(what: str, sent: bytes) -> None:
    """All of it would be a request that is not refused for its size, and would take ten seconds."""
    start = sent.index(b"\r\n\r\n") + 4 if b"\r\n\r\n" in sent[10:400] else 0
    with hasty(what) as server, connect(server) as connection:
        connection.sendall(sent[:start])
        assert drip(connection, sent[start:])


def test_a_body_that_does_not_come_is_told_so() -> None:
    with hasty("body") as server, connect(server) as connection:
        connection.sendall(head(1000) + b"{")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 408 and "of 1000 bytes 1 came in time" in json.loads(answer.read())["error"]


@pytest.mark.parametrize(
    ("what", "sent"), [("head", b""), ("head", b"GET /hea"), ("idle", head(None, method="GET /health"))]
)
def test_who_is_silent_is_hung_up_on(what: str, sent: bytes) -> None:
    with hasty(what) as server, connect(server) as connection:
        connection.sendall(sent)
        while connection.recv(1 << 16):
            pass


def test_a_refused_request_is_heard_out_up_to_a_bound(server: RewardServer) -> None:
    """Neither a sender without end nor one without a token is read for long."""
    for token in (None, TOKEN):
        sent = 0
        with connect(server) as connection:
            connection.sendall(head(10**15, token=token))
            try:
                while sent < 1 << 33:
                    connection.sendall(b" " * (1 << 20))
                    sent += 1 << 20
            except ConnectionError:
                pass
        assert sent < 1 << 30


# ---------------------------------------------------------------------------------------------------------------
# Heads.


def test_a_head_without_end_is_refused(server: RewardServer) -> None:
    for more in (b"X: " + b"y" * HEAD_BYTES + b"\r\n", b"X: y\r\n" * 101, b"X: yyyyyyyyy\r\n" * 9000):
        [(status, _)] = answers(exchange(server, b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + more + b"\r\n"))
        assert status == 431
    assert answers(exchange(server, b"GET /" + b"x" * 70_000))[0][0] in (414, 431)


def test_only_who_may_ask_is_asked_for_a_body(server: RewardServer) -> None:
    with connect(server) as connection:
        connection.sendall(head(len(BYTES), "Expect: 100-continue"))
        assert receive(connection, 25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BYTES)
        assert receive(connection, 12) == b"HTTP/1.1 200"
    for refused in (head(5, "Expect: 100-continue", token=None), head("x", "Expect: 100-continue")):
        assert b"100 Continue" not in exchange(server, refused)


def test_requests_sent_in_one_go_are_answered_in_turn(server: RewardServer) -> None:
    found = answers(exchange(server, GOOD + head(None, method="GET /health") + GOOD))
    assert [status for status, _ in found] == [200, 200, 200]
    assert "protocol" in found[1][1]


def test_who_has_nothing_more_to_send_still_hears_the_answer(server: RewardServer) -> None:
    with connect(server) as connection:
        connection.sendall(GOOD)
        connection.shutdown(socket.SHUT_WR)
        assert receive(connection, 12) == b"HTTP/1.1 200"


@pytest.mark.parametrize("shown", ["\xff\xfe", "h\xfcsh", "hush ", " hush", "HUSH", "hush\x00", "", "h" * 60_000])
def test_a_token_that_is_wrong_in_any_way_is_wrong(server: RewardServer, shown: str) -> None:
    [(status, _)] = answers(exchange(server, head(len(BYTES), token=shown) + BYTES))
    assert status == 401


# ---------------------------------------------------------------------------------------------------------------
# Bodies.


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"[" * 100_000, 400, "is not JSON"),
        (b'{"protocol":1,"protocol":1}', 400, "has a key twice"),
        (b'{"protocol": 1e999}', 400, "it holds 1e999, which is too large"),
        (b'{"protocol": ' + b"1" * 5000 + b"}", 400, "is not JSON"),
        (b'{"protocol": -Infinity}', 400, "it holds -Infinity"),
        (json.dumps({**BODY, "protocol": True}).encode(), 422, "the request protocol True"),
        (json.dumps({**BODY, "prompts": ["\ud800", "x"]}).encode(), 422, "half a character"),
        (json.dumps({**BODY, "prompts": {"a": 1}}).encode(), 422, "'prompts' must be a list of strings"),
        (json.dumps({**BODY, "outputs": [{"png": "A" * 999}, {"json": 1}]}).encode(), 422, "output 0 is no PNG image"),
        (json.dumps({**BODY, "metadata": []}).encode(), 422, "'metadata' must be an object"),
        (json.dumps({**BODY, "metadata": {"a": 1}}).encode(), 422, "'metadata' must be an object"),
        (json.dumps({**BODY, "metadata": {"a": {}}}).encode(), 422, "counting takes no metadata"),
        (json.dumps({**BODY, "fingerprint": "\x1b[2J" * 2000}).encode(), 409, "this server is counting"),
        (b"\xff\xfe" + "{}".encode("utf-16-le"), 400, "is not JSON"),
    ],
)
def test_what_a_body_must_not_hold_is_one_sentence(
    server: RewardServer, body: bytes, status: int, sentence: str
) -> None:
    raw = exchange(server, head(len(body)) + body)
    assert check(raw) == [status]
    assert sentence in answers(raw)[0][1]["error"]
    assert serves(server)


def bomb(text: bool) -> bytes:
    """A PNG whose pixels, or whose text, unpack to far more than arrives."""
    file = io.BytesIO()
    Image.new("L", (9000, 9000) if not text else (2, 2)).save(file, "PNG", compress_level=9)
    made = file.getvalue()
    if text:
        packed = b"zTXt" + b"comment\0\0" + zlib.compress(b" " * (200 << 20), 9)
        chunk = (len(packed) - 4).to_bytes(4, "big") + packed + zlib.crc32(packed).to_bytes(4, "big")
        made = made[:33] + chunk + made[33:]
    return made


@pytest.mark.parametrize("text", [False, True])
def test_an_image_that_unpacks_to_much_more_is_refused(server: RewardServer, text: bool) -> None:
    outputs = [{"png": base64.b64encode(bomb(text)).decode()}, {"json": 1}]
    body = json.dumps({**BODY, "outputs": outputs}).encode()
    assert check(exchange(server, head(len(body)) + body))[0] in (413, 422)


class Quits:
    """A reward that ends its process, as a script does."""

    def score(self, outputs: list[Any], prompts: list[str]) -> list[float]:
        sys.exit("no licence \x1b[31mfound")


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        (Quits().score, "failed on prompts such as 'a red circle': SystemExit: no licence"),
        (lambda outputs, prompts: np.array([1 + 2j, 3]), "a score must be a real number, not a complex128"),
        (lambda outputs, prompts: ["3", "4"], "a score must be a real number, not a str"),
        (lambda outputs, prompts: iter(lambda: 1.0, 2.0), "gave 3 scores for 2 outputs"),
        (lambda outputs, prompts: [10**400, 1], "OverflowError"),
        (lambda outputs, prompts: 1.0, "TypeError"),
    ],
)
def test_a_reward_that_fails_in_its_own_way_is_one_sentence(
    scores: Any, sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(Scorer("odd", scores, {}), token=TOKEN) as server:
        raw = exchange(server, GOOD)
    assert check(raw) == [500] and sentence in answers(raw)[0][1]["error"]
    assert "\x1b" not in capfd.readouterr().err


# ---------------------------------------------------------------------------------------------------------------
# What prompt files say of prompts.


def test_metadata_comes_before_its_prompts_are_scored() -> None:
    known: list[Any] = []

    def score(outputs: list[Any], prompts: list[str]) -> list[float]:
        return [float(known[-1].get(prompt, {}).get("worth", 0)) for prompt in prompts]

    def body(**more: Any) -> bytes:
        sent = json.dumps({**BODY, **more}).encode()
        return head(len(sent)) + sent

    with serving(Scorer("worth", score, {}, known.append), token=TOKEN) as server:
        about = {"a red circle": {"worth": 3}}
        for more, expected in (({"metadata": about}, [3.0, 0.0]), ({}, [0.0, 0.0])):
            assert answers(exchange(server, body(**more)))[0][1]["scores"] == expected


# ---------------------------------------------------------------------------------------------------------------
# Ends, defaults, accidents.


def test_silent_connections_do_not_keep_it_from_ending() -> None:
    with ExitStack() as stack:
        with serving(COUNTING, token=TOKEN, patience=PATIENT) as server:
            for sent in (b"", b"GET", head(9, token=None)):
                stack.enter_context(connect(server)).sendall(sent)
            assert serves(server)
            begun = time.monotonic()
        assert time.monotonic() - begun < LONG


def test_it_listens_on_this_machine_alone_unless_told_otherwise() -> None:
    for listening in (RewardServer.__init__, serve, serve_command):
        default = inspect.signature(listening).parameters["host"].default
        assert default == "127.0.0.1", listening
    made = RewardServer(SHAPES, port=0)
    assert made.server_address[0] == "127.0.0.1"
    made.close()


def test_requests_after_an_accident_get_scores_or_one_sentence(
    server: RewardServer, capfd: pytest.CaptureFixture[str]
) -> None:
    statuses: Counter[int] = Counter()
    for seed in range(1500):
        statuses.update(accident(server, seed))
    assert {200, 400, 401, 404, 411, 422} <= set(statuses) and 500 not in statuses
    assert serves(server)
    assert "Traceback" not in capfd.readouterr().err
