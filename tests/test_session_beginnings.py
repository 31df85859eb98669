"""What a run was begun with it goes on with: prompts, start, weights and libraries; and where a search may start."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from closed_form import SMALL, Hill, Notes, hill_plugin
from sessions import CONFIG, Installed, interrupt, show
from trimpot.engine.bucket import PromptSet
from trimpot.engine.hooks import hookimpl
from trimpot.engine.seams import Adapter
from trimpot.ground.errors import (
    ConfigError,
    ModelError,
    Notice,
    StoreError,
    TrimpotError,
)
from trimpot.runs import session
from trimpot.setup import assembly
from trimpot.setup.config import Config, load_config
from trimpot.setup.plugins import Plugins
from trimpot.storage import SqliteStore


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
    assert show(tmp_path / "stopped")["digest"] == show(tmp_path / "undisturbed")["digest"]


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
    assert show(tmp_path / "runs", "hill-of-a-folder-1")["status"] == ("finished" if same else "interrupted")


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
    assert show(tmp_path)["status"] == "finished"


def test_library_versions_that_a_run_goes_on_with_are_written_down(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(tmp_path)
    assert show(tmp_path)["continued"] == []
    later = {**show(tmp_path)["versions"], "numpy": "99.0"}
    monkeypatch.setattr(assembly, "versions", lambda: later)
    session.resume(None, tmp_path)
    assert show(tmp_path)["continued"] == [later]
    assert show(tmp_path)["versions"] != later


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
