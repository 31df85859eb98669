"""A run that is given more to do ends where one that was asked for so much at first would have ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from closed_form import SMALL, Hill, Notes
from sessions import Installed, show
from trimpot import reports
from trimpot.engine.bucket import Bucket
from trimpot.ground.errors import ConfigError, ModelError, ReplayError, StoreError, TrimpotError
from trimpot.optimizers.cma_es import CmaEs
from trimpot.runs import session
from trimpot.setup.config import load_config
from trimpot.storage import Comparisons, SqliteStore

HELPERS = str(Path(__file__).parent / "helpers")
SAME = ("digest", "num_evaluations", "num_images", "gain", "outcome", "stop_reason", "config", "status", "alarms")
PATIENT = {"validation": {"num_prompts": 4, "every": 3, "patience": 50}}  # 20 is no multiple of 3: a check too many
DEFAULT = {key: SMALL[key] for key in ("adapter", "objectives", "prompts", "test")}

#: What is searched, how long at first, how it is extended, and how long that is in all.
LONGER: dict[str, tuple[Mapping[str, Any], Mapping[str, Any], list[str], Mapping[str, Any]]] = {
    "cma-es": ({}, {"generations": 20}, ["generations=+20"], {"generations": 40}),
    "absolute": ({}, {"generations": 5}, ["generations=11"], {"generations": 11}),
    "random": ({"optimizer": "random"}, {"generations": 20}, ["generations=+20"], {"generations": 40}),
    "grouped": (
        {"optimizer": {"name": "grouped", "population_size": 8, "group_size": 4}, "bucket_size": 1},
        {"generations": 5},
        ["generations=+6"],
        {"generations": 11},
    ),
    "sensitivity": ({"sensitivity": {"num_prompts": 3}}, {"generations": 5}, ["generations=+6"], {"generations": 11}),
    "ladder": (
        {"sensitivity": {"num_prompts": 3}},
        {"ladder": {"pairs": 4, "own": 4}},
        ["ladder.own=+5"],
        {"ladder": {"pairs": 4, "own": 9}},
    ),
    "adaptive bucket": (
        {"adaptive_bucket": {"largest": 12}},
        {"generations": 5},
        ["generations=+6"],
        {"generations": 11},
    ),
    "images": (
        {"generations": 500},
        {"budget": {"images": 400}},
        ["budget.images=+300"],
        {"budget": {"images": 700}},
    ),
    "seconds, before any generation": (
        {"generations": 6},
        {"budget": {"seconds": 1e-9}},
        ["budget.seconds=+1000"],
        {"budget": {"seconds": 1000 + 1e-9}},
    ),
    "GPU-hours, before any generation": (
        {"generations": 6, "sensitivity": {"num_prompts": 3}},
        {"budget": {"gpu_hours": 1e-9}},
        ["budget.gpu_hours=null"],
        {"budget": {"gpu_hours": None}},
    ),
    "images in a growing bucket": (
        {"generations": 500, "adaptive_bucket": {"largest": 12}},
        {"budget": {"images": 400}},
        ["budget.images=+300"],
        {"budget": {"images": 700}},
    ),
    "images between checks": (
        {"validation": {"num_prompts": 4, "every_images": 70, "patience": 50}},
        {"generations": 5},
        ["generations=+6"],
        {"generations": 11},
    ),
    "images spent in the first rung": (
        {"sensitivity": {"num_prompts": 3}, "ladder": {"pairs": 9, "own": 9}},
        {"budget": {"images": 150}},
        ["budget.images=500"],
        {"budget": {"images": 500}},
    ),
    "patience": (
        {"generations": 60},
        {"validation": {"num_prompts": 4, "every": 1, "patience": 2}},
        ["validation.patience=+3"],
        {"validation": {"num_prompts": 4, "every": 1, "patience": 5}},
    ),
    "held against a pool": (
        {"combine": {"name": "winrate"}},
        {"generations": 5},
        ["generations=+6"],
        {"generations": 11},
    ),
    "generations and images": (
        {},
        {"generations": 5, "budget": {"images": 10_000}},
        ["generations=+6", "budget.images=+1"],
        {"generations": 11, "budget": {"images": 10_001}},
    ),
}


@pytest.fixture(autouse=True)
def _short_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts take longer than all else here, and change nothing."""
    monkeypatch.setattr(reports, "write_report", lambda store, run, files: files.report.write_text(run))


