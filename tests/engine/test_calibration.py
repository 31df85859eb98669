"""The calibration file: whole or absent, readable by people, and refused where it is something else."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from closed_form import MemoryStore, Notes, hill_run
from trimpot.engine.calibration import SCHEMA_VERSION, Calibration, GainRecord, calibration_of
from trimpot.engine.loop import calibrate
from trimpot.engine.statistics import Gain
from trimpot.ground.errors import CalibrationError


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
        (lambda values: {key: value for key, value in values.items() if key != "setting"}, "calibration: setting"),
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


def test_what_a_later_version_adds_is_kept(calibration: Calibration, tmp_path: Path) -> None:
    values = calibration.model_dump(mode="json")
    values |= {"mood": ["blue"], "provenance": {**values["provenance"], "weather": {"rain": 0.5}}}
    (path := tmp_path / "calibration.json").write_text(json.dumps(values))
    Calibration.load(path).save(path)
    said = json.loads(path.read_text())
    assert (said["mood"], said["provenance"]["weather"]) == (["blue"], {"rain": 0.5})
    assert Calibration.load(path).told_gain == calibration.told_gain


def test_a_calibration_that_nobody_measured_is_a_calibration(calibration: Calibration, tmp_path: Path) -> None:
    values = calibration.model_dump(mode="json")
    few = {key: values[key] for key in ("backbone", "setting")}
    few["provenance"] = {"run": "by hand", "created": "2026-01-01"}
    (path := tmp_path / "calibration.json").write_text(json.dumps(few))
    assert Calibration.load(path).gain is None
    assert Calibration.load(path).told_gain == "not measured"
    assert Calibration.load(path).setting == calibration.setting


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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe that nobody writes to, and devices that never end."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(CalibrationError, match="it is a device or a pipe"):
            Calibration.load(path)


def test_a_file_beyond_all_sizes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(1 << 40)  # which takes no room: it is one hole
    with pytest.raises(CalibrationError, match="it has more than 64 MiB"):
        Calibration.load(tmp_path / "large.json")


@pytest.mark.parametrize("path", [None, 3, b"x", [], "a\0b", "\ud800", ""])
def test_a_path_that_is_none_is_one_sentence(path: Any) -> None:
    with pytest.raises(CalibrationError, match=r"cannot read (a|the) calibration") as caught:
        Calibration.load(path)
    assert "\n" not in str(caught.value) and "\0" not in str(caught.value)
    str(caught.value).encode()


@pytest.mark.parametrize("where", ["absent/calibration.json", "file/calibration.json"])
def test_where_it_cannot_be_written_one_sentence_says_so(calibration: Calibration, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CalibrationError, match=r"cannot write .*calibration\.json: "):
        calibration.save(tmp_path / where)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def changed(values: Any, path: str, value: Any) -> Any:
    """The same values with another at a path."""
    values = json.loads(json.dumps(values))
    *way, last = path.split("/")
    at = values
    for key in way:
        at = at[int(key) if isinstance(at, list) else key]
    at[int(last) if isinstance(at, list) else last] = value
    return values


def numbers(values: Any, path: str = "") -> list[str]:
    """Paths of all numbers that a calibration states, but for what its backbone and its rewards describe."""
    if isinstance(values, bool) or values is None or isinstance(values, str):
        return []
    if isinstance(values, (int, float)):
        return [path]
    pairs = enumerate(values) if isinstance(values, list) else values.items()
    free = ("backbone", "objectives", "provenance/config", "schema_version", "apply")
    found = [(f"{path}/{key}".lstrip("/"), value) for key, value in pairs]
    return [each for key, value in found if key not in free for each in numbers(value, key)]


def test_every_number_must_be_one(calibration: Calibration, tmp_path: Path) -> None:
    """Whatever number of the file is replaced by what is none, the file is refused and the number named."""
    values = calibration.model_dump(mode="json")
    asked = numbers(values)
    assert len(asked) > 10
    path = tmp_path / "calibration.json"
    for name in asked:
        for wrong in ("1", True, [1], {}, "NaN", 10**400, 1e301, -1e301):
            path.write_text(json.dumps(changed(values, name, wrong)))
            with pytest.raises(CalibrationError, match=r"calibration\.json is not a calibration") as caught:
                Calibration.load(path)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["num_steps", "gain/num_images", "provenance/num_images"])
@pytest.mark.parametrize("wrong", [-3, 0.5, 1e12, -(10**30)])
def test_counts_are_whole_and_not_negative(calibration: Calibration, tmp_path: Path, name: str, wrong: float) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(changed(calibration.model_dump(mode="json"), name, wrong)))
    with pytest.raises(CalibrationError, match="is not a calibration: "):
        Calibration.load(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{" + '"a": {' * 50_000, "nested|not JSON"),
        ("[" * 100_000 + "]" * 100_000, "nested"),
        ('{"gain": 1, "gain": 2}', "'gain' is given twice"),
        ('{"backbone": {"id": "a", "id": "b"}}', "'id' is given twice"),
        ('{"num_steps": NaN}', "it holds NaN"),
        ('{"backbone": {"x": -Infinity}}', "it holds -Infinity"),
        ('{"backbone": {"x": 1e999}}', "it holds 1e999"),
        ('{"num_steps": ' + "9" * 5000 + "}", "not JSON"),
        ('{"backbone": {"id": "\\ud800"}}', "UTF-8"),
        (" \n ", "empty"),
    ],
)
def test_a_file_that_json_readers_read_differently_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (path := tmp_path / "calibration.json").write_text(text)
    with pytest.raises(CalibrationError, match=f"is not a calibration: .*({said})"):
        Calibration.load(path)


def test_a_mark_of_byte_order_is_read_over_and_other_encodings_are_refused(
    calibration: Calibration, tmp_path: Path
) -> None:
    calibration.save(path := tmp_path / "calibration.json")
    text = path.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8-sig")
    assert Calibration.load(path) == calibration
    path.write_text(text, encoding="utf-16")
    with pytest.raises(CalibrationError, match="UTF-8"):
        Calibration.load(path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"cannot read the calibration .*: it is a folder; name the file in it"):
        Calibration.load(tmp_path)


@pytest.mark.parametrize(("mean", "low", "high"), [(1.0, 2.0, 3.0), (1.0, 2.0, 0.0), (-5.0, -1.0, 1.0)])
def test_a_mean_outside_of_its_interval_is_refused(
    calibration: Calibration, tmp_path: Path, mean: float, low: float, high: float
) -> None:
    values = calibration.model_dump(mode="json")
    values["gain"].update(mean=mean, low=low, high=high)
    (path := tmp_path / "calibration.json").write_text(json.dumps(values))
    with pytest.raises(CalibrationError, match=r"gain: the mean .* lies outside of its interval"):
        Calibration.load(path)


def test_the_interval_of_a_single_prompt_has_no_ends(calibration: Calibration, tmp_path: Path) -> None:
    """It is written as JSON that every reader reads."""
    record = GainRecord.of(Gain(0.5, -math.inf, math.inf, 1, 4))
    calibration.model_copy(update={"gain": record}).save(path := tmp_path / "calibration.json")
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["gain"]["low"] is None
    assert Calibration.load(path).gain == record


def leaves(values: Any, path: str = "") -> dict[str, Any]:
    """Every value of a file by its path."""
    if not isinstance(values, (dict, list)) or not values:
        return {path: values}
    pairs = enumerate(values) if isinstance(values, list) else values.items()
    return {key: leaf for name, each in pairs for key, leaf in leaves(each, f"{path}/{name}".lstrip("/")).items()}


def test_whatever_value_of_a_file_is_another_it_is_refused(calibration: Calibration, tmp_path: Path) -> None:
    calibration.save(path := tmp_path / "calibration.json")
    values = json.loads(path.read_text())
    found = leaves(values)
    assert len(found) > 80
    for name, value in found.items():
        near = not value if isinstance(value, bool) else value + 1 if isinstance(value, (int, float)) else f"{value}0"
        path.write_text(json.dumps(changed(values, name, near)))
        with pytest.raises(CalibrationError, match=r"is not a calibration|checksum does not match|upgrade") as caught:
            Calibration.load(path)
        assert "\n" not in str(caught.value)


def test_a_digit_flipped_anywhere_is_refused_or_the_same(calibration: Calibration, tmp_path: Path) -> None:
    calibration.save(path := tmp_path / "calibration.json")
    text = path.read_text()
    refused = 0
    for position, letter in enumerate(text):
        if letter in "0123456789" and position % 2:
            path.write_text(f"{text[:position]}{(int(letter) + 1) % 10}{text[position + 1 :]}")
            try:
                assert Calibration.load(path) == calibration  # such as the last of a float's many digits
            except CalibrationError:
                refused += 1
    assert refused > 200


def test_a_file_changed_by_hand_is_used_once_its_checksum_is_taken_out(
    calibration: Calibration, tmp_path: Path
) -> None:
    calibration.save(path := tmp_path / "calibration.json")
    path.write_text(path.read_text().replace('"neutral_label": "', '"neutral_label": "my '))
    with pytest.raises(
        CalibrationError, match=r"by damage or by hand.* delete the line 'checksum' to use the file as it is"
    ):
        Calibration.load(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"checksum"' not in line))
    assert Calibration.load(path).neutral_label.startswith("my ")


def test_a_file_laid_out_otherwise_is_the_same(calibration: Calibration, tmp_path: Path) -> None:
    """As other programs write it: keys in another order, no indentation, whole numbers without a point."""

    def shortest(text: str) -> float:
        return int(float(text)) if float(text).is_integer() else float(text)

    calibration.save(path := tmp_path / "calibration.json")
    values = json.loads(path.read_text(), parse_float=shortest)
    path.write_text(json.dumps(values, sort_keys=True, separators=(",", ":")))
    assert Calibration.load(path) == calibration


@pytest.mark.parametrize("wrong", [None, 3, "", [], {}, "0" * 16])
def test_a_checksum_that_is_none_is_another(calibration: Calibration, tmp_path: Path, wrong: Any) -> None:
    calibration.save(path := tmp_path / "calibration.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "checksum": wrong}))
    with pytest.raises(CalibrationError, match="its checksum does not match"):
        Calibration.load(path)


@pytest.mark.parametrize("mean", [0.0, 0.25, -3.0])
def test_a_gain_that_is_the_same_on_every_prompt_has_a_point_for_an_interval(mean: float) -> None:
    """As that of a neutral setting which nothing beat."""
    assert GainRecord.of(Gain(mean, mean, mean, 5, 5)).holds()
    assert not GainRecord.of(Gain(mean + 0.5, mean, mean, 5, 5)).holds()
    assert not GainRecord.of(Gain(mean, mean + 0.1, mean - 0.1, 5, 5)).holds()
