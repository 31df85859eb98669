"""Records: a prompt with its answer, options and tag, exactly as written, or a sentence with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prompt_lists import told, write
from trimpot.ground.errors import ConfigError
from trimpot.prompts.files import prompt_files

SHOTS = "Q: 1 + 1\nA: 2\n\n# not a comment\nQ: 2 + 3\nA: "
STRUCTURED = ("json", "json columns", "json identified", "jsonl", "parquet")


def files(folder: Path, layout: str, train: list[tuple[str, dict[str, Any]]]) -> dict[str, Path]:
    held_out = {name: write(folder, "txt", [(f"kept for {name}", {})], name) for name in ("validation", "test")}
    return {"train": write(folder, layout, train, "train"), **held_out}


def made(folder: Path, layout: str, train: list[tuple[str, dict[str, Any]]], **options: Any) -> Any:
    return told(lambda: prompt_files(**files(folder, layout, train), column="prompt", **options))[0]


TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs"), include_characters="\t\n"), min_size=1, max_size=30)
SAID = TEXT.filter(str.strip)
RECORDS = st.dictionaries(
    SAID.map(lambda text: "p" + text),
    st.lists(SAID, min_size=2, max_size=4, unique=True).flatmap(
        lambda options: st.fixed_dictionaries(
            {"answer": st.sampled_from(options), "options": st.just(options), "tag": st.sampled_from(["sums", "words"])}
        )
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("layout", STRUCTURED)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(records=RECORDS)
def test_a_record_is_read_as_it_was_written(tmp_path: Path, layout: str, records: dict[str, Any]) -> None:
    """White space, line breaks and # included: a language model reads them all."""
    found = made(tmp_path, layout, list(records.items()))
    assert found.train == tuple(records) and found.metadata == records


@pytest.mark.parametrize("layout", STRUCTURED)
@pytest.mark.parametrize("prompt", [SHOTS, "# a title", "  indented", "ends in a space ", "\n\nblank lines\n"])
def test_no_character_of_a_prompt_is_lost(tmp_path: Path, layout: str, prompt: str) -> None:
    assert made(tmp_path, layout, [(prompt, {"answer": " 5"})]).train == (prompt,)


@pytest.mark.parametrize("layout", ["csv", "tsv", "csv semicolons"])
def test_a_table_may_hold_options_as_json_in_a_cell(tmp_path: Path, layout: str) -> None:
    rows = [("Is it?", {"answer": " yes", "options": json.dumps([" yes", " no"]), "tag": "doubt"})]
    assert made(tmp_path, layout, rows).metadata == {
        "Is it?": {"answer": " yes", "options": [" yes", " no"], "tag": "doubt"}
    }


def test_a_prompt_that_differs_in_white_space_alone_is_no_new_prompt_for_the_test(tmp_path: Path) -> None:
    pools = files(tmp_path, "jsonl", [("kept for test ", {}), ("other", {})])
    found, notices = told(lambda: prompt_files(**pools, column="prompt"))
    assert found.train == ("other",) and any("among the test prompts too" in notice for notice in notices)


WRONG = [
    ({"answer": 42}, "the answer in {line} must be text, in quotes, not the int 42"),
    ({"answer": ["a", "b"]}, r"the answer in {line} must be text, not the list \['a', 'b'\]"),
    ({"answer": True}, "the answer in {line} must be text"),
    ({"answer": {"text": "a"}}, "the answer in {line} must be text, not the dict"),
    ({"answer": " "}, "the answer in {line} is empty"),
    ({"options": "a, b"}, "the options in {line} must be a list of texts, not the str 'a, b'"),
    ({"options": "[a, b]"}, "the options in {line} begin like a JSON list and are none"),
    ({"options": {"A": "a"}}, "the options in {line} must be a list of texts"),
    ({"options": ["a", 3]}, "the options in {line} hold the int 3; every option must be text"),
    ({"options": ["a", ""]}, "the options in {line} hold the str ''; every option must be text"),
    ({"options": ["a"]}, "the options in {line} are 1; give at least 2"),
    ({"options": []}, "the options in {line} are 0; give at least 2"),
    ({"options": ["a", "a", "b"]}, "the options in {line} hold 'a' twice"),
    ({"answer": "c", "options": ["a", "b"]}, "the answer in {line} is none of its 2 options; write it as it stands"),
    ({"answer": "a", "options": [" a", " b"]}, "the answer in {line} is none of its 2 options; their white space"),
    ({"tag": 3}, "the tag in {line} must be text, in quotes, not the int 3"),
    ({"tag": ["a"]}, "the tag in {line} must be text"),
    ({"tag": "a\nb"}, "the tag in {line} is 'a.nb'; give one line"),
    ({"tag": "x" * 101}, "the tag in {line} is .*; give one line of at most 100 characters"),
]


