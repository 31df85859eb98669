"""`trimpot.calibrate` and `trimpot.resume`: what is asked from Python is what is asked in a file or typed."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import trimpot
import yaml
from closed_form import SMALL, Height
from from_python import CAMERA, SPHERE
from sessions import Installed
from trimpot.ground import errors
from trimpot.runs import session
from typed import typed
from waiting import LONG

UNGUARDED = """
import trimpot
from trimpot.workshops.processes import ProcessSeat

def bench():
    raise AssertionError("the program was imported to its end")

if __name__ == "__main__":
    try:
        ProcessSeat("worker 1", bench).start()
    except trimpot.ConfigError as error:
        print(error)
else:
    trimpot.{}
"""
pytestmark = pytest.mark.usefixtures("short_reports")

#: Keys as Python gives them, and as they are typed.
KEYS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "none": ({}, []),
    "a number": ({"generations": 3}, ["generations=3"]),
    "NumPy's number": ({"generations": np.int64(3)}, ["generations=3"]),
    "a dotted key": ({"optimizer.sigma0": 0.05}, ["optimizer.sigma0=0.05"]),
    "a small number": ({"optimizer.sigma0": 1e-05}, ["optimizer.sigma0=0.00001"]),
    "a mapping": ({"validation": {"every": 2, "num_prompts": 3}}, ["validation={every: 2, num_prompts: 3}"]),
    "the empty mapping": ({"validation": {}, "generations": 1}, ["validation={}", "generations=1"]),
    "a name": ({"objectives": "value"}, ["objectives=value"]),
    "an option of a part": ({"adapter.num_knobs": 3}, ["adapter.num_knobs=3"]),
    "a whole part": ({"adapter": {"name": "sphere", "num_knobs": 3}}, ["adapter={name: sphere, num_knobs: 3}"]),
    "a part by its name alone": ({"optimizer": "random"}, ["optimizer=random"]),
    "a weight": ({"objectives.value.weight": 2}, ["objectives.value.weight=2"]),
    "a protocol": ({"protocol": "published"}, ["protocol=published"]),
    "nothing": ({"budget": None}, ["budget=null"]),
    "two keys": ({"bucket_size": 3, "seed": 7}, ["bucket_size=3", "seed=7"]),
    "a text that reads like a number": ({"name": "007"}, ["name='007'"]),
    "a part after its whole": (
        {"test": {"num_prompts": 5}, "test.num_prompts": 6},
        ["test={num_prompts: 5}", "test.num_prompts=6"],
    ),
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration in a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    path = tmp_path / "sphere.yaml"
    path.write_text(yaml.safe_dump(SPHERE))
    return path


@pytest.mark.parametrize("name", KEYS)
def test_a_key_means_what_it_means_when_it_is_typed(file: Path, name: str) -> None:
    keys, words = KEYS[name]
    said = typed("calibrate", "sphere.yaml", *words, "--store", "typed")
    assert said.status == 0, said.err
    result = trimpot.calibrate(str(file), store="python", **keys)
    other = trimpot.Result.load(result.run, "typed")
    assert result.summary["config"] == other.summary["config"]
    assert result.summary["digest"] == other.summary["digest"]
    assert (result.gain, result.setting, result.status) == (other.gain, other.setting, "finished")


def test_all_sources_of_one_configuration_are_the_same_run(file: Path) -> None:
    class Named:
        def __fspath__(self) -> str:
            return str(file)

    sources: list[Any] = [str(file), "sphere.yaml", file, PurePosixPath(file), Named(), SPHERE]
    sources += [trimpot.load_config(file), trimpot.load_config(SPHERE)]
    results = [trimpot.calibrate(each) for each in sources] + [trimpot.calibrate(**SPHERE)]
    assert len({each.summary["digest"] for each in results}) == 1
    assert [each.run for each in results] == [f"sphere-{number}" for number in range(1, len(sources) + 2)]


def test_a_mapping_is_the_whole_value_of_its_key_and_a_dotted_key_is_a_single_value(file: Path) -> None:
    base = {**SPHERE, "validation": {"num_prompts": 4, "every": 2}}
    whole = trimpot.calibrate(base, validation={"num_prompts": 3})
    single = trimpot.calibrate(base, **{"validation.num_prompts": 3})
    plain = trimpot.load_config({**SPHERE, "validation": {"num_prompts": 3}})
    assert whole.summary["config"]["validation"] == plain.model_dump(mode="json")["validation"]
    assert single.summary["config"]["validation"]["every"] == 2 != whole.summary["config"]["validation"]["every"]
    assert base["validation"] == {"num_prompts": 4, "every": 2}


#: Keys that are mistakes, as Python gives them and as they are typed.
MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an unknown key": ({"generatons": 3}, ["generatons=3"]),
    "an unknown key inside": ({"test": {"prompts": 3}}, ["test={prompts: 3}"]),
    "an unknown dotted key": ({"test.prompts": 3}, ["test.prompts=3"]),
    "a wrong type": ({"generations": "many"}, ["generations=many"]),
    "too small": ({"generations": 0}, ["generations=0"]),
    "no adapter of this name": ({"adapter": "spere"}, ["adapter=spere"]),
    "no objective of this name": ({"objectives": "vale"}, ["objectives=vale"]),
    "no option of this name": ({"adapter.knobs": 3}, ["adapter.knobs=3"]),
    "no protocol of this name": ({"protocol": "papr"}, ["protocol=papr"]),
    "a key of a single value": ({"generations.x": 1}, ["generations.x=1"]),
    "a plus sign": ({"generations": "+2"}, ["generations=+2"]),
    "a start that is not there": ({"start": "no/where"}, ["start=no/where"]),
    "a plugin that is not there": ({"plugins": ["no_where.py"]}, ["plugins=[no_where.py]"]),
    "two mistakes": ({"seed": "x", "generations": 0}, ["seed=x", "generations=0"]),
    "a list in place of a mapping": ({"objectives": ["value"]}, ["objectives=[value]"]),
    "a tuple in place of a mapping": ({"objectives": ("value",)}, ["objectives=[value]"]),
    "the whole after a part": (
        {"test.num_prompts": 6, "test": {"num_prompts": 5}},
        ["test.num_prompts=6", "test={num_prompts: 5}"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_the_sentence_that_it_gets_when_it_is_typed(file: Path, name: str) -> None:
    keys, words = MISTAKES[name]
    with pytest.raises(trimpot.TrimpotError) as error:
        trimpot.calibrate("sphere.yaml", store="python", **keys)
    said = typed("calibrate", "sphere.yaml", *words, "--store", "typed")
    assert said.status in (1, 2)

    def told(text: str) -> str:  # a dictionary and a flow mapping are written differently, and so are .nan and nan
        return "".join(each for each in text if each not in " '\"\n")

    sentence = told(str(error.value))
    assert sentence in told(said.err), (str(error.value), said.err)
    assert "\n" not in str(error.value) or "mistakes" in str(error.value)
    assert not list(Path().glob("*/trimpot.sqlite"))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), np.float64("-inf")])
def test_what_is_no_finite_number_is_refused_wherever_it_stands(file: Path, number: float) -> None:
    for keys in ({"seed": number}, {"optimizer.sigma0": number}, {"optimizer": {"name": "cma-es", "sigma0": number}}):
        with pytest.raises(trimpot.ConfigError, match="should be a finite number, not"):
            trimpot.calibrate(file, **keys)
    with pytest.raises(trimpot.ConfigError, match="should be a finite number, not"):
        trimpot.calibrate({**SPHERE, "seed": number})


NO_SOURCES: list[Any] = [5, True, b"sphere.yaml", ["shapes"], object(), len, 1.5, ("a", "b"), Path]


@pytest.mark.parametrize("given", NO_SOURCES, ids=lambda each: type(each).__name__)
def test_what_is_no_configuration_is_refused_by_calibrate_and_by_load_config(file: Path, given: Any) -> None:
    for call in (trimpot.calibrate, trimpot.load_config):
        with pytest.raises(trimpot.ConfigError, match="is the name of a preset, a path, a mapping or a Config, not"):
            call(given)
    assert not Path("trimpot-runs").exists()


class Bytes:
    def __fspath__(self) -> bytes:
        return b"runs"


@pytest.mark.parametrize("store", [5, b"runs", "", True, [], "a\0b", Bytes(), "~nobody-of-this-name/runs"])
def test_what_is_no_folder_is_refused_wherever_a_store_is_named(file: Path, store: Any) -> None:
    calls = (
        lambda: trimpot.calibrate("sphere.yaml", store=store),
        lambda: trimpot.resume("sphere-1", store=store),
        lambda: trimpot.Result.load("sphere-1", store=store),
    )
    for call in calls:
        with pytest.raises(trimpot.ConfigError, match=r"^store: "):
            call()


@pytest.mark.parametrize("run", [5, b"sphere-1", "", ["sphere-1"], True, Path("sphere-1")])
def test_what_is_no_name_of_a_run_is_refused(file: Path, run: Any) -> None:
    for call in (trimpot.resume, trimpot.Result.load):
        with pytest.raises(trimpot.ConfigError, match="run: should be the name of a run"):
            call(run)


@pytest.mark.parametrize("progress", ["yes", None, 1, 0, [], "True"])
def test_progress_is_one_of_three_things(file: Path, progress: Any) -> None:
    with pytest.raises(trimpot.ConfigError, match="progress: should be True, False or 'auto', not"):
        trimpot.calibrate("sphere.yaml", progress=progress)
    with pytest.raises(trimpot.ConfigError, match="progress: should be"):
        trimpot.resume(progress=progress)
    assert not Path("trimpot-runs").exists()


@pytest.mark.parametrize(("progress", "prints"), [(True, True), (False, False), ("auto", False)])
def test_progress_prints_when_asked_and_is_silent_away_from_a_terminal(
    file: Path, capfd: pytest.CaptureFixture[str], progress: Any, prints: bool
) -> None:
    trimpot.calibrate("sphere.yaml", progress=progress)
    out, err = capfd.readouterr()
    assert out == ""
    assert bool(err) == prints
    if prints:
        assert "sphere-1: 4 knobs of sphere" in err
    trimpot.resume("sphere-1", generations="+2", progress=progress)
    assert bool(capfd.readouterr().err) == prints


def test_the_store_is_the_argument_or_the_variable_or_the_folder_here(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trimpot.calibrate("sphere.yaml").folder == Path("trimpot-runs/sphere-1")
    monkeypatch.setenv("TRIMPOT_STORE", "other")
    assert trimpot.calibrate("sphere.yaml").folder == Path("other/sphere-1")
    assert trimpot.calibrate("sphere.yaml", store="third").folder == Path("third/sphere-1")
    assert trimpot.calibrate("sphere.yaml", store=Path("third")).folder == Path("third/sphere-2")
    assert trimpot.calibrate("sphere.yaml", store=PurePosixPath("third")).store == Path("third")
    monkeypatch.setenv("HOME", str(file.parent / "home"))
    assert trimpot.calibrate("sphere.yaml", store="~/runs").folder == file.parent / "home/runs/sphere-1"
    assert trimpot.Result.load("sphere-1").store == Path("other")
    assert trimpot.Result.load("sphere-3", "third").store == Path("third")
    monkeypatch.setenv("TRIMPOT_STORE", "")
    assert trimpot.Result.load("sphere-1").store == Path("trimpot-runs")
    with pytest.raises(trimpot.StoreError, match=r"no run 'sphere-9' in trimpot-runs"):
        trimpot.Result.load("sphere-9")
    with pytest.raises(trimpot.StoreError, match="no runs in fourth"):
        trimpot.Result.load("sphere-1", "fourth")
    assert not Path("fourth").exists()


def test_a_run_is_made_longer_by_a_sum_or_a_total_and_ends_as_if_it_had_been_so_long(file: Path) -> None:
    whole = trimpot.calibrate(file, generations=5)
    for added in ("+3", 5):
        short = trimpot.calibrate(file)
        longer = trimpot.resume(short.run, generations=added)
        assert (longer.run, longer.status) == (short.run, "finished")
        assert len(longer.curve) == len(whole.curve) == 6
        assert (longer.summary["digest"], longer.gain) == (whole.summary["digest"], whole.gain)
        assert longer.curve == whole.curve
    for keys, words in (({"generations": 2}, ["generations=2"]), ({"seed": 5}, ["seed=5"]), ({"x": 1}, ["x=1"])):
        with pytest.raises(trimpot.ConfigError) as error:
            trimpot.resume(whole.run, **keys)
        said = typed("resume", whole.run, *words)
        assert said.status == 1
        assert " ".join(str(error.value).split()) in " ".join(said.err.split())


def test_a_mapping_given_to_resume_changes_nothing_beside_its_keys(file: Path) -> None:
    run = trimpot.calibrate(file, validation={"num_prompts": 4, "every": 2}).run
    longer = trimpot.resume(run, validation={"num_prompts": 4}, objectives="value", generations="+1")
    assert longer.summary["config"]["validation"]["every"] == 2 and len(longer.curve) == 4


class Stopped(Height):
    """Heights, until Ctrl-C is pressed or something else happens."""

    def __init__(self, after: int, error: BaseException) -> None:
        self.left, self.error = after, error

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def score(self, outputs: Any, prompts: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().score(outputs, prompts)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_ctrl_c_goes_up_and_says_how_to_go_on_and_nothing_is_lost(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    where: dict[str, Any] = {"store": "other"} if elsewhere else {}
    installed.put(objective=Stopped(10**6, KeyboardInterrupt()))
    undisturbed = trimpot.calibrate(SMALL, store="undisturbed")
    installed.put(objective=Stopped(9, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt) as stop:
        trimpot.calibrate(SMALL, **where)
    call = f"trimpot.resume('hill-1'{', store=' + repr('other') if elsewhere else ''})"
    assert str(stop.value) == f"stopped; nothing is lost; go on with {call}"
    found = trimpot.Result.load("hill-1", **where)
    assert found.status == "interrupted"
    assert found.summary["num_evaluations"] > 0
    installed.put(objective=Stopped(3, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt, match="nothing is lost"):
        eval(call)
    assert trimpot.Result.load("hill-1", **where).summary["num_evaluations"] > found.summary["num_evaluations"]
    installed.put(objective=Stopped(10**6, KeyboardInterrupt()))
    result = eval(call)
    assert (result.status, result.summary["digest"]) == ("finished", undisturbed.summary["digest"])
    assert (result.gain, result.curve) == (undisturbed.gain, undisturbed.curve)


def test_the_latest_unfinished_run_goes_on_if_none_is_named(installed: Installed, tmp_path: Path) -> None:
    installed.put(objective=Stopped(9, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        trimpot.calibrate(SMALL, store=tmp_path)
    installed.put(objective=Stopped(10**6, KeyboardInterrupt()))
    assert trimpot.resume(store=tmp_path).run == "hill-1"
    with pytest.raises(trimpot.StoreError, match="has finished"):
        trimpot.resume(store=tmp_path)


def test_a_run_that_fails_says_how_to_go_on_and_one_that_never_began_does_not(
    installed: Installed, tmp_path: Path
) -> None:
    installed.put(objective=Stopped(9, ValueError("no such picture")))
    with pytest.raises(trimpot.ScoreError, match=r"no such picture.*; go on with trimpot\.resume\('hill-1', store="):
        trimpot.calibrate(SMALL, store=tmp_path)
    assert trimpot.Result.load("hill-1", tmp_path).status == "failed"
    with pytest.raises(trimpot.ConfigError) as error:
        trimpot.calibrate(SMALL, store=tmp_path, generations=0)
    assert "go on with" not in str(error.value)


def test_a_program_without_a_guard_ends_its_worker_with_a_sentence(tmp_path: Path) -> None:
    """A spawned process imports the program, whose call would begin the run once more."""
    for call in (f"calibrate({str(CAMERA)!r}, store='runs')", "resume('camera-1', store='runs')"):
        (tmp_path / "unguarded.py").write_text(UNGUARDED.format(call))
        done = subprocess.run(
            [sys.executable, "unguarded.py"], capture_output=True, text=True, cwd=tmp_path, timeout=LONG
        )
        assert done.returncode == 0, done.stderr
        assert "write the call under `if __name__ == '__main__':`" in done.stdout
        assert not (tmp_path / "runs").exists()


def test_every_error_is_exported_and_is_the_one_that_is_raised() -> None:
    known = {
        name: each
        for name, each in vars(errors).items()
        if inspect.isclass(each) and issubclass(each, (trimpot.TrimpotError, trimpot.Notice))
    }
    assert len(known) >= 10
    for name, each in known.items():
        assert name in trimpot.__all__
        assert getattr(trimpot, name) is each


def test_the_line_of_work_is_that_of_the_command(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run from Python begins where a typed one does, so that neither can do what the other cannot."""
    begun: list[Any] = []
    real = session.start
    monkeypatch.setattr(session, "start", lambda *given, **named: begun.append(given) or real(*given, **named))
    monkeypatch.setattr("trimpot.runs.python.start", session.start)
    trimpot.calibrate(file)
    typed("calibrate", "sphere.yaml")
    assert len(begun) == 2 and begun[0][0] == begun[1][0]


def test_nothing_that_python_calls_is_changed_by_it(file: Path) -> None:
    keys = {"validation": {"num_prompts": 3}, "objectives": {"value": {"weight": 2}}}
    before, environment = {key: dict(value) for key, value in keys.items()}, dict(os.environ)
    trimpot.calibrate(SPHERE, **keys)
    assert keys == before and dict(os.environ) == environment
