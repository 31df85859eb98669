"""How `servers/geneval_mmdet.py` judges what its detector found; the detector itself needs a GPU of its own."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest
from served import SERVERS


@pytest.fixture(scope="module")
def geneval() -> Any:
    """The script, imported as it is when it is run: with its own folder first on the path."""
    sys.path.insert(0, str(SERVERS))
    try:
        spec = importlib.util.spec_from_file_location("geneval_mmdet", SERVERS / "geneval_mmdet.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(SERVERS))


MIDDLE = (40, 40, 60, 60)


@pytest.mark.parametrize(
    ("box", "sides"),
    [
        ((0, 40, 20, 60), {"left of"}),
        ((80, 40, 100, 60), {"right of"}),
        ((40, 0, 60, 20), {"above"}),
        ((40, 80, 60, 100), {"below"}),
        ((0, 0, 20, 20), {"left of", "above"}),
        ((80, 80, 100, 100), {"right of", "below"}),
        (MIDDLE, set()),
        ((44, 40, 64, 60), set()),  # 4 pixels apart, a tenth of both widths
        ((45, 40, 65, 60), set()),  # 5 apart, 1 of them beyond: a fifth of the distance is less than half
        ((49, 40, 69, 60), {"right of"}),  # 9 apart, 5 beyond
        ((0, 30, 20, 50), {"left of"}),  # a little higher, which does not count
    ],
)
def test_where_a_box_lies(geneval: Any, box: tuple[int, ...], sides: set[str]) -> None:
    assert geneval.sides(box, MIDDLE) == sides


def colours(name: str, objects: Any) -> list[str]:
    """The mask stands for the colour."""
    return [mask for _, mask in objects]


LEFT, RIGHT = (0, 40, 20, 60), (80, 40, 100, 60)
COUNT = {"include": [{"class": "cat", "count": 2}], "exclude": [{"class": "cat", "count": 3}]}
COLOUR = {"include": [{"class": "cat", "count": 1, "color": "red"}, {"class": "dog", "count": 1, "color": "blue"}]}
PLACE = {"include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 1, "position": ["left of", 0]}]}


@pytest.mark.parametrize(
    ("asked", "found", "right"),
    [
        (COUNT, {"cat": [(LEFT, None)] * 2}, True),
        (COUNT, {"cat": [(LEFT, None)]}, False),
        (COUNT, {"cat": [(LEFT, None)] * 3}, False),
        (COUNT, {}, False),
        (COLOUR, {"cat": [(LEFT, "red")], "dog": [(RIGHT, "blue")]}, True),
        (COLOUR, {"cat": [(LEFT, "blue")], "dog": [(RIGHT, "red")]}, False),
        (COLOUR, {"cat": [(LEFT, "blue"), (LEFT, "red")], "dog": [(RIGHT, "blue")]}, False),  # the surest counts
        (COLOUR, {"cat": [(LEFT, "red")]}, False),
        (PLACE, {"dog": [(RIGHT, None)], "cat": [(LEFT, None)]}, True),
        (PLACE, {"dog": [(LEFT, None)], "cat": [(RIGHT, None)]}, False),
        (PLACE, {"dog": [(LEFT, None)], "cat": [(RIGHT, None), (LEFT, None)]}, False),
        (PLACE, {"cat": [(LEFT, None)]}, False),
    ],
)
def test_what_is_right(geneval: Any, asked: Any, found: Any, right: bool) -> None:
    assert geneval.judge(asked, found, colours) is right


def test_without_its_metadata_it_says_so_in_one_sentence(geneval: Any, tmp_path: Any) -> None:
    (tmp_path / "bad.jsonl").write_text('{"tag": "counting"}\n')
    for path in ("absent.jsonl", "bad.jsonl"):
        with pytest.raises(Exception, match="cannot read the metadata") as caught:
            geneval.read_metadata(str(tmp_path / path))
        assert type(caught.value).__name__ == "RefusalError"


def test_prompts_may_bring_what_they_ask_for(geneval: Any) -> None:
    judge = object.__new__(geneval.Judge)
    judge.read = judge.asked = {"two cats": {"tag": "counting", **COUNT}}
    judge.prepare({"red cat": {"tag": "mine", **COLOUR}, "two cats": {"tag": "counting", **COUNT}, "x": {"note": 1}})
    assert set(judge.asked) == {"two cats", "red cat"} and set(judge.read) == {"two cats"}
    with pytest.raises(ValueError, match="something else than the benchmark does by 'two cats'"):
        judge.prepare({"two cats": {"tag": "counting", **COLOUR}})
