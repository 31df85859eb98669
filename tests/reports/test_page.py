"""The page, on real runs of a small backbone: what it says must be what the store holds."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from closed_form import SMALL, Height, Hill, Notes, hill_plugin
from numpy.typing import NDArray
from PIL import Image
from trimpot.engine.bucket import Bucket, PromptSet
from trimpot.engine.hooks import hookimpl
from trimpot.engine.seams import Adapter
from trimpot.reports import page, skeleton
from trimpot.reports.facts import Facts, gather
from trimpot.reports.notebook import card
from trimpot.reports.sections import image_tag
from trimpot.reports.words import gain_text, headline, outcomes_by_prompt, verdict
from trimpot.runs import session
from trimpot.runs.results import Files
from trimpot.setup.config import load_config
from trimpot.setup.plugins import Plugins
from trimpot.storage import SqliteStore

HOSTILE = "<script>alert('prompt')</script><img src=x onerror=alert(1)> & co"


class Flat(Hill):
    """No setting changes an output: whatever the search finds is no gain."""

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
        for _ in population:
            yield [float(seed % 7) for seed in bucket.seeds]


class Painter(Hill):
    """A hill that paints its height, takes steps, and has three neutral settings."""

    num_steps = 4

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[Any]]:
        for heights in super().generate(population, bucket):
            yield [Image.new("F", (8, 8), height * (self.num_steps / 4) ** -0.5) for height in heights]

    def neutrals(self) -> dict[str, dict[str, float]]:
        neutral = self.space.to_setting(self.space.defaults)
        return {f"guidance {g:g}": {**neutral, "knob.0": g} for g in (1.0, 1.25, 1.5)}

    def with_steps(self, num_steps: int) -> Adapter:
        other = Painter()
        other.num_steps = num_steps
        return other


class Brightness(Height):
    """The height that was painted."""

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        return np.array([output.getpixel((0, 0)) for output in outputs])


class Hostile:
    """Prompts that would take over a careless page."""

    @hookimpl
    def register_prompts(self, register: Any) -> None:
        pools = [tuple(f"{HOSTILE} {part}{number}" for number in range(9)) for part in "abc"]
        register("hostile", lambda: PromptSet(*pools))


class Links(HTMLParser):
    """Everything on a page that a browser would load, and every tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a calibration in a store of its own with plugins of its own, the process's being left alone."""

    def run(adapter: Adapter, objective: Any = None, watchers: Any = (), **config: Any) -> tuple[Facts, str]:
        known = Plugins()
        known.add(hill_plugin(adapter, objective), name="hill-plugin", origin="tests")
        known.add(Hostile(), name="hostile", origin="tests")
        monkeypatch.setattr(session, "plugins", lambda: known)
        with contextlib.suppress(KeyboardInterrupt):
            session.start(load_config({**SMALL, **config}), tmp_path, watchers)
        with SqliteStore(tmp_path, create=False) as store:
            files = Files.of(store.run_folder("hill-1"))
            page.write_report(store, "hill-1", files)
            return gather(store, "hill-1"), files.report.read_text(encoding="utf-8")

    return run


def visible(text: str) -> str:
    """The page without plotly.js, which holds every word there is."""
    return text.replace(skeleton.plotly_source(), "")


def figure(text: str, name: str) -> Any:
    match = re.search(rf'id="figure-{name}".*?<script type="application/json">(.*?)</script>', text, re.DOTALL)
    assert match is not None, f"no figure {name}"
    return json.loads(match[1])


def test_a_finished_run_says_its_gain_and_nothing_better(begin: Any) -> None:
    facts, text = begin(Hill(), generations=12, test={"num_prompts": 20})
    first = facts.row.outcome["comparisons"][0]
    body = visible(text)
    assert first["gain"]["low"] > 0, "the hill is easy; without a gain this test says nothing"
    assert "On 20 prompts the search never saw" in body
    assert f"calibrated scores {first['calibrated']:.{facts.decimals}f}" in body
    assert gain_text(first["gain"], facts.decimals) in body
    assert ">finished</span>" in body and "beyond noise" not in body
    assert facts.totals["digest"] in body
    assert "always optimistic" in body
    assert "trimpot show hill-1" in body and "trimpot resume" not in body
    for version in facts.row.versions.values():
        assert f"<td>{version}</td>" in body


def test_a_page_says_of_how_many_prompts_its_images_are(begin: Any) -> None:
    facts, text = begin(Hill(), generations=2, test={"num_prompts": 50})
    prompts = set(facts.record.pair[0].bucket.prompts)
    body = visible(text)
    assert len(prompts) == 20 == facts.comparisons[0]["gain"]["num_prompts"]
    assert "On 50 outputs of 20 prompts the search never saw" in body
    assert "This rests on only 20 different prompts; take at least 30 before believing it." in body
    assert " of 20 prompts, behind on " in body and "50 prompts" not in body


def test_figures_hold_the_numbers_of_the_store(begin: Any, tmp_path: Path) -> None:
    facts, text = begin(Hill())
    lines = {line["name"]: line for line in figure(text, "search")["data"]}
    outcome = facts.row.outcome
    assert lines["validation"]["y"] == [check["score"] for check in outcome["checks"]]
    assert lines["training, mean"]["x"] == [1, 2, 3]
    with SqliteStore(tmp_path, create=False) as store:
        searched = [store.recorded("hill-1", "search", number).values() for number in range(3)]
        told = [[float(np.mean(each.scores["height"])) for each in generation] for generation in searched]
    assert lines["training, mean"]["y"] == pytest.approx([np.mean(fitness) for fitness in told])
    assert lines["training, best candidate"]["y"] == [max(fitness) for fitness in told]
    assert max(lines["training, best candidate"]["y"]) <= outcome["best_training"] == facts.best_training
    assert lines["neutral, first training bucket"]["y"] == [outcome["reference"]]
    assert [y for line in figure(text, "knobs")["data"] for y in line["y"]] == list(outcome["calibrated"].values())
    differences = figure(text, "differences")["data"][0]["x"]
    assert np.mean(differences) == pytest.approx(outcome["comparisons"][0]["gain"]["mean"])


