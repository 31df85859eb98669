"""The reward server: what it answers, what it refuses, how it ends."""

from __future__ import annotations

import base64
import functools
import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served import SHAPES, ServerProcess, python, scenes, serving
from trimpot.engine.identity import described
from trimpot.objectives.shapes.reward import ShapesReward
from trimpot.servers.reward_server import PROTOCOL, SLOTS, Limits, RefusalError, RewardServer, Scorer
from trimpot.setup.plugins import Plugins
from waiting import LONG, receive, until

JSON = {"Content-Type": "application/json"}


def ask(
    server: RewardServer, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Status and JSON of an answer; whatever is not bytes is sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=LONG)
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    try:
        connection.request(method, path, sent, JSON | (headers or {}))
        answer = connection.getresponse()
        assert answer.getheader("Content-Type") == "application/json"
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def png(array: Any) -> dict[str, str]:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return {"png": base64.b64encode(file.getvalue()).decode()}


def request(**changes: Any) -> dict[str, Any]:
    return {"protocol": PROTOCOL, "prompts": ["a red circle"], "outputs": [png(scenes("a red circle")[0])], **changes}


@pytest.fixture
def server() -> Iterator[RewardServer]:
    """The checker of the shapes world, at small limits."""
    with serving(limits=Limits(body_bytes=20_000, outputs=4, pixels=5000)) as made:
        yield made


def test_a_reward_of_another_name_description_or_code_has_another_fingerprint(tmp_path: Path) -> None:
    """A script that was edited serves another reward, wherever it lies."""
    found = []
    for number, (name, description, gain) in enumerate(
        [("x", {}, 100), ("y", {}, 100), ("x", {"a": 1}, 100), ("x", {}, 500), ("x", {}, 100)]
    ):
        file = tmp_path / f"{number}.py"
        file.write_text(f"def load():\n    def score(outputs, prompts):\n        return [{gain}]\n    return score\n")
        space: dict[str, Any] = {}
        exec(compile(file.read_text(), str(file), "exec"), space)
        score = functools.partial(space["load"]()) if number == 4 else space["load"]()
        found.append(Scorer(name, score, description).fingerprint)
    assert found[0] == found[4] and len(set(found)) == 4


def test_it_says_what_it_is(server: RewardServer) -> None:
    says = {"name": "shapes", **ShapesReward().describe()}
    assert ask(server, "GET", "/health") == (
        200,
        {
            "protocol": PROTOCOL,
            "name": "shapes",
            "fingerprint": server.fingerprint,
            "description": says,
            "limits": {"body_bytes": 20_000, "outputs": 4, "pixels": 5000, "values": 4 << 20},
            "metadata": False,
            "scores_sets": False,
        },
    )


def test_it_scores_as_the_reward_does(server: RewardServer) -> None:
    prompts = ["a red circle", "a blue square"]
    pictures = scenes(*prompts)
    status, answer = ask(server, "POST", "/score", request(prompts=prompts, outputs=[png(each) for each in pictures]))
    assert (status, answer["fingerprint"]) == (200, server.fingerprint)
    assert answer["scores"] == ShapesReward().score(pictures, prompts).tolist()
    assert ask(server, "POST", "/score", request(prompts=[], outputs=[]))[1]["scores"] == []


def test_a_connection_can_be_used_again(server: RewardServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=LONG)
    for _ in range(3):
        connection.request("POST", "/score", json.dumps(request()), JSON)
        assert len(json.loads(connection.getresponse().read())["scores"]) == 1
        used = connection.sock
    assert used is connection.sock is not None
    connection.close()


def nested(depth: int) -> Any:
    """Objects within each other."""
    return {"a": nested(depth - 1)} if depth > 1 else {}


