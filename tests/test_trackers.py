"""Trackers show what is recorded, each point once, and nothing that happens to them stops or changes a run."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from canvas import Canvas, Darkness, Likeness
from closed_form import SMALL, Notes, hill_plugin
from sessions import dying, show
from tracked import FAULTS, METHODS, Curves, Noted, failing, of_tensorboard, of_trackio, tracker_plugin
from trimpot.engine.hooks import hookimpl
from trimpot.engine.tracker import Tracker
from trimpot.ground.errors import ConfigError, Notice, PluginError
from trimpot.runs import session, tracking
from trimpot.runs.results import Files
from trimpot.setup.config import load_config
from trimpot.setup.plugins import KINDS, Plugins, plugins
from trimpot.storage import SqliteStore

CANVAS = {
    **SMALL,
    "adapter": "canvas",
    "objectives": {"darkness": {}, "likeness": {"weight": 0}},
    "generations": 4,
    "optimizer": {"name": "cma-es", "population_size": 5},
}
STEPS = [15, 30, 45, 60]  # images after each generation


class _Painting:
    @hookimpl
    def register_adapters(self, register: Any) -> None:
        register("canvas", Canvas)

    @hookimpl
    def register_objectives(self, register: Any) -> None:
        register("darkness", Darkness)
        register("likeness", Likeness)


Install = Callable[..., None]


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch, short_reports: None) -> Install:
    """Install the canvas, the hill and some trackers."""

    def install(**trackers: Tracker) -> None:
        known = Plugins()
        known.add(_Painting(), name="painting", origin="tests")
        known.add(hill_plugin(), name="hill", origin="tests")
        known.add(tracker_plugin(**trackers), name="trackers", origin="tests")
        monkeypatch.setattr(session, "plugins", lambda: known)

    return install


@pytest.fixture(scope="session", autouse=True)
def trackio_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trackio reads its folder from the environment, once in a process."""
    before = os.environ.get("TRACKIO_DIR")
    os.environ["TRACKIO_DIR"] = str(tmp_path_factory.mktemp("trackio"))
    yield
    if before is None:
        del os.environ["TRACKIO_DIR"]
    else:
        os.environ["TRACKIO_DIR"] = before


class Case:
    """A real tracker: its options, and its curves of the run of a store."""

    def __init__(self, name: str) -> None:
        self.name, self.project = name, f"p{uuid.uuid4().hex[:8]}"
        self.options: dict[str, Any] = {"trackio": {"project": self.project}}.get(name, {})

    def curves(self, folder: Path) -> Curves:
        if self.name == "trackio":
            return of_trackio(self.project)
        return of_tensorboard(folder / "canvas-1" / "tensorboard")