def _config(*parts: Mapping[str, Any], base: Mapping[str, Any] = SMALL) -> Any:
    values = {**base, **PATIENT}
    for part in parts:
        values = {**values, **part}
    return load_config(values)


def _assert_same(folder: Path, whole: Path) -> None:
    extended, asked = show(folder), show(whole)
    for key in SAME:
        assert extended[key] == asked[key], key
    with SqliteStore(folder) as one, SqliteStore(whole) as other:
        assert one.run("hill-1").identity == other.run("hill-1").identity
        assert list(one.evaluations("hill-1")) == list(other.evaluations("hill-1"))
        steps = [[each[:1] for each in store.history("hill-1")] for store in (one, other)]
        assert steps[0] == steps[1], "in another order"
        assert [each.number for each in one.history("hill-1")] == list(range(extended["num_evaluations"]))
        assert one.sigmas("hill-1") == other.sigmas("hill-1")
    made = [json.loads((each / "hill-1" / "calibration.json").read_text()) for each in (folder, whole)]
    for each in made:
        del each["provenance"]["created"], each["checksum"]
    assert made[0] == made[1]


@pytest.mark.parametrize("case", LONGER)
def test_an_extended_run_equals_one_that_was_asked_for_as_much(installed: Installed, tmp_path: Path, case: str) -> None:
    common, short, more, long = LONGER[case]
    session.start(_config(common, short), tmp_path / "short")
    before = show(tmp_path / "short")
    assert session.resume("hill-1", tmp_path / "short", (), more) == "hill-1"
    session.start(_config(common, long), tmp_path / "long")
    _assert_same(tmp_path / "short", tmp_path / "long")
    after = show(tmp_path / "short")
    assert after["num_images"] > before["num_images"]
    [was] = after["extended"]
    for key in ("digest", "outcome", "stop_reason", "num_images"):
        assert was[key] == before[key], key
    assert was["config"] == before["config"]


def test_the_default_protocol_is_extended_too(installed: Installed, tmp_path: Path) -> None:
    config = {**DEFAULT, **PATIENT}
    session.start(load_config({**config, "generations": 4}), tmp_path / "short")
    session.resume("hill-1", tmp_path / "short", (), ["generations=+4"])
    session.start(load_config({**config, "generations": 8}), tmp_path / "long")
    assert show(tmp_path / "long")["config"]["optimizer"]["population_size"] == "large"
    _assert_same(tmp_path / "short", tmp_path / "long")


class Stepped(Hill):
    """A hill that is another at every number of steps."""

    def __init__(self, num_steps: int = 4) -> None:
        super().__init__()
        self.num_steps = num_steps

    def generate(self, population: Any, bucket: Any) -> Any:
        for outputs in super().generate(population, bucket):
            yield [output * self.num_steps for output in outputs]

    def with_steps(self, num_steps: int) -> Stepped:
        return Stepped(num_steps)


def test_what_is_compared_at_other_steps_is_measured_anew(installed: Installed, tmp_path: Path) -> None:
    installed.put(adapter=Stepped())
    elsewhere = {"by_steps": {"steps": [2, 8], "num_prompts": 3, "num_validation": 3}}
    session.start(_config(elsewhere, {"generations": 5}), tmp_path / "short")
    session.resume("hill-1", tmp_path / "short", (), ["generations=+5"])
    session.start(_config(elsewhere, {"generations": 10}), tmp_path / "long")
    _assert_same(tmp_path / "short", tmp_path / "long")
    assert len(show(tmp_path / "short")["outcome"]["comparisons"]) == 3


