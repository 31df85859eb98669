"""An analysis is recorded evaluation by evaluation, goes on where it stopped, and makes no image a second time."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import tower
import yaml
from trimpot.analyses.kinds import KINDS, kind_named
from trimpot.commands.analyse import KINDS as OFFERED
from trimpot.commands.analyse import unfinished_analysis
from trimpot.ground.errors import StoreError
from trimpot.storage import Analyses, SqliteStore
from trimpot.storage.backup import back_up
from trimpot.storage.database import FILE_NAME
from typed import Said, typed
from unwritable import unwritable

NAME = "ablation-tower-1"
FOLDER = Path("trimpot-runs")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    tower.write(tmp_path)


def ablation(*words: str, target: str = "tower.yaml") -> Said:
    return typed("analyse", "ablation", target, *(words or ("seeds=1", "scales=0,1.25")))


def numbers(name: str = NAME) -> Any:
    return json.loads((FOLDER / name / "analysis.json").read_text())


def counted(*words: str, target: str = "tower.yaml") -> int:
    """How many outputs an ablation makes; its check of two outputs does not count."""
    before = tower.made()
    said = ablation(*words, target=target)
    assert said.status == 0, said.err
    return tower.made() - before


# An image made once is never made again


def test_asked_again_it_makes_nothing_and_other_seeds_and_scales_only_what_is_new() -> None:
    made = counted("seeds=1", "scales=0,1.25")
    proof = made - tower.BASELINE - 24 * (1 + tower.GROUPS * 2)
    assert 0 <= proof <= 8  # the check that outputs depend on nothing but candidate, prompt and seed
    assert counted("seeds=1", "scales=0,1.25") == 0
    assert counted("seeds=1", "scales=0,0.5,1.25") == proof + 24 * tower.GROUPS
    assert counted("seeds=2", "scales=0,0.5,1.25") == proof + 24 * (1 + tower.GROUPS * 3)
    assert counted("seeds=2", "scales=0.5,1.25") == 0 or proof


def test_it_shares_with_the_runs_of_the_store_both_ways() -> None:
    alone = counted()
    shutil.rmtree(FOLDER)
    assert typed("calibrate", "tower.yaml").status == 0
    assert (
        counted(target="tower-1") == alone - tower.BASELINE - 24
    )  # the neutral settings, and neutral on the test bucket
    shutil.rmtree(FOLDER)
    before = tower.made()
    assert typed("calibrate", "tower.yaml").status == 0
    whole = tower.made() - before
    shutil.rmtree(FOLDER)
    ablation()
    before = tower.made()
    assert typed("calibrate", "tower.yaml").status == 0
    assert tower.made() - before == whole - tower.BASELINE - 24


def test_small_buckets_are_shared_too_although_several_would_fit_into_a_call() -> None:
    first = counted("seeds=1", "scales=0", "test.num_prompts=4")
    assert counted("seeds=1", "scales=0,1.5", "test.num_prompts=4") == first - tower.BASELINE - 4


# It goes on


def test_without_a_name_the_latest_that_stopped_goes_on_and_an_analysis_before_its_own_runs() -> None:
    assert unfinished_analysis(FOLDER) is None
    with SqliteStore(FOLDER) as store:
        analyses = Analyses(store)
        first, second = (analyses.add("rewards-x", "a", "rewards", {"targets": []}, {}) for _ in range(2))
        assert unfinished_analysis(FOLDER) == second
        store.add_run(f"{second}.shapes", "b", {}, {})
        assert unfinished_analysis(FOLDER) == second, "its own run would not finish it"
        analyses.update(second, outcome={"headline": "done"})
        assert unfinished_analysis(FOLDER) is None, "the run was begun after the first analysis"
        with store.lock(f"{second}.shapes-1"):
            assert unfinished_analysis(FOLDER) == first, "a run that is at work is not to be gone on with"


@pytest.mark.parametrize(
    "again", [("resume",), ("resume", NAME), ("analyse", "ablation", "tower.yaml", "seeds=2", "scales=0,1.25")]
)
def test_stopped_anywhere_it_goes_on_to_the_same_findings(again: tuple[str, ...]) -> None:
    words = ("seeds=2", "scales=0,1.25")
    whole = counted(*words)
    expected = numbers()
    shutil.rmtree(FOLDER)
    begin = tower.made()
    stops = [begin + 8 + tower.BASELINE, begin + 120, begin + 200]
    for stop in stops:
        Path("stop.txt").write_text(str(stop))
        said = ablation(*words) if stop == stops[0] else typed(*again)
        assert said.status == 130
        assert "stopped; nothing is lost; go on with `trimpot resume ablation-tower-1`" in said.err
        with SqliteStore(FOLDER, create=False) as store:
            assert Analyses(store).get(NAME).status == "interrupted"
        shown = typed("show", NAME)
        assert shown.status == 0 and "interrupted" in shown.out and f"trimpot resume {NAME}" in shown.out
        assert "has found nothing yet" in typed("report", NAME).err
    Path("stop.txt").unlink()
    assert typed(*again).status == 0
    assert numbers() == expected
    lost = tower.made() - begin - whole
    assert 0 <= lost <= 24 * len(stops) + 8 * len(stops)  # at most the evaluation that was being made, each time


def test_resumed_after_its_end_it_writes_its_page_again_without_the_backbone() -> None:
    ablation()
    Path("tower.py").unlink()
    shutil.rmtree(FOLDER / NAME)
    for words in (("resume", NAME), ("report", NAME)):
        assert typed(*words).status == 0
        assert (FOLDER / NAME / "analysis.html").exists() and (FOLDER / NAME / "ablation.csv").exists()
        shutil.rmtree(FOLDER / NAME)
    assert typed("report", NAME, "--to", "page.html").status == 0
    assert Path("page.html").read_text().startswith("<!doctype html>")
    assert "ablation-tower-1" in typed("show", NAME, "--json").out


def test_with_other_parts_it_is_refused_by_name_and_begun_anew_by_its_command() -> None:
    Path("stop.txt").write_text("60")
    ablation()
    Path("stop.txt").unlink()
    Path("tower.py").write_text(tower.PLUGIN.replace("1 - lost", "2 - lost"))
    said = typed("resume", NAME)
    assert said.status == 1 and "begun with another backbone, reward" in said.err
    assert "`trimpot analyse ablation tower.yaml seeds=1 scales=0,1.25`" in said.err
    assert ablation().status == 0
    assert (FOLDER / "ablation-tower-2" / "analysis.html").exists()


def test_a_failure_is_recorded_and_said_and_what_was_evaluated_stays() -> None:
    Path("tower.py").write_text(tower.PLUGIN.replace("return float(", "return float('nan') if row[2] == 0 else float("))
    said = ablation()
    assert said.status == 1 and "not finite" in said.err and f"go on with `trimpot resume {NAME}`" in said.err
    with SqliteStore(FOLDER, create=False) as store:
        assert Analyses(store).get(NAME).status == "failed" and len(Analyses(store).history(NAME)) >= 3
    assert "stopped: " in typed("show", NAME).out


# Other commands


def test_no_command_stumbles_over_an_analysis() -> None:
    assert typed("calibrate", "tower.yaml").status == 0
    ablation(target="tower-1")
    name = "ablation-tower-1-1"
    listed = typed("runs")
    assert listed.status == 0 and "tower-1" in listed.out and not listed.err
    assert name in listed.out and name not in typed("runs", "--status", "finished").out
    [row] = [each for each in json.loads(typed("runs", "--json").out) if each.get("analysis")]
    shown = json.loads(typed("show", name, "--json").out)
    assert row == {"run": None, "analysis": name, **{key: shown[key] for key in row if key not in ("run", "analysis")}}
    with contextlib.closing(sqlite3.connect(FOLDER / FILE_NAME)) as connection:
        view = "SELECT analysis, kind, finished, num_evaluations, num_images, headline FROM plain_analyses"
        keys = ("kind", "num_evaluations", "num_images", "headline")
        kind, evaluations, images, headline = (shown[key] for key in keys)
        assert connection.execute(view).fetchall() == [(name, kind, 1, evaluations, images, headline)]
    assert typed("resume", name, "generations=+3").err.startswith(f"trimpot: {name} is an analysis, which goes on as")
    assert "did you mean 'ablation-tower-1-1'" in typed("show", "ablation-tower-1-l").err
    with SqliteStore(FOLDER, create=False) as store:
        back_up(store, Path("copy"))
    assert (Path("copy") / name / "analysis.html").exists()
    shown = json.loads(typed("show", name, "--store", "copy", "--json").out)
    assert shown["status"] == "finished" and shown["num_images_made"] < shown["num_images"]
    before = typed("show", "tower-1", "--json").out
    gone = typed("delete", name, "--yes")
    assert gone.status == 0 and "more evaluations belong to others too and stay" in gone.out
    assert typed("show", "tower-1", "--json").out == before
    assert not (FOLDER / name).exists() and "no run" in typed("show", name).err
    with SqliteStore(FOLDER, create=False) as store:
        assert Analyses(store).names() == [] and store.unknown_folders() == ""
    assert typed("runs").err == ""


def test_a_run_that_an_analysis_shares_with_can_be_deleted_and_the_analysis_keeps_its_evaluations() -> None:
    assert typed("calibrate", "tower.yaml").status == 0
    ablation(target="tower-1")
    assert typed("delete", "tower-1", "--yes").status == 0
    with SqliteStore(FOLDER, create=False) as store:
        assert len(Analyses(store).history("ablation-tower-1-1")) == tower.NEUTRALS + 1 + 2 * tower.GROUPS
    ablation("seeds=1", "scales=0")
    gone = typed("delete", "ablation-tower-1-1", "ablation-tower-1", "--yes")
    assert gone.status == 0, gone.err
    with SqliteStore(FOLDER, create=False) as store:
        for table in ("analyses", "analysed", "evaluations", "buckets", "prompts", "tallies"):
            rows = store._read(f"SELECT * FROM {table}")
            assert [row for row in rows if table != "tallies" or row["owner"]] == [], table


@pytest.mark.parametrize("version", [1, 3, 4, 5, 6, 7])
def test_a_store_of_any_older_version_takes_analyses(tmp_path: Path, version: int) -> None:
    asset = Path(__file__).parents[1] / "storage" / "assets" / f"schema-{version}.sqlite"
    (tmp_path / "old").mkdir()
    shutil.copy(asset, tmp_path / "old" / "trimpot.sqlite")
    with SqliteStore(tmp_path / "old") as store:
        assert Analyses(store).names() == []
        name = Analyses(store).add("ablation", "identity", "ablation", {}, {})
        assert Analyses(store).get(name).kind == "ablation" and Analyses(store).history(name) == []


def test_damage_to_an_analysis_is_noticed() -> None:
    ablation()
    with SqliteStore(FOLDER) as store:
        store._db.conn.execute("DELETE FROM analysed WHERE position = 2")
        store._db.conn.commit()
        with pytest.raises(StoreError, match="lost records: of the analysed of ablation-tower-1"):
            Analyses(store).history(NAME)
    assert typed("show", NAME).status == 1


# What bad input gets


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("ablatoin tower.yaml", "no analysis 'ablatoin'; did you mean 'ablation'"),
        ("ablation", "ablation of what\\? Name a run, a preset"),
        ("ablation tower.yaml shapes", "takes one target; leave 'shapes' out"),
        ("ablation towr.yaml", "towr.yaml.*tower.yaml"),
        ("ablation spere", "spere"),
        ("ablation tower.yaml scales=0,.nan", "finite number"),
        ("ablation tower.yaml scales=.inf", "finite number"),
        ("ablation tower.yaml scales=1e400", "finite number"),
        ("ablation tower.yaml scales=zero", "should be a number, not 'zero'"),
        ("ablation tower.yaml scales=[]", "1 or more entries"),
        ("ablation tower.yaml scales=0,1", "leave 1 out, which is the backbone as it is"),
        ("ablation tower.yaml scales=0,0.0", "each scale once"),
        (
            "ablation tower.yaml scales=0,2.5",
            "scale 2.5 takes knob member1.double.00.attn to 2.5, outside",
        ),
        ("ablation tower.yaml scales.a=0", "has no parts"),
        ("ablation tower.yaml seeds=0", "should be at least 1"),
        ("ablation tower.yaml seeds=true", "should be a number"),
        ("ablation tower.yaml granularity=blok", "'block', 'layer', 'gate' or 'knob'"),
        ("ablation tower.yaml scale=0", "ablation takes no 'scale'; did you mean 'scales'"),
        ("ablation tower.yaml tst.num_prompts=9", "ablation takes no 'tst'; did you mean 'test'"),
        ("ablation tower.yaml test.num_promts=9", "'num_prompts'"),
        ("ablation tower.yaml generations=4", "generations is of a search, and this analysis has none"),
        ("ablation tower.yaml seed=4", "test.seed draws the prompts"),
        ("ablation tower.yaml test.num_prompts=3", "3 are too few for an interval; give test.num_prompts=4 or more"),
        ("ablation tower.yaml adapter=sphere adapter.num_knobs=3", "no blocks to scale.*granularity=knob scales one"),
        ("ablation tower.yaml seeds=1 seeds=2", "given twice"),
        ("ablation tower.yaml granularity=knob scales=5", "outside of its bounds"),
        ("diversity tower.yaml", "no calibration 'tower.yaml'|tower.yaml"),
        ("diversity", "diversity of what\\? Name a calibration"),
    ],
)
def test_what_cannot_be_analysed_is_said_in_one_sentence_and_leaves_nothing(words: str, said: str) -> None:
    done = typed("analyse", *words.split())
    assert done.status == 1 and not done.out.count("Traceback")
    assert done.err.count("\n") == 1 and re.search(said, done.err), done.err
    assert "go on with" not in done.err
    if FOLDER.exists():
        with SqliteStore(FOLDER, create=False) as store:
            assert Analyses(store).names() == []


def test_a_knob_that_is_zero_when_neutral_has_no_scale() -> None:
    Path("tower.py").write_text(tower.PLUGIN.replace("default=2.0", "default=0.0").replace("float(w)", "0.0"))
    said = ablation("granularity=knob", "scales=1.5", "seeds=1")
    assert said.status == 1 and "member1.weight is 0 where it is neutral, so that no scale changes it" in said.err


def test_a_backbone_that_uses_no_seed_has_one_output_a_prompt() -> None:
    Path("tower.py").write_text(
        tower.PLUGIN.replace("outputs_per_call = 16", "outputs_per_call, uses_seed = 16, False")
    )
    said = ablation("seeds=2", "scales=0", "test.num_prompts=8", "validation.num_prompts=4")
    assert said.status == 1 and "uses no seed, so a prompt has one output only; give seeds=1" in said.err


def test_plain_knobs_can_be_scaled_one_by_one() -> None:
    sphere = ("adapter=sphere", "adapter.num_knobs=3", "objectives=value", "validation.num_prompts=2")
    assert ablation(*sphere, "granularity=knob", "scales=0", "seeds=1").status == 0
    assert len(numbers()["removed"]) == 3


def test_a_store_on_a_disk_that_may_only_be_read_is_said_and_shown() -> None:
    sphere = {**tower.CONFIG, "adapter": {"name": "sphere", "num_knobs": 3}, "objectives": "value", "plugins": []}
    Path("sphere.yaml").write_text(yaml.safe_dump(sphere))
    assert typed("calibrate", "sphere.yaml").status == 0
    words = ("granularity=knob", "scales=0", "seeds=1")
    assert ablation(*words, target="sphere-1").status == 0
    with unwritable(FOLDER) as folder:
        said = typed("analyse", "ablation", "sphere-1", "granularity=knob", "scales=0.5", "--store", str(folder))
        shown = typed("show", "ablation-sphere-1-1", "--store", str(folder))
    assert said.status == 1 and said.err.count("\n") == 1 and "it is read-only" in said.err, said.err
    assert shown.status == 0 and "Of 3 knobs" in shown.out


def test_a_run_of_another_version_is_said() -> None:
    assert typed("calibrate", "tower.yaml").status == 0
    with SqliteStore(FOLDER) as store:
        row = store.run("tower-1")
        store.update_run("tower-1", config={**row.config, "colours": 3})
    said = ablation(target="tower-1")
    assert said.status == 1 and said.err.count("\n") == 1 and "colours" in said.err


def test_two_processes_do_not_work_on_the_same_analysis() -> None:
    Path("stop.txt").write_text("60")
    ablation()
    Path("stop.txt").unlink()
    with SqliteStore(FOLDER) as store, store.lock(NAME):
        said = typed("resume", NAME)
        assert said.status == 1 and "another process is working on" in said.err
        gone = typed("delete", NAME, "--yes")
        assert gone.status == 1 and "another process is working on" in gone.err


def test_every_kind_is_offered_and_can_be_loaded() -> None:
    assert set(OFFERED) == set(KINDS)
    for name in KINDS:
        assert kind_named(name).kind == name and kind_named(name).question and kind_named(name).Options()
