"""What a page and a terminal say of alarms and watched scores: what the run heard, first and loudly."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from canvas import HACK, canvas_config, canvas_plugins
from closed_form import Notes
from rich.console import Console
from trimpot.engine.alarm import Alarm
from trimpot.engine.evaluation import Place
from trimpot.engine.statistics import paired_gain
from trimpot.reports import page
from trimpot.reports.console import ProgressWatcher, print_alarms
from trimpot.reports.facts import Facts, gather
from trimpot.reports.words import gain_text
from trimpot.runs import session
from trimpot.runs.results import Files, summary
from trimpot.setup.assembly import STATISTICS
from trimpot.setup.config import load_config
from trimpot.storage import SqliteStore


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Run in a store of its own, and read its facts and its page."""
    monkeypatch.setattr(session, "plugins", canvas_plugins)

    def run(objectives: Any, watchers: Any = (), **config: Any) -> tuple[Facts, str]:
        with contextlib.suppress(KeyboardInterrupt):
            session.start(load_config(canvas_config(objectives, **config)), tmp_path, watchers)
        with SqliteStore(tmp_path, create=False) as store:
            files = Files.of(store.run_folder("hill-1"))
            page.write_report(store, "hill-1", files)
            text = files.report.read_text(encoding="utf-8")
            return gather(store, "hill-1"), re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)

    yield run


def rows(text: str, section: str) -> dict[str, list[list[str]]]:
    """A section's rows by first cell, table after table."""
    match = re.search(rf'<section id="{section}">(.*?)</section>', text, re.DOTALL)
    assert match is not None
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", match[1])]
    found: dict[str, list[list[str]]] = {}
    for row in filter(None, cells):
        found.setdefault(row[0], []).append(row[1:])
    return found


def test_alarms_come_first_and_are_those_that_the_run_raised(begin: Any) -> None:
    facts, text = begin(HACK)
    assert [Alarm(**each) for each in facts.row.outcome["alarms"]] == list(facts.record.alarms) != []
    header = text[text.index("<header>") : text.index("</header>")]
    assert "ALARM: while the optimised score rose" in header
    for alarm in facts.record.alarms:
        assert alarm.objective in header and alarm.told(facts.noun) in text
    assert text.index('id="watched"') < text.index("<h2>Before and after") < text.index("<h2>The search")


def test_a_run_without_alarms_says_so_and_shows_what_was_watched(begin: Any) -> None:
    facts, text = begin("likeness")
    assert facts.record.alarms == () and "ALARM" not in text
    assert "No alarm was raised" in text and text.index("<h2>The search") < text.index('id="watched"')
    assert set(rows(text, "watched")) == set(STATISTICS)


def test_every_watched_score_is_shown_with_its_paired_interval(begin: Any, tmp_path: Path) -> None:
    facts, text = begin(HACK)
    shown = rows(text, "watched")
    assert {name.removesuffix(" (alarm)") for name in shown} == {"likeness", *STATISTICS}
    with SqliteStore(tmp_path) as store:
        neutral, [test_neutral, test_calibrated] = (
            store.recorded("hill-1", "baseline", 0)[0],
            store.recorded("hill-1", "test", 0).values(),
        )
        judged = store.recorded("hill-1", "validation", facts.shown.generation)[0]
    for pair, place in ((neutral, judged), 0), ((test_neutral, test_calibrated), 1):
        before, after = (each.scores["likeness"] for each in pair)
        gain = paired_gain(after, before, pair[0].bucket.prompts)
        *means, change = shown["likeness (alarm)"][place]
        assert [float(mean) for mean in means] == pytest.approx([np.mean(before), np.mean(after)], abs=0.01)
        decimals = len(change.split("[")[0].strip().partition(".")[2])
        assert change == gain_text({"mean": gain.mean, "low": gain.low, "high": gain.high}, decimals)


def test_an_unfinished_run_shows_its_alarms_too(begin: Any, tmp_path: Path) -> None:
    heard: list[Alarm] = []

    class Listener(Notes):
        def alarm_raised(self, run: Any, alarm: Alarm) -> None:
            heard.append(alarm)

    facts, text = begin(HACK, watchers=(Listener(patience=80),))
    assert not facts.finished and list(facts.record.alarms) == heard != []
    assert "ALARM" in text and "likeness (alarm)" in rows(text, "watched")
    with SqliteStore(tmp_path, create=False) as store:
        shown = summary(store, store.run("hill-1"))
    assert [alarm["text"] for alarm in shown["alarms"]] == [alarm.told(facts.noun) for alarm in heard]
    console = Console(file=io.StringIO(), width=400)
    print_alarms(console, shown)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert said.count("ALARM") == len(heard) and heard[0].told(facts.noun) in said


def test_the_terminal_says_an_alarm_at_once(begin: Any) -> None:
    console = Console(file=io.StringIO(), width=400)

    class Stopping(ProgressWatcher):
        def alarm_raised(self, run: Any, alarm: Alarm) -> None:
            super().alarm_raised(run, alarm)
            raise KeyboardInterrupt

    begin(HACK, watchers=(Stopping(console),))
    assert "ALARM: after generation 4 the optimised score is up by" in console.file.getvalue()  # type: ignore[attr-defined]


def test_what_is_optimised_is_shown_under_the_combination_s_name(begin: Any) -> None:
    combine = {"name": "winrate", "references": 2, "temperature": 0.1}
    objectives = {"likeness": {"weight": 2}, "darkness": {"weight": 1}}
    facts, text = begin(objectives, combine=combine, generations=4)
    gains = facts.objective_gains()
    assert list(gains) == ["winrate", "likeness", "darkness"]
    assert gains["winrate"].change.mean == pytest.approx(facts.comparisons[0]["gain"]["mean"])
    assert ">optimised</td>" in text and ">combined<" not in text
    assert len(facts.generations) == 4 and "combined" not in facts.record.watched


def test_a_constraint_is_named_and_a_refused_setting_is_not_the_best_so_far(begin: Any, tmp_path: Path) -> None:
    """Darkness is paid for while likeness must not fall: what gets dark is refused, while the run lasts too."""
    combine = {"name": "constrained", "floors": {"likeness": 0.0}, "penalty": 1e-9}
    facts, text = begin({"darkness": {}, "likeness": {"weight": 0}}, combine=combine)
    assert ">constraint</td>" in text and "likeness" not in facts.record.watched
    assert facts.row.outcome["chosen"]["generation"] == 0
    assert [check.admitted for check in facts.record.checks] == [True] + [False] * (len(facts.record.checks) - 1)
    with SqliteStore(tmp_path) as store:
        store.update_run("hill-1", outcome=None)
        unfinished = gather(store, "hill-1")
        assert unfinished.record.judged[4].fitness > unfinished.record.checks[0].score
    assert [check.admitted for check in unfinished.record.checks] == [check.admitted for check in facts.record.checks]
    assert unfinished.shown is None and unfinished.record.chosen == unfinished.record.checks[0]


def test_a_warm_start_is_not_the_neutral_side(begin: Any, tmp_path: Path) -> None:
    begin("likeness")
    calibration = str(tmp_path / "hill-1" / "calibration.json")
    with contextlib.suppress(KeyboardInterrupt):
        session.start(load_config(canvas_config("likeness", start=calibration)), tmp_path, (Notes(patience=30),))
    with SqliteStore(tmp_path) as store:
        facts = gather(store, "hill-2")
        started = store.recorded("hill-2", *Place("reference", 0, 0)[:2])[0]
    assert not facts.finished and started.setting != facts.neutral == {"aim": 1.0, "light": 1.0}
