"""The calibration file: whole or absent, readable by people, and refused where it is something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from closed_form import MemoryStore, Notes, hill_run
from trimpot.engine.calibration import SCHEMA_VERSION, Calibration, calibration_of
from trimpot.engine.errors import CalibrationError
from trimpot.engine.loop import calibrate


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    """Of a short run on the hill."""
    run = hill_run()
    outcome = calibrate(run, store := MemoryStore(), Notes())
    totals = {"digest": store.digest(run.id), "num_evaluations": len(store.keys), "num_images": 100}
    return calibration_of(run, outcome, totals)


def test_a_calibration_survives_its_file(calibration: Calibration, tmp_path: Path) -> None:
    calibration.save(path := tmp_path / "calibration.json")
    assert Calibration.load(path) == calibration
    assert Calibration.load(str(path)).setting == calibration.setting
    assert [each.name for each in tmp_path.iterdir()] == ["calibration.json"]


def test_the_file_says_what_a_person_wants_to_know(calibration: Calibration, tmp_path: Path) -> None:
    calibration.save(path := tmp_path / "calibration.json")
    said = json.loads(path.read_text(encoding="utf-8"))
    assert said["schema_version"] == SCHEMA_VERSION
    made = said["backbone"].pop("made_of")
    assert said["backbone"] == {"name": "hill", "id": "hill"}
    assert made["distribution"] == "tests" and len(made["code"]) == 16
    assert set(said["setting"]) == {f"knob.{index}" for index in range(5)}
    assert said["gain"]["low"] <= said["gain"]["mean"] <= said["gain"]["high"]
    assert said["provenance"]["run"] == "hill-1"
    assert said["provenance"]["config"]["generations"] == 3
    assert "numpy" in said["provenance"]["versions"]
    assert len(path.read_text().splitlines()) > 30


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: {**values, "schema_version": 2}, "schema version 2, this trimpot reads up to 1; upgrade"),
        (lambda values: {"format": "lora", "rank": 4}, "is not a calibration: .*"),
        (lambda values: [values], "is not a calibration"),
        (lambda values: 3, "is not a calibration"),
        (lambda values: {**values, "setting": {"knob.0": "high"}}, r"is not a calibration: setting\.knob\.0"),
        (lambda values: {**values, "extra": 1}, "is not a calibration: extra"),
        (lambda values: {key: value for key, value in values.items() if key != "gain"}, "is not a calibration: gain"),
    ],
)
def test_a_foreign_or_newer_file_is_refused_in_one_sentence_and_left_alone(
    calibration: Calibration, tmp_path: Path, change: Any, said: str
) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(change(calibration.model_dump(mode="json"))))
    before = path.read_bytes()
    with pytest.raises(CalibrationError, match=said) as caught:
        Calibration.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_truncated_file_is_refused_wherever_it_was_cut(calibration: Calibration, tmp_path: Path) -> None:
    calibration.save(path := tmp_path / "calibration.json")
    content = path.read_bytes()
    for length in range(0, len(content) - 2, 97):
        path.write_bytes(content[:length])
        with pytest.raises(CalibrationError, match="is not a calibration"):
            Calibration.load(path)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x89PNG\r\n", b""])
def test_a_file_of_bytes_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match="is not JSON"):
        Calibration.load(path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"cannot read the calibration .*none\.json: No such file"):
        Calibration.load(tmp_path / "none.json")


@pytest.mark.parametrize("where", ["absent/calibration.json", "file/calibration.json"])
def test_where_it_cannot_be_written_one_sentence_says_so(calibration: Calibration, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CalibrationError, match=r"cannot write .*calibration\.json: "):
        calibration.save(tmp_path / where)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
