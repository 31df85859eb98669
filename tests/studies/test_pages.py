"""The raters' pages over HTTP: who gets in, what arrives is kept, whatever happens to the server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from studied import begun, folders
from trimpot.ground.errors import StoreError
from trimpot.storage import SqliteStore, Studies
from trimpot.storage.deletion import Deletion
from trimpot.studies.app import RaterPages, rater_pages
from trimpot.web import Server
from typed import typed


@contextmanager
def served(where: Path, study: str) -> Iterator[tuple[Server, RaterPages]]:
    with rater_pages(where / "store", study) as pages, Server(pages.routes, admits=pages.admits).serving() as server:
        yield server, pages


@contextmanager
def visitor(link: str) -> Iterator[httpx.Client]:
    """A browser that has opened a rater's link."""
    with httpx.Client(trust_env=False, follow_redirects=True, base_url=link.partition("?")[0]) as client:
        assert client.get(link).status_code == 200
        yield client


def answer(client: httpx.Client, said: str = "left", **change: Any) -> httpx.Response:
    state = client.get("state").json()
    sent = {**{name: state.get(name) for name in ("rater", "position", "question", "key")}, "answer": said, **change}
    return client.post("answer", json=sent)


def test_only_a_rater_s_link_opens_a_page(tmp_path: Path) -> None:
    study = begun(tmp_path, 6)
    with served(tmp_path, study) as (server, pages), httpx.Client(trust_env=False) as stranger:
        for path in ("", "state", "rater.js", "pictures/x.png", "?token=x"):
            assert stranger.get(server.url + path).status_code == 401
        assert stranger.post(server.url + "answer", json={}).status_code == 401
        owner = {"Authorization": f"Bearer {server.token}"}  # no rater's, so there is nothing to show
        assert stranger.get(server.url, headers=owner).status_code == 404
        assert stranger.get(server.url + "state", headers=owner).status_code == 409
        with visitor(server.link_with(next(iter(pages.raters)))) as rater:
            assert rater.get("state").json()["rater"] == 1
            assert "no such picture" in rater.get("pictures/x.png").text
            assert rater.get("pictures/..%2F..%2Ftrimpot.sqlite").status_code == 404


