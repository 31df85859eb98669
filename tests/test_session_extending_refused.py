"""An extension that cannot be is refused in one sentence, and the run stays as it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from closed_form import SMALL, Hill
from extended import assert_same, patient
from sessions import Installed, show
from trimpot.ground.errors import ConfigError, ModelError, ReplayError, StoreError, TrimpotError
from trimpot.optimizers.cma_es import CmaEs
from trimpot.runs import session
from trimpot.setup.config import load_config
from trimpot.storage import Comparisons, SqliteStore

pytestmark = pytest.mark.usefixtures("short_reports")

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
        "ended because the budget of 80 outputs is spent, which generations cannot change; give more budget.outputs",
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
        session.start(patient({"generations": 5}), tmp_path)
    with pytest.raises(StoreError, match=r"ended because its optimizer did .* --from hill-1"):
        session.resume("hill-1", tmp_path, (), ["generations=+4"])


def test_a_planner_whose_plan_stays_is_extended(installed: Installed, tmp_path: Path) -> None:
    planned = {"optimizer": {"name": "nevergrad:DE", "population_size": 6, "budget": 500}}
    session.start(patient(planned, {"generations": 4}), tmp_path / "short")
    session.resume("hill-1", tmp_path / "short", (), ["generations=+4"])
    session.start(patient(planned, {"generations": 8}), tmp_path / "long")
    assert_same(tmp_path / "short", tmp_path / "long")


def test_a_member_of_a_comparison_is_not_extended(installed: Installed, tmp_path: Path) -> None:
    session.start(patient({"generations": 2}), tmp_path)
    with SqliteStore(tmp_path) as store:
        name = Comparisons(store).add("both", "identity", {})
        Comparisons(store).join(name, "one", 0, "hill-1")
    with pytest.raises(StoreError, match="run hill-1 belongs to comparison both-1"):
        session.resume("hill-1", tmp_path, (), ["generations=+4"])


def test_a_run_that_another_process_extends_is_left_alone(installed: Installed, tmp_path: Path) -> None:
    session.start(patient({"generations": 2}), tmp_path)
    held = pytest.raises(StoreError, match="another process is working on run hill-1")
    with SqliteStore(tmp_path) as store, store.lock("hill-1"), held:
        session.resume("hill-1", tmp_path, (), ["generations=+4"])
    assert show(tmp_path)["status"] == "finished"


def test_a_damaged_run_is_not_extended(installed: Installed, tmp_path: Path) -> None:
    session.start(patient({"generations": 2}), tmp_path)
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
    config = patient({"generations": 5, "validation": {"num_prompts": 4, "every": every, "patience": 50}})
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
    session.start(patient({"generations": 5}), tmp_path)
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
    session.start(patient({"generations": 2}), tmp_path)
    before = show(tmp_path)
    session.resume("hill-1", tmp_path, (), ["keep=all", "generations=2"])
    assert show(tmp_path) == before