@pytest.mark.parametrize(("about", "sentence"), WRONG, ids=lambda each: str(each)[:40])
@pytest.mark.parametrize("layout", ["json", "jsonl"])
def test_a_field_of_the_wrong_type_is_a_sentence_with_file_and_line(
    tmp_path: Path, layout: str, about: dict[str, Any], sentence: str
) -> None:
    place = "entry 2" if layout == "json" else "line 2"
    with pytest.raises(ConfigError, match=sentence.format(line=f"{place} of .*train.{layout}")) as caught:
        made(tmp_path, layout, [("first", {}), ("second", about)])
    assert len(str(caught.value).splitlines()) == 1
    assert made(tmp_path, layout, [("first", {}), ("second", about)], metadata=[]).metadata == {}


def test_a_field_that_is_null_is_absent(tmp_path: Path) -> None:
    about = {"answer": None, "options": None, "tag": None, "note": None}
    assert made(tmp_path, "jsonl", [("first", about)]).metadata == {"first": {"note": None}}


@pytest.mark.parametrize(
    ("name", "one", "two"), [("answer", "2", "3"), ("options", ["a", "b"], ["b", "a"])], ids=["answer", "options"]
)
@pytest.mark.parametrize("layout", ["json", "jsonl", "parquet"])
def test_a_prompt_with_two_answers_is_refused_and_no_answer_is_named(
    tmp_path: Path, layout: str, name: str, one: Any, two: Any
) -> None:
    place = {"json": "entry", "jsonl": "line", "parquet": "row"}[layout]
    rows = [(SHOTS, {name: one}), ("other", {}), (SHOTS, {name: two})]
    with pytest.raises(
        ConfigError, match=f"{place} 3 of .* and {place} 1 of .* give one prompt, .*different"
    ) as caught:
        made(tmp_path, layout, rows)
    assert repr(SHOTS) in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert made(tmp_path, layout, rows, metadata=[]).train == (SHOTS, "other")
    assert made(tmp_path, layout, [rows[0], rows[0]]).metadata == {SHOTS: {name: one}}


def test_the_records_that_the_page_shows_are_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")
    lines = [line.strip() for line in page.splitlines() if line.startswith('    {"prompt"')]
    (tmp_path / "page.jsonl").write_text("\n".join(lines))
    pools = {**files(tmp_path, "jsonl", [("x", {})]), "train": tmp_path / "page.jsonl"}
    found = told(lambda: prompt_files(**pools, column="prompt"))[0]
    assert len(lines) == 2 and "\n\nQ: 23 + 58\nA:" in found.train[0]
    assert [about["answer"] for about in found.metadata.values()] == [" 81", "no"]


def test_of_a_long_prompt_a_sentence_quotes_beginning_and_end(tmp_path: Path) -> None:
    """Prompts that begin with the same examples are told apart by their ends."""
    prompt = "Q: 1 + 1\nA: 2\n" * 200 + "Q: 2 + 3\nA:"
    with pytest.raises(ConfigError) as caught:
        made(tmp_path, "jsonl", [(prompt, {"answer": "a"}), (prompt, {"answer": "b"})])
    assert len(str(caught.value)) < 600 and "Q: 2 + 3" in str(caught.value)
