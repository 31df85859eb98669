"""Starting and resuming: whatever ends a run, the store says so and nothing recorded is lost."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from closed_form import SMALL, Height, Hill, Notes, hill_plugin
from numpy.typing import NDArray
from trimpot import reports, session
from trimpot.engine import assembly
from trimpot.engine.bucket import PromptSet
from trimpot.engine.config import Config, load_config
from trimpot.engine.errors import (
    CalibrationError,
    ConfigError,
    ModelError,
    Notice,
    ReplayError,
    ScoreError,
    StoreError,
    TrimpotError,
)
from trimpot.engine.hooks import hookimpl
from trimpot.engine.plugins import Plugins
from trimpot.engine.seams import Adapter, Objective
from trimpot.storage import SqliteStore

CONFIG = load_config(SMALL)
HELPERS = str(Path(__file__).parent / "helpers")


class Installed:
    """What is installed in this process: the hill, and whatever a test puts in its place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.put()

    def put(self, adapter: Adapter | None = None, objective: Objective | None = None) -> None:
        known = Plugins()
        known.add(hill_plugin(adapter, objective), name="hill-plugin", origin="tests")
        self._monkeypatch.setattr(session, "plugins", lambda: known)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Installed:
    """The hill."""
    return Installed(monkeypatch)


def _shown(folder: Path, run: str = "hill-1") -> dict[str, Any]:
    with SqliteStore(folder, create=False) as store:
        return session.summary(store, store.run(run))


def _interrupt(folder: Path, patience: int = 9) -> None:
    with pytest.raises(KeyboardInterrupt):
        session.start(CONFIG, folder, (Notes(patience),))


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


@pytest.mark.parametrize("sealed", [True, False])
def test_a_record_that_was_tampered_with_stops_the_replay(installed: Installed, tmp_path: Path, sealed: bool) -> None:
    _interrupt(tmp_path)
    with SqliteStore(tmp_path) as store:
        [row] = store.records.read("candidates", stage="search", position=4)
        [record] = store.records.read("evaluations", key=row["evaluation"])
        setting = json.dumps(dict.fromkeys(Hill.space.names, 1.25))
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


# Killed, whenever that is

KILLED = """
import os, sys
from pathlib import Path
from closed_form import SMALL, hill_plugin
from trimpot import reports, session
from trimpot.engine.calibration import Calibration
from trimpot.engine.config import load_config
from trimpot.engine.plugins import Plugins
from trimpot.storage import SqliteStore

known = Plugins()
known.add(hill_plugin(), name="hill-plugin", origin="tests")
session.plugins = lambda: known
left = int(sys.argv[2])

def deadly(owner, name):
    real = getattr(owner, name)
    def wrapper(*given, **named):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return real(*given, **named)
    setattr(owner, name, wrapper)

deadly(reports, "write_images")
deadly(reports, "write_report")
deadly(Calibration, "save")
deadly(SqliteStore, "update_run")
session.start(load_config(SMALL), Path(sys.argv[1]))
os._exit(left)
"""
LAST_STEPS = 6  # note that it has begun; pictures, calibration, outcome, report, note of that


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run that nobody killed."""
    known, folder = Plugins(), tmp_path_factory.mktemp("undisturbed")
    known.add(hill_plugin(), name="hill-plugin", origin="tests")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "plugins", lambda: known)
        session.start(CONFIG, folder)
    return _shown(folder)


def _killed(folder: Path, steps: int) -> int:
    """A run killed after so many of its last steps; the process' exit status."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [HELPERS, os.environ.get("PYTHONPATH")]))}
    return subprocess.run([sys.executable, "-c", KILLED, str(folder), str(steps)], env=environment).returncode


@pytest.mark.parametrize("steps", range(LAST_STEPS))
def test_killed_at_any_of_its_last_steps_a_run_is_completed_by_resume(
    installed: Installed, tmp_path: Path, undisturbed: dict[str, Any], steps: int
) -> None:
    assert _killed(tmp_path, steps) == 9
    before = _shown(tmp_path)
    assert before["status"] == ("unreported" if before["outcome"] else "interrupted")
    assert before["seconds"] > 0 or before["num_evaluations"] == 0
    assert session.resume(None, tmp_path) == "hill-1"
    after = _shown(tmp_path)
    assert (after["status"], after["error"]) == ("finished", None)
    assert after["seconds"] >= before["seconds"]
    for key in ("digest", "num_evaluations", "gain", "outcome"):
        assert after[key] == undisturbed[key], key
    assert "hill-1" in Path(after["report"]).read_text()
    assert Path(after["calibration"]).is_file()
    with pytest.raises(StoreError, match=r"every run in .* has finished"):
        session.resume(None, tmp_path)


def test_those_are_all_of_the_last_steps(tmp_path: Path) -> None:
    assert _killed(tmp_path, LAST_STEPS) == 0


