"""Who may ask for a page, what a page may load, and what is answered if something goes wrong.

On loopback without a token, only requests to a name of the loopback are answered: otherwise a web page could give its
own name the address 127.0.0.1 and read everything here (DNS rebinding). With a token, every request must bring it:
first in the link (`?token=`), from then on as a cookie. A request that changes something must come from a page of this
server. No page may load anything from anywhere else, and none may be shown in a frame of another.
"""

from __future__ import annotations

import hmac
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from html import escape
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..ground.errors import TrimpotError, printable

MOST_BODY = 64 * 1024  # bytes of a request; forms and answers are small
SAFE = ("GET", "HEAD", "OPTIONS")
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
#: Headers of every answer; an answer that sets one of them itself keeps its own.
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",  # a link may hold a token
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
Admits = Callable[[str], bool]


class Guard:
    """An ASGI application that answers only who may ask, and hands the rest to another application.

    Args:
        app: The application behind it. It finds the admitted token, or None, in `scope["token"]`, and in
            `scope["stopping"]` a function that tells whether the server is about to stop.
        admits: Whether a token is admitted; None requires no token.
        hosts: Names under which the server may be asked for if no token is required.
        cookie: Name of the cookie that holds the token.
        stopping: Whether the server is about to stop.
    """

    def __init__(
        self,
        app: ASGIApp,
        admits: Admits | None,
        hosts: Collection[str],
        cookie: str,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._app, self._admits, self._hosts, self._cookie = app, admits, set(hosts), cookie
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, answer)
                return
            scope["stopping"] = self._stopping
            await self._app(scope, _bounded(scope, receive), answer)
        except Exception as error:
            if not isinstance(error, (HTTPException, TrimpotError)):
                sys.stderr.write(printable("".join(traceback.format_exception(error))))
            if not begun:  # otherwise the browser notices that the rest is missing
                await page_of(error)(scope, receive, answer)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return what is answered to a request that may not go on, or None; note the token of one that may."""
        headers = Headers(scope=scope)
        scope["token"] = None
        if self._admits is None:
            if hostname(headers.get("host", "")) not in self._hosts:
                return refused(421, "this page is asked for under a name that is not this machine's own")
        else:
            given = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
            shown = given.pop("token", None)
            if shown is not None and self._admits(shown) and scope["method"] in SAFE:
                return self._remembering(scope["path"], given, shown)
            known = shown or _bearer(headers) or cookie_parser(headers.get("cookie", "")).get(self._cookie)
            if not known or not self._admits(known):
                return refused(401, "this page wants its token: open the whole link that was printed when it started")
            scope["token"] = known
        if scope["method"] not in SAFE and not _of_this_server(headers):
            return refused(403, "another page asked for this; only a page of this server may")
        return None

    def _remembering(self, path: str, query: Mapping[str, str], token: str) -> Response:
        """Return the way to the same page without the token in its address, with the token as a cookie."""
        place = "/" + path.lstrip("/\\")  # two slashes would name another machine
        answer = RedirectResponse(f"{place}?{urlencode(query)}" if query else place, status_code=303)
        answer.set_cookie(self._cookie, token, httponly=True, samesite="lax", path="/")
        return answer


def same(token: str) -> Admits:
    """Return whether a token is this one, compared in a time that tells nothing of it."""
    wanted = token.encode()
    return lambda given: hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted)


def refused(status: int, sentence: str) -> Response:
    """Return a page with a sentence."""
    said = printable(f"{sentence[:1].upper()}{sentence[1:]}".rstrip(".")) + "."
    return HTMLResponse(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>trimpot</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"></head>'
        f"<body><p>{escape(said)}</p></body></html>\n",
        status_code=status,
    )


def hostname(header: str) -> str:
    """Return the name in a Host header, without port and brackets."""
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
    return name.strip("[]").lower()


def _bearer(headers: Headers) -> str | None:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token if kind.lower() == "bearer" and token else None


def _of_this_server(headers: Headers) -> bool:
    """Return whether a browser asked from a page of this server, or something that is no browser asked."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None:
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
    return site in (None, "same-origin", "none")


def _bounded(scope: Scope, receive: Receive) -> Receive:
    """Return `receive` for a body of at most `MOST_BODY` bytes."""
    room = MOST_BODY

    async def bounded() -> Message:
        nonlocal room
        message = await receive()
        room -= len(message.get("body", b""))
        if room < 0:
            raise HTTPException(413, f"a request of more than {MOST_BODY} bytes is too large for this page")
        return message

    return bounded


def page_of(error: Exception) -> Response:
    """Return the page of an error: its sentence if a user can cause it."""
    if isinstance(error, HTTPException):
        said = {404: "there is no such page here", 405: "this page does not take that kind of request"}
        own = error.detail if error.detail != HTTPStatus(error.status_code).phrase else None
        return refused(error.status_code, own or said.get(error.status_code, str(error.detail)))
    if isinstance(error, TrimpotError):
        return refused(409, str(error))
    return refused(500, f"this page could not be made ({type(error).__name__}); what is stored is kept")


async def sentence_of(_request: Any, error: Exception) -> Response:
    """Return the page of an error that an application raises."""
    return page_of(error)
