"""The live page before, during and after runs: what it shows, and what it refuses."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest
from browsing import Told, asked, page, watching
from closed_form import SMALL
from sessions import Installed, interrupt
from trimpot.runs import session
from trimpot.setup.config import load_config
from trimpot.storage import Analyses, Comparisons, SqliteStore
from trimpot.storage.database import FILE_NAME
from watched import HOSTILE, Held, hostile_prompts, painted, put, stepped

pytestmark = pytest.mark.usefixtures("short_reports")


def test_before_any_run_the_page_says_how_to_begin_one_and_then_shows_it(installed: Installed, tmp_path: Path) -> None:
    """The folder may be absent; the page neither makes it nor writes into it."""
    folder = tmp_path / "new runs"
    with watching(folder) as server:
        assert "There is no run in" in page(server)
        assert f"trimpot calibrate shapes --store &#x27;{folder}&#x27;" in page(server)
        told = Told(server, "overview")
        told.until("no run in")
        assert not folder.exists()
        with stepped(folder):
            told.until("hill-1")
            told.until("running")
        told.until("finished")
        told.close()


def test_a_run_is_followed_from_its_first_evaluation_to_its_gain(installed: Installed, tmp_path: Path) -> None:
    with stepped(tmp_path) as (steps, _), watching(tmp_path) as server:
        told = Told(server, "run/hill-1")
        told.until("none of at most 3 generations")
        assert "A process holds this run&#x27;s lock" in told.parts["head"]
        assert "trimpot resume hill-1" in told.parts["next"]
        steps.go(10)
        told.until("1 of at most 3 generations")
        told.until("at most</dd>")
        steps.go(8)
        told.until("best recommendation so far")
        assert "neutral, validation" in told.parts["curves"] and ">sigma</li>" in told.parts["curves"]
        assert "The knobs now" in told.parts["knobs"]
        assert any("%" in title for title in told.titles)
        steps.finish()
        told.until("calibrated scores")
        told.until('pill finished">')
        assert "trimpot show hill-1" in told.parts["next"] and "progress" not in told.parts["head"]
        assert "Use it" in told.parts["next"] and "the setting chosen" in told.parts["knobs"]
        told.close()


def test_nothing_in_the_folder_is_changed_by_being_watched(installed: Installed, tmp_path: Path) -> None:
    interrupt(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with watching(tmp_path) as server:
        for path in ("", "run/hill-1", "comparison/none"):
            page(server, path, 404 if "none" in path else 200)
        assert "interrupted" in page(server) and "No process works on it" in page(server, "run/hill-1")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def hostile_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store whose every text is hostile: prompts, names, labels, errors, knobs; returns the name of its run."""
    put(monkeypatch, painted(hostile_prompts()))
    watched = {"height": {}, HOSTILE: {"name": "entropy", "weight": 0}}
    session.start(load_config({**SMALL, "prompts": "others", "objectives": watched, "keep": "all"}), folder)
    session.start(load_config({**SMALL, "prompts": "others", "seed": 1, "generations": 1}), folder)
    name = f"run {HOSTILE}"
    with SqliteStore(folder) as store:
        Comparisons(store).add("vs", "x", {})
        Comparisons(store).join("vs-1", HOSTILE, 3, "hill-2")
    with contextlib.closing(sqlite3.connect(folder / FILE_NAME)) as connection:  # as another program would write it
        from trimpot.storage.records import Records

        connection.isolation_level = None
        records = Records(connection, folder / FILE_NAME)
        [row] = records.read("runs", id="hill-2")
        config = json.loads(row["config"])
        config["adapter"] = {"name": HOSTILE, "model": HOSTILE}
        made = {**row, "id": name, "config": json.dumps(config), "outcome": None, "error": HOSTILE, "digest": None}
        made["stop_reason"], made["parent"] = HOSTILE, json.dumps({"run": HOSTILE, "digest": HOSTILE})
        records.insert("runs", {key: value for key, value in made.items() if key != "checksum"})
    return name


ALLOWED = {
    "a": {"href"}, "b": {"class"}, "body": {"data-events"}, "circle": {"class", "cx", "cy", "r"}, "code": set(),
    "dd": set(), "details": {"id"}, "div": {"class", "id"}, "dl": {"class"}, "dt": set(), "figcaption": set(),
    "figure": {"class"}, "h1": set(), "h2": set(), "h3": set(), "head": set(), "header": set(), "html": {"lang"},
    "img": {"src", "alt", "loading"}, "li": set(), "link": {"rel", "href"}, "main": set(), "p": {"class"},
    "meta": {"charset", "name", "content"}, "nav": {"class"}, "noscript": set(), "path": {"class", "d"}, "pre": set(),
    "progress": {"max", "value", "aria-label"}, "script": {"src"}, "section": {"class", "id"}, "summary": set(),
    "span": {"class", "id", "role"}, "svg": {"class", "viewbox", "role", "aria-label", "aria-hidden"}, "table": set(),
    "tbody": set(), "td": {"class"}, "text": {"class", "x", "y"}, "th": set(), "thead": set(), "title": set(),
    "time": {"data-at", "title"}, "tr": set(), "ul": {"class"},
}  # fmt: skip


