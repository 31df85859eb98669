"""The reward `judge`: what a chat model behind a server is asked, and what counts of its reply."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image
from trimpot.engine.seams import Objective
from trimpot.ground.errors import ConfigError, ScoreError
from trimpot.setup.plugins import Plugins
from trimpot.testing import ObjectiveContract

SHOTS = "Q: 1 + 1\nA: 2\n\nQ: {}\nA:"


class Chat:
    """A chat server that answers as it is told; `asked` holds what arrived."""

    def __init__(self, reply: Any) -> None:
        self.reply, self.asked, self.tokens = reply, list[Any](), list[Any]()


@contextmanager
def chatting(reply: Any) -> Iterator[tuple[str, Chat]]:
    chat = Chat(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            chat.asked.append(body)
            chat.tokens.append(self.headers.get("Authorization"))
            said = chat.reply(body["messages"][-1]["content"]) if callable(chat.reply) else chat.reply
            status, answer = said if isinstance(said, tuple) else (200, said)
            if isinstance(answer, str):
                answer = {"choices": [{"message": {"role": "assistant", "content": answer}}]}
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", chat
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def made(options: dict[str, Any]) -> Objective:
    found: Objective = Plugins().make("objectives", "judge", options)
    found.prepare({SHOTS.format(number): {"answer": " yes"} for number in range(6)})
    return found


def judge(url: str, **options: Any) -> Objective:
    return made({"url": url, "model": "m", "patience": 0, **options})


class TestJudge(ObjectiveContract):
    """A chat server that gives the number of letters a."""

    @pytest.fixture
    def objective(self) -> Iterator[Objective]:
        with chatting(lambda message: f"Score: {message.partition('<answer>')[2].count('a')}") as (url, _):
            yield judge(url)

    @pytest.fixture
    def examples(self) -> list[tuple[Any, str]]:
        return [(output, SHOTS.format(number)) for number, output in enumerate(["a", "aa", "b"])]

    @pytest.fixture
    def others(self, objective: Objective) -> list[Objective]:
        url = objective._server.url  # type: ignore[attr-defined]
        return [judge(url, template="{answer}?"), judge(url, model="n"), judge(url, high=20), judge(url, system="s")]

    @pytest.fixture
    def unscorable(self) -> list[Any]:
        return [Image.new("RGB", (4, 4)), 3.0]


def test_what_a_judge_is_asked_and_what_counts_of_its_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """Braces in a text are no places of the template, and the last number of a reply counts."""
    monkeypatch.setenv("MY_TOKEN", "secret")
    with chatting("From 0 to 10, I say 7.5") as (url, chat):
        options = {"template": "{prompt}|{answer}|{reference}|{other}", "system": "Be fair.", "token_env": "MY_TOKEN"}
        objective = judge(url, **options)
        assert list(objective.score(["{prompt} {reference}"], [SHOTS.format(0)])) == [7.5]
        assert "secret" not in json.dumps(objective.describe())
        assert list(judge(url, pattern=r"From (\d)").score(["x"], [SHOTS.format(0)])) == [0]
    system, user = chat.asked[0]["messages"]
    assert (system["content"], user["content"]) == (
        "Be fair.",
        SHOTS.format(0) + "|{prompt} {reference}| yes|{other}",
    )
    assert chat.tokens == ["Bearer secret", None] and chat.asked[0]["temperature"] == 0


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("I like it", "m at .* replied 'I like it' of .*, in which pattern finds no score; change template or pattern"),
        ("11", "the score of m for .* must lie between 0 and 10, not be 11"),
        ((500, {"error": {"message": "out of\nmemory"}}), "refused with status 500: out of memory"),
        ((404, {"error": "no model m"}), "refused with status 404: no model m"),
        ((200, b"<html>"), "did not answer in JSON but with '<html>'"),
        ({"choices": []}, "answered without a message of m; is it a chat server"),
        ({"choices": [{"message": {"content": None}}]}, "answered without a message of m"),
        ((429, {"error": "slow down"}), r"has been away for 0 s \(status 429: slow down\); start it there and resume"),
        ((200, b" " * (2 << 20)), "sent more than 1048576 bytes, which is no reply of a judge"),
    ],
    ids=["no score", "out of range", "failed", "unknown", "no json", "empty", "null", "busy", "too large"],
)
def test_a_judge_that_does_not_judge_is_one_sentence(reply: Any, said: str) -> None:
    with chatting(reply) as (url, _), pytest.raises(ScoreError, match=said) as caught:
        judge(url).score(["a"], [SHOTS.format(0)])
    assert len(str(caught.value).splitlines()) == 1


def test_a_busy_judge_is_asked_again_and_a_text_without_a_score_may_have_one() -> None:
    replies = iter([(429, {}), (503, {}), "4"])
    with chatting(lambda _: next(replies)) as (url, chat):
        assert list(judge(url, patience=10).score(["a"], [SHOTS.format(0)])) == [4] and len(chat.asked) == 3
    with chatting("no idea") as (url, _):
        assert list(judge(url, unparsed=0).score(["a"], [SHOTS.format(0)])) == [0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "127.0.0.1:8000"}, "is no address of a chat server, such as http://127.0.0.1:8000/v1"),
        ({"url": "http://me:pw@host/v1"}, "holds a user name, which would be stored with the run"),
        ({"template": "Rate it."}, "the template has no {answer}"),
        ({"low": 5, "high": 5}, "low 5 must lie below high 5"),
        ({"pattern": "("}, "is no regular expression"),
    ],
)
def test_a_judge_with_wrong_options_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        made({"url": "http://127.0.0.1:9/v1", "model": "m", **options})
