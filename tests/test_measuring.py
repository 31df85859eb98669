"""Any calibration is measured on held-out prompts: the same gain wherever it is measured, and no image made twice."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from closed_form import SMALL, TOP, Height, Hill, Notes, Ridge, true_gain
from numpy.typing import NDArray
from sessions import Installed
from trimpot.engine.calibration import CHECKSUM, Calibration, Provenance
from trimpot.ground.errors import CalibrationError, ConfigError, Notice, StoreError, TrimpotError
from trimpot.runs import session
from trimpot.runs.measuring import measure
from trimpot.runs.results import Files
from trimpot.setup.config import load_config
from trimpot.storage import SqliteStore
from typed import typed

STEPS = {"by_steps": {"steps": [4, 16], "num_prompts": 5, "num_validation": 3}}


def calibrated(folder: Path, **config: Any) -> Path:
    """Calibrate, and return the calibration file."""
    return Files.of(folder / session.start(load_config({**SMALL, **config}), folder)).calibration


def measured(file: Path, folder: Path, *given: str, **options: Any) -> Calibration:
    return Calibration.load(Files.of(folder / measure(file, None, given, folder=folder, **options)).calibration)


def written(path: Path, setting: dict[str, float], config: dict[str, Any] | None = None, **more: Any) -> Path:
    """A calibration that no run made, and that claims nothing."""
    named = {key: SMALL[key] for key in ("adapter", "objectives", "prompts", "validation", "test")}
    provenance = Provenance(run="by hand", created="2026-01-01", config=named if config is None else config)
    Calibration(backbone={"id": "hill"}, setting=setting, provenance=provenance, **more).save(path)
    return path


def test_a_file_that_travelled_is_measured_to_the_gain_that_its_run_found(installed: Installed, tmp_path: Path) -> None:
    installed.put(Ridge())
    file = calibrated(tmp_path / "here", **STEPS)
    (tmp_path / "there").mkdir()
    elsewhere = Path(shutil.copy(file, tmp_path / "there" / "calibration.json"))
    found, claimed = measured(elsewhere, tmp_path / "there" / "runs"), Calibration.load(file)
    assert found.gain == claimed.gain and found.by_steps == claimed.by_steps and len(found.by_steps) == 3
    assert found.setting == claimed.setting and found.neutral_label == claimed.neutral_label
    assert found.objectives == claimed.objectives
    [parent] = found.provenance.parents
    assert (parent.run, parent.digest, parent.how) == (claimed.provenance.run, claimed.provenance.digest, "measured")


def test_a_calibration_that_claims_nothing_gets_the_gain_that_it_has(installed: Installed, tmp_path: Path) -> None:
    setting = dict(zip(Hill.space.names, TOP.tolist(), strict=True))
    found = measured(written(tmp_path / "top.json", setting), tmp_path / "runs", "test.num_prompts=20")
    assert found.gain is not None and found.gain.mean == pytest.approx(true_gain(setting), abs=0.1)
    assert found.gain.low is not None and found.gain.low > 0 and found.gain.num_prompts == 20


def test_what_is_worse_than_neutral_is_measured_and_not_replaced(installed: Installed, tmp_path: Path) -> None:
    setting = dict.fromkeys(Hill.space.names, -0.5)
    found = measured(written(tmp_path / "bad.json", setting), tmp_path / "runs")
    assert found.setting == setting and found.gain is not None
    assert found.gain.mean == pytest.approx(true_gain(setting), abs=0.3) and found.gain.mean < -5


class Counting(Height):
    """Counts what it is asked to score."""

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        Counting.asked += len(outputs)
        return super().score(outputs, prompts)

    asked = 0


def test_an_image_that_was_made_once_is_never_made_again(installed: Installed, tmp_path: Path) -> None:
    installed.put(None, Counting())
    file = calibrated(tmp_path)
    claimed, before = Calibration.load(file), Counting.asked
    assert measured(file, tmp_path).gain == claimed.gain
    assert Counting.asked - before == 1  # the first training image, on which the search did not judge its result
    assert measured(file, tmp_path).gain == claimed.gain
    assert Counting.asked - before == 1


@pytest.mark.parametrize("moment", [1, 2, 3, 4])
def test_a_measurement_that_was_stopped_goes_on_as_the_same_run(
    installed: Installed, tmp_path: Path, moment: int
) -> None:
    file = written(tmp_path / "top.json", dict.fromkeys(Hill.space.names, 1.1))
    expected = measured(file, tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        measure(file, folder=tmp_path / "runs", watchers=(Notes(patience=moment),))
    after = Notes()
    name = measure(file, folder=tmp_path / "runs", watchers=(after,))
    assert name == "by-hand-measured-1" and len(after.evaluations) == 5 - moment
    with SqliteStore(tmp_path / "runs") as store:
        assert [row.status for row in store.runs()] == ["finished"]
    found = Calibration.load(Files.of(tmp_path / "runs" / name).calibration)
    assert found.gain == expected.gain and found.provenance.digest == expected.provenance.digest


def test_steps_and_prompts_may_be_others_than_those_of_the_search(installed: Installed, tmp_path: Path) -> None:
    installed.put(Ridge())
    file = calibrated(tmp_path)
    found = measured(file, tmp_path, "test.num_prompts=7", "test.seed=9", steps=(4, 8, 16))
    assert [each.num_steps for each in found.by_steps] == [8, 4, 16]
    assert found.gain is not None and found.gain.num_images == 7
    labels = [each.neutral_label for each in found.by_steps]
    assert labels == ["guidance 3", "guidance 4", "guidance 3"]  # at its own best, at each number of steps


def test_a_configuration_may_name_other_rewards_and_its_search_does_not_count(
    installed: Installed, tmp_path: Path
) -> None:
    file = written(tmp_path / "bare.json", dict.fromkeys(Hill.space.names, 1.1), config={"adapter": {"name": "hill"}})
    with pytest.raises(CalibrationError, match=r"bare.json does not say with which objectives and prompts .* objectiv"):
        measure(file, folder=tmp_path / "runs")
    (tmp_path / "other.yaml").write_text(
        json.dumps({"objectives": {"high": {"name": "height", "weight": 2}}, "prompts": "views", "generations": 9,
                    "test": {"num_prompts": 5}, "validation": {"num_prompts": 4, "every": 1}, "protocol": "published"})
    )  # fmt: skip
    name = measure(file, str(tmp_path / "other.yaml"), folder=tmp_path / "runs")
    once = measured(file, tmp_path / "runs", "objectives=height", "prompts=views", "test.num_prompts=5")
    twice = Calibration.load(Files.of(tmp_path / "runs" / name).calibration)
    assert twice.gain is not None and once.gain is not None and twice.gain.mean == pytest.approx(2 * once.gain.mean)
    assert twice.provenance.config["generations"] == 0 and list(twice.objectives) == ["high"]


def test_what_the_file_holds_besides_stays_and_parents_are_kept(installed: Installed, tmp_path: Path) -> None:
    path = written(tmp_path / "soup.json", dict.fromkeys(Hill.space.names, 1.1))
    values = json.loads(path.read_text())
    del values[CHECKSUM]
    values["licence"] = "free"
    values["provenance"] |= {"maker": "somebody", "parents": [{"run": "a", "digest": "1", "how": "weight 0.5"}]}
    path.write_text(json.dumps(values))
    found = measured(path, tmp_path / "runs").model_dump()
    assert found["licence"] == "free" and found["provenance"]["maker"] == "somebody"
    assert [parent["how"] for parent in found["provenance"]["parents"]] == ["weight 0.5", "measured"]


@pytest.mark.parametrize(
    "key",
    [
        "generations=4", "optimizer=cma-es", "optimizer.sigma0=0.1", "protocol=published", "bucket_size=2",
        "group_size=2", "ladder={block: 2}", "sensitivity={}", "budget.images=9", "start=x.json", "seed=3",
        "validation.every=2", "validation.patience=2", "adaptive_bucket={}",
    ],
)  # fmt: skip
def test_a_key_of_a_search_is_refused_not_ignored(installed: Installed, tmp_path: Path, key: str) -> None:
    file = written(tmp_path / "top.json", dict.fromkeys(Hill.space.names, 1.1))
    with pytest.raises(ConfigError, match="is of a search, and a measurement has none; leave it out"):
        measure(file, None, [key], folder=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_nothing_that_another_s_file_names_is_executed_or_called(installed: Installed, tmp_path: Path) -> None:
    marker, plugin = tmp_path / "was-here", tmp_path / "theirs.py"
    plugin.write_text(f"open({str(marker)!r}, 'w')\n")
    own = {"adapter": {"name": "hill"}, "objectives": {"height": {}}, "prompts": {"name": "views"}}
    small = ["test.num_prompts=5", "validation.num_prompts=4"]
    setting = dict.fromkeys(Hill.space.names, 1.1)
    file = written(tmp_path / "theirs.json", setting, {**own, "plugins": [str(plugin)], "trackers": {"wandb": {}}})
    with pytest.warns(Notice, match="the plugin files that .* names are not executed"):
        found = measured(file, tmp_path / "runs", *small)
    assert not marker.exists() and found.provenance.config["trackers"] == {}
    for key, rewards in {
        "url: 'http://127.0.0.1:9/'": {"name": "remote", "url": "http://127.0.0.1:9/", "token_env": "HF_TOKEN"},
        "url: 'http://127.0.0.1:9/v1'": {"name": "judge", "url": "http://127.0.0.1:9/v1", "model": "m"},
        "allow_execution: True": {"name": "unit-tests", "allow_execution": True},
    }.items():
        file = written(tmp_path / "called.json", setting, {**own, "objectives": {"theirs": rewards}})
        with pytest.raises(CalibrationError, match=f"reward 'theirs' {re.escape(key)}, which nobody"):
            measure(file, folder=tmp_path / "runs")
    assert measured(file, tmp_path / "runs", "objectives=height", *small).gain == found.gain


class Applied(Hill):
    """A hill with something to apply, as a pipeline has."""

    def export(self, setting: Any, neutral: Any) -> dict[str, Any]:
        return {"members": [{"sees": "conditional", "weight": 1.0, "neutral_weight": 1.0, "scales": dict(setting)}]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scales": {"knob.0": 1.5}}, "has the scale of knob.0 1.5, and its setting makes it 1.1"),
        ({"weight": 2.0}, "has the weight 2.0"),
        ({"sees": "unconditional"}, "does not see what the adapter's member sees"),
        ({"scales": {"knob.9": 1.5}}, "scale of knob.9 1.5"),
    ],
)
def test_a_file_whose_setting_is_not_what_it_applies_is_refused(
    installed: Installed, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    installed.put(hill := Applied())
    setting = dict.fromkeys(Hill.space.names, 1.1)
    apply = hill.export(setting, setting)
    assert measured(written(tmp_path / "as.json", setting, apply=apply), tmp_path / "runs").gain
    [member] = apply["members"]
    changed = {**member, **change, "scales": {**member["scales"], **change.get("scales", {})}}
    file = written(tmp_path / "odd.json", setting, apply={"members": [changed]})
    with pytest.raises(ConfigError, match=said):
        measure(file, folder=tmp_path / "runs")


def test_a_value_beyond_the_bounds_and_other_knobs_are_refused(installed: Installed, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"knob.0"):
        measure(written(tmp_path / "far.json", dict.fromkeys(Hill.space.names, 7.0)), folder=tmp_path / "runs")
    with pytest.raises(ConfigError, match="with other knobs"):
        measure(written(tmp_path / "other.json", {"gate.0": 1.0}), folder=tmp_path / "runs")
    with pytest.raises(TrimpotError, match=r"no number|cannot read"):
        measure(tmp_path / "absent.json", folder=tmp_path / "runs")


def test_a_measurement_is_not_extended_into_a_search(installed: Installed, tmp_path: Path) -> None:
    file = written(tmp_path / "top.json", dict.fromkeys(Hill.space.names, 1.1))
    with pytest.raises(KeyboardInterrupt):
        measure(file, folder=tmp_path / "runs", watchers=(Notes(patience=2),))
    with pytest.raises(ConfigError, match="measures a given setting and searches nothing"):
        session.resume("by-hand-measured-1", tmp_path / "runs", overrides=["generations=5"])
    session.resume("by-hand-measured-1", tmp_path / "runs")
    with pytest.raises((ConfigError, StoreError), match="measures a given setting and searches nothing"):
        session.resume("by-hand-measured-1", tmp_path / "runs", overrides=["generations=5"])


def test_the_report_of_a_measurement_speaks_of_no_search(installed: Installed, tmp_path: Path) -> None:
    file = written(tmp_path / "bad.json", dict.fromkeys(Hill.space.names, -0.5))
    name = measure(file, folder=tmp_path / "runs")
    page = Files.of(tmp_path / "runs" / name).report.read_text(encoding="utf-8")
    assert "as it was given" in page and "the search never saw" not in page and "generations=+100" not in page


def test_a_reward_of_the_store_s_own_run_is_used_as_its_run_used_it(installed: Installed, tmp_path: Path) -> None:
    """The store's record of a run is what is trusted, not what its file was made to say since."""
    installed.put(None, Height())
    file = calibrated(tmp_path)
    values = json.loads(file.read_text())
    del values[CHECKSUM]
    values["provenance"]["config"]["test"]["num_prompts"] = 2
    file.write_text(json.dumps(values))
    found = measured(file, tmp_path)
    assert found.gain is not None and found.gain.num_prompts == 5