def test_whatever_a_store_holds_is_text_on_every_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only these elements and attributes, one script that is a file of the server, and links within the server."""
    name = hostile_store(tmp_path, monkeypatch)
    from urllib.parse import quote

    with watching(tmp_path) as server:
        for path, told in (
            ("", name),
            ("run/hill-1", f"10 {HOSTILE}"),
            ("run/hill-2", "hill-2"),
            (f"run/{quote(name, safe='')}", HOSTILE),
            ("comparison/vs-1", HOSTILE),
            (f"run/{quote(HOSTILE, safe='')}", HOSTILE),
            (f"comparison/{quote(HOSTILE, safe='')}", HOSTILE),
        ):
            answer = asked(server, path)
            held = Held(answer.text)
            for tag, attribute, value in held.attributes:
                assert attribute in ALLOWED[tag], (path, tag, attribute)
                if attribute in ("href", "src"):
                    assert value and ((value.startswith("/") and not value.startswith("//")) or value == "data:,")
            assert set(held.tags) <= set(ALLOWED) and held.tags.count("script") == 1, path
            assert told in "".join(held.texts), path


def test_kept_pictures_are_shown_beside_neutral_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest check's, the first of its prompts, each by its name in the store; no other file can be had."""
    put(monkeypatch, painted())
    with stepped(tmp_path) as (steps, _), watching(tmp_path) as server:
        told = Told(server, "run/hill-1")
        steps.go(24)
        told.until("after generation 2")
        sources = [v or "" for t, a, v in Held(told.parts["pictures"]).attributes if (t, a) == ("img", "src")]
        assert len(sources) == 2 * 4
        for each in sources:
            answer = asked(server, each[1:])
            assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
            assert "immutable" in answer.headers["cache-control"]
        told.close()
        for path in (
            "image/trimpot.sqlite",
            "image/../trimpot.sqlite",
            "image/%2e%2e/trimpot.sqlite",
            "image/00/" + "0" * 30 + ".txt",
            "picture/../trimpot.sqlite",
            "picture/hill-1/index.json",
            "picture/hill-1/..%2f..%2ftrimpot.sqlite",
            "picture/%2e%2e/x",
            "report/%2e%2e",
            "report/hill-1",
            "events/none",
            "none",
        ):
            page(server, path, 404)
        assert "gone or damaged" in page(server, "image/00/" + "0" * 30 + ".png", 409)
    assert read_by_gallery(tmp_path)


def read_by_gallery(folder: Path) -> bool:
    """A finished run's own pictures are there too."""
    with watching(folder) as server:
        page(server, "picture/hill-1/00-neutral.png")
        return "not chosen" in page(server, "run/hill-1")


def test_a_large_picture_is_sent_reduced(tmp_path: Path) -> None:
    import io

    from PIL import Image
    from trimpot.storage.kept import write_output

    name = write_output(tmp_path / "images", Image.effect_noise((1300, 700), 60).convert("RGB"))
    with watching(tmp_path) as server:
        answer = asked(server, f"image/{name}")
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (640, 345)


def test_a_report_is_shown_shut_off_from_this_server(installed: Installed, tmp_path: Path) -> None:
    session.start(load_config(SMALL), tmp_path)
    (tmp_path / "hill-1" / "report.html").write_text("<!doctype html><p>the report")
    with watching(tmp_path) as server:
        assert 'href="/report/hill-1"' in page(server, "run/hill-1")
        answer = asked(server, "report/hill-1")
    assert answer.text.endswith("the report")
    policy = answer.headers["content-security-policy"]
    assert "sandbox allow-scripts" in policy and "default-src 'none'" in policy and "same-origin" not in policy


def test_a_comparison_shows_its_runs_and_how_many_are_done(installed: Installed, tmp_path: Path) -> None:
    session.start(load_config(SMALL), tmp_path)
    interrupt(tmp_path)
    with SqliteStore(tmp_path) as store:
        comparisons = Comparisons(store)
        comparisons.add("vs", "x", {})
        comparisons.join("vs-1", "cma-es", 0, "hill-1")
        comparisons.join("vs-1", "random", 0, "hill-2")
    with watching(tmp_path) as server:
        shown = page(server, "comparison/vs-1")
        assert "2 contenders; 1 of 2 runs" in shown and "gain <b" in shown and "trimpot compare vs-1" in shown
        assert "/run/hill-2" in shown and 'href="/comparison/vs-1"' in page(server)
        assert 'href="/run/hill-1"' not in page(server), "its runs stand on its own page"


def test_an_analysis_shows_its_answer_or_how_far_it_is(tmp_path: Path) -> None:
    """A finished one leads to its page, another to the command that goes on; what they hold stays text."""
    with SqliteStore(tmp_path) as store:
        analyses = Analyses(store)
        for _ in range(2):
            analyses.add("ablation-hill", "x", "ablation", {"command": "trimpot analyse"}, {})
        analyses.update("ablation-hill-1", outcome={"headline": HOSTILE})
    (tmp_path / "ablation-hill-1").mkdir()
    (tmp_path / "ablation-hill-1" / "analysis.html").write_text("the page of it")
    with watching(tmp_path) as server:
        shown = page(server)
        assert HOSTILE not in shown and HOSTILE in "".join(Held(shown).texts)
        assert "0 evaluations so far" in shown and "trimpot resume ablation-hill-2" in shown
        assert "trimpot resume ablation-hill-1" not in shown and 'href="/report/ablation-hill-1"' in shown
        assert page(server, "report/ablation-hill-1") == "the page of it"


def test_the_page_takes_no_request_that_could_change_anything(tmp_path: Path) -> None:
    with watching(tmp_path) as server:
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert asked(server, method=method).status_code == 405
