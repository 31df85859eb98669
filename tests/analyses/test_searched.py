"""Analyses that calibrate: cost, steps, granularity, rewards; on a terrace whose scores are known in closed form."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import terrace
from trimpot.analyses.page import findings_of
from trimpot.analyses.progress import Progress
from trimpot.analyses.session import analyse
from trimpot.engine.evaluation import Evaluation, Place
from trimpot.engine.run import Run
from trimpot.ground.errors import ConfigError, StoreError, TrimpotError
from trimpot.runs.session import start
from trimpot.setup.config import load_config
from trimpot.storage import Analyses, SqliteStore

VALUES: dict[str, Any] = {
    "plugins": [terrace.__file__],
    "adapter": "terrace",
    "objectives": {"height": {"name": "terrace-height"}, "lean": {"name": "terrace-height", "of": "lean", "weight": 0}},
    "prompts": "terrace-views",
    "optimizer": {"name": "cma-es", "sigma0": 0.2, "population_size": 8},
    "bucket_size": 2,
    "validation": {"num_prompts": 6},
    "test": {"num_prompts": 24},
    "by_steps": {"num_validation": 6},
}
SEARCHED = {"granularity": ["images=48", "seeds=2"], "rewards": ["images=48", "seeds=2"]}
SEARCHED["steps"] = ["images=48", "seeds=2", "steps=[2,4,8]", "ensembles=[1,2]"]


class Counted:
    """The folder of a test: its configuration, its store, and how many outputs were ever generated there."""

    def __init__(self, folder: Path) -> None:
        self.config, self.store, self._file = folder / "terrace.yaml", folder / "store", folder / "count"
        self.config.write_text(json.dumps(VALUES), encoding="utf-8")

    @property
    def outputs(self) -> int:
        return self._file.stat().st_size if self._file.exists() else 0

    def analyse(self, kind: str, *pairs: str, target: str | None = None, **given: Any) -> dict[str, Any]:
        """The findings of an analysis, for programs."""
        targets = [] if kind == "cost" else [target or str(self.config)]
        name = analyse(kind, targets, [*(pairs or SEARCHED.get(kind, ()))], self.store, **given)
        return json.loads((self.store / name / "analysis.json").read_text(encoding="utf-8"))

    def table(self, kind: str, name: str) -> list[dict[str, str]]:
        [path] = self.store.glob(f"{kind}-*/{name}.csv")
        with path.open(encoding="utf-8") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    monkeypatch.setenv(terrace.COUNTED, str(tmp_path / "count"))
    return Counted(tmp_path)


class Deadly(Progress):
    """A progress that stops the work after so many evaluations, as a kill does."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self._left = left

    def evaluation_recorded(self, run: Run, place: Place, evaluation: Evaluation) -> None:
        super().evaluation_recorded(run, place, evaluation)
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt


def test_granularities_gain_what_their_knobs_allow(counted: Counted) -> None:
    """The best of blocks is also the best of gates here, so all three gain, measured by what was not optimised too."""
    found = counted.analyse("granularity", "images=192", "seeds=2", "granularities=[block,gate]")
    gains = {(each["granularity"], each["measured"]): each for each in found["gains"]}
    assert gains["block", "height"]["standing"] == "better"
    assert gains["block", "height"]["mean"] == pytest.approx(np.mean(gains["block", "height"]["by_seed"]))
    assert all(each["uncalibrated"] == "guidance 2" for each in gains.values())
    assert {each["less"] for each in found["granularities"]} == {"block"}
    rows = counted.table("granularity", "searches")
    assert {row["knobs"] for row in rows} == {"3", "9"}
    assert all(int(row["images"]) <= 192 for row in rows)


