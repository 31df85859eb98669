"""A run that is given more to do ends where one that was asked for so much at first would have ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from closed_form import SMALL, Hill, Notes
from extended import PATIENT, assert_same, patient
from sessions import Installed, dying, show
from trimpot.engine.bucket import Bucket
from trimpot.runs import session
from trimpot.setup.config import load_config
from trimpot.storage import SqliteStore

pytestmark = pytest.mark.usefixtures("short_reports")
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
    "geometric checks": (
        {"validation": {"num_prompts": 4, "every": "geometric", "patience": 50}},
        {"generations": 10},
        ["generations=+14"],
        {"generations": 24},
    ),
    "geometric checks in a ladder": (
        {"validation": {"num_prompts": 4, "every": "geometric", "patience": 50}},
        {"ladder": {"pairs": 5, "own": 4}},
        ["ladder.own=+6"],
        {"ladder": {"pairs": 5, "own": 10}},
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


@pytest.mark.parametrize("case", LONGER)
def test_an_extended_run_equals_one_that_was_asked_for_as_much(installed: Installed, tmp_path: Path, case: str) -> None:
    common, short, more, long = LONGER[case]
    session.start(patient(common, short), tmp_path / "short")
    before = show(tmp_path / "short")
    assert session.resume("hill-1", tmp_path / "short", (), more) == "hill-1"
    session.start(patient(common, long), tmp_path / "long")
    assert_same(tmp_path / "short", tmp_path / "long")
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
    assert show(tmp_path / "long")["config"]["optimizer"] == {"name": "grouped", "sigma0": 0.1}
    assert_same(tmp_path / "short", tmp_path / "long")


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
    session.start(patient(elsewhere, {"generations": 5}), tmp_path / "short")
    session.resume("hill-1", tmp_path / "short", (), ["generations=+5"])
    session.start(patient(elsewhere, {"generations": 10}), tmp_path / "long")
    assert_same(tmp_path / "short", tmp_path / "long")
    assert len(show(tmp_path / "short")["outcome"]["comparisons"]) == 3


def test_nothing_that_was_searched_is_generated_again(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.start(patient({"generations": 6}), tmp_path)
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
    session.start(patient({"generations": 5}), tmp_path / "short")
    with pytest.raises(KeyboardInterrupt):
        session.resume("hill-1", tmp_path / "short", (Notes(patience),), ["generations=+8"])
    shown = show(tmp_path / "short")
    assert (shown["status"], shown["outcome"], len(shown["extended"])) == ("interrupted", None, 1)
    session.resume(None, tmp_path / "short")
    session.start(patient({"generations": 13}), tmp_path / "long")
    assert_same(tmp_path / "short", tmp_path / "long")


@pytest.mark.parametrize("patience", [1, 30, 37])  # at its baseline, in its search, after it
def test_a_run_is_extended_again_and_while_it_is_unfinished(
    installed: Installed, tmp_path: Path, patience: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        session.start(patient({"generations": 4}), tmp_path / "short", (Notes(patience),))
    for more in (1, 2, 3):
        session.resume("hill-1", tmp_path / "short", (), [f"generations=+{more}"])
    session.start(patient({"generations": 10}), tmp_path / "long")
    assert_same(tmp_path / "short", tmp_path / "long")
    extended = show(tmp_path / "short")["extended"]
    assert [each["config"]["generations"] for each in extended] == [4, 5, 7]
    assert [each["outcome"] is None for each in extended] == [True, False, False]
    assert [each["stop_reason"] for each in extended[1:]] == [f"all {n} generations are done" for n in (5, 7)]


KILLED = """
from trimpot.storage.records import Records
deadly(Records, "delete")
deadly(Records, "update")
session.resume("hill-1", Path(sys.argv[1]), (), ["generations=+2"])
"""


@pytest.mark.parametrize("steps", [12, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (2, 30))])
def test_killed_while_it_is_extended_a_run_is_what_it_was_or_goes_on(
    installed: Installed, tmp_path: Path, steps: int
) -> None:
    session.start(patient({"generations": 2}), tmp_path / "short")
    before = show(tmp_path / "short")
    assert dying(KILLED, tmp_path / "short", steps) == 9
    shown = show(tmp_path / "short")
    if not shown["extended"]:
        assert shown == before
        session.resume("hill-1", tmp_path / "short", (), ["generations=+2"])
    else:
        session.resume("hill-1", tmp_path / "short")
    session.start(patient({"generations": 4}), tmp_path / "long")
    assert_same(tmp_path / "short", tmp_path / "long")
