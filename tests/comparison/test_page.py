"""What is said of a comparison: on its page, in its table, to programs."""

from __future__ import annotations

import csv
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparing import Installed, Told, small
from trimpot.comparison.machine import as_json
from trimpot.comparison.page import write_comparison
from trimpot.comparison.results import gather
from trimpot.comparison.running import compare
from trimpot.comparison.summary import Summary
from trimpot.comparison.words import headline, seeds_needed, verdict
from trimpot.reports import skeleton
from trimpot.storage import SqliteStore

HOSTILE = "<script>alert(1)</script>"


def finished(folder: Path, patience: int | None = None, **changes: Any) -> Summary:
    """A comparison and what it amounts to; stopped with Ctrl-C after `patience` evaluations of a run."""
    try:
        compare(small(**changes), folder, Told(patience))
    except KeyboardInterrupt:
        assert patience is not None
    return summary(folder)


def summary(folder: Path) -> Summary:
    with SqliteStore(folder) as store:
        return Summary(gather(store, "compare-hill-1"))


def page(folder: Path) -> str:
    """The page without plotly.js, which holds every word there is."""
    with SqliteStore(folder) as store:
        files = write_comparison(store, "compare-hill-1")[1]
    text = files.page.read_text(encoding="utf-8")
    assert text.count(skeleton.plotly_source()) <= 1
    return text.replace(skeleton.plotly_source(), "")


THREE = {"cma-es": "cma-es", "random": "random", HOSTILE: {"optimizer": {"name": "random", "sigma0": 0.05}}}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three contenders with three seeds each, all finished."""
    folder = tmp_path_factory.mktemp("three")
    with pytest.MonkeyPatch.context() as monkeypatch:
        Installed(monkeypatch)
        finished(folder, contenders=THREE, seeds=3, images=120, checks=4)
    return folder


def test_the_page_has_every_figure_and_loads_nothing(three: Path) -> None:
    text = page(three)
    assert re.findall(r'id="figure-(\w+)"', text) == ["gains", "chosen", "recommended", "targets", "ranks"]
    assert "default-src 'none'" in text
    assert not re.search(r"""(src|href)\s*=\s*["']?(?!data:)""", text)
    assert HOSTILE not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert text.count("<script") == len(re.findall("figure-", text)) + 2


def test_figures_show_what_the_store_holds(three: Path) -> None:
    text, found = page(three), summary(three)
    figures = dict(re.findall(r'id="figure-(\w+)".*?application/json">(.*?)</script>', text, re.DOTALL))
    gains = json.loads(figures["gains"])["data"]
    rings = {trace["name"]: trace["x"] for trace in gains if trace["marker"]["symbol"] == "circle-open"}
    assert rings["cma-es"] == pytest.approx(list(found.results.gains("cma-es")))
    curve = next(trace for trace in json.loads(figures["chosen"])["data"] if trace.get("name") == "cma-es")
    last = np.sort([course.chosen[-1] for course in found.results.of("cma-es")])
    assert curve["y"][-1] == pytest.approx(last.mean())  # of three runs none is trimmed
    assert curve["y"][0] == pytest.approx(found.start)


def test_the_table_reads_back_to_the_very_numbers(three: Path) -> None:
    found = summary(three)
    with SqliteStore(three) as store:
        files = write_comparison(store, "compare-hill-1")[1]
    with files.table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for (contender, seed), course in found.results.courses.items():
        mine = [row for row in rows if (row["contender"], int(row["seed"])) == (contender, seed)]
        assert tuple(int(row["images"]) for row in mine) == course.images
        assert tuple(float(row["validation"]) for row in mine) == course.validation
        assert tuple(float(row["chosen"]) for row in mine) == course.chosen


def test_checks_are_those_of_the_outcome(three: Path) -> None:
    """Images and scores read from the store's rows agree with what each run said of itself."""
    found = summary(three)
    with SqliteStore(three) as store:
        for course in found.results.courses.values():
            outcome = store.run(course.run or "").outcome
            assert outcome is not None and course.gain is not None
            assert course.chosen[-1] == outcome["chosen"]["score"]
            assert list(course.validation) == [check["score"] for check in outcome["checks"]]
            assert course.gain["mean"] == outcome["comparisons"][0]["gain"]["mean"]
            assert course.images[-1] == course.spent


def test_programs_get_numbers_and_never_a_nan(three: Path) -> None:
    told = json.loads(json.dumps(as_json(summary(three)), allow_nan=False))
    assert set(told["contenders"]) == set(THREE)
    assert len(told["pairs"]) == 3
    assert len(told["runs"]) == 9
    assert told["ranking"]["num_seeds"] == 3
    assert told["leader"] == max(THREE, key=lambda label: told["contenders"][label]["gain"]["value"])


def test_too_few_seeds_are_called_too_few(three: Path) -> None:
    found = summary(three)
    assert seeds_needed(3) == 7
    assert verdict(found).startswith("3 seeds cannot settle who is ahead: tests of all pairs of 3 contenders")
    assert "at least 7 seeds" in verdict(found)


def test_enough_seeds_settle_a_clear_case(installed: Installed, tmp_path: Path) -> None:
    contenders = {"far": {}, "near": {"optimizer.sigma0": 0.001}}
    found = finished(tmp_path, contenders=contenders, seeds=6, images=150, checks=4)
    assert found.leader == "far"
    assert verdict(found) == "Seed by seed it is ahead of near beyond noise."
    assert [pair.adjusted for pair in found.pairs] == [2 / 2**6]
    assert found.ranking is None
    assert 'id="figure-ranks"' not in page(tmp_path)


def test_half_way_it_says_what_there_is(installed: Installed, tmp_path: Path) -> None:
    class FirstSeed(Told):
        def member_started(self, contender: str, seed: int) -> None:
            if seed:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(small(), tmp_path, FirstSeed())
    found = summary(tmp_path)
    assert [course.status for course in found.results.courses.values()] == ["finished"] * 2 + ["not begun"] * 4
    text = page(tmp_path)
    assert "2 of 6 runs" in text
    assert "4 of 6 runs have not finished" in text
    assert "on one seed" in headline(found)
    assert json.dumps(as_json(found), allow_nan=False)


def test_before_anything_is_done_it_says_so(installed: Installed, tmp_path: Path) -> None:
    found = finished(tmp_path, patience=4)
    assert headline(found) == "No result yet: none of 6 runs has finished."
    course = found.results.courses["cma-es", 0]
    assert (course.status, course.images) == ("interrupted", (0,))
    assert "No result yet" in page(tmp_path)


def test_a_failure_is_told_with_its_sentence(installed: Installed, tmp_path: Path) -> None:
    finished(tmp_path, contenders=["clumsy", "random"])
    said = "optimizer 'clumsy' of the plugin 'clumsy-plugin' (tests) failed: RuntimeError: I fell over"
    assert f"clumsy failed with seed 0 and 2: {said}" in html.unescape(page(tmp_path))
    assert summary(tmp_path).num_paired == 1