def test_a_report_that_cannot_be_written_leaves_a_result_without_one(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise CalibrationError("cannot write report.html: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(reports, "write_report", full)
        with pytest.raises(CalibrationError):
            session.start(CONFIG, tmp_path)
    shown = _shown(tmp_path)
    assert (shown["status"], shown["report"]) == ("unreported", None)
    assert "No space left" in shown["error"]
    session.resume(None, tmp_path)
    assert (_shown(tmp_path)["status"], _shown(tmp_path)["error"]) == ("finished", None)


def test_a_run_that_no_report_was_wanted_of_is_finished_without(installed: Installed, tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store:
        run = session.assemble("", CONFIG, session.plugins())
        name = store.add_run("hill", run.identity, CONFIG.model_dump(mode="json"), run.versions)
        session.work(replace(run, id=name), store, session.plugins(), illustrated=False)
    assert (_shown(tmp_path)["status"], _shown(tmp_path)["report"]) == ("finished", None)
    with pytest.raises(StoreError, match="has finished"):
        session.resume(None, tmp_path)
    session.resume(name, tmp_path)  # by its name it is asked for
    assert _shown(tmp_path)["report"]


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

    monkeypatch.setattr(session, "calibrate", stop)
    with pytest.raises(type(problem)):
        session.start(CONFIG, tmp_path)
    shown = _shown(tmp_path)
    assert (shown["status"], (shown["error"] or "").strip()) == (status, (error or "").strip())


def test_the_reason_survives_a_store_that_cannot_note_it(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(run: Any, store: SqliteStore, watch: Any) -> None:
        store._db.conn.execute("PRAGMA query_only=ON")
        raise ScoreError("the reason")

    monkeypatch.setattr(session, "calibrate", stop)
    with pytest.raises(ScoreError, match="the reason"):
        session.start(CONFIG, tmp_path)


# What a run was begun with


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with prompt files, a calibration to start from, and a run on them that was stopped."""
    folder = tmp_path / "project"
    folder.mkdir()
    for part in ("train", "validation", "test"):
        (folder / f"{part}.txt").write_text("".join(f"{part} view {n}\n" for n in range(20)))
    return folder


def _on_files(project: Path, **changes: Any) -> Config:
    files = {part: str(project / f"{part}.txt") for part in ("train", "validation", "test")}
    return load_config({**SMALL, "prompts": {"name": "files", **files}, **changes})


def _moved(project: Path) -> None:
    project.rename(project.with_name("elsewhere"))


def _gone(project: Path) -> None:
    (project / "train.txt").unlink()


def _changed(project: Path) -> None:
    (project / "train.txt").write_text("".join(f"another view {n}\n" for n in range(20)))


@pytest.mark.parametrize("happens", [_moved, _gone, _changed, None])
def test_a_run_goes_on_with_the_prompts_and_the_start_it_was_begun_with(
    installed: Installed, project: Path, tmp_path: Path, happens: Any
) -> None:
    session.start(load_config(SMALL), tmp_path / "first")
    shutil.copy(tmp_path / "first" / "hill-1" / "calibration.json", project / "from.json")
    config = _on_files(project, start=str(project / "from.json"))
    session.start(config, tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        session.start(config, tmp_path / "stopped", (Notes(9),))
    with SqliteStore(tmp_path / "stopped") as store:
        recorded = store.prompts("hill-1")
        assert recorded is not None
        assert recorded.train == tuple(f"train view {n}" for n in range(20))
    if happens:
        happens(project)
    told = pytest.warns(Notice, match="have changed since") if happens is _changed else contextlib.nullcontext()
    with told:
        session.resume(None, tmp_path / "stopped")
    assert _shown(tmp_path / "stopped")["digest"] == _shown(tmp_path / "undisturbed")["digest"]


class FromFolder:
    """A plugin whose hill lies in a folder of weights."""

    @hookimpl
    def register_adapters(self, register: Any) -> None:
        def make_hill(*, model: Path) -> Adapter:
            if not model.is_dir():
                raise ModelError(f"no folder {model}")
            return Hill()

        register("hill-of-a-folder", make_hill)


@pytest.mark.parametrize("same", [True, False])
def test_a_run_goes_on_where_its_model_lies_now_if_the_weights_are_the_same(
    installed: Installed, tmp_path: Path, same: bool
) -> None:
    session.plugins().add(FromFolder(), name="from-folder", origin="tests")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.safetensors").write_bytes(bytes(16))
    config = load_config({**SMALL, "adapter": {"name": "hill-of-a-folder", "model": str(tmp_path / "model")}})
    with pytest.raises(KeyboardInterrupt):
        session.start(config, tmp_path / "runs", (Notes(9),))
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="no folder"):
        session.resume(None, tmp_path / "runs")
    if not same:
        (tmp_path / "elsewhere" / "weights.safetensors").write_bytes(bytes(15) + b"1")
    refused = contextlib.nullcontext() if same else pytest.raises(StoreError, match="begun with another backbone")
    with refused:
        session.resume(None, tmp_path / "runs", (), [f"adapter.model={tmp_path / 'elsewhere'}"])
    assert _shown(tmp_path / "runs", "hill-of-a-folder-1")["status"] == ("finished" if same else "interrupted")


def test_prompts_that_are_asked_for_by_name_are_not_ignored(
    installed: Installed, project: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        session.start(_on_files(project), tmp_path, (Notes(9),))
    (project / "other.txt").write_text("".join(f"other view {n}\n" for n in range(20)))
    with pytest.raises(StoreError, match="was begun with another backbone, reward or prompts"):
        session.resume(None, tmp_path, (), [f"prompts.train={project / 'other.txt'}"])


def test_prompts_with_metadata_are_kept_with_it_and_once(tmp_path: Path) -> None:
    pools = {"train": ("a", "b"), "validation": ("c", "d"), "test": ("e", "f")}
    prompts = PromptSet(**pools, metadata={"a": {"tag": "counting", "include": [{"class": "süß", "count": 2}]}})
    with SqliteStore(tmp_path) as store:
        for _ in range(2):
            run = store.add_run("a", "identity", {}, {}, prompts)
        assert store.prompts(run) == prompts
        assert store.prompts(run).fingerprint == prompts.fingerprint  # type: ignore[union-attr]
        assert len(store.records.whole("prompts")) == 1
        assert store.prompts(store.add_run("old", "identity", {}, {})) is None


def test_a_run_of_the_days_before_prompts_were_kept_reads_its_files(
    installed: Installed, project: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        session.start(_on_files(project), tmp_path, (Notes(9),))
    with SqliteStore(tmp_path) as store:
        store.update_run("hill-1", prompts=None)
    session.resume(None, tmp_path)
    assert _shown(tmp_path)["status"] == "finished"


def test_library_versions_that_a_run_goes_on_with_are_written_down(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupt(tmp_path)
    assert _shown(tmp_path)["continued"] == []
    later = {**_shown(tmp_path)["versions"], "numpy": "99.0"}
    monkeypatch.setattr(assembly, "versions", lambda: later)
    session.resume(None, tmp_path)
    assert _shown(tmp_path)["continued"] == [later]
    assert _shown(tmp_path)["versions"] != later


@pytest.mark.parametrize("package", ["scipy", "pillow", "moocore", "tokenizers", "torch", "numpy", "cma"])
def test_every_library_that_can_change_a_number_is_written_down(package: str) -> None:
    assert assembly.versions()[package] == importlib.metadata.version(package)


# Where a search may start

OPTIMIZERS = [each.name for each in Plugins().registrations("optimizers")]


@pytest.mark.parametrize("optimizer", [*(name for name in OPTIMIZERS if name != "nevergrad"), "nevergrad:DE"])
@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (9.0, r"the value of knob 'knob\.2' must lie between -1 and 2, not be 9"),
        (-1.5, r"the value of knob 'knob\.2' must lie between -1 and 2, not be -1\.5"),
        (float("nan"), "it holds NaN, where numbers must be finite"),
        (float("inf"), "it holds Infinity, where numbers must be finite"),
        (None, r"with other knobs \(such as 'knob\.2'\)"),
        ("surplus", r"with other knobs \(such as 'surplus'\)"),
    ],
)
def test_a_start_that_does_not_fit_is_refused_for_every_optimizer(
    installed: Installed, tmp_path: Path, calibration: dict[str, Any], optimizer: str, value: Any, sentence: str
) -> None:
    setting = dict(calibration["setting"])
    if value is None:
        del setting["knob.2"]
    else:
        setting["knob.2" if isinstance(value, float) else value] = value if isinstance(value, float) else 1.0
    (tmp_path / "from.json").write_text(json.dumps({**calibration, "setting": setting}))
    config = load_config({**SMALL, "optimizer": optimizer, "start": str(tmp_path / "from.json")})
    with pytest.raises(TrimpotError, match=sentence) as caught:
        session.start(config, tmp_path / "runs")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A calibration of the hill, as JSON."""
    known, folder = Plugins(), tmp_path_factory.mktemp("calibration")
    known.add(hill_plugin(), name="hill-plugin", origin="tests")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "plugins", lambda: known)
        session.start(CONFIG, folder)
    found: dict[str, Any] = json.loads((folder / "hill-1" / "calibration.json").read_text())
    del found["checksum"]
    return found


def test_a_neutral_setting_outside_the_bounds_is_refused_too(installed: Installed, tmp_path: Path) -> None:
    class Strange(Hill):
        def neutrals(self) -> dict[str, Any]:
            return {"plain": {}, "strong": {"knob.1": 2.5}}

    installed.put(adapter=Strange())
    with pytest.raises(ConfigError, match=r"neutral setting 'strong': the value of knob 'knob\.1' must lie between"):
        session.start(CONFIG, tmp_path / "runs")


# Watchers


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
