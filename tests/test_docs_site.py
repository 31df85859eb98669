"""The site that is built from docs/: strictly, without the network, every link, anchor and page where it belongs."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import trimpot
import trimpot.testing
import yaml
from sphinx.util.inventory import InventoryFile
from trimpot.engine import hooks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LOADED = {"script": "src", "img": "src", "source": "srcset", "iframe": "src", "link": "href"}  # what a browser fetches


class Page(HTMLParser):
    """The links, anchors and fetched files of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.loaded: list[str] = []
        self.navigation: set[str] = set()
        self._in_tree = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag == "div" and (self._in_tree or "sidebar-tree" in (given.get("class") or "")):
            self._in_tree += 1
        self.anchors |= {value for name in ("id", "name") if (value := given.get(name))}
        if tag == "a" and (target := given.get("href")):
            self.links.append(target)
            if self._in_tree:
                self.navigation.add(target)
        if target := given.get(LOADED.get(tag, "")):
            self.loaded.append(target)

    def handle_endtag(self, tag: str) -> None:
        if tag == "div" and self._in_tree:
            self._in_tree -= 1


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site: `sphinx-build -W docs site`, with a proxy that answers nothing in the way to the network."""
    folder = tmp_path_factory.mktemp("site")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(folder / "trees")]
    done = subprocess.run(
        [*command, str(DOCS), str(folder / "html")],
        env={**os.environ, **nowhere},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def built(site: Path) -> dict[str, Page]:
    """Every page by its file."""
    return {path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html")}


def test_every_page_is_in_the_navigation(built: dict[str, Page]) -> None:
    written = {path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")}
    assert written - {"index.html"} <= built["index.html"].navigation
    assert written <= set(built)


def test_every_link_leads_to_a_page_and_an_anchor_of_it(site: Path, built: dict[str, Page]) -> None:
    checked = 0
    for name, page in built.items():
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (site / name).parent / unquote(parts.path) if parts.path else site / name
            assert target.exists(), f"{name} links to {link}"
            found = built.get(Path(os.path.relpath(target.resolve(), site.resolve())).as_posix())
            if parts.fragment and found is not None:
                assert unquote(parts.fragment) in found.anchors, f"{name} links to {link}"
            checked += 1
    assert checked > 1000


def test_no_page_fetches_anything_from_the_network(site: Path, built: dict[str, Page]) -> None:
    """Fonts, scripts, styles and pictures are files of the site."""
    for name, page in built.items():
        away = [target for target in page.loaded if urlsplit(target).scheme not in ("", "data") or "//" in target[:8]]
        assert not away, f"{name} fetches {away}"
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.findall(r"(?:@import|url\()\s*['\"]?\s*(?:https?:)?//", text), style


def test_a_word_of_a_page_is_in_the_search(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert '"granular' in index or "granular:" in index


def test_every_public_name_and_hook_is_in_the_reference(site: Path) -> None:
    """docs/api.md shows what the package exports, what plugins may implement, and what they inherit."""
    names = {f"trimpot.{name}" for name in trimpot.__all__}
    names |= {f"trimpot.testing.{name}" for name in trimpot.testing.__all__}
    names |= {
        f"trimpot.engine.hooks.{name}"
        for name, function in vars(hooks).items()
        if inspect.isfunction(function) and hasattr(function, "trimpot_spec")
    }
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    documented = {name for kind in inventory.data.values() for name in kind}
    assert not names - documented


def test_the_glossary_is_the_table_of_contributing(site: Path) -> None:
    """Every word of the table is on the page, which holds no table of its own."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Words")[1].split("## Habits")[0]
    words = [row.split("|")[1].strip() for row in text.splitlines() if row.startswith("| ")][1:]
    assert len(words) > 10
    page = (site / "glossary.html").read_text(encoding="utf-8")
    assert all(word in page for word in words)
    assert "|" not in (DOCS / "glossary.md").read_text(encoding="utf-8")


def test_the_citation_has_what_its_schema_requires() -> None:
    """The Citation File Format 1.2.0: its required keys, and those of every reference; the package's own version."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["cff-version"], citation["type"], citation["license"]) == ("1.2.0", "software", "Apache-2.0")
    assert str(citation["version"]) == trimpot.__version__
    page = (DOCS / "citation.md").read_text(encoding="utf-8")
    for reference in citation["references"]:
        assert {"authors", "title", "type"} <= set(reference)
        assert all({"family-names", "given-names"} <= set(person) for person in reference["authors"])
        assert reference["title"] in " ".join(page.split())
        assert reference["identifiers"][0]["value"] in page
