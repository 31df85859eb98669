"""A result in a notebook: a card that holds all that it shows, and a bar that moves while a run is at work."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trimpot
from closed_form import Notes
from from_python import CAMERA, SIZES, SPHERE, bright, film, hostile_prompts, lamp, long, words
from sessions import CONFIG, Installed
from trimpot.runs import session

VOID = {"img", "br", "circle", "polyline", "path"}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "</div></svg><h1>big</h1>",
    "&lt;b&gt; & <b>",
    "{{ 7 }} ${x} %s",
]
ALLOWED = {"div", "b", "code", "svg", "path", "text", "polyline", "circle", "img"}


class Card(HTMLParser):
    """The elements of a card, whether each is closed, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def looked_at(html: str) -> Card:
    """A card that needs nothing from elsewhere, runs nothing, and closes what it opens."""
    card = Card(html)
    assert not card.open
    assert {tag for tag, _ in card.tags} <= ALLOWED
    for _, attributes in card.tags:
        assert not any(name.startswith("on") for name in attributes), attributes
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "data:image/").startswith("data:image/"), attributes
        assert "url(" not in (attributes.get("style") or "")
    assert "http" not in re.sub(r"data:image/\w+;base64,[\w+/=]+", "", html)
    return card


def calibrated(folder: Path, **keys: Any) -> trimpot.Result:
    return trimpot.calibrate({**SIZES, "prompts": "numbers"}, store=folder, **keys)


def test_a_card_shows_the_gain_the_curve_and_pictures_and_needs_nothing_else(tmp_path: Path) -> None:
    result = trimpot.calibrate(CAMERA, store=tmp_path)
    card = looked_at(result._repr_html_())
    assert result.gain is not None and result.report is not None
    gain = str(result.gain).replace("-", "\N{MINUS SIGN}")
    assert gain in card.text
    assert (
        "camera-1" in card.text and "finished" in card.text and f"{result.summary['num_images']:,} images" in card.text
    )
    assert str(result.report) in card.text and "trimpot.resume" not in card.text
    tags = [tag for tag, _ in card.tags]
    assert tags.count("svg") == 1 and tags.count("img") == 6
    judged = [row for row in result.curve if row["validation"] is not None]
    assert tags.count("circle") == len(judged)
    points = [attributes["points"] for tag, attributes in card.tags if tag == "polyline"]
    means = [row for row in result.curve if row["mean"] is not None]
    assert [len((each or "").split()) for each in points] == [len(means), len(judged)]
    heights = [float(each.split(",")[1]) for each in (points[1] or "").split()]
    assert len(heights) == len(judged)
    for (a, x), (b, y) in zip(
        zip(judged, heights, strict=True), list(zip(judged, heights, strict=True))[1:], strict=False
    ):
        assert (a["validation"] < b["validation"]) == (x > y), "higher is better, and drawn higher"


BACKBONES: dict[str, tuple[Any, Any, int]] = {
    "images": (lamp, bright, 6),
    "videos": (film, bright, 0),
    "texts": (words, long, 0),
    "numbers": ({"name": "sphere", "num_knobs": 4}, "value", 0),
}


@pytest.mark.filterwarnings("ignore::trimpot.Notice")
@pytest.mark.parametrize("kind", BACKBONES)
def test_whatever_a_backbone_makes_there_is_a_card(tmp_path: Path, kind: str) -> None:
    adapter, objective, pictures = BACKBONES[kind]
    objectives = objective if isinstance(objective, str) else {"mine": objective}
    result = calibrated(tmp_path, adapter=adapter, objectives=objectives)
    card = looked_at(result._repr_html_())
    assert sum(tag == "img" for tag, _ in card.tags) == pictures
    assert sum(tag == "svg" for tag, _ in card.tags) == 1


def test_prompts_and_names_are_shown_as_texts(tmp_path: Path) -> None:
    folder = tmp_path / "<i>store</i>"
    result = calibrated(folder, adapter=lamp, objectives={"mine": bright}, prompts=lambda: hostile_prompts(HOSTILE))
    html = result._repr_html_()
    card = looked_at(html)
    shown = [text for text in HOSTILE if text in card.text]
    assert len(shown) >= 2, "three prompts are shown, as they are written"
    assert "<i>store</i>" in card.text
    assert result.report is not None and result.report.is_file()


