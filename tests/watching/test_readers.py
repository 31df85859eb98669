"""Readers of the live page: all see the same, and many cost the run no more than one."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from browsing import Told, page, watching
from closed_form import SMALL
from sessions import Installed, interrupt
from trimpot.runs import session
from trimpot.setup.config import load_config
from trimpot.storage import SqliteStore
from trimpot.watching import watch_server
from watched import stepped

pytestmark = pytest.mark.usefixtures("short_reports")


def test_five_readers_see_the_same_and_the_run_ends_where_it_ends_alone(installed: Installed, tmp_path: Path) -> None:
    """One of them goes away in the middle."""
    with stepped(tmp_path / "watched") as (steps, _), watching(tmp_path / "watched") as server:
        readers = [Told(server, "run/hill-1") for _ in range(5)]
        for each in readers:
            each.until("none of at most")
        steps.go(9)
        readers.pop().close()
        steps.finish()
        for each in readers:
            each.until('pill finished">')
        assert len({json.dumps(each.parts, sort_keys=True) for each in readers}) == 1
        for each in readers:
            each.close()
    session.start(load_config(SMALL), tmp_path / "alone")
    digests = set()
    for folder in (tmp_path / "watched", tmp_path / "alone"):
        with SqliteStore(folder, create=False) as store:
            digests.add(store.totals("hill-1")["digest"])
    assert len(digests) == 1


def test_what_does_not_change_is_not_told_again(installed: Installed, tmp_path: Path) -> None:
    interrupt(tmp_path)
    with watching(tmp_path) as server:
        told = Told(server, "run/hill-1")
        told.until("hill-1")
        threading.Timer(0.4, lambda: _note(tmp_path)).start()
        told.until("an error of its own")
        assert told.messages <= 3
        told.close()


def _note(folder: Path) -> None:
    with SqliteStore(folder) as store:
        store.update_run("hill-1", error="an error of its own")


def test_many_requests_cost_one_look_a_second(installed: Installed, tmp_path: Path, monkeypatch: Any) -> None:
    from trimpot.watching import reading

    session.start(load_config(SMALL), tmp_path)
    looks: list[float] = []
    look = reading.Look

    def counted(folder: Path) -> Any:
        looks.append(time.monotonic())
        return look(folder)

    monkeypatch.setattr(reading, "Look", counted)
    with watch_server(tmp_path, pace=5.0).serving() as server:
        for number in range(20):
            page(server)
            page(server, "run/hill-1")
            page(server, f"run/none-{number}", 404)
    assert len(looks) == 2, "one for the list, and one more for the run that somebody wants to see"


def test_a_further_reader_costs_no_look_and_no_drawing(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What readers in step are told is one text, and a part is drawn again only if what it shows has changed."""
    from trimpot.watching import parts
    from trimpot.watching.reading import Folder
    from trimpot.watching.site import Site

    drawn = {"curves": 0, "knobs": 0, "watched_section": 0}

    def counting(name: str) -> Any:
        draw = getattr(parts, name)

        def counted(*given: Any) -> Any:
            drawn[name] += 1
            return draw(*given)

        return counted

    for name in drawn:
        monkeypatch.setattr(parts, name, counting(name))
    folder, changes = Folder(tmp_path, 0.0), 0
    monkeypatch.setattr("trimpot.watching.reading.SHARE", 1e9)
    site, before = Site(folder), None
    with stepped(tmp_path) as (steps, thread):
        while thread.is_alive() and steps.go_if_it_can(2):
            now = site._made("run", "hill-1")
            if before is not None:
                first, *others = (site._news("run", before, now) for _ in range(5))
                assert first and all(each is first for each in others)
            changes, before = changes + 1, now
    before, looked = site._made("run", "hill-1"), dict(drawn)
    with SqliteStore(tmp_path) as store:
        store.update_run("hill-1", error="of no matter")
    assert site._made("run", "hill-1") is not before and drawn == looked
    assert changes > 10 and drawn["watched_section"] < changes / 2 and drawn["curves"] < changes / 2, (drawn, changes)


def test_looking_and_drawing_take_a_small_share_of_a_core(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What drawing takes puts the next look off, in the time of the core that it took and not of a busy machine."""
    from trimpot.watching.reading import SHARE, Folder

    interrupt(tmp_path)
    clock = [0.0]
    monkeypatch.setattr(time, "thread_time", lambda: clock[0])
    folder = Folder(tmp_path, 1.0)

    def slow(_: Any) -> dict[str, str]:
        clock[0] += 3.0
        return {}

    begun = time.monotonic()
    folder.made("overview", "", slow)
    assert folder._due - begun >= 3.0 / SHARE
    folder.made("overview", "", slow)
    assert clock[0] == 3.0, "what is drawn already is not drawn again"
