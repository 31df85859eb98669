"""Studies of runs: held-out prompts, the images that there are, and none made twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from canvas import Canvas, canvas_config
from numpy.typing import NDArray
from PIL import Image
from sessions import Installed
from studied import rate, taste
from trimpot.engine.bucket import Bucket
from trimpot.engine.calibration import Calibration
from trimpot.ground.errors import ConfigError, TrimpotError
from trimpot.runs import session
from trimpot.setup.config import load_config
from trimpot.storage import SqliteStore, Studies
from trimpot.studies.beginning import asked_for, begin, found, with_raters
from trimpot.studies.design import Design
from trimpot.studies.rating import Rating
from trimpot.studies.results import results

SHORT = {"generations": 2, "validation": {"num_prompts": 2, "every": 2}, "test": {"num_prompts": 8}}


class Counting(Canvas):
    made = 0

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[Image.Image]]:
        for pictures in super().generate(population, bucket):
            Counting.made += len(pictures)
            yield pictures


@pytest.fixture
def canvas(installed: Installed, short_reports: None) -> Installed:
    installed.put(Counting())
    return installed


def calibrated(folder: Path, weight: float = -1, **config: Any) -> str:
    own = canvas_config({"jpeg-size": {"weight": weight}, "entropy": {"weight": 0}}, **{**SHORT, **config})
    return session.start(load_config(own), folder)


def begun(store: SqliteStore, *sources: str, raters: int = 2, **asked: Any) -> tuple[str, Design]:
    study = begin(store, asked_for(store, sources, **asked), raters=raters)
    return study, Design.from_json(Studies(store).get(study).config)


def test_images_that_the_run_kept_are_shown_and_none_is_made(canvas: Installed, tmp_path: Path) -> None:
    run = calibrated(tmp_path, keep="all")
    before = Counting.made
    with SqliteStore(tmp_path, create=False) as store:
        _, design = begun(store, run)
        assert Counting.made == before
        tested = {place.position: each for place, each in store.evaluations(run, ("test",)) if not place.generation}
        assert design.entrants == (run, "neutral")
        assert [item.prompt for item in design.items] == list(tested[0].bucket.prompts)
        assert [item.seed for item in design.items] == list(tested[0].bucket.seeds)
        assert not {item.prompt for item in design.items} & {*store.prompts(run).train, *store.prompts(run).validation}  # type: ignore[union-attr]
        for files, position in zip(design.pictures, (1, 0), strict=True):  # calibrated, then neutral
            keys = dict(store.kept(run))
            [key] = [key for place, key in keys.items() if (place.stage, place.position) == ("test", position)]
            kept = [image.convert("RGB").tobytes() for image in store.outputs(key)]
            assert [Studies(store).image(file).tobytes() for file in files] == kept
        for name, rows in design.scores.items():
            assert rows == [list(tested[1].scores[name]), list(tested[0].scores[name])]
        assert set(design.scores) == {"jpeg-size", "entropy"}, "rewards, and no statistic that every run watches"


def test_without_kept_images_they_are_made_once_and_are_the_same(canvas: Installed, tmp_path: Path) -> None:
    run = calibrated(tmp_path, keep="all")
    twin = calibrated(tmp_path / "other")
    with SqliteStore(tmp_path, create=False) as store:
        _, kept = begun(store, run)
    with SqliteStore(tmp_path / "other", create=False) as store:
        before = Counting.made
        _, made = begun(store, twin)
        assert Counting.made == before + 2 * 8
        assert made.pictures == kept.pictures and made.items == kept.items and made.scores == kept.scores
        _, again = begun(store, twin, seed=5)
        assert Counting.made == before + 2 * 8 and again.pictures == made.pictures, "a later study makes none again"


def test_pictures_under_way_are_not_lost(canvas: Installed, tmp_path: Path) -> None:
    run, before = calibrated(tmp_path), Counting.made

    def stop(done: int, total: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with SqliteStore(tmp_path, create=False) as store:
        asked = asked_for(store, [run])
        with pytest.raises(KeyboardInterrupt):
            begin(store, asked, progress=stop)
        assert found(store, asked) is None and Counting.made == before + 8
        study = begin(store, asked)
        assert Counting.made == before + 16 and found(store, asked) == study


def test_a_calibration_that_travelled_is_shown_in_another_store(canvas: Installed, tmp_path: Path) -> None:
    run = calibrated(tmp_path / "here")
    file = Path(shutil.copy(tmp_path / "here" / run / "calibration.json", tmp_path / "c.json"))
    with SqliteStore(tmp_path / "there") as store:
        _, elsewhere = begun(store, str(file))
        assert not elsewhere.scores
    with SqliteStore(tmp_path / "here", create=False) as store:
        _, own = begun(store, run)
    assert elsewhere.pictures == own.pictures and elsewhere.entrants == own.entrants


def test_several_calibrations_meet_each_other_and_neutral_once(canvas: Installed, tmp_path: Path) -> None:
    runs = [calibrated(tmp_path, weight) for weight in (-1, 1)]
    with SqliteStore(tmp_path, create=False) as store:
        study, design = begun(store, *runs, pairs=12)
        assert design.entrants == (*runs, "neutral") and len(design.matches) == 3
        for rater in with_raters(store, study, 3):
            rate(Rating(store, study), rater, taste(rater.number, 0.7))
        verdicts = results(store, study).verdicts["overall"]
        assert [(each.first, each.second) for each in verdicts.matches] == [(0, 1), (0, 2), (1, 2)]
        assert verdicts.strengths[0].value > verdicts.strengths[2].value == 0


def test_prompts_that_a_search_has_seen_are_refused(canvas: Installed, tmp_path: Path) -> None:
    run = calibrated(tmp_path)
    with SqliteStore(tmp_path, create=False) as store:
        prompts = store.prompts(run)
        assert prompts is not None
        (tmp_path / "seen.txt").write_text(f"{prompts.train[0]}\nhill 999\n")
        with pytest.raises(ConfigError, match=f"the search of {run} has seen 1 of these prompts"):
            begun(store, run, prompts=tmp_path / "seen.txt")
        (tmp_path / "new.txt").write_text("hill 997\nhill 998\nhill 999\n")
        _, design = begun(store, run, prompts=tmp_path / "new.txt")
        assert sorted(item.prompt for item in design.items) == ["hill 997", "hill 998", "hill 999"]
        assert not any(each is not None for rows in design.scores.values() for row in rows for each in row)


def test_rewards_that_rank_as_people_do_are_told(canvas: Installed, tmp_path: Path) -> None:
    run = calibrated(tmp_path)
    with SqliteStore(tmp_path, create=False) as store:
        study, design = begun(store, run)
        scores = design.scores["jpeg-size"]

        def like_the_reward(shown: Any, question: str) -> str:
            known = taste(0)(shown, question)
            if shown["kind"] != "pair":
                return known
            left, right = (scores[shown[side]][shown["item"]] or 0 for side in ("left", "right"))
            better = "left" if left > right else "right"
            return better if question == "overall" else {"left": "right", "right": "left"}[better]

        for rater in with_raters(store, study, 3):
            rate(Rating(store, study), rater, like_the_reward)
        verdicts = results(store, study).verdicts
        found = {name: {each.name: each.agreement.value for each in verdicts[name].rewards} for name in verdicts}
        assert found["overall"]["jpeg-size"] == 1 and found["alignment"]["jpeg-size"] == 0


def test_what_cannot_be_shown_is_refused(canvas: Installed, installed: Installed, tmp_path: Path) -> None:
    run = calibrated(tmp_path)
    setting = Calibration.load(tmp_path / run / "calibration.json")
    setting.model_copy(update={"setting": {"aim": 1.0, "light": 1.0}}).save(tmp_path / "neutral.json")
    with SqliteStore(tmp_path, create=False) as store:
        with pytest.raises(ConfigError, match="is that of neutral, so there is nothing to choose"):
            begun(store, str(tmp_path / "neutral.json"))
        with pytest.raises(ConfigError, match="given twice"):
            asked_for(store, [run, run])
        with pytest.raises(TrimpotError, match="did you mean"):
            asked_for(store, [f"{run[:-2]}x-1"])
        with pytest.raises(ConfigError, match="study folders with folders"):
            (tmp_path / "pictures").mkdir()
            asked_for(store, [run, str(tmp_path / "pictures")])
        with pytest.raises(ConfigError, match="no rater can see 99"):
            begun(store, run, pairs=99)
        Canvas.makes = None
        try:
            with pytest.raises(ConfigError, match="makes none"):
                begun(store, run, seed=3)
        finally:
            Canvas.makes = "image"
        assert not Studies(store).names()