def test_test_prompts_that_the_search_saw_are_told(installed: Installed, tmp_path: Path) -> None:
    file = calibrated(tmp_path / "runs")
    for name, first in (("train", 100), ("validation", 200), ("test", 0)):
        (tmp_path / f"{name}.txt").write_text("".join(f"view {number}\n" for number in range(first, first + 60)))
    other = "prompts={name: files, " + ", ".join(f"{n}: {tmp_path}/{n}.txt" for n in ("train", "validation", "test"))
    with pytest.warns(Notice, match="40 of the 60 test prompts are among those that .* was searched on"):
        measured(file, tmp_path / "runs", other + "}")


def test_other_rewards_are_not_combined_as_the_old_ones_were(installed: Installed, tmp_path: Path) -> None:
    own = {key: SMALL[key] for key in ("adapter", "objectives", "prompts", "validation", "test")}
    combined = {**own, "combine": {"name": "constrained", "floors": {"height": -100.0}}}
    file = written(tmp_path / "held.json", dict.fromkeys(Hill.space.names, 1.1), combined)
    assert measured(file, tmp_path / "runs").provenance.config["combine"]["name"] == "constrained"
    found = measured(file, tmp_path / "runs", "objectives={high: {name: height}}")
    assert found.provenance.config["combine"] == {"name": "weighted"} and list(found.objectives) == ["high"]