@pytest.fixture(params=["tensorboard", "trackio"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def config(trackers: Any, **keys: Any) -> Any:
    return load_config({**CANVAS, **keys, "trackers": trackers})


def timeless(curves: Curves) -> Curves:
    """Curves without those of the clock, to seven digits, since TensorBoard keeps float32."""
    return {
        name: [(step, float(f"{value:.6g}")) for step, value in points]
        for name, points in curves.items()
        if not name.endswith("per_second")
    }


def test_the_curves_are_what_the_store_has(put: Install, case: Case, tmp_path: Path) -> None:
    """Fitness by generation, checks against neutral, watched scores, the alarm, the gain, and the pictures."""
    put()
    session.start(config({case.name: case.options}), tmp_path)
    curves, shown = case.curves(tmp_path), show(tmp_path, "canvas-1")
    outcome = shown["outcome"]
    with SqliteStore(tmp_path) as store:
        fitness: dict[int, list[float]] = {}
        weights = {"darkness": 1.0}
        for place, each in store.evaluations("canvas-1"):
            if place.stage == "search":
                fitness.setdefault(place.generation, []).append(each.weighed(weights).fitness)
        sigmas = store.sigmas("canvas-1")
    for name, of in {"best": max, "mean": lambda each: sum(each) / len(each), "median": lambda e: sorted(e)[2]}.items():
        expected = [pytest.approx(of(fitness[number]), rel=1e-6) for number in range(4)]
        assert curves[f"search/{name}"] == list(zip(STEPS, expected, strict=True))
    assert curves["search/sigma"] == [(s, pytest.approx(sigmas[n], rel=1e-6)) for n, s in enumerate(STEPS)]
    assert [step for step, _ in curves["search/images_per_second"]] == STEPS
    checks = {check["generation"]: check["score"] for check in outcome["checks"]}
    assert curves["validation/score"] == [(STEPS[n - 1], pytest.approx(checks[n], rel=1e-6)) for n in checks if n]
    for (_, low), (_, mean), (_, high) in zip(
        *(curves[f"validation/difference{end}"] for end in ("_low", "", "_high")), strict=True
    ):
        assert low <= mean <= high
    for (_, score), (_, neutral), (_, mean) in zip(
        *(curves[f"validation/{name}"] for name in ("score", "neutral", "difference")), strict=True
    ):
        assert score - neutral == pytest.approx(mean, abs=1e-6)
    assert len(curves["watched/likeness"]) == len(curves["watched/likeness_neutral"]) == len(checks) - 1
    assert len(curves["watched/entropy"]) == len(checks) - 1
    assert {"knobs/aim", "knobs/light"} <= set(curves)
    for name, value in {"": "mean", "_low": "low", "_high": "high"}.items():
        assert curves[f"test/gain{name}"] == [(60, pytest.approx(shown["gain"][value], rel=1e-6))]
    pictures = [name for name in curves if name.startswith("pictures/")]
    assert len(pictures) == 5 and all(curves[name] == [(60, 0.0)] for name in pictures)


@pytest.mark.parametrize("patience", [1, 12, 24], ids=lambda patience: f"after {patience} evaluations")
def test_a_run_that_goes_on_has_the_curves_of_one_that_was_never_stopped(
    put: Install, case: Case, tmp_path: Path, patience: int
) -> None:
    """In the same run of the tracker, and no point twice."""
    put()
    session.start(config("tensorboard"), tmp_path / "whole")
    whole = of_tensorboard(tmp_path / "whole" / "canvas-1" / "tensorboard")
    with pytest.raises(KeyboardInterrupt):
        session.start(config({case.name: case.options}), tmp_path / "stopped", (Notes(patience),))
    session.resume(None, tmp_path / "stopped")
    assert timeless(case.curves(tmp_path / "stopped")) == timeless(whole)


KILLED = """
from closed_form import SMALL
from torch.utils.tensorboard import SummaryWriter
from trimpot.setup.config import load_config

deadly(SummaryWriter, "add_scalar")
session.start(load_config({**SMALL, "trackers": "tensorboard"}), Path(sys.argv[1]))
"""


def test_a_run_that_was_killed_between_two_points_has_each_once(put: Install, tmp_path: Path) -> None:
    """Of the points of one moment, some were written and some were not."""
    put()
    session.start(load_config({**SMALL, "trackers": "tensorboard"}), tmp_path / "whole")
    assert dying(KILLED, tmp_path / "killed", 9) == 9
    before = of_tensorboard(tmp_path / "killed" / "hill-1" / "tensorboard")
    session.resume(None, tmp_path / "killed")
    whole, killed = (of_tensorboard(tmp_path / name / "hill-1" / "tensorboard") for name in ("whole", "killed"))
    assert before and len(before["search/mean"]) < len(whole["search/mean"])
    assert timeless(killed) == timeless(whole)


def test_an_extended_run_s_curves_go_on(put: Install, case: Case, tmp_path: Path) -> None:
    put()
    session.start(config({case.name: case.options}, validation={"num_prompts": 4, "patience": 50}), tmp_path)
    before = case.curves(tmp_path)
    session.resume("canvas-1", tmp_path, overrides=["generations=+2"])
    after = case.curves(tmp_path)
    assert after["search/mean"][:4] == before["search/mean"]
    assert [step for step, _ in after["search/mean"]] == [*STEPS, 75, 90]
    assert [step for step, _ in after["test/gain"]] == [60, 90]


def test_a_tracker_that_joins_later_gets_everything(put: Install, case: Case, tmp_path: Path) -> None:
    """Trackers change no number, so that any can be named when a run goes on."""
    put()
    with pytest.raises(KeyboardInterrupt):
        session.start(config({}), tmp_path, (Notes(24),))
    key = ".".join(["trackers", case.name])
    session.resume(None, tmp_path, overrides=[f"{key}.project={case.project}" if case.options else f"{key}={{}}"])
    assert [step for step, _ in case.curves(tmp_path)["search/mean"]] == STEPS


def test_a_run_is_the_same_with_trackers_and_without(put: Install, tmp_path: Path) -> None:
    project = {"project": f"p{uuid.uuid4().hex[:8]}"}
    asked = {"none": {}, "some": {"tensorboard": {}, "trackio": project, "mine": {}}}
    put(mine=Noted())
    for name, trackers in asked.items():
        session.start(config(trackers), tmp_path / name)
    none, some = (show(tmp_path / name, "canvas-1") for name in asked)
    for key in ("digest", "outcome", "num_images", "status"):
        assert none[key] == some[key], key
    assert config({}).fingerprint == config(asked["some"]).fingerprint


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("method", METHODS)
def test_a_tracker_that_fails_is_one_sentence_and_the_run_goes_on(
    put: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, fault: str
) -> None:
    """Whatever fails and however, all others are told everything, and the run has its result."""
    fails, said = FAULTS[fault]
    if fault == "hangs":
        monkeypatch.setattr(tracking, "SECONDS", 0.2)
    first, last = Noted(), Noted()
    put(first=first, bad=failing(method, fails), last=last)
    keys = {}
    if method == "log_spread":  # which many knobs need
        keys = {"adapter": {"name": "sphere", "num_knobs": 20}, "objectives": "value", "prompts": "numbers"}
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        run = session.start(config(["first", "bad", "last"], **keys), tmp_path)
    told = [str(each.message) for each in heard if isinstance(each.message, Notice) and "tracker" in str(each.message)]
    assert len(told) == 1 and "tracker 'bad' failed and is told no more; the run goes on: " in told[0], told
    assert said in told[0]
    assert show(tmp_path, run)["status"] == "finished"
    assert first.curves == last.curves
    assert len(first.curves["search/mean"]) == 4 and "test/gain" in first.curves
    assert first.ends == last.ends == [True]


def test_a_folder_that_cannot_be_written_is_one_sentence(put: Install, tmp_path: Path) -> None:
    put()
    (tmp_path / "file").write_text("no folder")
    with pytest.warns(Notice, match=r"tracker 'tensorboard' failed and is told no more; the run goes on: .*file"):
        session.start(config({"tensorboard": {"folder": str(tmp_path / "file" / "logs")}}), tmp_path / "runs")
    assert show(tmp_path / "runs", "canvas-1")["status"] == "finished"


def test_a_run_that_fails_or_is_stopped_closes_its_trackers(put: Install, tmp_path: Path) -> None:
    noted = Noted()
    put(noted=noted)
    with pytest.raises(KeyboardInterrupt):
        session.start(config("noted"), tmp_path, (Notes(3),))
    assert noted.ends == [False]
    session.resume(None, tmp_path)
    assert noted.ends == [False, True]
    assert len({run.id for run in noted.runs}) == 1


def test_runs_of_the_same_name_in_two_stores_are_two_runs(put: Install, tmp_path: Path) -> None:
    noted = Noted()
    put(noted=noted)
    for store in ("one", "other"):
        session.start(config("noted"), tmp_path / store)
    assert [run.name for run in noted.runs] == ["canvas-1", "canvas-1"]
    assert len({run.id for run in noted.runs}) == 2
    assert noted.runs[0].config["generations"] == 4 and "trackers" not in noted.runs[0].config


def test_knobs_with_a_depth_are_histograms_of_their_kind() -> None:
    setting = {f"member{m}.double.{n:02d}.{b}": float(n) for m in (1, 2) for n in range(3) for b in ("attn", "mlp")}
    spread, single = tracking._knobs({**setting, "member1.weight": 3.0})
    assert set(spread) == {f"knobs/member{m}.{b}" for m in (1, 2) for b in ("attn", "mlp")}
    assert spread["knobs/member1.attn"].tolist() == [0.0, 1.0, 2.0]
    assert single == {"knobs/member1.weight": 3.0}
    spread, single = tracking._knobs({f"band {n}": 0.0 for n in "abcdefghijklmnopqrst"})
    assert set(spread) == {"knobs/all"} and not single


@pytest.mark.parametrize(
    "given",
    ["tensorboard", ["tensorboard"], {"tensorboard": None}, {"tensorboard": {}}, {"mine": {"name": "tensorboard"}}],
    ids=str,
)
def test_a_name_a_list_and_a_mapping_ask_for_the_same(given: Any) -> None:
    [(key, asked)] = config(given).trackers.items()
    assert (asked.name or key, asked.options) == ("tensorboard", {})


@pytest.mark.parametrize("before", ["tensorboard", ["tensorboard"], {"tensorboard": {}}], ids=str)
def test_an_override_adds_an_option_or_a_tracker(before: Any) -> None:
    values = {**CANVAS, "trackers": before}
    found = load_config(values, ["trackers.tensorboard.folder=/logs", "trackers.trackio.project=mine"]).trackers
    assert found["tensorboard"].options == {"folder": "/logs"} and found["trackio"].options == {"project": "mine"}
    assert load_config(values, ["trackers={}"]).trackers == {}


@pytest.mark.parametrize(
    ("trackers", "said"),
    [
        ("tensorbord", r"no tracker 'tensorbord'; did you mean 'tensorboard'\?"),
        (["tensorboard", "tracio"], r"no tracker 'tracio'; did you mean 'trackio'\?"),
        ({"tensorboard": {"foldr": "x"}}, r"option 'foldr'; did you mean 'folder'\?"),
        ({"wandb": {"mode": "offlin"}}, "'online'|offline"),
        ({"trackio": {"project": ""}}, "project"),
        ({"trackio": {"project": 3}}, "project"),
        ({"tensorboard": 3}, "tensorboard"),
        (3, "trackers"),
        ([3], "trackers"),
    ],
    ids=str,
)
def test_a_wrong_tracker_is_refused_before_anything_is_made(
    put: Install, tmp_path: Path, trackers: Any, said: str
) -> None:
    put()
    with pytest.raises((ConfigError, PluginError), match=said):
        session.start(config(trackers), tmp_path / "runs")
    assert not (tmp_path / "runs" / "trimpot.sqlite").exists()


def test_a_folder_in_a_file_is_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(
        "adapter: sphere\nobjectives: value\nprompts: numbers\ntrackers: {tensorboard: {folder: logs}}\n"
    )
    assert load_config(tmp_path / "my.yaml").trackers["tensorboard"].options == {"folder": str(tmp_path / "logs")}


def test_with_a_folder_each_run_has_one_of_its_own(put: Install, tmp_path: Path) -> None:
    put()
    for store in ("one", "other"):
        session.start(config({"tensorboard": {"folder": str(tmp_path / "logs")}}), tmp_path / store)
    found = sorted((tmp_path / "logs").iterdir())
    assert len(found) == 2 and all(each.name.startswith("canvas-1-") for each in found)
    assert all(of_tensorboard(each)["test/gain"] for each in found)


def test_trackers_are_listed_with_the_other_plugins() -> None:
    assert "trackers" in KINDS
    assert {each.name for each in plugins().registrations("trackers")} >= {"tensorboard", "trackio", "wandb"}


PAGE = (Path(__file__).parents[1] / "docs" / "trackers.md").read_text(encoding="utf-8")


def test_the_page_shows_every_option_with_its_default() -> None:
    [shown] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    described = yaml.safe_load(shown)["trackers"]
    known = {each.name: each for each in plugins().registrations("trackers") if each.origin == "trimpot"}
    assert described == {
        name: {option: parameter.default for option, parameter in inspect.signature(each.factory).parameters.items()}
        for name, each in known.items()
    }


def test_the_page_names_every_curve(put: Install, tmp_path: Path) -> None:
    noted = Noted()
    put(noted=noted)
    session.start(config("noted"), tmp_path)
    table = PAGE.partition("## What is shown")[2].partition("\n##")[0]
    for name in {re.sub(r"(/\d+|_neutral|_low|_high)$", "", name) for name in noted.curves}:
        group, _, curve = name.partition("/")
        assert f"`{name}`" in table or group in ("objectives", "watched", "alarm", "knobs", "pictures"), name
        assert f"`{group}/" in table, curve


def test_the_page_s_own_tracker_works(put: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [source] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    shown: dict[str, Any] = {}
    exec(source, shown)
    put(lines=shown["Lines"](), noted=(noted := Noted()))
    with pytest.raises(KeyboardInterrupt):
        session.start(config(["lines", "noted"]), tmp_path, (Notes(20),))
    session.resume(None, tmp_path)
    curves: Curves = {}
    for line in (tmp_path / "canvas-1" / "curves.jsonl").read_text().splitlines():
        values = json.loads(line)
        for name in set(values) - {"step"}:
            curves.setdefault(name, []).append((values["step"], values[name]))
    assert curves == {name: points for name, points in noted.curves.items() if not name.startswith("pictures/")}


needs_wandb = pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="Weights & Biases is an extra")


@needs_wandb
def test_weights_and_biases_offline_writes_the_run(put: Install, tmp_path: Path) -> None:
    put()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session.start(config({"wandb": {"mode": "offline"}}), tmp_path)
    [written] = Files.of(tmp_path / "canvas-1").images.parent.glob("wandb/offline-run-*/*.wandb")
    text = written.read_bytes()
    for name in (b"search/mean", b"validation/score", b"test/gain", b"watched/likeness"):
        assert name in text


@needs_wandb
def test_without_a_login_weights_and_biases_does_not_ask(
    put: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    put()
    with pytest.warns(Notice, match="tracker 'wandb' failed and is told no more; the run goes on: nobody is logged in"):
        session.start(config("wandb"), tmp_path)
    assert show(tmp_path, "canvas-1")["status"] == "finished"