def test_no_gain_is_called_no_gain_and_a_search_that_was_told_nothing_is_said_to_be(begin: Any, tmp_path: Path) -> None:
    facts, text = begin(Flat())
    assert facts.row.outcome["comparisons"][0]["gain"]["mean"] == 0
    assert "the calibration is the neutral setting itself" in visible(text)
    nothing = "100% of the groups told the search nothing, because all their candidates scored the same"
    assert nothing in visible(text) and nothing in card(facts, Files.of(tmp_path), "")


def test_an_interval_with_0_inside_is_noise_and_one_below_is_a_warning(begin: Any) -> None:
    facts, _ = begin(Hill())

    def judged(low: float, mean: float, high: float) -> Facts:
        first = dict(facts.comparisons[0], gain={"mean": mean, "low": low, "high": high, "num_images": 5})
        return replace(facts, comparisons=[first])

    moved = facts.row.outcome["calibrated"] != facts.row.outcome["baseline"]["setting"]
    assert moved and verdict(judged(0.01, 0.02, 0.03)) == ""
    assert "a gain of +0.020 [+0.010, +0.030]" in headline(judged(0.01, 0.02, 0.03))
    assert "no gain beyond noise" in verdict(judged(-0.01, 0.02, 0.03))
    assert "a gain" not in headline(judged(-0.01, 0.02, 0.03))
    assert "worse" in verdict(judged(-0.03, -0.02, -0.01))
    assert "a difference of \N{MINUS SIGN}0.020" in headline(judged(-0.03, -0.02, -0.01))


def test_an_unfinished_run_shows_what_there_is_and_how_to_go_on(begin: Any) -> None:
    facts, text = begin(Hill(), watchers=(Notes(patience=15),), generations=9)
    body = visible(text)
    assert facts.status == "interrupted" and not facts.finished
    told = len(facts.generations)
    assert 0 < told < 9 and f"No result yet: {told} of at most 9 generations are done" in body
    assert "trimpot resume hill-1 --store" in body
    assert "a gain of" not in body and "load_calibration" not in body
    assert "not yet" in body


def test_a_run_stopped_before_anything_was_told_has_a_page(begin: Any) -> None:
    _, text = begin(Hill(), watchers=(Notes(patience=1),))
    assert "The search has not begun" in visible(text)


def test_pictures_steps_and_guidance_are_shown(begin: Any, tmp_path: Path) -> None:
    facts, text = begin(
        Painter(), Brightness(), objectives={"height": {}, "watched": {"name": "height", "weight": 0}},
        by_steps={"steps": [8, 2], "num_prompts": 4, "num_validation": 3},
    )  # fmt: skip
    first = facts.comparisons[0]
    body = visible(text)
    assert f"neutral at its best guidance ({first['baseline']['label'].split()[1]})" in body
    gains = {line["name"]: line for line in figure(text, "gains")["data"]}
    by_steps = {each["num_steps"]: each["gain"]["mean"] for each in facts.comparisons}
    assert gains["at the same steps"]["y"] == [by_steps[2], by_steps[4], by_steps[8]]
    grid = {line["name"]: line for line in figure(text, "grid")["data"]}
    assert grid["4 steps"]["y"] == [first["baseline"]["grid"][f"guidance {g}"] for g in ("1", "1.25", "1.5")]
    assert "Objectives one by one" in body and ">watched</td>" in body
    assert "trimpot.load_calibration(pipe, " in body


def test_hostile_text_is_text_and_nothing_is_loaded(begin: Any) -> None:
    class Framed(Painter):
        def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[Any]]:
            for images in super().generate(population, bucket):
                yield [image.convert("L") for image in images]

    facts, text = begin(Framed(), Brightness(), prompts="hostile")
    assert HOSTILE in facts.record.pair[0].bucket.prompts[0]
    body, links = visible(text), Links(text)
    assert "<script>alert" not in body and "<img src=x" not in body
    assert "&lt;script&gt;alert(&#x27;prompt&#x27;)&lt;/script&gt;" in body
    assert links.loads and all(load.startswith("data:image/png;base64,") for load in links.loads)
    assert "link" not in links.tags and "iframe" not in links.tags
    assert not re.search(r"https?://", body) and "default-src 'none'" in body
    assert text.count(skeleton.plotly_source()) == 1


def test_a_large_picture_is_reduced_and_a_damaged_one_is_left_out(tmp_path: Path) -> None:
    Image.effect_noise((1200, 900), 80).save(tmp_path / "large.png")
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    shown = image_tag(tmp_path / "large.png", "neutral")
    assert 'width="640" height="480"' in shown and "data:image/jpeg;base64," in shown
    assert image_tag(tmp_path / "damaged.png", "neutral") == ""


def test_a_name_in_a_figure_cannot_end_its_script() -> None:
    assert skeleton.chart("knobs", '{"name": "</script><script>"}').count("<script") == 1


def test_prompts_ahead_and_behind_add_up(begin: Any) -> None:
    facts, _ = begin(Hill())
    ahead, of, behind, equal = map(int, re.findall(r"\d+", outcomes_by_prompt(facts)))
    assert of == 5 == ahead + behind + equal
