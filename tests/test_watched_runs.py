"""A run with watched prompts in a store: every command that reads a run reads it, and says what changed elsewhere."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tower
import yaml
from trimpot.engine.calibration import Calibration
from trimpot.reports.words import signed
from trimpot.watching.parts import run as run_parts
from trimpot.watching.reading import Folder
from typed import typed

FOLDER = Path("trimpot-runs")
TOWNS = {"prompts": "compositional", "num_validation": 6, "num_prompts": 8}
WATCH = {"towns": {**TOWNS, "objectives": {"half": {}, "lower": {"name": "half"}, "spread": {}}}}
PLACES = [("watch/towns", 0), ("watch/towns", 2), ("watch/towns/test", 0), ("watch/towns/test", 0)]


@pytest.fixture(scope="module")
def _begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        here = tmp_path_factory.mktemp("watched")
        patch.chdir(here)
        patch.delenv("TRIMPOT_STORE", raising=False)
        tower.write(here)
        (here / "watched.yaml").write_text(yaml.safe_dump({**tower.CONFIG, "watch": WATCH}))
        said = typed("calibrate", "watched.yaml")
        assert said.status == 0, said.err
        (here / "said.txt").write_text(said.out)
        yield here


@pytest.fixture
def _here(_begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(_begun)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)


pytestmark = pytest.mark.usefixtures("_here")


def selected(columns: str, table: str, which: str, run: str = "tower-1") -> list[Any]:
    with contextlib.closing(sqlite3.connect(FOLDER / "trimpot.sqlite")) as database:
        return database.execute(f"SELECT {columns} FROM {table} WHERE run = ? AND {which}", [run]).fetchall()


def shown(run: str = "tower-1") -> Any:
    return json.loads(typed("show", run, "--json").out)


def test_the_report_the_terminal_the_calibration_and_the_views_say_the_same_of_watched_prompts() -> None:
    watched = shown()["outcome"]["watched"]
    assert [each["objective"] for each in watched] == ["half", "towns/lower", "towns/spread"]
    section = re.search(
        r'<section id="watched-prompts">.*?</section>', (FOLDER / "tower-1" / "report.html").read_text(), re.DOTALL
    )
    terminal, made = Path("said.txt").read_text(), Calibration.load(FOLDER / "tower-1" / "calibration.json")
    assert [place[:2] for place in selected("stage, generation", "candidates", "stage LIKE 'watch/%'")] == PLACES
    assert section is not None and "Alarms and watched prompts" in section[0]
    viewed = selected("objective, neutral, calibrated, gain, gain_low", "plain_watched", "prompts = 'towns'")
    for each, record, row in zip(watched, made.watched, viewed, strict=True):
        found = (each["neutral"], each["calibrated"], each["gain"]["mean"], each["gain"]["low"])
        assert row == (each["objective"], *found)
        assert found == (record.neutral, record.calibrated, record.gain.mean, record.gain.low)
        assert f"<td>{record.objective}" in section[0] and (not found[2] or signed(found[2], 4) in section[0])
        assert re.search(rf"towns +{record.objective} +{found[0]:.3f} +{found[1]:.3f}", terminal)
    alarms = [each for each in shown()["outcome"]["alarms"] if each["prompts"]]
    assert [each["objective"] for each in alarms] == ["half", "towns/lower"] and "half on towns went from" in terminal


def test_the_live_page_shows_what_the_report_shows() -> None:
    folder = Folder(FOLDER)
    parts = folder.made("run", "tower-1", lambda scene: run_parts(scene, FOLDER, "tower-1"))
    assert "Alarms and watched prompts" in parts["watched"] and "towns" in parts["watched"], parts


def test_an_analysis_of_it_watches_nothing_and_makes_what_it_makes_of_a_run_without() -> None:
    before = tower.made()
    said = typed("analyse", "ablation", "tower-1", "seeds=1", "scales=0,1.25")
    assert said.status == 0, said.err
    made = tower.made() - before
    again = typed("analyse", "ablation", "tower.yaml", "seeds=1", "scales=0,1.25")
    assert again.status == 0 and tower.made() - before == made, "the same images"
    assert typed("resume", "ablation-tower-1-1").status == 0 and tower.made() - before == made
    refused = typed("analyse", "ablation", "tower-1", "watch.towns.num_prompts=9")
    assert refused.status == 1 and "an analysis watches no prompts" in refused.err


def test_the_cost_of_watching_is_told() -> None:
    assert typed("analyse", "cost").status == 0
    told = next(FOLDER.glob("cost*/analysis.json")).read_text()
    assert "watched prompts" in told


def test_a_measurement_watches_too_and_makes_no_image_again() -> None:
    file = FOLDER / "tower-1" / "calibration.json"
    said = typed("measure", str(file), "--to", "measured.json")
    assert said.status == 0, said.err
    own, found = Calibration.load(file), Calibration.load(Path("measured.json"))
    assert [(each.prompts, each.objective, each.gain.mean) for each in found.watched] == [
        (each.prompts, each.objective, each.gain.mean) for each in own.watched
    ]
    again = selected("fresh", "candidates", "stage LIKE 'watch/%'", run="tower-1-measured-1")
    assert again == [(0,)] * len(PLACES)


def test_a_comparison_judges_its_contenders_on_the_same_watched_prompts() -> None:
    said = typed(
        *("compare", "watched.yaml", "--contender", "cma-es", "--contender", "random"),
        *("--seeds", "1", "--images", "40"),
    )
    assert said.status == 0, said.err
    with contextlib.closing(sqlite3.connect(FOLDER / "trimpot.sqlite")) as database:
        members = database.execute("SELECT run, count(*) FROM plain_watched JOIN members USING (run) GROUP BY run")
        assert [count for _, count in members] == [3, 3]


def test_it_is_backed_up_extended_and_deleted_whole() -> None:
    said = typed("resume", "tower-1", "generations=+1")
    assert said.status == 0, said.err
    assert shown()["digest"] and shown()["outcome"]["watched"]
    assert typed("backup", "copy").status == 0
    assert json.loads(typed("show", "tower-1", "--json", "--store", "copy").out)["digest"] == shown()["digest"]
    gone = typed("delete", "tower-1", "--yes")
    assert gone.status == 0, gone.err
