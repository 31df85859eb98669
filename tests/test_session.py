"""Starting and resuming: whatever ends a run, the store says so and nothing recorded is lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from closed_form import SMALL, Height, Hill, Notes
from numpy.typing import NDArray
from sessions import CONFIG, Installed
from sessions import interrupt as _interrupt
from sessions import show as _shown
from trimpot.ground.errors import (
    ConfigError,
    Notice,
    ReplayError,
    ScoreError,
    StoreError,
)
from trimpot.runs import session
from trimpot.runs.results import report
from trimpot.setup.config import load_config
from trimpot.storage import SqliteStore
from trimpot.storage.packed import pack_setting


def test_a_finished_run_shows_everything_that_is_promised(installed: Installed, tmp_path: Path) -> None:
    assert session.start(CONFIG, tmp_path) == "hill-1"
    shown = _shown(tmp_path)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert (shown["run"], shown["status"]) == ("hill-1", "finished")
    assert set(shown["gain"]) == {"mean", "low", "high", "num_prompts", "num_images"}
    assert shown["num_evaluations"] > 25
    assert shown["num_images"] > 80
    assert shown["seconds"] > 0
    assert Path(shown["calibration"]).is_file()
    assert Path(shown["report"]).is_file()
    assert shown["error"] is None


def test_stopped_by_ctrl_c_it_resumes_to_the_digest_of_a_run_that_never_was(
    installed: Installed, tmp_path: Path
) -> None:
    session.start(CONFIG, tmp_path / "undisturbed")
    _interrupt(tmp_path / "stopped")
    assert _shown(tmp_path / "stopped")["status"] == "interrupted"
    assert _shown(tmp_path / "stopped")["num_evaluations"] == 9
    assert session.resume(None, tmp_path / "stopped") == "hill-1"
    whole, resumed = (_shown(tmp_path / name) for name in ("undisturbed", "stopped"))
    for key in ("digest", "status", "num_evaluations", "num_images", "gain", "outcome"):
        assert resumed[key] == whole[key], key


def test_the_clock_counts_over_all_resumes(installed: Installed, tmp_path: Path) -> None:
    _interrupt(tmp_path)
    before = _shown(tmp_path)["seconds"]
    session.resume("hill-1", tmp_path)
    assert _shown(tmp_path)["seconds"] > before > 0


def test_a_reward_that_fails_fails_the_run_with_its_sentence_and_mended_it_goes_on(
    installed: Installed, tmp_path: Path
) -> None:
    class Failing(Height):
        left = 12

        def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
            self.left -= 1
            scores = super().score(outputs, prompts)
            return scores if self.left >= 0 else scores * np.nan

    installed.put(objective=Failing())
    with pytest.raises(ScoreError):
        session.start(CONFIG, tmp_path)
    shown = _shown(tmp_path)
    assert (shown["status"], shown["num_evaluations"]) == ("failed", 12)
    assert "objective 'height' of the plugin 'hill-plugin' (tests) returned nan" in shown["error"]

    installed.put()
    with pytest.raises(StoreError, match=r"was begun with another .* reward .* go on all the same with --allow-drift"):
        session.resume(
            None, tmp_path
        )  # its code was edited: nobody but its author can know that its scores are as before
    with pytest.warns(Notice, match="reward 'height' differs"):
        session.resume(None, tmp_path, allow_drift=True)
    session.start(CONFIG, tmp_path / "undisturbed")
    assert _shown(tmp_path)["digest"] == _shown(tmp_path / "undisturbed")["digest"]
    assert _shown(tmp_path)["error"] is None


def test_a_run_is_not_continued_on_another_backbone(installed: Installed, tmp_path: Path) -> None:
    class Retrained(Hill):
        def describe(self) -> dict[str, Any]:
            return {"id": "hill", "revision": 2}

    _interrupt(tmp_path)
    installed.put(adapter=Retrained())
    with pytest.raises(StoreError, match="run hill-1 was begun with another backbone, reward or prompts") as caught:
        session.resume(None, tmp_path)
    assert "\n" not in str(caught.value)
    installed.put()
    session.resume(None, tmp_path)
    assert _shown(tmp_path)["status"] == "finished"


def test_a_run_of_an_older_trimpot_is_shown_and_reported_and_goes_on_if_it_is_told_to(
    installed: Installed, tmp_path: Path
) -> None:
    """It knew parts by less, and did not note the machine: nobody can tell whether they are the same."""
    _interrupt(tmp_path)
    with SqliteStore(tmp_path) as store:
        row = store.run("hill-1")
        older = {name: version for name, version in row.versions.items() if name != "machine"}
        store.records.update(
            "runs", store.records.read("runs", id="hill-1")[0], identity="x", versions=json.dumps(older)
        )
        report(store, "hill-1")
    assert _shown(tmp_path)["status"] == "interrupted"
    with pytest.raises(StoreError, match="an earlier trimpot recorded it, which knew parts by less of their code"):
        session.resume(None, tmp_path)
    with pytest.warns(Notice, match="an earlier trimpot recorded it"):
        session.resume(None, tmp_path, allow_drift=True)
    assert _shown(tmp_path)["status"] == "finished"


@pytest.mark.parametrize("sealed", [True, False])
def test_a_record_that_was_tampered_with_stops_the_replay(installed: Installed, tmp_path: Path, sealed: bool) -> None:
    _interrupt(tmp_path)
    with SqliteStore(tmp_path) as store:
        [row] = store.records.read("candidates", stage="search", position=4)
        [record] = store.records.read("evaluations", key=row["evaluation"])
        setting = pack_setting(dict.fromkeys(Hill.space.names, 1.25))
        if sealed:
            store.records.update("evaluations", record, setting=setting)
        else:
            store._db.conn.execute("UPDATE evaluations SET setting = ? WHERE key = ?", [setting, record["key"]])
    said = r"candidate 4, knob\.0 is not what was recorded" if sealed else f"the record evaluations '{record['key']}'"
    with pytest.raises(ReplayError if sealed else StoreError, match=said):
        session.resume(None, tmp_path)
    with SqliteStore(tmp_path) as store:
        assert store.run("hill-1").status == "failed"


def test_resuming_a_finished_run_does_nothing(installed: Installed, tmp_path: Path) -> None:
    session.start(CONFIG, tmp_path)
    before = _shown(tmp_path)
    installed.put(adapter=(adapter := Hill()))
    assert session.resume("hill-1", tmp_path) == "hill-1"
    assert adapter.calls == []
    assert _shown(tmp_path) == before
    with pytest.raises(StoreError, match=r"every run in .* has finished"):
        session.resume(None, tmp_path)


def test_the_latest_unfinished_run_is_resumed(installed: Installed, tmp_path: Path) -> None:
    _interrupt(tmp_path)
    _interrupt(tmp_path)
    assert session.resume(None, tmp_path) == "hill-2"
    assert session.resume(None, tmp_path) == "hill-1"


def test_a_run_that_another_process_holds_is_left_alone(installed: Installed, tmp_path: Path) -> None:
    _interrupt(tmp_path)
    with SqliteStore(tmp_path) as store, store.lock("hill-1"):
        with pytest.raises(StoreError, match="another process is working on run hill-1"):
            session.resume("hill-1", tmp_path)
        assert store.run("hill-1").status == "running"
    assert _shown(tmp_path)["num_evaluations"] == 9


@pytest.mark.parametrize(
    "change",
    [{"optimizer": {"sigma0": -1}}, {"optimizer": {"sigma": 1}}, {"prompts": {"name": "files", "train": "absent.txt"}}],
)
def test_a_run_that_cannot_be_assembled_leaves_no_trace(
    installed: Installed, tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        session.start(load_config({**SMALL, **change}), tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_called_after_its_backbone_or_as_it_is_told(installed: Installed, tmp_path: Path) -> None:
    assert session.start(load_config(SMALL, ["name=night"]), tmp_path) == "night-1"
    assert session.start(CONFIG, tmp_path) == "hill-1"
    assert session.start(CONFIG, tmp_path) == "hill-2"
    first, second = _shown(tmp_path), _shown(tmp_path, "hill-2")
    assert first["digest"] == second["digest"]


@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), BrokenPipeError(), SystemExit(1)])
def test_a_watcher_that_cannot_write_is_told_no_more_and_the_run_goes_on(
    installed: Installed, tmp_path: Path, problem: BaseException
) -> None:
    class Full(Notes):
        def evaluation_recorded(self, run: Any, place: Any, evaluation: Any) -> None:
            super().evaluation_recorded(run, place, evaluation)
            raise problem

    full, other = Full(), Notes()
    with pytest.warns(Notice, match="Full cannot write and is told no more"):
        session.start(CONFIG, tmp_path, (full, other))
    assert _shown(tmp_path)["status"] == "finished"
    assert (len(full.evaluations), len(other.evaluations)) == (1, _shown(tmp_path)["num_evaluations"])