def test_nothing_that_was_searched_is_generated_again(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.start(_config({"generations": 6}), tmp_path)
    notes, asked, real = Notes(), set[Bucket](), Hill.generate

    def generate(self: Hill, population: Any, bucket: Bucket) -> Any:
        asked.add(bucket)
        return real(self, population, bucket)

    monkeypatch.setattr(Hill, "generate", generate)
    session.resume("hill-1", tmp_path, (notes,), ["generations=+3"])
    told = [each.place for each in notes.evaluations]
    assert {(place.stage, place.generation) for place in told} == {
        *(("search", generation) for generation in (6, 7, 8)),
        ("validation", 6),  # found by what it is, since it is due in the longer run as well
        ("validation", 9),
        ("test", 0),
    }
    with SqliteStore(tmp_path) as store:
        buckets = {place: each.bucket for place, each in store.evaluations("hill-1") if place.stage == "search"}
    assert {place.generation for place, bucket in buckets.items() if bucket in asked} == {6, 7, 8}


@pytest.mark.parametrize("patience", [1, 20, 40, 70])
def test_stopped_while_it_is_extended_a_run_is_resumed_to_the_same_end(
    installed: Installed, tmp_path: Path, patience: int
) -> None:
    session.start(_config({"generations": 5}), tmp_path / "short")
    with pytest.raises(KeyboardInterrupt):
        session.resume("hill-1", tmp_path / "short", (Notes(patience),), ["generations=+8"])
    shown = show(tmp_path / "short")
    assert (shown["status"], shown["outcome"], len(shown["extended"])) == ("interrupted", None, 1)
    session.resume(None, tmp_path / "short")
    session.start(_config({"generations": 13}), tmp_path / "long")
    _assert_same(tmp_path / "short", tmp_path / "long")


@pytest.mark.parametrize("patience", [1, 30, 37])  # at its baseline, in its search, after it
def test_a_run_is_extended_again_and_while_it_is_unfinished(
    installed: Installed, tmp_path: Path, patience: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        session.start(_config({"generations": 4}), tmp_path / "short", (Notes(patience),))
    for more in (1, 2, 3):
        session.resume("hill-1", tmp_path / "short", (), [f"generations=+{more}"])
    session.start(_config({"generations": 10}), tmp_path / "long")
    _assert_same(tmp_path / "short", tmp_path / "long")
    extended = show(tmp_path / "short")["extended"]
    assert [each["config"]["generations"] for each in extended] == [4, 5, 7]
    assert [each["outcome"] is None for each in extended] == [True, False, False]
    assert [each["stop_reason"] for each in extended[1:]] == [f"all {n} generations are done" for n in (5, 7)]


KILLED = """
import os, sys
from pathlib import Path
from closed_form import hill_plugin, Notes
from trimpot.runs import session
from trimpot.setup.plugins import Plugins
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

from trimpot.storage.records import Records
deadly(Records, "delete")
deadly(Records, "update")
session.resume("hill-1", Path(sys.argv[1]), (), ["generations=+2"])
"""


@pytest.mark.parametrize("steps", [2, 12, 30])
def test_killed_while_it_is_extended_a_run_is_what_it_was_or_goes_on(
    installed: Installed, tmp_path: Path, steps: int
) -> None:
    session.start(_config({"generations": 2}), tmp_path / "short")
    before = show(tmp_path / "short")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [HELPERS, os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "short"), str(steps)]
    assert subprocess.run(command, env=environment).returncode == 9
    shown = show(tmp_path / "short")
    if not shown["extended"]:
        assert shown == before
        session.resume("hill-1", tmp_path / "short", (), ["generations=+2"])
    else:
        session.resume("hill-1", tmp_path / "short")
    session.start(_config({"generations": 4}), tmp_path / "long")
    _assert_same(tmp_path / "short", tmp_path / "long")


# What is refused, and then leaves the run as it was

REFUSED: dict[str, tuple[Mapping[str, Any], list[str], str]] = {
    "fewer": ({}, ["generations=2"], r"generations=2 is less than run hill-1 has, 3; a run can be made longer"),
    "a limit where there was none": ({}, ["budget.images=5000"], "is less than run hill-1 has, no such limit"),
    "less of two": (
        {"budget": {"images": 900}},
        ["generations=+5", "budget.images=800"],
        "budget.images=800 is less than run hill-1 has, 900",
    ),
    "nothing more": ({}, ["generations=+0"], r"generations=\+0 asks for no more than the 3"),
    "more of nothing": ({}, ["budget.seconds=+5"], "run hill-1 has no budget.seconds to add to"),
    "another key": ({}, ["bucket_size=4"], r"bucket_size of run hill-1 cannot change, only generations, .* --from"),
    "another key added to": ({}, ["seed=+4"], "seed of run hill-1 cannot change"),
    "another key beside it": ({}, ["generations=+4", "seed=4"], "seed of run hill-1 cannot change"),
    "checks more often": ({}, ["generations=+4", "validation.every=1"], "validation.every of run hill-1 cannot change"),
    "devices": ({"budget": {"gpu_hours": 5}}, ["budget.devices=2"], "budget.devices of run hill-1 cannot change"),
    "a ladder": ({}, ["ladder.own=+4"], "ladder.own of run hill-1 cannot change"),
    "a new ladder": ({}, ["ladder={pairs: 4, own: 9}"], "ladder.* of run hill-1 cannot change"),
    "a section": ({}, ["sensitivity={num_prompts: 3}"], "sensitivity.* of run hill-1 cannot change"),
    "another optimizer": ({}, ["generations=+4", "optimizer.sigma0=0.5"], "the optimizer differs.* --from hill-1"),
    "another weight": ({}, ["generations=+4", "objectives.height.weight=2"], "the combination differs"),
    "the first rung": (
        {"ladder": {"pairs": 2, "own": 2}},
        ["ladder.pairs=+4"],
        "ladder.pairs of run hill-1 cannot change, only ladder.own",
    ),
    "generations of a ladder": (
        {"ladder": {"pairs": 2, "own": 2}},
        ["generations=+4"],
        "generations of run hill-1 cannot change, only ladder.own",
    ),
    "no ladder any more": ({"ladder": {"pairs": 2, "own": 2}}, ["ladder=null"], "ladder.* of run hill-1 cannot change"),
    "patience in a ladder": (
        {"ladder": {"pairs": 2, "own": 2}},
        ["validation.patience=+4", "ladder.own=+1"],
        "validation.patience also says how long the first rungs",
    ),
    "not what ended it": (
        {"budget": {"images": 80}, "generations": 50},
        ["generations=+4"],
        "ended because the budget of 80 images is spent, which generations cannot change; give more budget.images",
    ),
    "a plateau": (
        {"generations": 50, "validation": {"num_prompts": 4, "every": 1, "patience": 1}},
        ["generations=+4"],
        "which generations cannot change; give more validation.patience",
    ),
    "a plan by generations": (
        {"optimizer": {"name": "nevergrad:DE", "population_size": 6}},
        ["generations=+4"],
        "optimizer 'nevergrad:DE' plans by the evaluations that run hill-1 was given at first.* --from hill-1",
    ),
    "a plan by images": (
        {"optimizer": "nevergrad:DE", "budget": {"images": 300}, "generations": 50},
        ["budget.images=+100"],
        "optimizer 'nevergrad:DE' plans by the evaluations",
    ),
    "no number": ({}, ["generations=+many"], "generations"),
    "half a generation": ({}, ["generations=+1.5"], "generations"),
    "less by adding": ({}, ["generations=+-1"], "generations"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence_and_the_run_is_as_it_was(
    installed: Installed, tmp_path: Path, case: str
) -> None:
    asked, overrides, sentence = REFUSED[case]
    session.start(load_config({**SMALL, **asked}), tmp_path)
    before = show(tmp_path)
    files = {path: path.read_bytes() for path in (tmp_path / "hill-1").rglob("*") if path.is_file()}
    with pytest.raises(TrimpotError, match=sentence) as refused:
        session.resume("hill-1", tmp_path, (), overrides)
    assert "\n" not in str(refused.value)
    assert show(tmp_path) == before
    assert {path: path.read_bytes() for path in (tmp_path / "hill-1").rglob("*") if path.is_file()} == files


def test_an_optimizer_that_gave_up_is_not_gone_on_with(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(CmaEs, "stop_reason", lambda self: "cma stopped: tolx")
        session.start(_config({"generations": 5}), tmp_path)
    with pytest.raises(StoreError, match=r"ended because its optimizer did .* --from hill-1"):
        session.resume("hill-1", tmp_path, (), ["generations=+4"])


def test_a_planner_whose_plan_stays_is_extended(installed: Installed, tmp_path: Path) -> None:
    planned = {"optimizer": {"name": "nevergrad:DE", "population_size": 6, "budget": 500}}
    session.start(_config(planned, {"generations": 4}), tmp_path / "short")
    session.resume("hill-1", tmp_path / "short", (), ["generations=+4"])
    session.start(_config(planned, {"generations": 8}), tmp_path / "long")
    _assert_same(tmp_path / "short", tmp_path / "long")


def test_a_member_of_a_comparison_is_not_extended(installed: Installed, tmp_path: Path) -> None:
    session.start(_config({"generations": 2}), tmp_path)
    with SqliteStore(tmp_path) as store:
        name = Comparisons(store).add("both", "identity", {})
        Comparisons(store).join(name, "one", 0, "hill-1")
    with pytest.raises(StoreError, match="run hill-1 belongs to comparison both-1"):
        session.resume("hill-1", tmp_path, (), ["generations=+4"])


def test_a_run_that_another_process_extends_is_left_alone(installed: Installed, tmp_path: Path) -> None:
    session.start(_config({"generations": 2}), tmp_path)
    held = pytest.raises(StoreError, match="another process is working on run hill-1")
    with SqliteStore(tmp_path) as store, store.lock("hill-1"), held:
        session.resume("hill-1", tmp_path, (), ["generations=+4"])
    assert show(tmp_path)["status"] == "finished"


def test_a_damaged_run_is_not_extended(installed: Installed, tmp_path: Path) -> None:
    session.start(_config({"generations": 2}), tmp_path)
    with SqliteStore(tmp_path) as store:
        [row] = store.records.read("candidates", stage="search", position=4, generation=1)
        store._db.conn.execute("UPDATE evaluations SET scores = '{}' WHERE key = ?", [row["evaluation"]])
    with pytest.raises(StoreError, match="is damaged"):
        session.resume("hill-1", tmp_path, (), ["generations=+4"])
    with SqliteStore(tmp_path) as store:
        row = store.run("hill-1")
        assert (row.status, row.extended, row.config["generations"]) == ("finished", [], 2)


def _other_search(installed: Installed, patch: pytest.MonkeyPatch) -> type[Exception]:
    """The library that asks has changed meanwhile."""
    real = CmaEs.ask
    patch.setattr(CmaEs, "ask", lambda self: real(self) * 0.99)
    return ReplayError


def _no_backbone(installed: Installed, patch: pytest.MonkeyPatch) -> type[Exception]:
    def refuse(*_: Any) -> Any:
        raise ModelError("out of memory")

    patch.setattr(Hill, "prepare", refuse)
    return ModelError


def _no_next_image(installed: Installed, patch: pytest.MonkeyPatch) -> type[Exception]:
    real = Hill.generate

    def refuse(self: Hill, population: Any, bucket: Any) -> Any:
        if len(bucket) == 3:
            raise ModelError("out of memory")
        return real(self, population, bucket)

    patch.setattr(Hill, "generate", refuse)
    return ModelError


@pytest.mark.parametrize("broken", [_other_search, _no_backbone, _no_next_image])
@pytest.mark.parametrize("every", [1, 3])
def test_an_extension_that_makes_nothing_leaves_the_run_as_it_was(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Any, every: int
) -> None:
    config = _config({"generations": 5, "validation": {"num_prompts": 4, "every": every, "patience": 50}})
    session.start(config, tmp_path)
    before = show(tmp_path)
    with monkeypatch.context() as patch:
        expected = broken(installed, patch)
        with pytest.raises(expected, match="nothing was added to run hill-1, which is as it was") as stopped:
            session.resume("hill-1", tmp_path, (), ["generations=+4"])
    assert "\n" not in str(stopped.value)
    assert show(tmp_path) == before
    with SqliteStore(tmp_path) as store:
        assert [each.number for each in store.history("hill-1")] == list(range(before["num_evaluations"]))
    session.resume("hill-1", tmp_path, (), ["generations=+4"])
    assert show(tmp_path)["stop_reason"] == "all 9 generations are done"


def test_an_extension_that_made_something_keeps_it(installed: Installed, tmp_path: Path) -> None:
    session.start(_config({"generations": 5}), tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        calls, generate = iter(range(100)), Hill.generate

        def failing(self: Hill, population: Any, bucket: Any) -> Any:
            if next(calls) > 4:
                raise ModelError("out of memory")
            return generate(self, population, bucket)

        patch.setattr(Hill, "generate", failing)
        with pytest.raises(ModelError, match=r"out of memory$"):
            session.resume("hill-1", tmp_path, (), ["generations=+4"])
    shown = show(tmp_path)
    assert (shown["status"], len(shown["extended"])) == ("failed", 1)
    session.resume("hill-1", tmp_path)
    assert show(tmp_path)["status"] == "finished"


def test_a_plus_sign_where_nothing_is_there_to_add_to_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"`trimpot resume` does .*; write generations=200"):
        load_config(SMALL, ["generations=+200"])


def test_a_key_that_changes_no_number_does_not_extend_a_finished_run(installed: Installed, tmp_path: Path) -> None:
    session.start(_config({"generations": 2}), tmp_path)
    before = show(tmp_path)
    session.resume("hill-1", tmp_path, (), ["keep=all", "generations=2"])
    assert show(tmp_path) == before
