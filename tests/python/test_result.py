"""`trimpot.Result`: what it says of runs that ended well, badly or not at all."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trimpot
from closed_form import SMALL, Notes
from from_python import CAMERA, SPHERE
from sessions import CONFIG, Installed
from trimpot import reports
from trimpot.reports.facts import gather
from trimpot.runs import session
from trimpot.storage import SqliteStore
from typed import typed

COLUMNS = ["generation", "images", "best", "mean", "sigma", "validation", "admitted", "chosen"]


def finished(installed: Installed, folder: Path, patch: pytest.MonkeyPatch) -> None:
    session.start(CONFIG, folder)


def interrupted(installed: Installed, folder: Path, patch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        session.start(CONFIG, folder, (Notes(20),))


def at_the_start(installed: Installed, folder: Path, patch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        session.start(CONFIG, folder, (Notes(1),))


def failed(installed: Installed, folder: Path, patch: pytest.MonkeyPatch) -> None:
    class Broken(Notes):
        def generation_told(self, *_: Any, **__: Any) -> None:
            raise trimpot.ScoreError("the reward <b>broke</b>")

    with pytest.raises(trimpot.ScoreError):
        session.start(CONFIG, folder, (Broken(),))


def unreported(installed: Installed, folder: Path, patch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise trimpot.CalibrationError("cannot write report.html: No space left on device")

    with patch.context() as full_disk:
        full_disk.setattr(reports, "write_report", full)
        with pytest.raises(trimpot.TrimpotError):
            session.start(CONFIG, folder)


ENDS: dict[str, tuple[Callable[..., None], str, bool, bool]] = {  # how, status, whether it has a result, and a report
    "finished": (finished, "finished", True, True),
    "interrupted": (interrupted, "interrupted", False, False),
    "at the start": (at_the_start, "interrupted", False, False),
    "failed": (failed, "failed", False, False),
    "unreported": (unreported, "unreported", True, False),
}


@pytest.mark.usefixtures("short_reports")
@pytest.mark.parametrize("end", ENDS)
def test_however_a_run_ended_it_can_be_loaded_and_says_what_show_says(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    end_so, status, has_result, has_report = ENDS[end]
    end_so(installed, tmp_path, monkeypatch)
    result = trimpot.Result.load("hill-1", tmp_path)
    said = typed("show", "hill-1", "--store", str(tmp_path), "--json")
    shown = json.loads(said.out)
    assert json.loads(json.dumps(result.summary)) == shown
    assert (result.run, result.status) == (shown["run"], shown["status"]) == ("hill-1", status)
    assert (result.store, result.folder) == (tmp_path, tmp_path / "hill-1")
    assert (result.gain is not None, result.report is not None) == (has_result, has_report)
    if has_result:
        assert result.gain is not None and result.calibration is not None
        assert {name: getattr(result.gain, name) for name in shown["gain"]} == shown["gain"]
        assert result.setting == shown["outcome"]["calibrated"]
        assert str(result.calibration) == shown["calibration"] and result.calibration.is_file()
        assert trimpot.Calibration.load(result.calibration).setting == result.setting
        assert result.gain.low <= result.gain.mean <= result.gain.high
    else:
        assert (result.gain, result.setting, result.calibration, shown["gain"]) == (None,) * 4
    assert (str(result.report) if result.report else None) == shown["report"]
    curve_agrees(result, tmp_path)
    assert "Result" not in result._repr_html_() and "hill-1" in result._repr_html_()
    if status != "finished":
        assert trimpot.resume(store=tmp_path).status == "finished"


def curve_agrees(result: trimpot.Result, folder: Path) -> None:
    """A curve is ready for a data frame, and says what the report and the store say."""
    assert all(list(row) == COLUMNS for row in result.curve)
    kinds = (int, int, float | None, float | None, float | None, float | None, bool | None, bool)
    for row in result.curve:
        assert all(isinstance(value, kind) for value, kind in zip(row.values(), kinds, strict=True)), row
        assert type(row["chosen"]) is bool and type(row["generation"]) is int
    json.dumps(result.curve, allow_nan=False)
    assert [row["generation"] for row in result.curve] == list(range(len(result.curve)))
    with SqliteStore(folder, create=False) as store:
        facts = gather(store, result.run)
    told = {each.number: each for each in facts.generations}
    checks = {check.generation: check for check in facts.record.checks}
    assert {row["generation"] for row in result.curve} == {*told, *checks}
    for row in result.curve:
        generation, check = told.get(row["generation"]), checks.get(row["generation"])
        assert [row["best"], row["mean"], row["sigma"]] == (list(generation[1:]) if generation else [None] * 3)
        assert [row["validation"], row["admitted"]] == ([check.score, check.admitted] if check else [None, None])
    chosen = [row["generation"] for row in result.curve if row["chosen"]]
    assert chosen == ([facts.record.chosen.generation] if facts.record.chosen else [])
    with closing(sqlite3.connect(folder / "trimpot.sqlite")) as connection:
        query = (
            "SELECT c.generation + 1, sum(e.num_images) FROM candidates c JOIN evaluations e ON e.key = c.evaluation "
            "WHERE c.run = ? AND c.stage = 'search' GROUP BY c.generation"
        )
        made = images_by_generation(connection, query, result.run)
    total = 0
    for row in result.curve:
        total += made.get(row["generation"], 0)
        assert row["images"] == total


def images_by_generation(connection: sqlite3.Connection, query: str, run: str) -> dict[int, int]:
    return dict(connection.execute(query, (run,)).fetchall())


@pytest.mark.usefixtures("short_reports")
def test_the_curve_is_a_data_frame(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    result = trimpot.calibrate(SPHERE, store=tmp_path, generations=4)
    frame = pandas.DataFrame(result.curve)
    assert list(frame.columns) == COLUMNS and len(frame) == 5
    assert frame["images"].is_monotonic_increasing and frame["images"].iloc[0] == 0
    assert frame["chosen"].sum() == 1
    assert frame["mean"].isna().tolist() == [True, False, False, False, False]


def test_a_result_is_the_beginning_of_another_run(tmp_path: Path) -> None:
    first = trimpot.calibrate(CAMERA, store=tmp_path, generations=6)
    assert first.gain is not None and first.gain.low > 0
    second = trimpot.calibrate(CAMERA, store=tmp_path, generations=1, start=first.folder)
    assert second.summary["parent"] and second.run == "camera-2"
    assert first.curve[-1]["validation"] is not None
    assert second.curve[0]["generation"] == 0


def test_a_result_in_a_shell_is_one_line(tmp_path: Path) -> None:
    result = trimpot.calibrate(CAMERA, store=tmp_path, generations=2)
    assert result.gain is not None
    assert repr(result) == (
        f"Result(camera-1: gain {result.gain} on {result.gain.num_prompts} prompts, "
        f"{result.summary['num_images']:,} images)"
    )


@pytest.mark.usefixtures("short_reports")
def test_an_unfinished_result_in_a_shell_says_how_to_go_on(installed: Installed, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        session.start(CONFIG, tmp_path, (Notes(20),))
    result = trimpot.Result.load("hill-1", tmp_path)
    done = sum(row["mean"] is not None for row in result.curve)
    call = f"trimpot.resume('hill-1', store={str(tmp_path)!r})"
    assert done >= 1 and repr(result) == f"Result(hill-1: interrupted, {done} generations done; {call})"
    assert eval(call).status == "finished"
    assert result.status == "interrupted", "a result says what was when it was made"


@pytest.mark.usefixtures("short_reports")
def test_a_result_of_a_run_at_work_says_so(installed: Installed, tmp_path: Path) -> None:
    seen: list[trimpot.Result] = []

    class Looking(Notes):
        def generation_told(self, run: Any, *_: Any, **__: Any) -> None:
            seen.append(trimpot.Result.load(run.id, tmp_path))

    session.start(trimpot.load_config(SMALL), tmp_path, (Looking(),))
    assert [each.status for each in seen] == ["running"] * 3
    assert [len(each.curve) for each in seen] == sorted(len(each.curve) for each in seen)
    assert all(each.gain is None and "hill-1" in each._repr_html_() for each in seen)
