"""A reader of the live page: it asks for pages, and hears what a browser is told of one."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from trimpot.watching import watch_server
from trimpot.web import Server

PACE = 0.05
PLAIN: Any = {"trust_env": False, "verify": False}


@contextlib.contextmanager
def watching(folder: Path) -> Iterator[Server]:
    """Serve the live page of a folder."""
    with watch_server(folder, pace=PACE).serving() as server:
        yield server


def asked(server: Server, path: str = "", method: str = "GET") -> httpx.Response:
    """Ask for a page."""
    return httpx.request(method, server.url + path, timeout=30, **PLAIN)


def page(server: Server, path: str = "", status: int = 200) -> str:
    """Return a page, whose status must be this one."""
    answer = asked(server, path)
    assert answer.status_code == status, answer.text
    return answer.text


class Told:
    """What a browser is told of a page, until it has heard enough."""

    def __init__(self, server: Server, path: str) -> None:
        self.parts: dict[str, str] = {}
        self.titles: list[str] = []
        self.messages = 0
        self._stream = httpx.stream("GET", f"{server.url}events/{path}", timeout=20, **PLAIN)
        self._lines = self._stream.__enter__().iter_lines()

    def until(self, text: str, seconds: float = 20) -> None:
        """Listen until the page holds a text."""
        begun = time.monotonic()
        while text not in " ".join([*self.parts.values(), *self.titles[-1:]]):
            assert time.monotonic() - begun < seconds, (text, self.parts)
            line = next(self._lines)
            if line.startswith("data: "):
                told = json.loads(line[6:])
                self.parts |= told["parts"]
                self.titles.append(told["title"])
                self.messages += 1

    def close(self) -> None:
        self._stream.__exit__(None, None, None)
