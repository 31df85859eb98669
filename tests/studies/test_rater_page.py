"""The rater's page in a real browser: keys, touch, pauses, hostile prompts, and servers that go away."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import DESK, PHONE, Tab
from studied import HOSTILE, begun, taste
from trimpot.ground.errors import printable
from trimpot.storage import SqliteStore, Studies
from trimpot.studies.app import rater_pages
from trimpot.studies.page import write_results
from trimpot.studies.results import results
from trimpot.web import Server

KEYS = {"left": ("1", "ArrowLeft"), "same": ("2", "ArrowDown"), "right": ("3", "ArrowRight")}
pytestmark = pytest.mark.browser


@contextmanager
def served(where: Path, study: str, port: int = 0) -> Iterator[tuple[Server, list[str]]]:
    with contextlib.ExitStack() as opened:
        pages = opened.enter_context(rater_pages(where / "store", study))
        server = opened.enter_context(Server(pages.routes, admits=pages.admits, port=port).serving())
        yield server, [server.link_with(token) for token in pages.raters]


def begin(tab: Tab, link: str) -> Any:
    page = tab.open(link)
    page.locator("#begin").click()
    ready(page)
    return page


def ready(page: Any) -> None:
    page.locator("#answers button:enabled").first.wait_for()


def press(page: Any, key: str) -> None:
    """Press a key as an answer when it is taken for one, and wait until the server has it."""
    ready(page)
    with page.expect_response("**/answer") as reply:
        page.keyboard.press(key)
    assert reply.value.ok


def test_the_keyboard_rates_twenty_pairs_and_the_preferences_come_back(tmp_path: Path, tab: Callable[..., Tab]) -> None:
    """Two scripted raters in a browser each; their known preferences lie inside the intervals of the result."""
    study, luck = begun(tmp_path, 20, raters=2, checks=2), random.Random(0)
    with SqliteStore(tmp_path / "store") as store:
        plans = [each.plan for each in Studies(store).raters(study)]
    with served(tmp_path, study) as (_, links):
        for number, (link, plan) in enumerate(zip(links, plans, strict=True)):
            each, prefers = tab(DESK), taste(number, 0.7, 0.15)
            page = begin(each, link)
            for place, shown in enumerate(plan):
                ready(page)
                assert page.locator("#count").inner_text() == f"{place + 1} of 22"
                for question in ("overall", "alignment"):
                    press(page, luck.choice(KEYS[prefers(shown, question)]))
            page.get_by_text("Thank you!").wait_for()
            assert "All 22 pairs are answered." in page.locator("#finished").inner_text()
            assert each.complaints == [], "the console is silent"
            each.close()
    with SqliteStore(tmp_path / "store") as store:
        found = results(store, study)
        assert len(found.rated) == 2 * 44 and not found.left_out
        for verdicts in found.verdicts.values():
            [match] = verdicts.matches
            assert match.wins.low < 0.7 < match.wins.high and match.ties.low < 0.15 < match.ties.high
        for plan in plans:
            assert abs(sum(1 if each["left"] < each["right"] else -1 for each in plan if each["kind"] == "pair")) <= 1
        assert all(each.seconds is not None and 0 <= each.seconds < 60 for each in found.rated)
        _, files = write_results(store, study)
    each = tab(DESK)
    each.open(files.page.as_uri())
    for width in (DESK, PHONE):
        each.resize(width)
        assert each.overflow() == [0, []]
    assert each.complaints == []


def test_hostile_prompts_stay_text_and_nothing_is_wider_than_the_window(
    tmp_path: Path, tab: Callable[..., Tab]
) -> None:
    study = begun(tmp_path, len(HOSTILE), raters=1, checks=0)
    with served(tmp_path, study) as (_, [link]):
        each, seen = tab(PHONE, 700, has_touch=True, is_mobile=True), set[str]()
        page = begin(each, link)
        for _ in HOSTILE:
            ready(page)
            seen.add(page.locator("#prompt").text_content() or "")
            for width, height in ((PHONE, 700), (700, PHONE), (DESK, 900)):
                each.resize(width, height)
                assert each.overflow() == [0, []]
                boxes = [page.locator(f"#{side}").bounding_box() for side in ("left", "right")]
                assert boxes[0] and boxes[1] and boxes[0]["width"] > 100 and boxes[0]["height"] > 60
                assert (
                    abs(boxes[0]["width"] - boxes[1]["width"]) < 1 and abs(boxes[0]["height"] - boxes[1]["height"]) < 1
                )
                lowest = page.locator("#answers").bounding_box()
                assert lowest and lowest["y"] + lowest["height"] <= height, "the buttons are in view"
            assert [page.locator(f"#{side}").get_attribute("alt") for side in ("left", "right")] == [
                "picture A", "picture B",
            ]  # fmt: skip
            press(page, "1")
            press(page, "2")
            assert page.locator("#pair img").count() == 2
        page.get_by_text("Thank you!").wait_for()
        assert seen == {printable(prompt) for prompt in HOSTILE}
        assert page.title() == "Which picture is better?" and each.complaints == []


def test_touch_pause_and_another_device_go_on_where_it_was_left(tmp_path: Path, tab: Callable[..., Tab]) -> None:
    study = begun(tmp_path, 6, raters=1)
    with served(tmp_path, study) as (_, [link]):
        phone = tab(PHONE, 700, has_touch=True, is_mobile=True)
        page = begin(phone, link)
        page.wait_for_timeout(300)  # an answer within a quarter of a second is taken for a double tap
        with page.expect_response("**/answer"):
            page.get_by_role("button", name="No difference").tap()
        page.get_by_text("follows the text better", exact=True).wait_for()
        page.get_by_role("button", name="Pause").tap()
        assert not page.locator("#rating").is_visible() and page.locator("#paused").is_visible()
        page.keyboard.press("1")  # answers nothing
        desk = tab(DESK)
        other = desk.open(link)
        other.get_by_text("There are 8 pairs").wait_for()
        other.locator("#begin").click()
        ready(other)
        assert "follows the text" in other.locator("#question").inner_text()
        press(other, "3")
        page.locator("#resume").tap()
        with page.expect_response("**/answer") as reply:
            page.keyboard.press("1")  # this one was answered on the desk meanwhile, and otherwise
        assert reply.value.status == 409
        page.get_by_text("perhaps on another device").wait_for()
        ready(page)
        assert page.locator("#count").inner_text() == "2 of 8"
        phone.close()  # goes away in the middle
        ready(other)
        press(other, "2")
        assert desk.complaints == []
    with SqliteStore(tmp_path / "store") as store:
        rows = Studies(store).answers(f"{study}/1")
        assert [(each.position, each.answer) for each in rows] == [(0, "same"), (0, "right"), (1, "same")]


def test_a_server_that_goes_away_is_waited_for_and_gets_the_answer(tmp_path: Path, tab: Callable[..., Tab]) -> None:
    study = begun(tmp_path, 6, raters=1)
    each = tab(DESK)
    with served(tmp_path, study) as (server, [link]):
        page, port = begin(each, link), server.port
    page.keyboard.press("1")
    page.get_by_text("Your last answer is not kept yet").wait_for()
    page.keyboard.press("3")  # is not taken for another answer
    with served(tmp_path, study, port):
        page.get_by_text("follows the text better", exact=True).wait_for()
        assert not page.locator("#trouble").is_visible()
        press(page, "3")
    with SqliteStore(tmp_path / "store") as store:
        assert [row.answer for row in Studies(store).answers(f"{study}/1")] == ["left", "right"]
