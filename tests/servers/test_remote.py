"""The objective `remote`: the scores of the process that it asks, that one's and no other's, or one sentence."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from served import SHAPES, answering, http, reserved_port, scenes, serving
from trimpot.engine.knobs import digest
from trimpot.engine.seams import Objective
from trimpot.ground.errors import ConfigError, Notice, ScoreError
from trimpot.objectives.remote import Remote
from trimpot.objectives.shapes.reward import ShapesReward
from trimpot.servers.reward_server import PROTOCOL, Limits, Scorer
from trimpot.setup.plugins import Plugins
from trimpot.testing import ObjectiveContract
from waiting import LONG

HEALTH = {"protocol": PROTOCOL, "name": "x", "fingerprint": "f", "description": {"name": "x"}}
PROMPTS = ("a red circle", "a blue square", "two green triangles")


class TestRemoteShapes(ObjectiveContract):
    """A real reward on the other side keeps the contract that it keeps on this one."""

    @pytest.fixture
    def objective(self) -> Iterator[Objective]:
        with serving() as server:
            yield Plugins().make("objectives", "remote", {"url": server.url})

    @pytest.fixture
    def examples(self) -> list[tuple[Any, str]]:
        pictures = scenes(*PROMPTS)
        return [*zip(pictures, PROMPTS, strict=True), (pictures[0], PROMPTS[1])]


class Echo:
    """Remembers what arrived, and scores it by its number."""

    def __init__(self) -> None:
        self.arrived: list[Any] = []
        self.sizes: list[int] = []

    def score(self, outputs: list[Any], prompts: list[str]) -> list[float]:
        self.sizes.append(len(outputs))
        self.arrived += outputs
        return [float(prompt) for prompt in prompts]

    @property
    def scorer(self) -> Scorer:
        return Scorer("echo", self.score, {"version": 1})


def test_scores_are_those_of_the_process_itself_bit_for_bit() -> None:
    prompts = [prompt for prompt in PROMPTS for _ in range(4)]
    outputs = [picture for seed in range(4) for picture in scenes(*prompts[seed::4], seed=seed)]
    with serving() as server:
        for options in ({}, {"batch_size": 5}, {"compression": 9}):
            remote = Remote(server.url, **options)  # type: ignore[arg-type]
            assert np.array_equal(remote.score(outputs, prompts), ShapesReward().score(outputs, prompts))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1"])
@pytest.mark.parametrize("compression", [0, 1])
def test_an_image_arrives_with_every_pixel_and_its_mode(mode: str, compression: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 13, 4), dtype=np.uint8)
    image = Image.fromarray(pixels).convert("RGB" if mode == "P" else "RGBA").convert(mode)
    echo = Echo()
    with serving(echo.scorer) as server:
        Remote(server.url, compression=compression).score([image], ["1"])
    assert echo.arrived[0].mode == mode
    assert np.array_equal(np.asarray(echo.arrived[0].convert("RGBA")), np.asarray(image.convert("RGBA")))


def test_outputs_that_are_no_images_arrive_too() -> None:
    sent = [1 / 3, "a chord", [1, 2.5], {"pitch": 440}, None, np.float32(0.1), np.linspace(0, 1, 7)]
    echo = Echo()
    with serving(echo.scorer) as server:
        scores = Remote(server.url).score(sent, [str(number / 7) for number in range(7)])
    assert np.array_equal(scores, np.arange(7) / 7)
    assert echo.arrived == [*sent[:5], float(np.float32(0.1)), np.linspace(0, 1, 7).tolist()]


@pytest.mark.parametrize("output", [object(), {1, 2}, float("nan"), Image.new("CMYK", (2, 2))])
def test_what_cannot_travel_is_said_in_one_sentence(output: Any) -> None:
    with serving(Echo().scorer) as server, pytest.raises(ScoreError, match="cannot be sent to a reward server"):
        Remote(server.url).score([output], ["1"])


def test_a_request_is_as_large_as_asked() -> None:
    echo = Echo()
    with serving(echo.scorer) as server:
        remote = Remote(server.url, batch_size=3)
        assert len(remote.score([0] * 7, ["1"] * 7)) == 7
        assert len(remote.score([], [])) == 0
    assert echo.sizes == [3, 3, 1]
    echo = Echo()
    with serving(echo.scorer, batch_size=2) as server:
        Remote(server.url).score([0] * 5, ["1"] * 5)
    assert echo.sizes == [2, 2, 1]


def test_it_describes_the_reward_and_not_where_it_listens() -> None:
    described = []
    for _ in range(2):
        with serving() as server:
            described.append((server.url, Remote(server.url).describe()))
    assert described[0][0] != described[1][0] and described[0][1] == described[1][1]
    whole = {"name": "shapes", **ShapesReward().describe()}
    assert described[0][1]["served"] == whole
    assert Remote.calls_at_once > 1


ABOUT = {"1": {"worth": 3}, "2": {"worth": 4, "note": "ü"}}


def worth() -> Scorer:
    """A reward that knows of a prompt only what it is told."""
    known: dict[str, Any] = {}

    def prepare(metadata: Mapping[str, Mapping[str, Any]]) -> None:
        known.clear()
        known.update({prompt: float(about["worth"]) for prompt, about in metadata.items()})

    return Scorer("worth", lambda outputs, prompts: [known.get(prompt, -1.0) for prompt in prompts], {}, prepare)


def test_what_prompt_files_say_travels_with_their_prompts_and_is_described() -> None:
    with serving(worth()) as server:
        remote = Remote(server.url, batch_size=1)
        before = dict(remote.describe())
        remote.prepare(ABOUT)
        other = Remote(server.url)
        assert remote.score([0, 0, 0], ["2", "x", "1"]).tolist() == [4.0, -1.0, 3.0]
        assert other.score([0], ["1"]).tolist() == [-1.0], "another client's metadata is its own"
        assert remote.describe() == {**before, "metadata": digest(ABOUT)} != before == other.describe()
        with pytest.raises(ScoreError, match="status 422: worth cannot use the metadata: KeyError: 'worth'"):
            remote.prepare({"1": {"value": 3}})


def test_a_server_that_takes_no_metadata_is_told_of() -> None:
    with serving() as server:
        remote = Remote(server.url)
        with pytest.warns(Notice, match="takes no metadata, so the other columns of prompt files are not sent to it"):
            remote.prepare(ABOUT)
        assert "metadata" not in remote.describe()
        remote.prepare({})


ESCAPES = "red \x1b[31malert\x1b]0;title\x07\r\n\x9b2J\u202e done"


@pytest.mark.parametrize("status", ["400 Bad", "409 Conflict", "401 No", "503 Busy", "200 OK"])
def test_what_a_server_says_reaches_no_terminal_as_commands(status: str, caplog: pytest.LogCaptureFixture) -> None:
    said = {"error": ESCAPES, "fingerprint": ESCAPES, "scores": [ESCAPES], "protocol": ESCAPES}
    good = http(json.dumps({**HEALTH, "description": {"name": ESCAPES, "parts": [{ESCAPES: 1}]}}).encode())
    with answering(lambda line: good if b"/health" in line else http(json.dumps(said).encode(), status)) as url:
        remote = Remote(url, patience=0.3)
        assert remote.describe()["served"]["name"] == "red alert\n done", "titles and colours are gone"
        with pytest.raises(ScoreError) as caught:
            remote.score([1], ["a"])
    for text in (str(caught.value), caplog.text.replace("\n", ""), repr(remote.describe())):
        assert text.isprintable()
    with answering(lambda line: http(json.dumps(said).encode(), status)) as url, pytest.raises(ScoreError) as caught:
        Remote(url, patience=0)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("fingerprint", [ESCAPES, "f" * 101])
def test_a_fingerprint_that_is_none_is_refused(fingerprint: str) -> None:
    health = http(json.dumps({**HEALTH, "fingerprint": fingerprint}).encode())
    with answering(lambda line: health) as url, pytest.raises(ScoreError, match="is no reward server: its fingerprint"):
        Remote(url, patience=0)


def test_a_description_without_a_bottom_is_refused() -> None:
    deep = json.dumps(HEALTH).replace('{"name": "x"}', '{"a":' * 60 + "1" + "}" * 60).encode()
    with answering(lambda line: http(deep)) as url, pytest.raises(ScoreError, match="nested more than 32 deep"):
        Remote(url, patience=0)


def test_another_reward_in_its_place_is_refused() -> None:
    other = Scorer("shapes", SHAPES.score, {**SHAPES.description, "convention": 0})
    with reserved_port() as port:
        with serving(port=port) as server:
            remote = Remote(server.url)
        with serving(other, port=port) as server:
            with pytest.raises(ScoreError, match="no longer serves the reward this run was begun with") as caught:
                remote.score(scenes(PROMPTS[0]), PROMPTS[:1])
            assert server.fingerprint in str(caught.value)


# ---------------------------------------------------------------------------------------------------------------
# Servers that lie.


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ({**HEALTH, "protocol": 2}, "speaks protocol 2 and this version of trimpot 1"),
        ({"status": "ok"}, "is no reward server: its /health says nothing of a protocol"),
        ({**HEALTH, "fingerprint": None}, "lacks a fingerprint or description"),
        ({**HEALTH, "description": "x"}, "lacks a fingerprint or description"),
        ([1], "answered with a JSON list, not an object"),
    ],
)
def test_who_is_no_reward_server_is_told_so(answer: Any, sentence: str) -> None:
    with answering(lambda line: http(json.dumps(answer).encode())) as url, pytest.raises(ScoreError, match=sentence):
        Remote(url, patience=0)


def scores(value: Any) -> Callable[[], bytes]:
    return lambda: http(json.dumps({"fingerprint": "f", "scores": value}).encode())


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (scores([1.0]), "gave 1 scores for 2 outputs"),
        (scores([1.0] * 3), "gave 3 scores for 2 outputs"),
        (scores("12"), "gave no list of scores for 2 outputs"),
        (scores([1.0, float("nan")]), "gave nan for prompt 'b'; scores must be finite numbers"),
        (scores([float("inf"), 1.0]), "gave inf for prompt 'a'"),
        (scores([1.0, "high"]), "gave 'high' for prompt 'b'"),
        (scores([1.0, 10**400]), "gave 1000000.* for prompt 'b'"),
        (scores([1.0, True]), "gave True for prompt 'b'"),
        (scores([1.0, None]), "gave None for prompt 'b'"),
        (scores([[1.0], [2.0]]), r"gave \[1.0\] for prompt 'a'"),
        (lambda: http(b'{"scores": [1, 2]}'), "no longer serves the reward this run was begun with, f: it now is None"),
        (lambda: http(b'{"fingerprint": "g", "scores": [1, 2]}'), "begun with, f: it now is 'g'"),
        (lambda: http(b"<html><body>Welcome to nginx</body></html>"), "not answer in JSON but with '<html><body>"),
        (lambda: http(b"\xff\xfe\x00"), "did not answer in JSON"),
        (lambda: http(b"[" * 100_000), "did not answer in JSON"),
        (lambda: http(b'{"fingerprint": "f", "scores": [1' + b"0" * 5000 + b", 1]}"), "did not answer in JSON|gave"),
        (lambda: http(b""), "did not answer in JSON but with ''"),
        (lambda: http(b" " * (2 << 20)), "sent more than 1048704 bytes, which is no list of scores"),
        (lambda: b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{", r"has been away for 0 s \(RemoteProtocolError"),
        (lambda: b"SSH-2.0-OpenSSH_9.2\r\n", r"has been away for 0 s \(RemoteProtocolError"),
    ],
)
def test_a_server_that_lies_is_found_out_in_one_sentence(answer: Callable[[], bytes], sentence: str) -> None:
    health = http(json.dumps(HEALTH).encode())
    with answering(lambda line: health if b"/health" in line else answer()) as url:
        remote = Remote(url, patience=0)
        with pytest.raises(ScoreError, match=sentence) as caught:
            remote.score([1, 2], ["a", "b"])
    assert "\n" not in str(caught.value) and url in str(caught.value)


def test_a_compressed_bomb_is_not_unpacked() -> None:
    import gzip

    packed = gzip.compress(b" " * (64 << 20))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    with answering(lambda line: head + packed) as url, pytest.raises(ScoreError, match="not answer in JSON"):
        Remote(url, patience=0)


# ---------------------------------------------------------------------------------------------------------------
# Addresses and tokens.


@pytest.mark.parametrize("url", ["", "127.0.0.1:8200", "ftp://x/", "http://", "http://h:99999", "http://h/?a=1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is no address of a reward server"):
        Plugins().make("objectives", "remote", {"url": url})


def test_a_token_comes_from_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMPOT_TOKEN", "hush")
    monkeypatch.setenv("OTHER_TOKEN", "wrong")
    with serving(token="hush") as server:
        made = Plugins().make("objectives", "remote", {"url": server.url})
        assert "hush" not in json.dumps(made.describe())
        assert made.score(scenes(PROMPTS[0]), PROMPTS[:1])[0] > 0.5
        with pytest.raises(ScoreError, match="status 401: this server wants a token: set TRIMPOT_TOKEN"):
            Plugins().make("objectives", "remote", {"url": server.url, "token_env": "OTHER_TOKEN"})
        monkeypatch.delenv("TRIMPOT_TOKEN")
        with pytest.raises(ScoreError, match="status 401"):
            Plugins().make("objectives", "remote", {"url": server.url})
    with pytest.raises(ConfigError, match="takes no option 'token'; did you mean 'token_env'"):
        Plugins().make("objectives", "remote", {"url": server.url, "token": "hush"})
    with pytest.raises(ConfigError, match="would be stored with the run") as caught:
        Plugins().make("objectives", "remote", {"url": "http://me:hush@127.0.0.1:1"})
    assert "hush" not in str(caught.value)


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with serving() as server:
        assert Remote(server.url, patience=0).describe()["served"]["name"] == "shapes"


def test_a_request_too_large_for_the_server_says_what_helps() -> None:
    with serving(limits=Limits(body_bytes=9000)) as server:
        remote = Remote(server.url)
        with pytest.raises(ScoreError, match=r"status 413: a request of \d+ bytes .* fewer outputs at once"):
            remote.score(scenes(*PROMPTS), PROMPTS)
        smaller = Remote(server.url, batch_size=1)
        found: NDArray[np.float64] = smaller.score(scenes(*PROMPTS), PROMPTS)
        assert len(found) == 3


def test_threads_may_ask_at_once() -> None:
    echo = Echo()
    with serving(echo.scorer) as server:
        remote, found = Remote(server.url, patience=LONG), {}

        def ask(number: int) -> None:
            found[number] = float(remote.score([number], [str(number)])[0])

        threads = [threading.Thread(target=ask, args=[number]) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {number: float(number) for number in range(20)}
    assert set(echo.sizes) == {1}
