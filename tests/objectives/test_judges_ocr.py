"""The OCR reward, with the real reader where it is installed."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image
from trimpot.engine.seams import Objective
from trimpot.ground.errors import ConfigError, MissingError, ScoreError
from trimpot.proofs.rewards.ocr import written
from trimpot.setup.plugins import Plugins
from trimpot.testing import ObjectiveContract


def make(**options: Any) -> Any:
    for package in ("rapidocr", "onnxruntime", "rapidfuzz"):
        pytest.importorskip(package)
    return Plugins().make("objectives", "ocr", options)


class TestOCR(ObjectiveContract):
    @pytest.fixture
    def objective(self) -> Objective:
        made = make(detect=False)
        assert isinstance(made, Objective)
        return made

    @pytest.fixture
    def unscorable(self) -> list[Any]:
        return [np.zeros((8, 8, 3)), None]

    @pytest.fixture
    def examples(self) -> list[tuple[Any, str]]:
        return [
            (written("CAT 42"), 'a sign that says "Cat 42"'),
            (written("HELO"), 'a neon "Hello" over "Bar"'),
            (written("zzz"), 'the word "fish"'),
        ]


def test_written_words_are_read() -> None:
    objective = make(detect=False)
    scores = objective.score(
        [written("CAT 42"), written("HELO"), written("")], ['say "cat 42"', 'say "Hello"', "say \u201cno\u201d"]
    )
    assert scores == pytest.approx([1, 1 - 1 / 5, 0])


def test_lines_anywhere_are_found() -> None:
    page = Image.new("RGB", (320, 240), "lightblue")
    page.paste(written("Hello"), (30, 20))
    page.paste(written("World"), (30, 150))
    objective = make()
    assert objective.read(page) == "helloworld"
    assert objective.score([page], ['a page that says "World"']) == [1]


def test_small_pictures_can_be_enlarged() -> None:
    small = written("CAT").crop((0, 0, 100, 64)).resize((50, 32), Image.Resampling.LANCZOS)
    objective = make(target=r"the word (\w+)", detect=False, upscale=3)
    assert objective.score([small], ["the word CAT"]) == [1]


def test_what_is_wanted_stands_in_quotes_or_where_the_pattern_says() -> None:
    objective = make()
    assert objective.wanted('New York with "Hello World" and "more"') == "helloworld"
    with pytest.raises(ScoreError, match="names no text to read"):
        objective.wanted("the word CAT")
    assert make(target=r"the word (\w+)").wanted("the word CAT") == "cat"
    assert objective.describe() != make(upscale=2).describe()


@pytest.mark.parametrize(("target", "reason"), [("(", "no regular expression"), ("cat", "needs a group")])
def test_a_bad_pattern_is_one_sentence(target: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Plugins().make("objectives", "ocr", {"target": target})


def test_without_the_reader_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidfuzz", None)
    with pytest.raises(MissingError, match=r"pip install 'trimpot\[ocr\]'"):
        Plugins().make("objectives", "ocr", {})