def test_both_pictures_of_a_pair_come_in_the_same_words(tmp_path: Path) -> None:
    """Their answers differ in content and length alone, so no header tells which is which."""
    study = begun(tmp_path, 6)
    with served(tmp_path, study) as (server, pages), visitor(server.link_with(next(iter(pages.raters)))) as rater:
        state = rater.get("state").json()
        both = [rater.get(f"pictures/{name}") for name in state["pictures"]]
        left, right = ({k: v for k, v in each.headers.items() if k not in ("content-length", "date")} for each in both)
        assert left == right and left["content-type"] == "image/png"
        assert not {"last-modified", "etag", "content-disposition"} & set(left)
        text = json.dumps(state)
        assert not any(word in text for word in ("neutral", "calibrated", str(tmp_path), study, '"a"', '"b"'))


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff", b'"x"', b"[" * 60000, b'{"position": NaN}'])
def test_what_is_no_answer_is_said_so(tmp_path: Path, content: bytes) -> None:
    study = begun(tmp_path, 6)
    with served(tmp_path, study) as (server, pages), visitor(server.link_with(next(iter(pages.raters)))) as rater:
        reply = rater.post("answer", content=content)
        assert reply.status_code == 400 and reply.json()["error"]
        assert answer(rater).status_code == 200


def test_another_rater_s_link_in_the_same_browser_is_noticed(tmp_path: Path) -> None:
    study = begun(tmp_path, 6)
    with served(tmp_path, study) as (server, pages):
        first, second, _ = pages.raters
        with visitor(server.link_with(first)) as browser:
            state = browser.get("state").json()
            assert browser.get(server.link_with(second)).status_code == 200
            sent = {**{name: state[name] for name in ("rater", "position", "question", "key")}, "answer": "left"}
            reply = browser.post("answer", json=sent)
            assert reply.status_code == 409 and "another rater's link" in reply.json()["error"]
            assert reply.json()["rater"] == 2
    with SqliteStore(tmp_path / "store") as store:
        assert not store.records.read("answers")


def test_many_raters_at_once_lose_nothing(tmp_path: Path) -> None:
    study = begun(tmp_path, 6, raters=12)
    failures: list[object] = []

    def work(link: str) -> None:
        try:
            with visitor(link) as rater:
                for _ in range(16):
                    reply = answer(rater, "same")
                    assert reply.status_code == 200 and reply.json()["stored"]
                assert rater.get("state").json()["finished"]
        except BaseException as error:
            failures.append(error)

    with served(tmp_path, study) as (server, pages):
        threads = [threading.Thread(target=work, args=(server.link_with(token),)) for token in pages.raters]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert not failures, failures
    with SqliteStore(tmp_path / "store") as store:
        assert [len(Studies(store).answers(each.id)) for each in Studies(store).raters(study)] == [16] * 12


def test_a_study_that_is_served_is_not_served_or_deleted_by_another(tmp_path: Path) -> None:
    study = begun(tmp_path, 6)
    with served(tmp_path, study):
        with (
            pytest.raises(StoreError, match="is being served by another process"),
            rater_pages(tmp_path / "store", study),
        ):
            pass
        with SqliteStore(tmp_path / "store") as store, pytest.raises(StoreError, match="another process"):
            Deletion(store, [study])
        assert typed("study", study, "--results", "--store", str(tmp_path / "store")).status == 0, "looking is free"
    with served(tmp_path, study):
        pass


def test_a_store_that_cannot_be_written_keeps_the_rater_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begun(tmp_path, 6)
    with served(tmp_path, study) as (server, pages), visitor(server.link_with(next(iter(pages.raters)))) as rater:

        def full(*_: object) -> None:
            raise StoreError("cannot write the store: the disk is full; make room")

        with monkeypatch.context() as patch:
            patch.setattr(Studies, "answer", full)
            reply = answer(rater)
            assert reply.status_code == 503 and "not kept yet: cannot write" in reply.json()["error"]
        assert answer(rater).status_code == 200


def started(where: Path, *words: str) -> tuple[subprocess.Popen[str], list[str]]:
    """`trimpot study` in a process of its own, and the links that it prints."""
    command = [
        sys.executable,
        "-m",
        "trimpot",
        "study",
        *words,
        "--port",
        "0",
        "--json",
        "--store",
        str(where / "store"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            return process, json.loads("".join(lines))["links"]
    raise AssertionError(process.communicate()[1])


def test_a_killed_server_loses_no_answer_and_the_links_go_on(tmp_path: Path) -> None:
    """Killed with SIGKILL while raters answer: all that was acknowledged is there, and the same command goes on."""
    sources = folders(tmp_path, 12)
    kept: list[dict[str, Any]] = []
    process, links = started(tmp_path, *sources, "--raters", "2")
    tokens = [link.partition("token=")[2] for link in links]
    with visitor(links[0]) as rater:

        def work() -> None:
            try:
                while True:
                    state = rater.get("state").json()
                    sent = {name: state[name] for name in ("rater", "position", "question", "key")}
                    if rater.post("answer", json={**sent, "answer": "right"}).json()["stored"]:
                        kept.append(sent)
                    if len(kept) == 9:
                        process.send_signal(signal.SIGKILL)
            except httpx.HTTPError:  # the server is dead
                return

        work()
    process.communicate()
    assert process.returncode == -signal.SIGKILL and len(kept) >= 9
    process, again = started(tmp_path, *sources)
    try:
        assert [link.partition("token=")[2] for link in again] == tokens, "the links end with the same tokens"
        with visitor(again[0]) as rater:
            state = rater.get("state").json()
            assert 2 * state["done"] + (state["question"] == "alignment") in (len(kept), len(kept) + 1)
            assert rater.post("answer", json={**kept[-1], "answer": "right"}).status_code == 200
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0 and "Traceback" not in said
    assert "every answer is kept, `trimpot study calibrated-study-1 --store" in said
    with SqliteStore(tmp_path / "store") as store, closing(store._db.conn):
        rows = Studies(store).answers("calibrated-study-1/1")
        assert {(each.position, each.question) for each in rows} >= {
            (each["position"], each["question"]) for each in kept
        }
