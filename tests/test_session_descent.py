"""Runs that begin at the result of another, and runs that go on although their parts are others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from closed_form import SMALL, Height, Hill
from numpy.typing import NDArray
from sessions import CONFIG, Installed, interrupt, show
from trimpot.engine.bucket import PromptSet
from trimpot.ground.errors import ConfigError, Notice, ReplayError, StoreError
from trimpot.optimizers.cma_es import CmaEs
from trimpot.reports import write_report
from trimpot.runs import session
from trimpot.runs.descent import parent_of, result_of
from trimpot.runs.results import Files
from trimpot.setup import assembly
from trimpot.setup.config import load_config
from trimpot.storage import SqliteStore
from typer.testing import CliRunner


@pytest.fixture
def store(installed: Installed, tmp_path: Path) -> Path:
    """A store with a finished run."""
    session.start(CONFIG, tmp_path / "runs")
    return tmp_path / "runs"


def _command(*words: str) -> Any:
    from trimpot.cli import app

    return CliRunner().invoke(app, list(words), catch_exceptions=False)


def _file(folder: Path) -> Path:
    path = folder / "hill.yaml"
    path.write_text(json.dumps(SMALL))
    return path


def test_a_run_begins_at_the_result_of_another_and_says_so_everywhere(store: Path, tmp_path: Path) -> None:
    words = ["calibrate", str(_file(tmp_path)), "--from", "hill-1", "--store", str(store), "--json"]
    made = _command(*words)
    assert made.exit_code == 0, made.output
    first, second = show(store), show(store, "hill-2")
    assert second["parent"] == {"run": "hill-1", "digest": first["digest"]}
    assert first["parent"] is None
    with SqliteStore(store) as opened:
        [reference] = opened.recorded("hill-2", "reference", 0).values()
        assert dict(reference.setting) == first["outcome"]["calibrated"]
        assert opened.run("hill-2").start == first["outcome"]["calibrated"]
    assert "begun at the result of hill-1" in _command("show", "hill-2", "--store", str(store)).output
    listed = _command("runs", "--store", str(store)).output.splitlines()
    assert listed[0].endswith("begun at")
    assert listed[2].rstrip().endswith("hill-1")
    [_, told] = json.loads(_command("runs", "--store", str(store), "--json").output)
    assert told["parent"] == second["parent"]
    with SqliteStore(store) as opened:
        write_report(opened, "hill-2", Files.of(store / "hill-2"))
    assert "UTC at the result of hill-1" in (store / "hill-2" / "report.html").read_text()


def test_a_run_keeps_its_parent_however_its_start_is_named(store: Path, tmp_path: Path) -> None:
    result, digest = Files.of(store / "hill-1").calibration, show(store)["digest"]
    inside = {"run": "hill-1", "digest": digest}
    for start in (result, result.parent):
        assert parent_of(str(start), store) == inside
    elsewhere = shutil.copy(result, tmp_path / "mine.json")
    assert parent_of(str(elsewhere), store) == {**inside, "path": str(tmp_path / "mine.json")}
    assert parent_of(None, store) is None
    session.start(load_config({**SMALL, "start": str(result)}), store)
    assert show(store, "hill-2")["parent"] == inside


def test_a_parent_that_was_extended_since_is_told_by_its_digest(store: Path) -> None:
    session.start(load_config({**SMALL, "start": str(store / "hill-1")}), store)
    session.resume("hill-1", store, (), ["generations=+1"])
    was = show(store, "hill-2")["parent"]["digest"]
    assert was == show(store)["extended"][0]["digest"] != show(store)["digest"]


def test_what_there_is_no_result_of_is_refused_in_a_sentence(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(store)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hill-1").mkdir()
    for source, sentence in {
        "hill-3": r"--from: no run of .* and no file is called 'hill-3'; did you mean",
        "hill-2": "--from: run hill-2 has no result yet; go on with `trimpot resume hill-2` first",
        "hill-1": r"--from: 'hill-1' is a run of .* and lies here as well; write \./hill-1",
    }.items():
        with pytest.raises(StoreError, match=sentence) as refused:
            result_of(source, store)
        assert "\n" not in str(refused.value)
    assert result_of("./hill-1", store) == tmp_path / "hill-1"
    with pytest.raises(StoreError, match="no run of"):
        result_of("hill-1x", tmp_path / "no-store")
    assert not (tmp_path / "no-store").exists()


def test_two_beginnings_are_one_too_many(store: Path, tmp_path: Path) -> None:
    words = ["calibrate", str(_file(tmp_path)), f"start={store}", "--from", "hill-1", "--store", str(store)]
    with pytest.raises(ConfigError, match="start is given twice"):
        _command(*words)


def test_the_command_line_extends_a_run_and_shows_what_it_was(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    was = show(store)["digest"]
    made = _command("resume", "hill-1", "generations=+1", "--store", str(store), "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["digest"] == show(store)["digest"] != was
    assert "extended" not in json.loads(made.stdout)
    said = " ".join(_command("show", "hill-1", "--store", str(store)).output.split())
    assert f"outputs (all 3 generations are done; digest {was})" in said
    monkeypatch.setattr(CmaEs, "ask", lambda self: np.ones((8, 5)))
    with pytest.raises(ReplayError, match=r"which is as it was$"):  # no hint to go on with what has ended
        _command("resume", "hill-1", "generations=+1", "--store", str(store))
    with pytest.raises(ConfigError, match="a run can be made longer, not shorter"):
        _command("resume", "hill-1", "generations=2", "--store", str(store))


# Going on although something is another


class Doubled(Height):
    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        return super().score(outputs, prompts) * 1.0


class Renamed(Hill):
    def describe(self) -> dict[str, Any]:
        return {"id": "hill", "revision": 2}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"objective": Doubled()}, "reward 'height' differs"),
        ({"adapter": Renamed()}, "the backbone differs"),
        ({"objective": Doubled(), "adapter": Renamed()}, "the backbone and reward 'height' differ"),
    ],
)
def test_going_on_with_other_parts_says_which_they_are(
    installed: Installed, tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    interrupt(tmp_path)
    installed.put(**changed)
    with pytest.raises(StoreError, match=rf"\({told}\); restore it, begin a new run, .* --from hill-1"):
        session.resume(None, tmp_path)
    with pytest.warns(Notice, match=rf"not everything is what it was \({told}\)"):
        session.resume(None, tmp_path, allow_drift=True)
    assert show(tmp_path)["status"] == "finished"


def test_going_on_with_other_versions_says_which_they_were(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(tmp_path)
    was = assembly.versions()
    monkeypatch.setattr(assembly, "versions", lambda: {**was, "numpy": "99.0", "machine": "vax"})
    with pytest.warns(Notice) as told:
        session.resume(None, tmp_path, allow_drift=True)
    [notice] = [str(each.message) for each in told]
    assert f"numpy {was['numpy']} then, 99.0 now" in notice
    assert f"machine {was['machine']} then, vax now" in notice
    assert "\n" not in notice
    assert "differ" not in notice


def test_every_part_of_a_run_has_a_fingerprint_of_its_own(installed: Installed, tmp_path: Path) -> None:
    run = session.assemble("", CONFIG, session.plugins())
    installed.put(adapter=Renamed(), objective=Doubled())
    other = session.assemble(
        "", load_config({**SMALL, "optimizer": {"name": "cma-es", "sigma0": 0.2}}), session.plugins()
    )
    differ = {name for name, found in run.parts.items() if other.parts[name] != found}
    assert differ == {"the backbone", "reward 'height'", "the optimizer"}
    prompts = PromptSet(("a", "b"), ("c", "d"), ("e", "f"))
    third = session.assemble("", CONFIG, session.plugins(), prompts=prompts, start=dict.fromkeys(Hill.space.names, 1.1))
    differ = {name for name, found in other.parts.items() if third.parts[name] != found}
    assert {"the prompts", "the optimizer"} <= differ


def test_a_run_that_is_extended_with_other_parts_is_no_other_runs_twin(installed: Installed, tmp_path: Path) -> None:
    session.start(CONFIG, tmp_path)
    installed.put(objective=Doubled())
    with pytest.raises(StoreError, match="reward 'height' differs"):
        session.resume("hill-1", tmp_path, (), ["generations=+1"])
    with pytest.warns(Notice, match="reward 'height' differs"):
        session.resume("hill-1", tmp_path, (), ["generations=+1"], allow_drift=True)
    assert show(tmp_path)["stop_reason"] == "all 4 generations are done"
    twin = session.assemble("", load_config({**SMALL, "generations": 4}), session.plugins())
    with SqliteStore(tmp_path) as opened:
        assert opened.run("hill-1").identity != twin.identity
