"""Scoring kept images later: what is kept, that it is what was generated, and what a new reward makes of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from canvas import Canvas, Darkness, canvas_config, canvas_plugins, disc
from closed_form import Notes
from numpy.typing import NDArray
from PIL import Image
from prompt_lists import write
from trimpot.engine.code import Code
from trimpot.engine.evaluation import Place
from trimpot.engine.hooks import hookimpl
from trimpot.engine.seams import Objective
from trimpot.engine.statistics import paired_gain
from trimpot.ground.errors import ConfigError, PluginError, ScoreError, StoreError
from trimpot.objectives.image_statistics import STATISTICS
from trimpot.objectives.jpeg import JpegSize
from trimpot.reports import write_report
from trimpot.reports.facts import gather
from trimpot.runs import rescoring, session
from trimpot.runs.rescoring import rescore
from trimpot.runs.results import Files
from trimpot.setup.config import load_config
from trimpot.setup.plugins import Plugins
from trimpot.storage import SqliteStore
from typer.testing import CliRunner

POOLS = ("train", "validation", "test")
SHORT = {"generations": 6, "validation": {"num_prompts": 6, "every": 2}, "test": {"num_prompts": 6}}


class Moody(Darkness):
    """Darkness, until it has scored `patience` times; then it fails."""

    patience = 99
    asked = 0

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        Moody.asked += 1
        if Moody.asked > Moody.patience:
            raise RuntimeError("out of sorts")
        return super().score(outputs, prompts)

    def describe(self) -> dict[str, Any]:
        return {"mood": "none"}


class Informed(Darkness):
    """Gives a picture what is said of its prompt."""

    known: Mapping[str, Mapping[str, Any]] | None = None

    def prepare(self, metadata: Mapping[str, Mapping[str, Any]]) -> None:
        self.known = metadata

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        assert self.known is not None
        return np.array([float(self.known[prompt]["worth"]) for prompt in prompts])

    def describe(self) -> dict[str, Any]:
        return {"known": dict(self.known or {})}


class Later:
    """Names `moody` and `informed`."""

    @hookimpl
    def register_objectives(self, register: Any) -> None:
        def make(*, shade: float = 1.0) -> Objective:
            return Moody()

        register("moody", make)
        register("informed", lambda: Informed())


@pytest.fixture(scope="module")
def made() -> Plugins:
    """The canvas and a reward that comes later."""
    found = canvas_plugins()
    found.add(Later(), name="later", origin="tests")
    return found


@pytest.fixture
def known(made: Plugins, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    """The same, wherever plugins are asked for."""
    for module in (session, rescoring):
        monkeypatch.setattr(module, "plugins", lambda: made)
    Moody.asked, Moody.patience = 0, 99
    return made


def begin(folder: Path, watchers: Any = (), **config: Any) -> str:
    return session.start(load_config(canvas_config("likeness", **{**SHORT, **config})), folder, watchers)


def test_a_reward_that_came_later_scores_what_was_kept(known: Plugins, tmp_path: Path) -> None:
    run = begin(tmp_path)
    found = rescore(run, "saturation", {}, tmp_path)
    assert [check.generation for check in found.checks] == [2, 4, 6]
    assert found.num_scored == 4 and found.num_lacking == 0 and found.num_images == 6 and found.test is None
    with SqliteStore(tmp_path) as store:
        outcome = store.run(run).outcome
        assert outcome is not None
        [neutral] = store.recorded(run, "baseline", 0).values()
        for check in found.checks:  # the statistic was watched, so the run itself has scored the same images by it
            [judged] = store.recorded(run, "validation", check.generation).values()
            scores = judged.scores["saturation"], neutral.scores["saturation"]
            assert check.moved.change == paired_gain(*scores, neutral.bucket.prompts)
            assert check.chosen == (check.generation == outcome["chosen"]["generation"])


def test_a_reward_that_came_later_is_told_what_the_prompt_files_say(known: Plugins, tmp_path: Path) -> None:
    rows = [(f"view {number}", {"worth": 3.5}) for number in range(30)]
    files = {name: str(write(tmp_path, "jsonl", rows[part::3], name)) for part, name in enumerate(POOLS)}
    run = begin(tmp_path, prompts={"name": "files", "column": "prompt", **files})
    found = rescore(run, "informed", {}, tmp_path)
    assert found.num_scored == 4 and {(check.moved.neutral, check.moved.calibrated) for check in found.checks} == {
        (3.5, 3.5)
    }


def test_kept_images_are_those_that_were_scored(known: Plugins, tmp_path: Path) -> None:
    run = begin(tmp_path)
    with SqliteStore(tmp_path) as store:
        kept = dict(store.kept(run))
        assert {place.stage for place in kept} == {"baseline", "validation"}
        for place, key in kept.items():
            [evaluation] = store.recorded(run, place.stage, place.generation).values()
            pictures = store.outputs(key)
            for name in ("dark-share", "entropy", "edge-density"):
                measured = [STATISTICS[name](np.asarray(picture.convert("RGB"))) for picture in pictures]
                assert tuple(measured) == evaluation.scores[name]


@pytest.mark.parametrize(
    ("keep", "stages"),
    [
        ("none", set()),
        ("validation", {"baseline", "validation"}),
        ("all", {"baseline", "reference", "search", "validation", "test"}),
    ],
)
def test_what_is_asked_to_be_kept_is_kept(known: Plugins, tmp_path: Path, keep: str, stages: set[str]) -> None:
    run = begin(tmp_path, keep=keep)
    with SqliteStore(tmp_path) as store:
        kept = store.kept(run)
        assert {place.stage for place, _ in kept} == stages
        recorded = {place for place, _ in store.evaluations(run) if place.stage in stages}
        assert {place for place, _ in kept} == recorded
    if keep == "none":
        assert not (tmp_path / "images").exists()
        with pytest.raises(StoreError, match=r"no kept outputs of its neutral setting.*keep: validation"):
            rescore(run, "jpeg-size", {}, tmp_path)
    if keep == "all":
        assert rescore(run, "jpeg-size", {}, tmp_path).test is not None


def test_equal_images_are_kept_once(known: Plugins, tmp_path: Path) -> None:
    class Still(Canvas):
        def generate(self, population: Any, bucket: Any) -> Any:
            sides = [4 if int(prompt.split()[1]) % 2 else -4 for prompt in bucket.prompts]
            for _ in population:
                yield [Image.fromarray(np.uint8(255 * disc("view 3", side))) for side in sides]

    known_still = canvas_plugins(Still())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "plugins", lambda: known_still)
        run = begin(tmp_path)
    with SqliteStore(tmp_path) as store:
        assert sum(len(store.outputs(key)) for _, key in store.kept(run)) == 24
    assert len(list((tmp_path / "images").rglob("*.png"))) == 2
    assert list((tmp_path / "images").rglob("*.part")) == []


def told_of(folder: Path) -> Any:
    """The digest of a run, what it keeps, and the kept files and pictures to the byte."""
    with SqliteStore(folder) as store:
        files = {path.name: path.read_bytes() for path in (folder / "images").rglob("*.png")}
        pictures = [[picture.tobytes() for picture in store.outputs(key)] for _, key in store.kept("hill-1")]
        return store.totals("hill-1")["digest"], dict(store.kept("hill-1")), files, pictures


@pytest.fixture(scope="module")
def undisturbed(made: Plugins, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What is told of a run that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "plugins", lambda: made)
        begin(folder)
    return told_of(folder)


@pytest.mark.parametrize("moment", range(1, 30, 4))
def test_a_run_killed_between_keeping_and_recording_resumes_to_the_same(
    known: Plugins, undisturbed: Any, tmp_path: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, left = SqliteStore.record, [moment]

    def killed(store: SqliteStore, *arguments: Any) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        keep(store, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "record", killed)
        with contextlib.suppress(KeyboardInterrupt):
            begin(tmp_path)
    session.resume("hill-1", tmp_path)
    assert told_of(tmp_path) == undisturbed


def test_what_was_scored_is_found_and_a_failure_costs_only_what_it_failed(known: Plugins, tmp_path: Path) -> None:
    run = begin(tmp_path)
    Moody.patience = 2
    with pytest.raises(ScoreError, match=r"objective 'moody' .*failed on prompts such as .*out of sorts") as caught:
        rescore(run, "moody", {}, tmp_path)
    assert "\n" not in str(caught.value)
    with SqliteStore(tmp_path) as store:
        [scores] = store.rescores(run).values()
    assert len(scores) == 2
    Moody.asked, Moody.patience = 0, 99
    assert rescore(run, "moody", {}, tmp_path).num_scored == Moody.asked == 2
    assert rescore(run, "moody", {}, tmp_path).num_scored == 0


def test_a_reward_with_other_options_is_another(known: Plugins, tmp_path: Path) -> None:
    run = begin(tmp_path)
    for direction in ("compressible", "incompressible"):
        rescore(run, "jpeg-size", {"direction": direction}, tmp_path)
    with SqliteStore(tmp_path) as store:
        facts = gather(store, run)
        write_report(store, run, Files.of(store.run_folder(run)))
    small, large = (
        facts.rescores[f"jpeg-size direction={d}"]["validation"] for d in ("compressible", "incompressible")
    )
    assert small.change.mean * large.change.mean < 0
    page = (tmp_path / run / "report.html").read_text(encoding="utf-8")
    assert "Scored later" in page and "jpeg-size direction=compressible" in page


def test_an_edited_reward_and_another_library_score_anew(
    known: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, made = begin(tmp_path), known.get("objectives", "moody")
    before = rescore(run, "moody", {}, tmp_path)
    assert rescore(run, "moody", {}, tmp_path).num_scored == 0
    edited = Code(made.code.words | {"an edit"}, made.code.libraries)
    for code in (edited, Code(made.code.words, {"a-library": "2.0"})):
        monkeypatch.setitem(made.__dict__, "code", code)
        again = rescore(run, "moody", {}, tmp_path)
        assert again.num_scored == before.num_scored and again.fingerprint != before.fingerprint


def test_an_unfinished_run_can_be_scored(known: Plugins, tmp_path: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        begin(tmp_path, (Notes(patience=40),))
    found = rescore("hill-1", "jpeg-size", {}, tmp_path)
    assert found.checks and found.num_scored == 1 + len(found.checks)


def test_an_image_that_is_gone_is_named_and_nothing_is_recorded(known: Plugins, tmp_path: Path) -> None:
    run = begin(tmp_path)
    with SqliteStore(tmp_path) as store:
        key = dict(store.kept(run))[Place("baseline", 0, 0)]
        [row] = store._db.query("SELECT file FROM outputs WHERE evaluation = ? AND position = 3", [key])
    (tmp_path / "images" / row["file"]).write_bytes(b"no picture")
    with pytest.raises(StoreError, match="is gone or damaged"):
        rescore(run, "jpeg-size", {}, tmp_path)
    with SqliteStore(tmp_path) as store:
        assert store.rescores(run) == {}


@pytest.mark.parametrize(
    ("run", "objective", "options", "error", "said"),
    [
        ("hill-2", "jpeg-size", {}, StoreError, "no run 'hill-2'"),
        ("hill-1", "jpeg-siz", {}, PluginError, "no objective 'jpeg-siz'; did you mean 'jpeg-size'?"),
        ("hill-1", "jpeg-size", {"quality": 3}, ConfigError, "takes no option 'quality'"),
    ],
)
def test_a_mistake_is_one_sentence(
    known: Plugins, tmp_path: Path, run: str, objective: str, options: dict[str, Any], error: Any, said: str
) -> None:
    begin(tmp_path)
    with pytest.raises(error, match=said) as caught:
        rescore(run, objective, options, tmp_path)
    assert "\n" not in str(caught.value)


def test_images_that_another_run_did_not_keep_are_missed(known: Plugins, tmp_path: Path) -> None:
    """The second run finds what the first has scored, and so makes no images to keep."""
    begin(tmp_path, keep="none")
    run = begin(tmp_path, keep="validation")
    with pytest.raises(StoreError, match=rf"run {run} has no kept outputs of its neutral setting"):
        rescore(run, "jpeg-size", {}, tmp_path)


def test_the_command_prints_for_people_and_for_programs(known: Plugins, tmp_path: Path) -> None:
    from trimpot.cli import app

    run = begin(tmp_path)
    asked = ["rescore", run, "--objective", "jpeg-size", "-o", "direction=compressible", "--store", str(tmp_path)]
    said = CliRunner().invoke(app, asked)
    assert said.exit_code == 0 and "chosen" in said.output
    printed = json.loads(CliRunner().invoke(app, [*asked, "--json"]).output)
    assert (printed["run"], printed["objective"]) == (run, "jpeg-size direction=compressible")
    assert printed["num_scored"] == 0 and [check["generation"] for check in printed["checks"]] == [2, 4, 6]
    with SqliteStore(tmp_path) as store:
        pictures = store.outputs(dict(store.kept(run))[Place("baseline", 0, 0)])
    expected = JpegSize(direction="compressible").score(pictures, [""] * len(pictures)).mean()
    assert printed["checks"][0]["moved"]["neutral"] == pytest.approx(expected)
