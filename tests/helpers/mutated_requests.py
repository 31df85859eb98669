"""Requests to a reward server after accidents, by a seed, and what must be true of every answer."""

from __future__ import annotations

import base64
import copy
import io
import json
import math
import random
import socket
from contextlib import suppress
from typing import Any

from PIL import Image
from trimpot.servers.reward_server import RewardServer
from waiting import LONG

TOKEN = "hush"


def _png() -> str:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


BODY = {
    "protocol": 1,
    "prompts": ["a red circle", "a blue square"],
    "outputs": [{"png": _png()}, {"json": [1, 2.5, "x", None]}],
    "fingerprint": None,
}
STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 2**70, 1e308, "", "\x1b[31m", "\ud800", "x" * 5000, [], {}, [[[]]], {"png": 1}, {"png": "AAAA"},
    {"json": {}}, {"png": "", "json": 1}, ["a"] * 2000, {"a": {"b": [1]}},
)  # fmt: skip
HEADERS = (
    b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: +5", b"Content-Length: " + b"9" * 5000,
    b"Content-Length: 99999999999", b"Content-Length: \xd9\xa3", b"Transfer-Encoding: chunked", b"Expect: 100-continue",
    b"Connection: keep-alive", b"Connection: close", b"Host: elsewhere", b"Authorization: Bearer \xff\xfe", b": empty",
    b"Content-Type: text/plain", b"Content-Type: application/json; charset=utf-7", b"X: " + b"y" * 70_000, b"no colon",
    b" folded", b"X-Many: 1\r\n" * 150,
)  # fmt: skip
PIECES = (b"\0", b"\r\n", b"\n", b"\r\n\r\n", b"\xff\xfe", b"{", b"[" * 3000, b'"', b"NaN", b"1e999", b"9" * 5000, b" ")


def request(rng: random.Random) -> bytes:
    """One request, changed in its values, its headers, its bytes, or in several of these."""
    body: Any = json.loads(json.dumps(BODY))
    for _ in range(rng.choice((0, 0, 1, 2))):
        where = rng.choice(list(body))
        if isinstance(body[where], list) and body[where] and rng.random() < 0.5:
            body[where][rng.randrange(len(body[where]))] = copy.deepcopy(rng.choice(STRANGE))
        elif rng.random() < 0.2:
            del body[where]
        else:
            body[rng.choice((where, "metadata"))] = copy.deepcopy(rng.choice(STRANGE))
    sent = json.dumps(body).encode()
    method = rng.choices((b"POST /score", b"GET /health", b"PUT /x", b"GET", b"\x16\x03"), (80, 10, 4, 3, 3))[0]
    version = rng.choices((b" HTTP/1.1", b" HTTP/1.0", b" HTTP/9", b"", b" HTTP/1.1 x"), (85, 6, 3, 3, 3))[0]
    sent = sent if method == b"POST /score" else b""
    lines = [method + version, b"Host: localhost", b"Content-Type: application/json", b"Content-Length: %d" % len(sent)]
    if rng.random() < 0.9:
        lines.append(b"Authorization: Bearer " + TOKEN.encode())
    for _ in range(rng.choice((0, 0, 1, 2))):
        lines.insert(rng.randint(1, len(lines)), rng.choice(HEADERS))
    made = bytearray(b"\r\n".join(lines) + b"\r\n\r\n" + sent)
    for _ in range(rng.choice((0, 0, 1, 3))):
        at = rng.randrange(len(made) or 1)
        accident = rng.choice(("flip", "cut", "insert", "end", "again"))
        if accident == "flip" and made:
            made[at] ^= 1 << rng.randrange(8)
        elif accident == "cut":
            del made[at : at + rng.randint(1, 50)]
        elif accident == "insert":
            made[at:at] = rng.choice(PIECES)
        elif accident == "end":
            del made[at + 1 :]
        else:
            made += made[:at]
    return bytes(made)


def exchange(server: RewardServer, sent: bytes) -> bytes:
    """Everything that is answered to these bytes, after which nothing more is sent."""
    answer = b""
    with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=LONG) as connection:
        try:
            connection.sendall(sent)
            with suppress(OSError):  # the other side may have hung up
                connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(1 << 16):
                answer += more
        except ConnectionError:
            pass
    return answer


def answers(raw: bytes) -> list[tuple[int, dict[str, Any]]]:
    """Status and JSON of every answer in what a connection brought; a broken one is an error."""
    found = []
    while raw.startswith(b"HTTP/1.1 100"):
        raw = raw.partition(b"\r\n\r\n")[2]
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 "):  # HTTP/0.9 has no head
            body = json.loads(head)
            return [(400 if "error" in body else 200, body)]
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append((int(head[9:12]), json.loads(raw[:length])))
        raw = raw[length:]
        while raw.startswith(b"HTTP/1.1 100"):
            raw = raw.partition(b"\r\n\r\n")[2]
    return found


def check(raw: bytes) -> list[int]:
    """That whatever was answered is a list of scores or one sentence; the statuses."""
    found = answers(raw)
    for status, body in found:
        if status == 200 and "scores" in body:
            assert all(isinstance(score, float) and math.isfinite(score) for score in body["scores"])
        elif status != 200:
            assert set(body) == {"error"} and body["error"].isprintable() and len(body["error"]) <= 1000
    return [status for status, _ in found]


def accident(server: RewardServer, seed: int) -> list[int]:
    """One request after accidents, in a connection of its own: it is answered, by scores or one sentence."""
    try:
        return check(exchange(server, request(random.Random(seed))))
    except (AssertionError, ValueError) as error:
        raise AssertionError(f"seed {seed}") from error
