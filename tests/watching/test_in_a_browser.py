"""The live page in a real browser: it complains of nothing, follows a run, fits, and shows hostile text as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from browser import DESK, PHONE, Tab
from closed_form import SMALL
from sessions import Installed
from trimpot.storage import Comparisons, SqliteStore
from trimpot.watching import watch_server
from watched import HOSTILE, hostile_prompts, painted, put, stepped

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("short_reports")]
PACE = 0.05
Open = Callable[..., Tab]


def test_the_page_follows_a_run_from_before_its_beginning_to_its_end(
    tab: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pictures; the list leads to the run; nothing is reloaded by hand."""
    put(monkeypatch, painted())
    with watch_server(tmp_path, pace=PACE).serving() as server:
        each = tab()
        page = each.open(server.link)
        page.get_by_text("There is no run in").wait_for()
        with stepped(tmp_path) as (steps, _):
            page.get_by_role("link", name="hill-1").click()
            page.get_by_text("none of at most 3 generations").wait_for()
            assert page.locator("#live").inner_text() == "live"
            steps.go(10)
            page.get_by_text("1 of at most 3 generations").wait_for()
            share = float(page.locator("progress").get_attribute("value") or 0)
            assert 0 < share < 100 and page.title() == f"{share:.0f}% · hill-1 · trimpot"
            page.locator("summary").click()
            steps.go(10)
            page.get_by_text("2 of at most 3 generations").wait_for()
            page.locator("#part-pictures img").first.wait_for()
            assert page.locator("#part-curves svg.wide circle.c0").count() == 2, "neutral and the first check"
            assert page.locator("details").get_attribute("open") is not None, "what was opened stays open"
            assert page.locator("#part-pictures img").evaluate_all(
                "(all) => Promise.all(all.map((each) => (each.loading = 'eager', each.decode())))"
            )
            steps.finish()
            page.locator(".pill.finished").wait_for()
        assert page.locator("progress").count() == 0
        assert page.locator("time").first.inner_text().endswith(("ago", "just now"))
        assert each.complaints == []


def test_five_tabs_follow_one_run(tab: Open, tmp_path: Path, installed: Installed) -> None:
    """Of one browser, which allows six connections; one of them is closed in the middle."""
    with stepped(tmp_path) as (steps, _), watch_server(tmp_path, pace=PACE).serving() as server:
        first = tab()
        first.open(f"{server.url}run/hill-1")
        pages = [first.page, *(first.another() for _ in range(4))]
        for page in pages[1:]:
            page.goto(f"{server.url}run/hill-1", wait_until="domcontentloaded")
        pages.pop().close()
        steps.go(10)
        for page in pages:
            page.get_by_text("1 of at most 3 generations").wait_for()
        assert first.complaints == []


def test_hostile_text_stays_text_and_every_page_fits(
    tab: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a desk and on a phone, in a light and in a dark room."""
    put(monkeypatch, painted(hostile_prompts()))
    long = "a" * 100
    with stepped(tmp_path, {"prompts": "others", "name": long}) as (steps, _):
        steps.go(24)
        with SqliteStore(tmp_path) as store:
            Comparisons(store).add("vs", "x", {})
            Comparisons(store).join("vs-1", f"{HOSTILE}{long}", 3, f"{long}-1")
            store.update_run(f"{long}-1", error=f"{HOSTILE}{long}")
        with watch_server(tmp_path, pace=PACE).serving() as server:
            each = tab()
            for path, shown in (("", long), (f"run/{long}-1", HOSTILE), ("comparison/vs-1", HOSTILE)):
                page = each.open(server.url + path)
                page.locator("#live:text-is('live')").wait_for()
                page.get_by_text(shown).first.wait_for()
                for width in (DESK, PHONE):
                    each.resize(width)
                    assert each.overflow() == [0, []], (path, width)
                assert "owned" not in page.title()
            for scheme, paper in (("light", "rgb(251, 250, 248)"), ("dark", "rgb(20, 23, 27)")):
                page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                assert page.evaluate("getComputedStyle(document.body).backgroundColor") == paper
            assert each.complaints == []


def test_a_page_whose_server_has_gone_says_so_and_goes_on_when_it_is_back(
    tab: Open, tmp_path: Path, installed: Installed
) -> None:
    each = tab()
    with stepped(tmp_path) as (steps, _):
        with watch_server(tmp_path, pace=PACE).serving() as server:
            page = each.open(f"{server.url}run/hill-1")
            page.get_by_text("none of at most 3 generations").wait_for()
            assert each.complaints == []
        page.get_by_text("not connected, trying again").wait_for()
        with watch_server(tmp_path, port=server.port, pace=PACE).serving():
            steps.go(10)
            page.get_by_text("1 of at most 3 generations").wait_for()
            assert page.locator("#live").inner_text() == "live"


def test_where_a_token_is_required_the_link_is_enough(tab: Open, tmp_path: Path) -> None:
    with watch_server(tmp_path, token="a-secret", pace=PACE).serving() as server:
        each = tab()
        page = each.open(server.link)
        page.locator("#live:text-is('live')").wait_for()
        assert page.url == server.url, "the token does not stay in the address"
        assert each.complaints == []
        other = tab().open(server.url)
        other.get_by_text("This page wants its token").wait_for()


def test_the_report_is_shown_and_its_figures_are_drawn(tab: Open, tmp_path: Path, installed: Installed) -> None:
    from trimpot.reports import page as pages
    from trimpot.runs import session
    from trimpot.runs.results import Files
    from trimpot.setup.config import load_config

    session.start(load_config(SMALL), tmp_path)
    (tmp_path / "hill-1" / "report.html").unlink()
    with SqliteStore(tmp_path) as store:
        pages.write_report(store, "hill-1", Files.of(tmp_path / "hill-1"))
    with watch_server(tmp_path, pace=PACE).serving() as server:
        each = tab()
        page = each.open(f"{server.url}report/hill-1")
        page.locator(".chart .main-svg").first.wait_for()
        assert each.complaints == []