def test_the_command_writes_what_was_measured_and_never_over_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    own = {"adapter": {"name": "sphere", "num_knobs": 4}, "objectives": "value", "prompts": {"name": "numbers"}}
    setting = {f"knob.{number:03d}": 0.9 for number in range(4)}
    written(tmp_path / "mine.json", setting, {**own, "test": {"num_prompts": 4}, "validation": {"num_prompts": 3}})
    asked = ["measure", "mine.json", "--to", "measured.json", "--json"]
    status, out, err = typed(*asked)
    assert status == 0, err
    assert json.loads(out)["gain"] == json.loads((tmp_path / "measured.json").read_text())["gain"]
    assert Calibration.load(tmp_path / "measured.json").provenance.parents[0].run == "by hand"
    before = (tmp_path / "measured.json").read_bytes()
    for words, said in (
        (asked, "measured.json exists already"),
        (["measure", "mine.json", "--steps", "4,x"], "'x' is no number of steps"),
        (["measure", "mine.json", "--steps", "0"], "'0' is no number of steps"),
        (["measure", "mine.json", "--steps", "4"], "has no denoising steps to vary"),
        (["measure", "mine.json", "test.num_prompts=1"], "num_prompts"),
        (["measure", "mine.json", "generations=4"], "generations is of a search"),
        (["measure", "mine.json", "nowhere.yaml"], "nowhere.yaml"),
    ):
        status, out, err = typed(*words)
        assert status == 1 and not out and err.startswith("trimpot: ") and err.count("\n") == 1 and said in err, err
    assert (tmp_path / "measured.json").read_bytes() == before
    with SqliteStore(tmp_path / "trimpot-runs") as store:
        assert [row.id for row in store.runs()] == ["by-hand-measured-1"]
