"""How a run ends: killed at any of its last steps, with a report that cannot be written, or by whatever error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from closed_form import hill_plugin
from sessions import CONFIG, Installed, dying, show
from trimpot import reports
from trimpot.ground.errors import (
    CalibrationError,
    ScoreError,
    StoreError,
)
from trimpot.runs import session
from trimpot.runs.work import work
from trimpot.setup.plugins import Plugins
from trimpot.storage import SqliteStore

KILLED = """
from closed_form import SMALL
from trimpot import reports
from trimpot.engine.calibration import Calibration
from trimpot.setup.config import load_config
from trimpot.storage import SqliteStore

deadly(reports, "write_images")
deadly(reports, "write_report")
deadly(Calibration, "save")
deadly(SqliteStore, "update_run")
session.start(load_config(SMALL), Path(sys.argv[1]))
os._exit(left)
"""
LAST_STEPS = 7  # note that it has begun; pictures, digest, calibration, outcome, report, note of that


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run that nobody killed."""
    known, folder = Plugins(), tmp_path_factory.mktemp("undisturbed")
    known.add(hill_plugin(), name="hill-plugin", origin="tests")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "plugins", lambda: known)
        session.start(CONFIG, folder)
    return show(folder)


@pytest.mark.parametrize("steps", range(LAST_STEPS))
def test_killed_at_any_of_its_last_steps_a_run_is_completed_by_resume(
    installed: Installed, tmp_path: Path, undisturbed: dict[str, Any], steps: int
) -> None:
    assert dying(KILLED, tmp_path, steps) == 9
    before = show(tmp_path)
    assert before["status"] == ("unreported" if before["outcome"] else "interrupted")
    assert before["seconds"] > 0 or before["num_evaluations"] == 0
    assert session.resume(None, tmp_path) == "hill-1"
    after = show(tmp_path)
    assert (after["status"], after["error"]) == ("finished", None)
    assert after["seconds"] >= before["seconds"]
    for key in ("digest", "num_evaluations", "gain", "outcome"):
        assert after[key] == undisturbed[key], key
    assert "hill-1" in Path(after["report"]).read_text()
    assert Path(after["calibration"]).is_file()
    with pytest.raises(StoreError, match=r"every run in .* has finished"):
        session.resume(None, tmp_path)


def test_those_are_all_of_the_last_steps(tmp_path: Path) -> None:
    assert dying(KILLED, tmp_path, LAST_STEPS) == 0


def test_a_report_that_cannot_be_written_leaves_a_result_without_one(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise CalibrationError("cannot write report.html: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(reports, "write_report", full)
        with pytest.raises(CalibrationError):
            session.start(CONFIG, tmp_path)
    shown = show(tmp_path)
    assert (shown["status"], shown["report"]) == ("unreported", None)
    assert "No space left" in shown["error"]
    session.resume(None, tmp_path)
    assert (show(tmp_path)["status"], show(tmp_path)["error"]) == ("finished", None)


def test_a_run_that_no_report_was_wanted_of_is_finished_without(installed: Installed, tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store:
        run = session.assemble("", CONFIG, session.plugins())
        name = store.add_run("hill", run.identity, CONFIG.model_dump(mode="json"), run.versions)
        work(replace(run, id=name), store, session.plugins(), illustrated=False)
    assert (show(tmp_path)["status"], show(tmp_path)["report"]) == ("finished", None)
    with pytest.raises(StoreError, match="has finished"):
        session.resume(None, tmp_path)
    session.resume(name, tmp_path)  # by its name it is asked for
    assert show(tmp_path)["report"]


class _OddError(Exception):
    """Of somebody else's optimizer."""


@pytest.mark.parametrize(
    ("problem", "status", "error"),
    [
        (KeyboardInterrupt(), "interrupted", None),
        (SystemExit(1), "interrupted", None),
        (ScoreError("objective 'x' returned nan"), "failed", "objective 'x' returned nan"),
        (_OddError("I fell\nover"), "failed", "_OddError: I fell over"),
        (MemoryError(), "failed", "MemoryError: "),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_stopped_a_run_decides_whether_it_failed(
    installed: Installed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    problem: BaseException,
    status: str,
    error: str | None,
) -> None:
    def stop(*_: Any) -> None:
        raise problem

    monkeypatch.setattr("trimpot.runs.work.calibrate", stop)
    with pytest.raises(type(problem)):
        session.start(CONFIG, tmp_path)
    shown = show(tmp_path)
    assert (shown["status"], (shown["error"] or "").strip()) == (status, (error or "").strip())


def test_the_reason_survives_a_store_that_cannot_note_it(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(run: Any, store: SqliteStore, *_: Any) -> None:
        store._db.conn.execute("PRAGMA query_only=ON")
        raise ScoreError("the reason")

    monkeypatch.setattr("trimpot.runs.work.calibrate", stop)
    with pytest.raises(ScoreError, match="the reason"):
        session.start(CONFIG, tmp_path)