TRUNCATED = {"png": png(scenes("a red circle")[0])["png"][:200]}
JPEG = io.BytesIO()
Image.new("RGB", (4, 4)).save(JPEG, "JPEG")


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"", 411, "must have a body"),
        (b"{", 400, "the request is not JSON"),
        (b"\xff", 400, "the request is not JSON"),
        (b"[" * 65, 400, "the request is not JSON to read: it is nested more than 64 deep"),
        (b"[" * 64, 400, "the request is not JSON"),
        (request(metadata=nested(64)), 400, "nested more than 64 deep"),
        (request(prompts=["[" * 80]), 500, "shapes failed on prompts"),
        (request(prompts=['\\"[{' * 80]), 500, "shapes failed on prompts"),
        (b'"' + b"\\" * 80 + b'"', 422, "must be a JSON object"),
        (b'"' + b"[" * 80, 400, "the request is not JSON"),
        (b'{"protocol": NaN}', 400, "it holds NaN"),
        ([], 422, "must be a JSON object"),
        (request(protocol=2), 422, "speaks protocol 1, the request protocol 2"),
        (request(fingerprint="0"), 409, "not 0"),
        (request(prompts="a red circle"), 422, "'prompts' must be a list of strings"),
        (request(prompts=[1]), 422, "'prompts' must be a list of strings"),
        (request(prompts=["a", "b"]), 422, "2 prompts need as many 'outputs', not 1"),
        (request(outputs=None), 422, "1 prompts need as many 'outputs', not no list of"),
        (request(outputs=["x"]), 422, "output 0 must be"),
        (request(outputs=[{"png": "", "json": 1}]), 422, "output 0 must be"),
        (request(outputs=[{"png": 7}]), 422, "output 0 is no PNG image in base64"),
        (request(outputs=[{"png": "AAAA"}]), 422, "output 0 is no PNG image in base64"),
        (request(outputs=[{"png": "é"}]), 422, "output 0 is no PNG image in base64"),
        (request(outputs=[TRUNCATED]), 422, "output 0 is no PNG image in base64"),
        (request(outputs=[{"png": base64.b64encode(JPEG.getvalue()).decode()}]), 422, "output 0 is no PNG"),
        (request(outputs=[{"json": "a picture"}]), 500, "shapes failed on prompts such as 'a red circle': ValueError"),
        (request(prompts=["the word CAT"]), 500, "shapes failed on prompts such as 'the word CAT'"),
        (request(prompts=["a"] * 5, outputs=[{"json": 1}] * 5), 413, "5 outputs is too large; send at most 4"),
        (request(outputs=[png(np.zeros((70, 72, 3), np.uint8))]), 413, "output 0 has 72 x 70 pixels"),
        (
            request(prompts=["a", "b"], outputs=[png(np.zeros((50, 60, 3), np.uint8))] * 2),
            413,
            "output 1 has 60 x 50 pixels",
        ),
        (b" " * 20_001, 413, "a request of 20001 bytes is too large; send at most 20000"),
        (b" " * 3_000_000, 413, "a request of 3000000 bytes is too large"),
    ],
)
def test_a_wrong_request_gets_a_status_and_a_sentence(
    server: RewardServer, body: Any, status: int, sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    found, answer = ask(server, "POST", "/score", body)
    assert (found, set(answer)) == (status, {"error"})
    assert sentence in answer["error"] and "\n" not in answer["error"]
    assert ask(server, "POST", "/score", request())[0] == 200, "the server goes on"
    assert ("Traceback" in capfd.readouterr().err) == (status == 500)


@pytest.mark.parametrize("piece", [b"[],", b"{},", b"[0],", b'{"a":0},', b"[", b'{"a":', b"0,", b'"",', b'"\\"', b"\\"])
def test_values_are_counted_before_one_of_them_is_made(piece: bytes) -> None:
    """Whoever has the token can send little that becomes much: `[]` is twenty times as large in memory."""
    body = b'{"protocol":1,"outputs":[' + piece * (24_000_000 // len(piece))
    with serving(limits=Limits()) as server:
        tracemalloc.start()
        try:
            status, answer = ask(server, "POST", "/score", body)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (status, set(answer)) == (413, {"error"})
        assert answer["error"] == (
            "a request of more than 4194304 values is too large; send fewer or smaller outputs at once"
        )
        assert peak < 2 * len(body)
        assert ask(server, "POST", "/score", request())[0] == 200, "the server goes on"


def test_as_many_values_as_are_allowed_are_read() -> None:
    body = json.dumps(request(), separators=(",", ":")).encode()
    number = sum(body.count(mark) for mark in b'[{,"')
    for values, status in ((number, 200), (number - 1, 413)):
        with serving(limits=Limits(values=values)) as server:
            assert ask(server, "POST", "/score", body)[0] == status


def test_an_image_that_unpacks_to_gigabytes_is_refused_unopened(server: RewardServer) -> None:
    small = base64.b64decode(png(np.zeros((1, 1, 3), np.uint8))["png"])
    import struct
    import zlib

    header = b"IHDR" + struct.pack(">IIBBBBB", 13_000, 13_000, 8, 2, 0, 0, 0)
    bomb = small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
    status, answer = ask(server, "POST", "/score", request(outputs=[{"png": base64.b64encode(bomb).decode()}]))
    assert status in (413, 422) and ("13000 x 13000" in answer["error"] or "Bomb" in answer["error"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/score", 404), ("POST", "/health", 404), ("PUT", "/score", 501)],
)
def test_there_is_nothing_else(server: RewardServer, method: str, path: str, status: int) -> None:
    assert ask(server, method, path)[0] == status


def test_a_page_of_a_browser_cannot_ask(server: RewardServer) -> None:
    assert ask(server, "POST", "/score", request(), {"Content-Type": "text/plain"})[0] == 415
    assert ask(server, "GET", "/health", headers={"Host": "rebound.example:8200"})[0] == 403
    for host in ("localhost:1", "127.0.0.1", "[::1]:8200"):
        assert ask(server, "GET", "/health", headers={"Host": host})[0] == 200


@pytest.mark.parametrize("raw", [b"\x16\x03\x01\x02\x00 hello\r\n\r\n", b"GET /health HTTP/7\r\n\r\n", b"a" * 70_000])
def test_what_is_not_http_does_no_harm(server: RewardServer, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=LONG) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass
    assert ask(server, "GET", "/health")[0] == 200


def test_a_client_that_hangs_up_in_the_middle_does_no_harm(
    server: RewardServer, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(SLOTS + 1):
        with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=LONG) as connection:
            connection.sendall(b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
            connection.sendall(b"Content-Length: 9000\r\n\r\n{")
    until(lambda: ask(server, "POST", "/score", request())[0] == 200)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("bad", [[1.0, 2.0], [], [float("nan")], [float("-inf")], ["high"], None, [[1.0, 2.0]]])
def test_what_is_no_score_never_leaves_the_server(bad: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(Scorer("broken", lambda outputs, prompts: bad, {})) as server:
        status, answer = ask(server, "POST", "/score", request())
    assert status == 500 and answer["error"].startswith("broken ")


def test_one_thread_scores_whoever_asks() -> None:
    threads: list[int] = []
    inside = threading.Lock()

    def score(outputs: list[Any], prompts: list[str]) -> list[float]:
        assert inside.acquire(blocking=False), "two requests were scored at once"
        threads.append(threading.get_ident())
        time.sleep(0.01)
        inside.release()
        return [0.0] * len(outputs)

    with serving(Scorer("slow", score, {})) as server:
        found: list[int] = []
        asking = [
            threading.Thread(target=lambda: found.append(ask(server, "POST", "/score", request())[0]))
            for _ in range(SLOTS)
        ]
        for each in asking:
            each.start()
        for each in asking:
            each.join()
    assert found == [200] * SLOTS and len(set(threads)) == 1


def test_too_many_at_once_are_told_to_come_back_and_health_is_always_told() -> None:
    go = threading.Event()

    def score(outputs: list[Any], prompts: list[str]) -> list[float]:
        go.wait(LONG)
        return [0.0] * len(outputs)

    with serving(Scorer("slow", score, {})) as server:
        found: list[int] = []
        asking = [
            threading.Thread(target=lambda: found.append(ask(server, "POST", "/score", request())[0]))
            for _ in range(SLOTS + 3)
        ]
        try:
            for each in asking:
                each.start()
            until(lambda: len(found) >= 3)
            assert found == [503] * 3
            assert ask(server, "GET", "/health")[0] == 200
        finally:
            go.set()
            for each in asking:
                each.join()
    assert sorted(found) == [200] * SLOTS + [503] * 3


# ---------------------------------------------------------------------------------------------------------------
# Where it listens, and who may ask.


def test_beyond_this_machine_it_wants_a_token() -> None:
    for host in ("0.0.0.0", "", "example.org", "192.0.2.1"):
        with pytest.raises(RefusalError, match="can be reached from other machines, so it needs a token"):
            RewardServer(SHAPES, host=host, port=0)
    RewardServer(SHAPES, host="0.0.0.0", port=0, token="hush").close()
    for token in ("", " hush", "hüsh", "hu\nsh"):
        with pytest.raises(RefusalError, match="the token must be printable ASCII"):
            RewardServer(SHAPES, port=0, token=token)


@pytest.mark.parametrize("shown", [{}, {"Authorization": "hush"}, {"Authorization": "Bearer husk"}])
def test_without_the_token_nothing_is_told(shown: dict[str, str]) -> None:
    with serving(token="hush") as server:
        for method, path, body in (("GET", "/health", None), ("POST", "/score", request()), ("GET", "/x", None)):
            status, answer = ask(server, method, path, body, shown)
            assert (status, set(answer)) == (401, {"error"})
        assert ask(server, "POST", "/score", request(), {"Authorization": "Bearer hush"})[0] == 200


def test_where_it_cannot_listen_is_said_in_one_sentence() -> None:
    with serving() as server, pytest.raises(RefusalError, match=r"cannot listen at 127\.0\.0\.1 port \d+: .*--port"):
        RewardServer(SHAPES, port=server.server_address[1])
    with pytest.raises(RefusalError, match="cannot listen"):
        RewardServer(SHAPES, port=99_999)
    with pytest.raises(RefusalError, match="batch size must be at least 1"):
        RewardServer(SHAPES, port=0, batch_size=0)
    with pytest.raises(RefusalError, match="the description of x is not JSON-like"):
        RewardServer(Scorer("x", SHAPES.score, {"weights": object()}), port=0)


def begin(server: ServerProcess, length: int) -> socket.socket:
    """A connection whose request has been admitted, and whose body is waited for."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=LONG)
    connection.sendall(
        b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
        b"Content-Length: %d\r\n\r\n" % length
    )
    assert receive(connection, 25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    return connection


@contextmanager
def told_to_stop(server: ServerProcess, ending: signal.Signals) -> Iterator[None]:
    """A server that has heard a signal: another client, connected before, is refused."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=LONG)) as other:

        def refused() -> bool:
            other.request("GET", "/health")
            answer = other.getresponse()
            answer.read()
            return answer.status == 503

        assert not refused()
        server.process.send_signal(ending)
        until(refused)
        yield


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_finishes_what_it_has_begun(ending: signal.Signals) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    body = json.dumps(request(outputs=[png(picture)])).encode()
    with python("jpeg_size.py") as server:
        with begin(server, len(body)) as connection, told_to_stop(server, ending):
            connection.sendall(body)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert answer.status == 200
            assert json.loads(answer.read())["scores"][0] < -1
        out, err = server.process.communicate(timeout=LONG)
        assert (server.process.returncode, out, err) == (0, "", "")


def test_a_second_signal_ends_it_at_once() -> None:
    with python("jpeg_size.py") as server, begin(server, 9), told_to_stop(server, signal.SIGTERM):
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=LONG) == -signal.SIGTERM


# ---------------------------------------------------------------------------------------------------------------
# trimpot serve.

TRIMPOT = (sys.executable, "-m", "trimpot")


def test_trimpot_serve_serves_an_objective_and_says_where() -> None:
    with ServerProcess(*TRIMPOT, "serve", "shapes") as server:
        assert server.line.startswith("shapes listens at http://127.0.0.1:")
        remote = Plugins().make("objectives", "remote", {"url": server.url})
        assert set(remote.describe()) == {"served", "fingerprint"}
        assert set(remote.describe()["served"]) == {"name", "convention", "range", "made_of", "versions"}
        assert {"python", "numpy", "pillow"} <= set(remote.describe()["served"]["versions"])
        assert described("objective", None, remote, None), "it has trimpot's own key only inside what is served"
        pictures, prompts = scenes("a red circle", "a blue star"), ["a red circle", "a red star"]
        assert np.array_equal(remote.score(pictures, prompts), ShapesReward().score(pictures, prompts))


@pytest.mark.parametrize("takes", [True, False])
def test_trimpot_serve_hands_metadata_to_an_objective_that_takes_it(
    takes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trimpot.commands.serve import serve
    from trimpot.servers import reward_server
    from trimpot.setup import plugins

    class Told(ShapesReward):
        def prepare(self, metadata: Any) -> None:
            self.heard = metadata

    objective = Told() if takes else ShapesReward()
    served: list[Scorer] = []
    known = Plugins()
    monkeypatch.setattr(known, "make", lambda *_: objective)
    monkeypatch.setattr(plugins, "plugins", lambda: known)
    monkeypatch.setattr(reward_server, "serve", lambda scorer, *_: served.append(scorer))
    serve("shapes", token=None)
    assert served[0].prepare == (objective.prepare if takes else None)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["shape"], "no objective 'shape'; did you mean 'shapes'?"),
        (["shapes", "-o", "size=3"], "objective 'shapes' takes no option 'size'"),
        (["shapes", "--host", "0.0.0.0"], "can be reached from other machines, so it needs a token"),
        (["shapes", "--port", "99999"], "cannot listen at 127.0.0.1 port 99999"),
    ],
)
def test_trimpot_serve_refuses_in_one_sentence(arguments: list[str], sentence: str) -> None:
    done = subprocess.run([*TRIMPOT, "serve", *arguments], capture_output=True, text=True, timeout=LONG)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("trimpot: ") and sentence in done.stderr and done.stderr.count("\n") == 1
