"""The addresses of the live page: its pages, what is new on them, and the pictures that they show."""

from __future__ import annotations

import functools
import importlib
import io
import json
import re
import threading
import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from ..reports.gallery import read_pictures
from ..reports.skeleton import POLICY
from ..storage.kept import IMAGES, read_output
from ..web import Server
from ..web.events import event_stream
from . import parts
from .reading import PACE, Folder, Scene
from .style import CSS, SCRIPT

LARGE = 640  # pixels; a larger picture is sent reduced
_NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}\.png")
_KEPT = {"cache-control": "private, max-age=31536000, immutable"}
Made = dict[str, str]
#: Kind of page to what makes its parts, and their order.
PAGES: dict[str, tuple[Callable[[Scene, Path, str], Made], tuple[str, ...]]] = {
    "overview": (lambda scene, folder, _: parts.overview(scene, folder), ("head", "list")),
    "run": (parts.run, parts.RUN_PARTS),
    "comparison": (parts.comparison, ("head", "list")),
}


def watch_server(
    folder: Path, *, host: str = "127.0.0.1", port: int = 0, token: str | None = None, pace: float = PACE
) -> Server:
    """Return a server of the live page of a folder.

    Args:
        folder: The folder of the store; it may be absent, and nothing is ever written to it.
        host: The address to listen at; any but this machine's loopback needs a token.
        port: The port to listen at; 0 selects a free one.
        token: The token to require; None generates one where a token is needed.
        pace: Seconds between two looks at the store, at least.

    Raises:
        ConfigError: If it cannot listen at the address.
    """
    importlib.import_module("scipy.stats")  # slow to load, and needed by the first check of a run that is watched
    return Server(Site(Folder(folder, pace)).routes(), host=host, port=port, token=token)


class Site:
    """The pages of a folder.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._told: dict[str, tuple[Made, Made, str | None]] = {}  # of the pages of each kind, the latest
        self._telling = threading.Lock()

    def routes(self) -> list[Route]:
        """Return the addresses."""
        return [
            Route("/", self._page, name="overview"),
            Route("/run/{name:path}", self._page, name="run"),
            Route("/comparison/{name:path}", self._page, name="comparison"),
            Route("/events/{kind}", self._events),
            Route("/events/{kind}/{name:path}", self._events),
            Route("/image/{name:path}", self._image),
            Route("/picture/{run}/{name}", self._picture),
            Route("/report/{name}", self._report),
            Route("/watch.css", _fixed(CSS, "text/css")),
            Route("/watch.js", _fixed(SCRIPT, "text/javascript")),
        ]

    def _made(self, kind: str, name: str) -> Made:
        make, _ = PAGES[kind]
        return self._folder.made(kind, name, lambda scene: make(scene, self._folder.path, name))

    async def _page(self, request: Request) -> Response:
        """Answer with a page as it is now; its script asks for what is new."""
        name = request.path_params.get("name", "")
        kind = "overview" if request.url.path == "/" else request.url.path.split("/")[1]
        made = await run_in_threadpool(self._made, kind, name)
        status = 404 if made.get("absent") else 200  # a page that may still come, and then shows itself
        return HTMLResponse(_whole(kind, name, made, self._folder.path), status_code=status)

    async def _events(self, request: Request) -> Response:
        kind, name = request.path_params["kind"], request.path_params.get("name", "")
        if kind not in PAGES:
            raise HTTPException(404)
        sent: Made | None = None

        def news() -> str | None:
            nonlocal sent
            before, sent = sent, self._made(kind, name)
            return None if sent is before else self._news(kind, before, sent)

        return event_stream(request, news, self._folder.pace)

    def _news(self, kind: str, before: Made | None, now: Made) -> str | None:
        """Return what a reader of one state of a page is told of the next; readers in step are told the same text."""
        with self._telling:
            known = self._told.get(kind)
            if before is not None and known is not None and known[0] is before and known[1] is now:
                return known[2]
            changed = {part: html for part, html in now.items() if (before or {}).get(part) != html}
            parts = {part: html for part, html in changed.items() if part in PAGES[kind][1]}
            told = {"now": time.time(), "title": f"{now['title']} · trimpot", "parts": parts}
            text = json.dumps(told, ensure_ascii=False, separators=(",", ":")) if changed else None
            if before is not None:
                self._told[kind] = (before, now, text)
            return text

    async def _image(self, request: Request) -> Response:
        """Answer with a kept picture, by its name in the store."""
        name = request.path_params["name"]
        if not _NAME.fullmatch(name):
            raise HTTPException(404)
        kind, content = await run_in_threadpool(_kept, self._folder.path / IMAGES, name)
        return Response(content, media_type=f"image/{kind}", headers=_KEPT)

    async def _picture(self, request: Request) -> Response:
        """Answer with a picture that a finished run made, if the run's index names it."""
        run, name = request.path_params["run"], request.path_params["name"]
        _refuse_paths(run)
        files = [each for pair in read_pictures(self._folder.path / run / "images") for each in pair[2:]]
        path = next((each for each in files if each.name == name), None)
        if path is None:
            raise HTTPException(404)
        kind, content = await run_in_threadpool(lambda: _reduced(path.read_bytes()))
        return Response(content, media_type=f"image/{kind}")

    async def _report(self, request: Request) -> Response:
        """Answer with the page of a run, comparison or analysis, which is shut off from this server's own pages."""
        name = request.path_params["name"]
        _refuse_paths(name)
        for file in ("report.html", "comparison.html", "analysis.html"):
            path = self._folder.path / name / file
            if path.is_file():
                headers = {"content-security-policy": f"{POLICY}; sandbox allow-scripts"}
                return HTMLResponse(await run_in_threadpool(path.read_bytes), headers=headers)
        raise HTTPException(404)


def _whole(kind: str, name: str, made: Made, folder: Path) -> str:
    _, order = PAGES[kind]
    events = parts.address("events/" + kind, name) if name else f"/events/{kind}"
    body = "\n".join(f'<div id="part-{part}">{made[part]}</div>' for part in order)
    home = "" if kind == "overview" else '<a href="/">all runs</a> · '
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(made["title"])} · trimpot</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/watch.css">
</head>
<body data-events="{escape(events, quote=True)}">
<main>
<nav class="bar"><span>{home}{escape(str(folder))}</span><span id="live" role="status">beginning</span></nav>
<noscript><p class="note">Without JavaScript, this page shows what was known when it was opened.</p></noscript>
{body}
</main>
<script src="/watch.js"></script>
</body>
</html>
"""


def _fixed(text: str, kind: str) -> Callable[[Request], Any]:
    async def answer(_: Request) -> Response:
        return Response(text, media_type=kind)

    return answer


def _refuse_paths(name: str) -> None:
    """Refuse what is no plain name of a folder."""
    if name in ("", ".", "..") or any(character in name for character in "/\\:\0"):
        raise HTTPException(404)


@functools.lru_cache(maxsize=64)
def _kept(folder: Path, name: str) -> tuple[str, bytes]:
    read_output(folder, name)  # refuses what is not what its name says
    return _reduced((folder / name).read_bytes())


def _reduced(content: bytes) -> tuple[str, bytes]:
    """Return a picture's kind and bytes, reduced if it is large."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            if max(image.size) <= LARGE:
                return "png", content
            image.thumbnail((LARGE, LARGE))
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "JPEG", quality=88)
            return "jpeg", buffer.getvalue()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise HTTPException(404, "this picture is damaged") from None
