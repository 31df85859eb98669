"""What a person who watches a run in a log is told of what is left."""

from __future__ import annotations

import io

import pytest
from canvas import canvas_run
from closed_form import MemoryStore, Notes, hill_run
from rich.console import Console
from trimpot.engine.loop import calibrate
from trimpot.reports import console
from trimpot.reports.console import ProgressWatcher


def test_nothing_is_estimated_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    written = io.StringIO()
    with ProgressWatcher(Console(file=written, width=200)) as watch:
        watch.run_started(hill_run(), 0)
        calibrate(hill_run(), MemoryStore(), watch)
    lines = [line for line in written.getvalue().splitlines() if "%" in line]
    assert lines[0].startswith("  0%") and "left" not in lines[0]
    assert all(line.endswith("left)") for line in lines[1:])
    assert lines[-1].startswith("100%")


def test_what_was_found_says_nothing_of_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    store, notes, written = MemoryStore(), Notes(patience=10), io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        calibrate(hill_run(), store, notes)
    watch = ProgressWatcher(Console(file=written, width=200))
    watch.run_started(hill_run(), sum(each.evaluation.work for each in notes.evaluations))
    watch.stage_started(hill_run(), "search")
    assert "done already" in written.getvalue() and "left" not in written.getvalue()


def test_the_best_on_validation_is_the_best_that_may_be_chosen_and_is_known_again_after_a_resume(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Darkness is paid for, and what gets too dark is refused."""
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    run = canvas_run(
        {"darkness": {}, "likeness": {"weight": 0}},
        combine={"name": "constrained", "floors": {"likeness": -0.02}, "penalty": 1e-9},
        optimizer={"name": "cma-es", "sigma0": 0.03},
        generations=8,
        validation={"num_prompts": 6, "every": 1},
    )
    store = MemoryStore()
    for _ in ("at first", "again, when everything is found"):
        written = io.StringIO()
        watch = ProgressWatcher(Console(file=written, width=200))
        watch.run_started(run, 0)
        outcome = calibrate(run, store, watch)
        assert 0 < outcome.chosen.score < max(check.score for check in outcome.checks)
        assert f"best on validation {outcome.chosen.score:.3f}" in written.getvalue().splitlines()[-1]
