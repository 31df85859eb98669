"""Pages are answered only to who may ask, load nothing from elsewhere, and end cleanly."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from trimpot.ground.errors import ConfigError, StoreError
from trimpot.web import Server
from trimpot.web.events import event_stream
from trimpot.web.guard import MOST_BODY, hostname, same

TOKEN = "a-token-of-our-own"


async def hello(request: Request) -> Response:
    return PlainTextResponse(f"hello {request.scope['token']}")


async def change(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def refused(_: Request) -> Response:
    raise StoreError("no run 'x<b>'; known: 'y'")


async def broken(_: Request) -> Response:
    raise ValueError("a secret of the machine")


async def endless(request: Request) -> Response:
    return event_stream(request, lambda: str(time.monotonic()), 0.02)


ROUTES = [
    Route("/", hello),
    Route("/change", change, methods=["POST"]),
    Route("/refused", refused),
    Route("/broken", broken),
    Route("/endless", endless),
]


@pytest.fixture(scope="module")
def open_server() -> Iterator[Server]:
    with Server(ROUTES).serving() as server:
        yield server


@pytest.fixture(scope="module")
def closed_server() -> Iterator[Server]:
    with Server(ROUTES, token=TOKEN).serving() as server:
        yield server


def get(server: Server, path: str = "", **options: Any) -> httpx.Response:
    with httpx.Client(trust_env=False) as client:
        return client.request(options.pop("method", "GET"), server.url + path, **options)


def test_on_loopback_a_page_needs_no_token_and_has_a_port_of_its_own(open_server: Server) -> None:
    assert open_server.token is None and open_server.link == open_server.url
    assert open_server.url == f"http://127.0.0.1:{open_server.port}/"
    assert get(open_server).text == "hello None"


@pytest.mark.parametrize("path", ["", "refused", "missing", "change"])
def test_every_answer_forbids_the_browser_all_other_places(open_server: Server, path: str) -> None:
    headers = get(open_server, path).headers
    policy = {each.split()[0]: each.split()[1:] for each in headers["content-security-policy"].split("; ")}
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == ["'none'"]
    allowed = {source for name, sources in policy.items() for source in sources}
    assert allowed == {"'none'", "'self'", "data:", "blob:"}, "no other host, and no script in the page itself"
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY" and headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]:1"])
def test_a_name_that_is_not_this_machine_s_own_is_refused(open_server: Server, host: str) -> None:
    answer = get(open_server, headers={"Host": host})
    assert answer.status_code == 421 and "hello" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1", "[::1]:80"])
def test_the_names_of_loopback_are_answered(open_server: Server, host: str) -> None:
    assert get(open_server, headers={"Host": host}).status_code == 200
    assert hostname(host) in {"localhost", "127.0.0.1", "::1"}


@pytest.mark.parametrize("path", ["", "?token=wrong", "?token=", "refused", "missing", "?token=%ff%00"])
def test_without_the_token_nothing_is_told(closed_server: Server, path: str) -> None:
    answer = get(closed_server, path)
    assert answer.status_code == 401 and "wants its token" in answer.text and TOKEN not in answer.text


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Cookie": f"trimpot-1={TOKEN}"}],
)
def test_a_token_in_the_wrong_place_is_none(closed_server: Server, headers: dict[str, str]) -> None:
    assert get(closed_server, headers=headers).status_code == 401


def test_the_link_brings_the_token_once_and_a_cookie_keeps_it(closed_server: Server) -> None:
    with httpx.Client(trust_env=False) as client:
        first = client.get(closed_server.link_with(TOKEN) + "&tab=2")
        assert first.status_code == 303 and first.headers["location"] == "/?tab=2"
        kept = first.headers["set-cookie"].lower()
        assert "httponly" in kept and "samesite=lax" in kept and str(closed_server.port) in kept
        assert client.get(closed_server.url).text == f"hello {TOKEN}"
        assert get(closed_server, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_the_way_back_from_a_link_leads_to_this_server(closed_server: Server) -> None:
    with socket.create_connection(("127.0.0.1", closed_server.port)) as raw:  # a client would tidy the path
        raw.sendall(f"GET //evil.example?token={TOKEN} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    assert b"location: /evil.example\r\n" in answer


def test_people_may_have_tokens_of_their_own() -> None:
    with Server(ROUTES, admits={"anna", "bela"}.__contains__).serving() as server:
        assert server.token and get(server).status_code == 401
        for token in ("anna", "bela", server.token):
            assert get(server, headers={"Authorization": f"Bearer {token}"}).text == f"hello {token}"


@pytest.mark.parametrize("given", ["", " x", "x ", "é", "a\nb"])
def test_a_token_that_cannot_be_sent_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="printable ASCII"):
        Server(ROUTES, token=given)


def test_two_tokens_are_compared_whole() -> None:
    admits = same(TOKEN)
    assert admits(TOKEN) and not admits(TOKEN[:-1]) and not admits(f"{TOKEN}x") and not admits("\udcff")


def test_where_others_reach_it_a_token_is_made() -> None:
    first, second = (Server(ROUTES, host="0.0.0.0") for _ in range(2))
    with first.serving():
        assert first.token and second.token and first.token != second.token and len(first.token) >= 32
        assert f"?token={first.token}" in first.link and "0.0.0.0" not in first.link
        assert httpx.get(f"http://127.0.0.1:{first.port}/", trust_env=False).status_code == 401
    second.close()


def test_another_page_cannot_change_anything(open_server: Server) -> None:
    own = open_server.url.rstrip("/")
    for headers, status in (
        ({}, 200),
        ({"Origin": own}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ):
        assert get(open_server, "change", method="POST", content=b"12", headers=headers).status_code == status, headers


def test_a_request_that_is_too_large_is_refused(open_server: Server) -> None:
    assert get(open_server, "change", method="POST", content=b"x" * MOST_BODY).text == str(MOST_BODY)
    assert get(open_server, "change", method="POST", content=b"x" * (MOST_BODY + 1)).status_code == 413
    chunks = (b"x" * 1000 for _ in range(100))
    assert get(open_server, "change", method="POST", content=chunks).status_code == 413


def test_an_error_is_a_page_with_a_sentence(open_server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    answer = get(open_server, "refused")
    assert answer.status_code == 409 and "No run &#x27;x&lt;b&gt;&#x27;; known" in answer.text
    assert get(open_server, "missing").status_code == 404 and "no such page" in get(open_server, "missing").text
    assert get(open_server, "change").status_code == 405
    answer = get(open_server, "broken")
    assert answer.status_code == 500 and "secret" not in answer.text and "ValueError" in answer.text
    told, begun = "", time.monotonic()
    while "a secret of the machine" not in told and time.monotonic() - begun < 5:  # after the answer
        told += capsys.readouterr().err
        time.sleep(0.01)
    assert "a secret of the machine" in told, "whoever started it is told"


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("127.0.0.1", -1, "0 .a free one. to 65535"),
        ("127.0.0.1", 70000, "0 .a free one. to 65535"),
        ("no such host", 0, "no address of a machine"),
        ("192.0.2.1", 0, "no such address; choose another --host"),
    ],
)
def test_an_address_at_which_nothing_can_listen_is_refused(host: str, port: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Server(ROUTES, host=host, port=port)


def test_a_port_in_use_is_one_sentence(open_server: Server) -> None:
    with pytest.raises(ConfigError, match=r"another program listens there already; choose another --port$"):
        Server(ROUTES, port=open_server.port)


def test_a_server_ends_while_browsers_listen_and_its_port_is_free_again() -> None:
    with Server(ROUTES).serving() as server:
        heard = threading.Semaphore(0)

        def listen() -> None:
            with httpx.stream("GET", server.url + "endless", trust_env=False) as answer:
                lines = answer.iter_lines()
                next(line for line in lines if line.startswith("data:"))
                heard.release()
                list(lines)  # until the server ends it

        readers = [threading.Thread(target=listen, daemon=True) for _ in range(3)]
        for each in readers:
            each.start()
        assert all(heard.acquire(timeout=5) for _ in readers)
        begun = time.monotonic()
    for each in readers:
        each.join(5)
        assert not each.is_alive()
    assert time.monotonic() - begun < 2.5
    with Server(ROUTES, port=server.port).serving() as again:
        assert get(again).status_code == 200


SCRIPT = """
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from trimpot.web import Server
server = Server([Route("/", lambda request: PlainTextResponse("hello"))])
print(server.url, flush=True)
server.run()
print("ended", flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a child alone")
def test_ctrl_c_ends_it_without_a_word() -> None:
    child = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout
    address = child.stdout.readline().strip()
    for _ in range(100):
        try:
            assert httpx.get(address, trust_env=False).text == "hello"
            break
        except httpx.TransportError:
            time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=10)
    assert (child.returncode, out, err) == (0, "ended\n", "")
