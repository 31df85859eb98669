"""What the tests of pages rely on: a browser that is really there, and a tab that hears what goes wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from browser import DESK, PHONE, Tab
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from trimpot.web import Server

PAGE = """<!doctype html><title>t</title><p id="p">text</p><div style="width:900px">wide</div>
<script>document.title = 'inline'</script><img src="http://192.0.2.1/x.png" alt="">"""


async def page(_: Request) -> HTMLResponse:
    return HTMLResponse(PAGE)


@pytest.mark.browser
def test_a_tab_hears_what_a_page_does_wrong(tab: Callable[..., Tab]) -> None:
    """The checks that pages are held to can fail: scripts and styles in the page, pictures from elsewhere, overflow."""
    with Server([Route("/", page)]).serving() as server:
        each = tab(PHONE)
        shown = each.open(server.link)
        assert shown.title() == "t", "the policy lets no script run that stands in a page"
        for kind in ("script", "style", "img"):
            assert any(f"{kind}-src" in said for said in each.complaints), each.complaints
        assert each.overflow() == [0, []]
        shown.evaluate("document.querySelector('div').style.width = '900px'")
        assert each.overflow()[0] > 500 and each.overflow()[1] == ["DIV. "]
        each.resize(DESK)
        assert each.overflow() == [0, []]
