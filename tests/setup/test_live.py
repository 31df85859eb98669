"""Objects of a Python program in the place of names: what they may be, what they are told apart by, who can go on."""

from __future__ import annotations

import functools
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import live_parts
import numpy as np
import pytest
import trimpot
from command_line import typed
from live_parts import Halved, Line, Mine, Still, Sum, line, mine, words
from trimpot import reports
from trimpot.ground.errors import ConfigError, StoreError, TrimpotError
from trimpot.setup.live import taken
from trimpot.setup.plugins import plugins
from trimpot.storage.database import FILE_NAME

SMALL: dict[str, Any] = {
    "prompts": "numbers",
    "optimizer": "random",
    "generations": 2,
    "bucket_size": 2,
    "validation": {"num_prompts": 4},
    "test": {"num_prompts": 4},
    "by_steps": {"steps": []},
}
PARTS: dict[str, Any] = {"adapter": line, "objectives": {"mine": mine}}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    monkeypatch.setattr(reports, "write_report", lambda store, run, files: files.report.write_text(run))


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> trimpot.Result:
    """What comes of the backbone and the reward as functions that can be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reports, "write_report", lambda store, run, files: files.report.write_text(run))
        return calibrate(store=tmp_path_factory.mktemp("usual"))


def calibrate(**keys: Any) -> trimpot.Result:
    return trimpot.calibrate(progress=False, **{**SMALL, **PARTS, **keys})


def digest(**keys: Any) -> str:
    return str(calibrate(**keys).summary["digest"])


def told(call: Callable[[], object], kind: type[TrimpotError] = TrimpotError) -> str:
    """The sentence that a call ends with."""
    with pytest.raises(kind) as refused:
        call()
    said = str(refused.value)
    assert "\n" not in said and 10 < len(said) < 1000
    return said


def num_scored(**keys: Any) -> int:
    """How many evaluations the store holds after a run; what is found in it is not scored again."""
    with closing(sqlite3.connect(calibrate(**keys).store / FILE_NAME)) as opened:
        return int(opened.execute("SELECT count(*) FROM evaluations").fetchone()[0])


def gain(result: trimpot.Result) -> float:
    assert result.gain is not None
    return result.gain.mean


OBJECTIVES: dict[str, Any] = {
    "a function": {"mine": mine},
    "a decorated function": {"mine": live_parts.decorated},
    "a lambda": {"mine": lambda outputs, prompts: outputs},
    "a partial": {"mine": functools.partial(live_parts.scaled, scale=1.0)},
    "a bound method": {"mine": Mine().score},
    "an object that can be called": {"mine": live_parts.Callable()},
    "a class": {"mine": Mine},
    "an instance": {"mine": Mine()},
    "a function with options": {"mine": {"name": live_parts.scaled, "scale": 1.0}},
    "a class with options": {"mine": {"name": Mine, "power": 1.0}},
    "with a weight": {"mine": {"name": mine, "weight": 1.0}},
    "by itself": mine,
    "a lambda by itself": lambda outputs, prompts: outputs,
}
ADAPTERS: dict[str, Any] = {
    "a decorated function": line,
    "a class": Line,
    "an instance": Line(),
    "a function that makes one": {"name": line, "noise": 0.0},
    "a class with options": {"name": Line, "steepness": 1.0},
}
OTHERS: dict[str, dict[str, Any]] = {
    "prompts, a function": {"prompts": words},
    "prompts, an instance": {"prompts": words()},
    "an optimizer's class": {"optimizer": Still},
    "an optimizer's function": {"optimizer": lambda space, *, start, seed: Still(space, start=start, seed=seed)},
    "a combination's class": {"combine": Sum},
    "a combination's function": {"combine": lambda weights: Sum(weights)},
    "a combination with options": {"combine": {"name": Sum, "factor": 2.0}},
}


@pytest.mark.parametrize("what", OBJECTIVES)
def test_an_objective_is_a_function_a_class_or_an_instance(what: str, usual: trimpot.Result) -> None:
    assert calibrate(objectives=OBJECTIVES[what]).gain == usual.gain


@pytest.mark.parametrize("what", ADAPTERS)
def test_a_backbone_is_a_function_a_class_or_an_instance(what: str, usual: trimpot.Result) -> None:
    assert calibrate(adapter=ADAPTERS[what]).gain == usual.gain


@pytest.mark.parametrize("what", OTHERS)
def test_every_other_part_may_be_an_object_too(what: str) -> None:
    result = calibrate(**OTHERS[what])
    assert result.gain is not None
    [key] = OTHERS[what]
    assert result._facts.row.config[key]["name"].startswith("python:")


def test_options_beside_an_object_reach_it(usual: trimpot.Result) -> None:
    twice = calibrate(objectives={"mine": {"name": live_parts.scaled, "scale": 2.0}})
    halved = calibrate(objectives={"mine": {"name": Mine, "power": 0.5}})
    assert [gain(twice), gain(halved)] == pytest.approx([2 * gain(usual), gain(usual) / 2])


def test_objects_and_names_stand_beside_each_other(usual: trimpot.Result) -> None:
    mixed = calibrate(objectives={"mine": mine, "value": {"weight": 0}, "double": {"name": Halved, "weight": 2.0}})
    assert [*mixed._facts.row.config["objectives"]] == ["mine", "value", "double"]
    assert gain(mixed) == pytest.approx(2 * gain(usual))


def test_a_mapping_with_objects_is_a_source_as_well(usual: trimpot.Result) -> None:
    shown = trimpot.calibrate({**SMALL, **PARTS}, progress=False)
    assert shown.summary["digest"] == usual.summary["digest"]


def test_two_objects_under_names_that_are_alike_stay_two(usual: trimpot.Result) -> None:
    """Whatever characters are in the names."""
    found, live = taken({"objectives": {"a b": mine, "ab": Mine, "a-b": Halved, "?": mine, "": Mine}})
    assert len(live.objects) == len({each["name"] for each in found["objectives"].values()}) == 5
    both = calibrate(objectives={"a b": mine, "ab": {"name": lambda outputs, prompts: [2 * x for x in outputs]}})
    assert gain(both) == pytest.approx(3 * gain(usual))
    assert {*both._facts.row.config["objectives"]} == {"a b", "ab"}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a backbone that is a function without knobs": ({"adapter": mine}, "write @trimpot.adapter(knobs) above it"),
    "a backbone for a reward": ({"objectives": {"r": line}}, "objective 'r' is given line, which is an adapter"),
    "a reward for a backbone": ({"adapter": live_parts.decorated}, "which is an objective"),
    "the class of another part": ({"adapter": Mine}, "given the class Mine, which is no trimpot.Adapter"),
    "an instance of another part": ({"adapter": {"name": Mine()}}, "adapter.name is given"),
    "a class of anything": ({"objectives": {"r": dict}}, "given the class dict; let it inherit from trimpot.Objective"),
    "a function of one argument": ({"objectives": {"r": len}}, "let it take outputs and prompts"),
    "the abstract class": ({"objectives": {"r": trimpot.Objective}}, "abstract"),
    "a module": ({"objectives": {"r": np}}, "objectives.r is given <module"),
    "modules alone": ({"objectives": np}, "objectives"),
    "an object of no kind": ({"objectives": {"r": object()}}, "give a name, or a function, a class or an object"),
    "an array for a backbone": ({"adapter": np.zeros(3)}, "an object that is a trimpot.Adapter"),
    "no number either": ({"optimizer": 1j}, "an object that is a trimpot.Optimizer"),
    "an optimizer that is made": (
        {"optimizer": Still(None, start=np.ones(2), seed=0)},
        "made already; give the class, or a function that returns one, because it is made with the knob space",
    ),
    "a combination that is made": ({"combine": Sum({"mine": 1.0})}, "because it is made with the weights of the run"),
    "a list": ({"objectives": [mine, "value"]}, "objectives are given as a list; give each a name"),
    "an option that it has not": (
        {"objectives": {"r": {"name": live_parts.scaled, "scal": 1}}},
        "did you mean 'scale'",
    ),
    "an option of a wrong kind": ({"objectives": {"r": {"name": live_parts.scaled, "scale": "x"}}}, "'scale'"),
    "an instance with options": ({"objectives": {"r": {"name": Mine(), "power": 2}}}, "takes no option 'power'"),
    "a name that is an object's": ({"adapter": "python:line"}, "object of a Python program, which no store or file"),
    "a function as a path": ({"start": mine}, "start"),
    "a function as a plugin": ({"plugins": [mine]}, "plugins"),
    "a backbone that returns nothing": ({"adapter": live_parts.silent}, "silent returned nothing for prompt"),
    "too few scores": ({"objectives": {"r": lambda outputs, prompts: outputs[:1]}}, "must have shape (4,), not (1,)"),
    "no scores": ({"objectives": {"r": lambda outputs, prompts: None}}, "must have shape (4,)"),
    "words": ({"objectives": {"r": lambda outputs, prompts: ["good"] * len(outputs)}}, "must hold real numbers"),
    "not a number": ({"objectives": {"r": lambda outputs, prompts: [np.nan] * len(outputs)}}, "must be finite"),
    "a table": ({"objectives": {"r": lambda outputs, prompts: [[x] for x in outputs]}}, "must have shape (4,)"),
    "an error": ({"objectives": {"r": lambda outputs, prompts: 1 / 0}}, "ZeroDivisionError"),
    "an exit": ({"objectives": {"r": lambda outputs, prompts: sys.exit(3)}}, "SystemExit"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_mistake_is_one_sentence(what: str) -> None:
    keys, said = WRONG[what]
    assert said in told(lambda: calibrate(**keys))


def function(source: str, **names: Any) -> Any:
    """A function `f` without a source file, as a cell of a notebook makes it."""
    space: dict[str, Any] = {"__name__": "__main__", **names}
    exec(source, space)
    return space["f"]


def closure(factor: float) -> Callable[..., Any]:
    def scored(outputs: Any, prompts: Any) -> Any:
        return [factor * output for output in outputs]

    return scored


CELL = "def f(outputs, prompts):\n    return [SCALE * output + {shift} for output in outputs]\n"
EDITS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "a cell": (lambda: function(CELL.format(shift=0), SCALE=1), lambda: function(CELL.format(shift=1), SCALE=1)),
    "a value that a cell reads": (
        lambda: function(CELL.format(shift=0), SCALE=1),
        lambda: function(CELL.format(shift=0), SCALE=2),
    ),
    "a closure": (lambda: closure(1.0), lambda: closure(2.0)),
    "a partial": (
        lambda: functools.partial(live_parts.scaled, scale=1.0),
        lambda: functools.partial(live_parts.scaled, scale=2.0),
    ),
    "a default": (
        lambda: function("def f(o, p, *, scale=1.0):\n    return [scale * x for x in o]"),
        lambda: function("def f(o, p, *, scale=2.0):\n    return [scale * x for x in o]"),
    ),
    "a lambda": (
        lambda: function("f = lambda outputs, prompts: outputs"),
        lambda: function("f = lambda outputs, prompts: [2 * x for x in outputs]"),
    ),
    "an instance": (lambda: Mine(), lambda: Mine(power=2.0)),
    "an instance that can be called": (lambda: live_parts.Callable(1.0), lambda: live_parts.Callable(2.0)),
}


@pytest.mark.parametrize("what", EDITS)
def test_what_is_unchanged_finds_its_scores_and_what_is_edited_is_another_run(what: str) -> None:
    begun, edited = EDITS[what]
    rows = num_scored(objectives={"mine": begun()})
    assert num_scored(objectives={"mine": begun()}) == rows, "the same objective made again scores nothing again"
    first, again = trimpot.Result.load("line-1"), trimpot.Result.load("line-2")
    assert first.summary["digest"] == again.summary["digest"]
    assert num_scored(objectives={"mine": edited()}) > rows
    assert trimpot.Result.load("line-3").summary["digest"] != first.summary["digest"]


BACKBONE = "@trimpot.adapter(KNOBS)\ndef f(setting, prompt, seed):\n    return setting['slope'] + {shift} + seed % 9\n"
KNOBS = [trimpot.Knob("slope"), trimpot.Knob("offset")]
WIDE = [trimpot.Knob("slope", high=5.0), trimpot.Knob("offset")]


def test_an_edited_backbone_is_another_one() -> None:
    def cell(shift: int, knobs: Any) -> Any:
        return function(BACKBONE.format(shift=shift), trimpot=trimpot, KNOBS=knobs)

    rows = num_scored(adapter=cell(0, KNOBS))
    assert num_scored(adapter=cell(0, KNOBS)) == rows
    more = num_scored(adapter=cell(1, KNOBS))
    assert more > rows
    assert num_scored(adapter=cell(0, WIDE)) > more, "other knobs, the same code"


def stopped(**keys: Any) -> None:
    """Begin a run that ends after a few calls of its reward."""
    left = [3]

    class Tired(live_parts.Patience):
        def run_out(self) -> bool:
            left[0] -= 1
            return left[0] < 0

    live_parts.PATIENCE.append(Tired())
    try:
        assert "enough" in told(lambda: calibrate(objectives={"mine": live_parts.patient}, **keys))
    finally:
        live_parts.PATIENCE.clear()


def test_a_stopped_run_goes_on_with_the_same_objects_to_the_same_end() -> None:
    whole = trimpot.calibrate(
        progress=False, store="other", **{**SMALL, **PARTS, "objectives": {"mine": live_parts.patient}}
    )
    stopped()
    assert trimpot.Result.load("line-1").status == "failed"
    result = trimpot.resume("line-1", adapter=line, objectives={"mine": live_parts.patient}, progress=False)
    assert result.status == "finished" and result.summary["digest"] == whole.summary["digest"]


def test_going_on_needs_the_objects_and_says_which() -> None:
    stopped()
    call = "trimpot.resume('line-1', adapter=..., objectives={'mine': ...})"
    said = told(lambda: trimpot.resume("line-1", progress=False), StoreError)
    assert call in said and "as adapter and objectives.mine, which no store holds" in said
    ended = typed("resume", "line-1")
    assert (ended.returncode, ended.stderr) == (1, f"trimpot: {said}\n")
    assert typed("resume").stderr == f"trimpot: {said}\n"
    only = told(lambda: trimpot.resume("line-1", objectives={"mine": live_parts.patient}, progress=False), StoreError)
    assert only.endswith("with the same object: trimpot.resume('line-1', adapter=...)")
    assert trimpot.Result.load("line-1").status == "failed"


def test_a_name_in_the_place_of_an_object_is_another_part() -> None:
    stopped()
    said = told(lambda: trimpot.resume("line-1", adapter=line, objectives={"mine": "value"}, progress=False))
    assert "mine" in said or "objectives" in said


@pytest.mark.parametrize(
    ("keys", "differs"),
    [
        ({"adapter": line, "objectives": {"mine": closure(2.0)}}, "reward 'mine' differs"),
        ({"adapter": live_parts.steep, "objectives": {"mine": live_parts.patient}}, "backbone"),
        ({"adapter": Line, "objectives": {"mine": live_parts.patient}}, "backbone"),
    ],
    ids=["another reward", "another backbone", "another kind of backbone"],
)
def test_going_on_with_other_objects_is_refused_unless_it_is_asked_for(keys: dict[str, Any], differs: str) -> None:
    stopped()
    said = told(lambda: trimpot.resume("line-1", progress=False, **keys))
    assert "was begun with another" in said and differs in said and "allow_drift=True" in said
    with pytest.warns(trimpot.ground.errors.Notice, match="goes on although"):
        assert trimpot.resume("line-1", progress=False, allow_drift=True, **keys).status == "finished"


def test_a_finished_run_is_shown_and_reported_without_its_objects() -> None:
    result = calibrate()
    assert result.report is not None
    result.report.unlink()
    assert trimpot.resume(result.run, progress=False).report == result.report and result.report.exists()
    for command in ("show", "resume"):
        ended = typed(command, result.run)
        assert ended.returncode == 0 and not ended.stderr, command
    longer = told(lambda: trimpot.resume(result.run, generations="+1", progress=False))
    assert "trimpot.resume('line-1', adapter=..., objectives={'mine': ...})" in longer
    assert typed("resume", result.run, "generations=+1").stderr == f"trimpot: {longer}\n"
    assert (
        trimpot.resume(result.run, generations="+1", progress=False, **PARTS).summary["num_images"]
        > result.summary["num_images"]
    )


def test_prompts_need_not_be_given_again() -> None:
    """The store holds them."""
    stopped(prompts=words())
    result = trimpot.resume("line-1", adapter=line, objectives={"mine": live_parts.patient}, progress=False)
    assert result.status == "finished"


def test_two_workers_make_of_objects_that_can_be_imported_what_one_process_makes(
    usual: trimpot.Result,
) -> None:
    assert digest(workers=2) == usual.summary["digest"]


def test_two_workers_take_prompts_that_are_an_object() -> None:
    classes = {"adapter": Line, "objectives": {"mine": Mine}, "prompts": words()}
    both = trimpot.calibrate(progress=False, store="other", workers=2, **{**SMALL, **classes})
    assert both.summary["digest"] == digest(**classes)


def _local() -> Callable[..., Any]:
    def scored(outputs: Any, prompts: Any) -> Any:
        return outputs

    return scored


@pytest.mark.parametrize(
    ("keys", "who"),
    [
        ({"objectives": {"mine": lambda outputs, prompts: outputs}}, "<lambda>"),
        ({"objectives": {"mine": _local()}}, "scored"),
        ({"objectives": {"mine": Mine()}}, "Mine"),
        ({"objectives": {"mine": Mine().score}}, "score"),
        ({"objectives": {"mine": functools.partial(live_parts.scaled, scale=2.0)}}, "scaled"),
        ({"adapter": Line()}, "Line"),
        ({"adapter": function(BACKBONE.format(shift=0), trimpot=trimpot, KNOBS=KNOBS)}, "f"),
        ({"optimizer": lambda space, *, start, seed: Still(space, start=start, seed=seed)}, None),
    ],
    ids=["lambda", "closure", "instance", "bound method", "partial", "backbone", "cell", "optimizer"],
)
def test_two_workers_cannot_have_what_only_this_program_holds(keys: dict[str, Any], who: str | None) -> None:
    said = told(lambda: calibrate(workers=2, **keys), ConfigError)
    assert "workers in other processes cannot have the" in said and "plugins=['my_file.py']" in said
    assert who is None or who in said
    assert not Path("trimpot-runs").exists()


def test_a_program_that_is_run_as_a_file_is_told_so(tmp_path: Path) -> None:
    """Its functions are of `__main__`, which is another module in every process."""
    script = tmp_path / "mine.py"
    script.write_text(
        "import trimpot\n@trimpot.adapter([trimpot.Knob('slope')])\ndef line(setting, prompt, seed):\n    return 1.0\n"
        "if __name__ == '__main__':\n"
        "    trimpot.calibrate(adapter=line, objectives='value', prompts='numbers', workers=2)\n"
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True)
    assert "cannot have the adapter line, which only this program holds" in done.stderr.splitlines()[-1]


def test_objects_are_of_one_run_and_stay_out_of_the_plugins_of_the_process() -> None:
    calibrate()
    names = [each.name for kind in ("adapters", "objectives") for each in plugins().registrations(kind)]
    assert not any(name.startswith("python:") or name in ("line", "mine") for name in names)


def test_an_object_that_keeps_what_it_has_worked_out_is_still_the_same() -> None:
    """What a run's work has put into its state makes no other part of it."""
    keeping = live_parts.Keeping()
    first, again = digest(adapter=keeping), digest(adapter=keeping)
    assert keeping.kept and first == again
    longer = trimpot.resume("Keeping-1", adapter=keeping, objectives={"mine": mine}, generations="+1", progress=False)
    assert longer.status == "finished"


def test_an_object_that_is_changed_between_two_runs_is_another_one() -> None:
    """Although it describes itself as before."""
    turned = live_parts.Callable()
    first = digest(objectives={"mine": turned})
    turned.scale = 2.0
    assert digest(objectives={"mine": turned}) != first
    turned.scale = 1.0
    assert digest(objectives={"mine": turned}) == first


def test_a_cell_that_fills_a_table_beside_it_is_still_the_same() -> None:
    filling = function(
        "TABLE = {}\ndef f(outputs, prompts):\n    TABLE.update(zip(prompts, outputs))\n    return outputs\n"
    )
    rows = num_scored(objectives={"mine": filling})
    assert filling.__globals__["TABLE"] and num_scored(objectives={"mine": filling}) == rows
    assert trimpot.resume("line-1", adapter=line, objectives={"mine": filling}, generations="+1", progress=False).gain
