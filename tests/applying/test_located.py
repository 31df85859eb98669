"""A calibration is found by its file, its folder, its run's name, or its repository on the hub."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub import cached
from trimpot.applying.located import located_calibration
from trimpot.ground.errors import CalibrationError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a run and a folder of a calibration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    for folder in ("trimpot-runs/shapes-1", "mine", "elsewhere/shapes-2"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "calibration.json").write_text("{}")
    (tmp_path / "trimpot-runs" / "shapes-3").mkdir()
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("mine/calibration.json", "mine/calibration.json"),
        ("mine", "mine/calibration.json"),
        ("./mine/", "mine/calibration.json"),
        ("shapes-1", "trimpot-runs/shapes-1/calibration.json"),
        ("trimpot-runs/shapes-1", "trimpot-runs/shapes-1/calibration.json"),
    ],
)
def test_a_path_a_folder_and_a_run_are_found(here: Path, source: str, found: str) -> None:
    assert located_calibration(source).resolve() == here / found
    assert located_calibration(Path(source)).resolve() == here / found


def test_another_store_holds_other_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert located_calibration("shapes-2", store="elsewhere") == Path("elsewhere/shapes-2/calibration.json")
    monkeypatch.setenv("TRIMPOT_STORE", str(here / "elsewhere"))
    assert located_calibration("shapes-2") == here / "elsewhere/shapes-2/calibration.json"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("nowhere.json", "no calibration 'nowhere.json': it is no file or folder here"),
        ("", "the name of the calibration is empty"),
        ("a\0b", "no calibration"),
        ("x" * 5000, "no calibration"),
        ("empty", "the folder empty holds no calibration.json"),
        ("shapes-3", "run shapes-3 of trimpot-runs has no result yet; go on with `trimpot resume shapes-3` first"),
        (None, "cannot read a calibration of None"),
        (b"mine", "cannot read a calibration of"),
        (3, "cannot read a calibration of 3"),
    ],
)
def test_what_is_not_found_is_one_sentence(here: Path, source: object, told: str) -> None:
    with pytest.raises(CalibrationError) as error:
        located_calibration(source)  # type: ignore[arg-type]
    assert told in str(error.value)


def test_a_run_that_lies_here_as_well_is_asked_back(here: Path) -> None:
    (here / "shapes-1").mkdir()
    with pytest.raises(CalibrationError, match=r"is a run of trimpot-runs and lies here as well; write \./shapes-1"):
        located_calibration("shapes-1")
    with pytest.raises(CalibrationError, match="is not on the hub, so it has no revision 'v1'"):
        located_calibration("mine", revision="v1")


@pytest.mark.usefixtures("offline")
def test_a_repository_of_the_hub_is_found(here: Path, hub_cache: Path) -> None:
    cached(hub_cache, "somebody/flux-calibrated", here / "mine")
    found = located_calibration("somebody/flux-calibrated")
    assert found.read_text() == "{}"
    assert found.is_relative_to(hub_cache)


@pytest.mark.usefixtures("offline", "hub_cache")
def test_without_a_network_the_hub_s_calibrations_are_one_sentence(here: Path) -> None:
    with pytest.raises(CalibrationError, match="the hub cannot be reached"):
        located_calibration("somebody/flux-calibrated")