def test_a_run_that_has_not_finished_says_how_to_go_on(installed: Installed, tmp_path: Path) -> None:
    for patience in (1, 9, 20):
        store = tmp_path / f"<b>{patience}</b>"
        with pytest.raises(KeyboardInterrupt):
            session.start(CONFIG, store, (Notes(patience),))
        result = trimpot.Result.load("hill-1", store)
        card = looked_at(result._repr_html_())
        assert f"trimpot.resume('hill-1', store={str(store)!r})" in card.text
        assert "interrupted" in card.text
        assert ("The search has not begun" in card.text) == (patience == 1 or len(result.curve) < 2)
        assert ("svg" in {tag for tag, _ in card.tags}) == (len(result.curve) > 1)


def test_why_a_run_failed_is_shown_as_text(installed: Installed, tmp_path: Path) -> None:
    class Broken(Notes):
        def generation_told(self, *_: Any, **__: Any) -> None:
            raise trimpot.ScoreError("the reward said <script>alert(1)</script>")

    with pytest.raises(trimpot.ScoreError):
        session.start(CONFIG, tmp_path, (Broken(),))
    card = looked_at(trimpot.Result.load("hill-1", tmp_path)._repr_html_())
    assert "the reward said <script>alert(1)</script>" in card.text and "failed" in card.text


def test_a_damaged_or_missing_picture_leaves_a_card(tmp_path: Path) -> None:
    result = calibrated(tmp_path, adapter=lamp, objectives={"mine": bright})
    pictures = sorted((result.folder / "images").glob("*.png"))
    pictures[0].write_bytes(b"no picture")
    assert sum(tag == "img" for tag, _ in looked_at(result._repr_html_()).tags) == 5
    pictures[1].unlink()
    assert sum(tag == "img" for tag, _ in looked_at(result._repr_html_()).tags) == 0


def test_a_search_that_changes_nothing_has_a_flat_curve(tmp_path: Path) -> None:
    def same(outputs: Any, prompts: Any) -> list[float]:
        return [1.0] * len(outputs)

    result = calibrated(tmp_path, adapter=lamp, objectives={"mine": same})
    card = looked_at(result._repr_html_())
    numbers = [value for _, each in card.tags for name, value in each.items() if name in ("points", "cy", "d", "y")]
    assert numbers and not any("nan" in str(value).lower() or "inf" in str(value).lower() for value in numbers)


class Shell:
    """A notebook's shell, and all that it displayed."""

    kernel = object()

    def __init__(self) -> None:
        self.shown: list[str] = []

    def display(self, thing: Any, display_id: bool = False) -> Any:
        assert display_id
        self.shown.append(thing._repr_html_())
        return SimpleNamespace(update=lambda new: self.shown.append(new._repr_html_()))


def a_notebook(monkeypatch: pytest.MonkeyPatch, shell: object) -> None:
    """IPython as a notebook's process has it."""
    display = SimpleNamespace(display=getattr(shell, "display", None))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "IPython.display", display)  # type: ignore[arg-type]


@pytest.mark.usefixtures("short_reports")
def test_in_a_notebook_one_bar_moves_and_goes_when_the_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shell = Shell()
    a_notebook(monkeypatch, shell)
    monkeypatch.setattr("trimpot.reports.notebook.SECONDS_BETWEEN_UPDATES", 0)
    trimpot.calibrate(SPHERE, store=tmp_path, name="a-name")
    assert shell.shown[-1] == ""
    bars = [looked_at(each).text for each in shell.shown[:-1]]
    shares = [int(re.findall(r"(\d+)%", each)[0]) for each in bars]
    assert all("a-name-1" in each for each in bars)
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] > 90
    assert any("generation 2/2, mean" in each for each in bars)
    assert capfd.readouterr() == ("", "")
    number = len(shell.shown)
    trimpot.calibrate(SPHERE, store=tmp_path, progress=False)
    assert len(shell.shown) == number


@pytest.mark.usefixtures("short_reports")
def test_the_bar_goes_too_if_the_run_stops(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell()
    a_notebook(monkeypatch, shell)

    def stop(outputs: Any, prompts: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrated(tmp_path, adapter=lamp, objectives={"mine": stop})
    assert len(shell.shown) >= 2 and shell.shown[-1] == ""


@pytest.mark.usefixtures("short_reports")
@pytest.mark.parametrize(
    "shell",
    [None, SimpleNamespace(display=lambda *_, **__: pytest.fail("shown"))],
    ids=["imported alone", "in a terminal"],
)
def test_ipython_without_a_notebook_is_no_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], shell: Any
) -> None:
    a_notebook(monkeypatch, shell)
    trimpot.calibrate(SPHERE, store=tmp_path)
    assert capfd.readouterr() == ("", "")