def test_every_reward_is_measured_against_neutral_at_its_best_for_that_reward(counted: Counted) -> None:
    found = counted.analyse("rewards", "images=240", "seeds=2")
    gains = {(each["optimised"], each["measured"]): each for each in found["gains"]}
    assert {key: each["uncalibrated"] for key, each in gains.items()} == {
        ("height", "height"): "guidance 2",
        ("lean", "height"): "guidance 2",
        ("height", "lean"): "guidance 1",
        ("lean", "lean"): "guidance 1",
    }
    assert gains["height", "height"]["standing"] == gains["lean", "lean"]["standing"] == "better"
    assert gains["lean", "height"]["standing"] == "worse"  # guidance 1 is far from the best of the height
    assert all(each["p_holm"] >= each["p"] for each in gains.values())
    with SqliteStore(counted.store, create=False) as store:
        made = [sum(one.num_images for one in store.spent(row.id) if one.stage == "baseline") for row in store.runs()]
    assert sorted(made) == [0, 0, 0, 12], "two neutral settings on six prompts, made once for all"


KILLS = (2, 9, 30)  # after so many evaluations of each session


@pytest.mark.parametrize("kind", SEARCHED)
def test_an_analysis_that_was_killed_makes_nothing_twice(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wholes = {}
    for name, deaths in (("whole", ()), ("killed", KILLS)):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.setenv(terrace.COUNTED, str(folder / "count"))
        counted = Counted(folder)
        for after in deaths:
            with pytest.raises(KeyboardInterrupt):
                counted.analyse(kind, progress=Deadly(after))
        found = counted.analyse(kind)
        outputs = counted.outputs
        counted.analyse(kind)
        assert counted.outputs == outputs, "what is finished is only read"
        wholes[name] = (found, outputs)
    (whole, once), (killed, resumed) = wholes["whole"], wholes["killed"]
    proofs = 16 * 4  # each process tries two outputs in two ways before it begins; a killed batch is made again
    assert once <= resumed <= once + len(KILLS) * proofs
    told = json.dumps(timeless(killed))
    assert told == json.dumps(timeless(whole))


def timeless(found: Any) -> Any:
    """Findings without what a clock says."""
    if isinstance(found, dict):
        return {key: timeless(value) for key, value in found.items() if "seconds" not in key}
    return [timeless(each) for each in found] if isinstance(found, list) else found


def test_a_finished_run_is_taken_by_every_analysis(counted: Counted) -> None:
    """The searches of one analysis are found by another, and a run that is the target is the first seed."""
    counted.analyse("granularity", "images=96", "seeds=2", "granularities=block")
    with SqliteStore(counted.store, create=False) as store:
        before = [row.id for row in store.runs()]
    found = counted.analyse("steps", "images=96", "seeds=2", "steps=[4,8]", "ensembles=1")
    with SqliteStore(counted.store, create=False) as store:
        assert [row.id for row in store.runs()] == before == found["runs"]["calibrated, M = 1"]
    second = found["runs"]["calibrated, M = 1"][1]
    both = counted.analyse("steps", "images=96", "seeds=2", "steps=4", "ensembles=1", target=second)
    assert sorted(both["runs"]["calibrated, M = 1"]) == before, "each seed once, whichever of them is the target"
    again = counted.analyse(
        "steps", "seeds=1", "steps=[4,8]", "ensembles=1", target=found["runs"]["calibrated, M = 1"][0]
    )
    assert again["runs"] == {"calibrated, M = 1": found["runs"]["calibrated, M = 1"][:1]}


def test_steps_are_told_where_calibrated_equals_neutral_at_its_best(counted: Counted) -> None:
    found = counted.analyse("steps", "images=320", "seeds=2", "steps=[2,4,8,16]", "ensembles=[1,2]")
    assert found["neutral_best"]["steps"] == 16 and found["neutral_best"]["nfe"] == 32
    points = {(each["kind"], each["steps"]): each for each in found["points"]}
    assert points["calibrated, M = 2", 4]["nfe"] == 12  # two that see the prompt and one that does not
    kind = "calibrated, M = 1"
    gain = points[kind, 4]["gain"]["mean"]
    assert gain == pytest.approx(points[kind, 16]["gain"]["mean"], abs=1e-6)  # steps only lift both sides here
    fewest = next(steps for steps in (2, 4, 8, 16) if gain >= terrace.HAZE / steps - terrace.HAZE / 16)
    assert found["equal_from"][kind] == fewest < 16
    assert found["better_from"][kind] >= fewest


def test_cost_counts_every_output_once(counted: Counted) -> None:
    counted.analyse("rewards")
    counted.analyse("steps", "images=96", "seeds=1", "steps=[4,8]", "ensembles=1")
    outputs = counted.outputs
    found = counted.analyse("cost", "price=2")
    assert counted.outputs == outputs, "nothing is made to tell the cost"
    with SqliteStore(counted.store, create=False) as store:
        evaluations = store._read("SELECT sum(num_images) AS images FROM evaluations")[0]["images"]
    assert found["total"]["images"] == evaluations
    for kind in ("stages", "models", "runs"):
        bills = found[kind] if kind == "models" else found[kind].values()
        per_side = [each for each in bills if kind != "models" or each["kind"] == "backbone"]
        assert sum(each["images"] for each in per_side) == evaluations
    assert found["total"]["money"] == pytest.approx(2 * found["total"]["device_hours"])
    assert found["stages"]["other steps"]["images"] > 0


def test_cost_of_one_run_is_that_of_the_run(counted: Counted) -> None:
    name = start(load_config({**VALUES, "generations": 2}), counted.store)
    whole = analyse("cost", [], [], counted.store)
    one = analyse("cost", [name], [], counted.store)
    with SqliteStore(counted.store, create=False) as store:
        one_row, whole_row = (Analyses(store).get(each) for each in (one, whole))
        assert findings_of(one_row).numbers["total"] == findings_of(whole_row).numbers["total"]
        assert findings_of(one_row).numbers["total"]["images"] == store.num_images(name)


REFUSED = {
    "no budget": ("granularity", {}, [], "how many images"),
    "a negative weight": ("rewards", {}, ["images=96", "objectives.lean.weight=-1"], "lean"),
    "an unknown reward": ("rewards", {}, ["images=96", "rewards=[heigth]"], "height"),
    "one reward": ("rewards", {"objectives": {"height": {"name": "terrace-height"}}}, ["images=96"], "one reward"),
    "too small a budget": ("rewards", {}, ["images=3"], "smaller than one generation"),
    "an unknown granularity": ("granularity", {}, ["images=96", "granularities=[block,lair]"], "lair"),
    "combined": ("rewards", {"combine": "winrate"}, ["images=96"], "combine"),
    "no number of steps": ("steps", {}, ["images=96", "steps=[]"], "steps"),
    "too small a budget for ensembles": ("steps", {}, ["images=3"], "smaller than one generation"),
    "no steps": (
        "steps",
        {"adapter": "sphere", "objectives": "value", "prompts": "numbers"},
        ["images=96"],
        "no denoising",
    ),
    "no granularity": (
        "granularity",
        {"adapter": "sphere", "objectives": "value", "prompts": "numbers"},
        ["images=96"],
        "granularity",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_analysed_is_one_sentence_and_leaves_nothing(case: str, counted: Counted) -> None:
    kind, changes, pairs, said = REFUSED[case]
    counted.config.write_text(json.dumps({**VALUES, **changes}), encoding="utf-8")
    with pytest.raises(TrimpotError, match=said):
        counted.analyse(kind, *(pairs or ["seeds=2"]))
    assert counted.outputs == 0
    with SqliteStore(counted.store) as store:
        assert not Analyses(store).names() and not store.runs()


def test_cost_of_what_is_not_there_is_one_sentence(counted: Counted) -> None:
    start(load_config({**VALUES, "generations": 1}), counted.store)
    with pytest.raises(StoreError, match="did you mean"):
        analyse("cost", ["terrace-2"], [], counted.store)
    with pytest.raises(ConfigError, match="twice"):
        analyse("cost", ["terrace-1"], ["runs=terrace-1"], counted.store)
