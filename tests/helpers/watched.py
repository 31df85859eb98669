"""Runs to be watched: of the hill, with prompts of any kind, step by step; and what a page holds."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from closed_form import SMALL, Hill, hill_plugin, prompt_set
from trimpot.engine.bucket import PromptSet
from trimpot.engine.evaluation import Evaluation, Place
from trimpot.engine.hooks import hookimpl
from trimpot.engine.run import Run
from trimpot.engine.watcher import Watcher
from trimpot.runs import session
from trimpot.setup.config import load_config
from trimpot.setup.plugins import Plugins

HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> & ' \" \U0001f600"
)


class Painter(Hill):
    """A hill whose outputs are pictures that are white up to a height."""

    makes = "image"

    def generate(self, population: Any, bucket: Any) -> Iterator[list[Any]]:
        import numpy as np
        from PIL import Image

        for outputs in super().generate(population, bucket):
            rows = [np.clip(64 * math.exp(each) - np.arange(64), 0, 1) for each in outputs]
            yield [
                Image.fromarray(np.tile((255 * each[::-1, None, None]).astype(np.uint8), (1, 64, 3))) for each in rows
            ]


def painted(prompts: PromptSet | None = None) -> Plugins:
    """What is built in, a painter, and prompts."""
    from PIL import ImageStat
    from trimpot.engine.seams import Objective

    class Bright(Objective):
        def score(self, outputs: Any, prompts: Any) -> Any:
            import numpy as np

            return np.array([ImageStat.Stat(each).mean[0] / 255 for each in outputs])

    class Plugin:
        @hookimpl
        def register_prompts(self, register: Any) -> None:
            register("others", lambda: prompts or prompt_set())

    known = Plugins()
    known.add(hill_plugin(Painter(), Bright()), name="painter", origin="tests")
    known.add(Plugin(), name="prompts", origin="tests")
    return known


def hostile_prompts() -> PromptSet:
    """Prompts that would run as a script if they were not shown as text, each with a number."""
    names = [f"{number} {HOSTILE}" for number in range(30)]
    return PromptSet(tuple(names[:10]), tuple(names[10:20]), tuple(names[20:]))


class Steps(Watcher):
    """Lets a run in another thread go on by so many evaluations at a time."""

    def __init__(self) -> None:
        self._may, self._did = threading.Semaphore(0), threading.Semaphore(0)
        self._free = self._over = False

    def evaluation_recorded(self, run: Run, place: Place, evaluation: Evaluation) -> None:
        self._did.release()
        if not self._free:
            assert self._may.acquire(timeout=20)

    def go(self, evaluations: int = 1) -> None:
        """Let so many more evaluations be made; when this returns they are recorded."""
        for _ in range(evaluations):
            self._may.release()
            assert self._did.acquire(timeout=20)

    def go_if_it_can(self, evaluations: int) -> bool:
        """As `go`; whether the run, which may have ended, has made any."""
        for number in range(evaluations):
            self._may.release()
            while not self._did.acquire(timeout=0.05):
                if self._over:
                    return number > 0
        return True

    def finish(self) -> None:
        self._free = True
        for _ in range(1000):
            self._may.release()


@contextmanager
def stepped(folder: Path, config: Mapping[str, Any] | None = None) -> Iterator[tuple[Steps, threading.Thread]]:
    """A run of this process that has recorded one evaluation, and goes on step by step; it ends with the block."""
    steps = Steps()
    made = load_config({**SMALL, **(config or {})})

    def work() -> None:
        try:
            session.start(made, folder, (steps,))
        finally:
            steps._over = True

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert steps._did.acquire(timeout=20)
    try:
        yield steps, thread
    finally:
        steps.finish()
        thread.join(60)
        assert not thread.is_alive()


def put(monkeypatch: pytest.MonkeyPatch, known: Plugins) -> None:
    monkeypatch.setattr(session, "plugins", lambda: known)


class Held(HTMLParser):
    """What a page is made of: tags, attributes and texts."""

    VOID = frozenset(("meta", "link", "img"))

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
