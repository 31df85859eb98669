"""Diversity: the distances between pictures of one prompt, neutral against calibrations, paired by prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tower
from PIL import Image
from trimpot.engine.calibration import Calibration
from trimpot.ground.errors import ScoreError
from trimpot.objectives.shapes import drawing
from trimpot.objectives.shapes.diversity import ShapesDiversity
from trimpot.storage import Analyses, SqliteStore
from typed import typed

FOLDER = Path("trimpot-runs")


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run, and a copy of its calibration under which the pictures of a prompt are all alike."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    tower.write(tmp_path)
    Path("tower.py").write_text(tower.PLUGIN.replace("+ noise[1]", "+ noise[1] * row[5]"))
    assert typed("calibrate", "tower.yaml").status == 0
    own = Calibration.load(FOLDER / "tower-1" / "calibration.json")
    alike = {**own.setting, "member1.double.02.mlp": 0.5}
    own.model_copy(update={"setting": alike}).save(Path("alike.json"))


def diversity(*words: str) -> dict[str, Any]:
    said = typed("analyse", "diversity", *words, "--json")
    assert said.status == 0, said.err
    found: dict[str, Any] = json.loads(said.out)
    return found


@pytest.mark.usefixtures("_here")
def test_a_calibration_that_makes_pictures_alike_is_found_out_with_all_rewards_beside() -> None:
    found = diversity("tower-1", "alike.json", "measures=spread", "seeds=5")
    spread = found["numbers"]["diversity"]["spread"]
    halved = spread["alike"]
    assert halved["beyond_noise"] and halved["high"] < 0 and halved["num_prompts"] == 24
    assert halved["mean"] == pytest.approx(-spread["neutral"] / 2, rel=0.1)
    assert set(found["numbers"]["rewards"]) == {"value", "half"}
    page = Path(found["page"]).read_text()
    assert "By spread, the pictures of one prompt are" in page and "Holm" in page
    assert len((FOLDER / found["analysis"] / "diversity.csv").read_text().splitlines()) == 4
    with SqliteStore(FOLDER, create=False) as store:
        history = [each for each in Analyses(store).history(found["analysis"]) if each.place.stage == "test"]
    for each in history:  # recorded a few prompts at a time, and all pictures of a prompt together
        bucket = each.evaluation.bucket
        assert all(bucket.prompts.count(prompt) == 5 for prompt in bucket.prompts) and len(bucket) == 40
    before = tower.made()
    assert diversity("tower-1", "alike.json", "measures=spread", "seeds=5")["analysis"] == found["analysis"]
    assert tower.made() == before


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("tower-l", "tower-1"),
        ("tower-1 tower-1 measures=spread", "named twice"),
        ("tower-1 measures=half", "'half' does not compare the pictures of a prompt"),
        ("tower-1 measures=sprea", "'spread'"),
        ("tower-1 seeds=1", "at least 2"),
        ("tower-1 measures=spread seeds_per_prompt=3", "has the option seeds for it"),
        ("tower-1 generations=3", "generations is of a search"),
    ],
)
def test_what_has_no_diversity_is_said_in_one_sentence(words: str, said: str) -> None:
    done = typed("analyse", "diversity", *words.split())
    assert done.status == 1 and done.err.count("\n") == 1 and said in done.err, done.err


# The measure of the shapes world

CAPTION = "two red circles"
RED = (0.9, 0.12, 0.12)


def picture(
    *places: tuple[float, float], radius: float = 5, ground: float = 0.95, strength: float = 1.0
) -> Image.Image:
    colour = tuple(ground + (part - ground) * strength for part in RED)
    things = [drawing.Placed("circle", x, y, radius, colour) for x, y in places]  # type: ignore[arg-type]
    return Image.fromarray(np.clip(drawing.render(things, (ground,) * 3) * 255, 0, 255).astype(np.uint8))


def apart(*pictures: Image.Image) -> list[float]:
    return ShapesDiversity().score(pictures, [CAPTION] * len(pictures)).tolist()


PLAIN = picture((9, 9), (22, 22))


def test_equal_pictures_have_no_diversity_in_whichever_order_their_objects_are() -> None:
    assert apart(PLAIN, PLAIN) == [0, 0]
    assert apart(PLAIN, picture((22, 22), (9, 9))) == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.parametrize(
    "other",
    [
        picture((9, 22), (22, 9)),
        picture((9, 9), (22, 22), radius=7),
        picture((9, 9), (22, 22), ground=0.6),
        picture((9, 9), (22, 22), strength=0.6),
    ],
    ids=["place", "size", "background", "strength"],
)
def test_whatever_the_caption_leaves_open_counts(other: Image.Image) -> None:
    found = apart(PLAIN, other)
    assert found[0] == found[1] > 0.01
    assert max(apart(PLAIN, other, PLAIN)) == pytest.approx(found[0])  # that of the other; the two are alike
    assert min(apart(PLAIN, other, PLAIN)) == pytest.approx(found[0] / 2)


def test_further_apart_is_more_and_all_lies_between_0_and_1() -> None:
    near, far = apart(PLAIN, picture((11, 9), (22, 22)))[0], apart(PLAIN, picture((16, 9), (22, 22)))[0]
    assert 0 < near < far < 1
    extreme = apart(picture((5, 5), (7, 20), radius=3), picture((26, 26), (20, 7), radius=9, ground=0.0))
    assert 0 < extreme[0] <= 1


def test_an_object_that_is_missing_is_a_mistake_and_no_diversity() -> None:
    assert apart(PLAIN, picture((9, 9)))[0] == pytest.approx(0, abs=1e-3)
    assert apart(picture(), picture()) == [0, 0]


def test_one_picture_alone_is_refused() -> None:
    with pytest.raises(ScoreError, match="has only one picture, but diversity compares pictures"):
        ShapesDiversity().score([PLAIN], [CAPTION])
