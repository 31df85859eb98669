"""A real browser for pages: the system's Chromium, driven by Playwright.

@pytest.mark.browser
def test_a_page(browser): ...

`browser` (one a test process) and `tab` are fixtures of `conftest.py`. Where Playwright or a Chromium is missing,
tests that use them are skipped with the reason. Wait for elements with locators: the pages' policy forbids the `eval`
that `wait_for_function` needs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
PHONE, DESK = 360, 1280  # widths in pixels
#: What a page, its body and whatever in it may scroll are wider than.
_TOO_WIDE = """() => {
  const room = document.documentElement.clientWidth;
  const scrolls = (e) => e && (/(auto|scroll|hidden)/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  const wide = [...document.body.querySelectorAll('*')].filter(
    (e) => e.getBoundingClientRect().right > room + 1 && !scrolls(e.parentElement) && e.checkVisibility());
  return [document.documentElement.scrollWidth - room,
          wide.slice(0, 5).map((e) => e.tagName + '.' + (e.className.baseVal ?? e.className) + ' ' + e.id)];
}"""


def chromium() -> str | None:
    """Where the system's Chromium is, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser; skips the test that asks for it where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'trimpot[test]'")
    path = chromium()
    if path is None:
        pytest.skip(f"there is no Chromium: none of {', '.join(NAMES)} is on the PATH")
    with api.sync_playwright() as playwright:
        # The sandbox needs rights that containers lack; these pages are our own, and nothing else is opened.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A tab that remembers what the console and the page complained of.

    Attributes:
        page: Playwright's page.
        complaints: Errors and warnings of the console, uncaught errors, and requests to other places.
    """

    def __init__(self, browser: Browser, width: int = DESK, height: int = 900, **options: Any) -> None:
        self._context = browser.new_context(viewport={"width": width, "height": height}, **options)
        self._context.set_default_timeout(8000)
        self.complaints: list[str] = []
        self._home = ""
        self.page: Page = self.another()

    def another(self) -> Page:
        """Another page of the same browser, which is heard as well."""
        page = self._context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("request", self._asked)
        return page

    def open(self, address: str) -> Page:
        """Open an address; what is asked for elsewhere from then on is a complaint."""
        self._home = "/".join(address.split("/")[:3])
        self.page.goto(address, wait_until="domcontentloaded")
        return self.page

    def resize(self, width: int, height: int = 900) -> None:
        self.page.set_viewport_size({"width": width, "height": height})

    def overflow(self) -> list[Any]:
        """What is wider than the window: the pixels of the page beyond it, and the elements; [0, []] if nothing is."""
        found: list[Any] = self.page.evaluate(_TOO_WIDE)
        return found

    def close(self) -> None:
        self._context.close()

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self._home, "data:", "blob:")):
            self.complaints.append(f"asked for {request.url}")
