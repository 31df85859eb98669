"""Prompts from files: read by what they hold, kept apart, and a plain sentence where they cannot be used."""

from __future__ import annotations

import gzip
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from prompt_lists import ROWS, WRITERS, accident, told, write
from trimpot.engine.bucket import PromptSet
from trimpot.ground.errors import ConfigError, MissingError
from trimpot.ground.listings import KNOWN, LONGEST, read_listing
from trimpot.prompts.files import prompt_files
from trimpot.setup.plugins import Plugins


@pytest.fixture
def held_out(tmp_path: Path) -> dict[str, Path]:
    """Validation and test prompts, one each."""
    made = {name: tmp_path / f"{name}.txt" for name in ("validation", "test")}
    for name, path in made.items():
        path.write_text(f"kept for {name}\n")
    return made


def prompts_of(path: Path, column: str | None = None) -> list[str]:
    return [row.prompt for row in read_listing(path, column).rows]


# ---------------------------------------------------------------------------------------------------------------
# The layouts that people have.

PUBLISHED = {
    "parti.tsv": (
        b"Prompt\tCategory\tChallenge\tNote\n0\tAbstract\tBasic\tnumbers\n"
        b'a wall that says "Stop" in red\tArtifacts\tWriting\t\n"Go!" on a banner\tArtifacts\tWriting\t\n',
        ["0", 'a wall that says "Stop" in red', '"Go!" on a banner'],
        {"Category": "Artifacts", "Challenge": "Writing"},
    ),
    "sheet.tsv": (b'Prompt\tKind\n"a ""big"" cat"\tx\n"a dog"\t"y"\n', ['a "big" cat', "a dog"], {"Kind": "y"}),
    "drawbench.csv": (
        b'Prompts,Category\r\n"A green cup, on a blue table.",Colors\r\nTwo dogs.,Counting\r\n',
        ["A green cup, on a blue table.", "Two dogs."],
        {"Category": "Counting"},
    ),
    "evaluation_metadata.jsonl": (
        b'{"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"}\n'
        b'{"tag": "counting", "include": [{"class": "clock", "count": 2}], "exclude": [{"class": "clock", "count": 3}],'
        b' "prompt": "a photo of two clocks"}\n',
        ["a photo of a bench", "a photo of two clocks"],
        {
            "tag": "counting",
            "include": [{"class": "clock", "count": 2}],
            "exclude": [{"class": "clock", "count": 3}],
        },
    ),
    "hpdv3.json": (
        json.dumps(
            [
                {
                    "prompt": prompt,
                    "path1": f"images/{n}.jpg",
                    "path2": f"images/{n + 1}.jpg",
                    "model1": "flux",
                    "model2": "sd3",
                    "confidence": 0.9,
                    "choice_dist": [9, n],
                }
                for n, prompt in enumerate(["a lake at dawn, mist", "a lake at dawn, mist", "a portrait"])
            ]
        ).encode(),
        ["a lake at dawn, mist", "a lake at dawn, mist", "a portrait"],
        {"path1": "images/2.jpg", "path2": "images/3.jpg", "model1": "flux", "model2": "sd3", "confidence": 0.9}
        | {"choice_dist": [9, 2]},
    ),
    "color_train.txt": (b"a red bench and a cup\na green apple\n", ["a red bench and a cup", "a green apple"], {}),
    "anime.json": (b'["a girl, 1990s style", "a robot"]', ["a girl, 1990s style", "a robot"], {}),
    "mjhq.json": (
        b'{"0a": {"category": "food", "prompt": "soup"}, "0b": {"category": "art", "prompt": "a vase"}}',
        ["soup", "a vase"],
        {"category": "art"},
    ),
    "wrapped.json": (b'{"version": 2, "prompts": ["a", "b"]}', ["a", "b"], {}),
    "frame.json": (b'{"Prompt": {"0": "a", "1": "b"}, "Kind": {"0": "x", "1": "y"}}', ["a", "b"], {"Kind": "y"}),
    "captions.csv": ("\ufeff;caption\n0;ein Huhn, süß\n1;b\n".encode(), ["ein Huhn, süß", "b"], {}),
    "strings.jsonl": (b'"a cat"\n\n"a dog"\n', ["a cat", "a dog"], {}),
    "one.jsonl": (b'{"text": "a cat", "seed": 3}', ["a cat"], {"seed": 3}),
    "README": (b"a cat\na dog", ["a cat", "a dog"], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_lists_are_read_as_they_are(tmp_path: Path, name: str) -> None:
    data, prompts, last = PUBLISHED[name]
    (tmp_path / name).write_bytes(data)
    rows = read_listing(tmp_path / name).rows
    assert [row.prompt for row in rows] == prompts
    assert rows[-1].metadata == last


# ---------------------------------------------------------------------------------------------------------------
# Every layout, and what may happen in any.


def without_metadata(layout: str) -> bool:
    return layout == "txt"


@pytest.mark.parametrize("layout", WRITERS)
def test_every_layout_gives_prompts_and_their_metadata(tmp_path: Path, held_out: dict[str, Path], layout: str) -> None:
    train = write(tmp_path, layout, ROWS)
    made, notices = told(lambda: prompt_files(train=train, **held_out))
    assert made.train == ("a cat, sitting", "a dog", "a hut")
    assert made.metadata == ({} if without_metadata(layout) else dict(ROWS))
    guessed = (
        []
        if without_metadata(layout)
        else [sentence for sentence in notices if "was taken for the prompts" in sentence]
    )
    assert notices == guessed and len(guessed) == (not without_metadata(layout))


TEXT = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), include_characters="\t\x0b\x0c\x85"), min_size=1, max_size=40
)
WORDS = TEXT.map(lambda text: text.replace("\ufeff", "").strip()).filter(bool)


@pytest.mark.parametrize("layout", WRITERS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows=st.lists(st.tuples(WORDS, st.fixed_dictionaries({"kind": WORDS, "note": WORDS})), min_size=1, max_size=4))
def test_what_was_written_is_read(tmp_path: Path, layout: str, rows: list[tuple[str, dict[str, str]]]) -> None:
    if layout == "txt":
        assume(rows[0][0].casefold() not in KNOWN and rows[0][0][0] not in "[{")
        assume(not any(name in rows[0][0].casefold() for name in KNOWN))
    if layout == "tsv unquoted":
        cells = [cell for prompt, about in rows for cell in (prompt, *about.values())]
        assume(not any("\t" in cell or cell[0] == cell[-1] == '"' for cell in cells))
    if layout == "csv semicolons":
        assume(not any("," in cell for prompt, about in rows for cell in (prompt, *about.values())))
    read = read_listing(write(tmp_path, layout, rows)).rows
    assert [row.prompt for row in read] == [prompt for prompt, _ in rows]
    assert layout == "txt" or [row.metadata for row in read] == [about for _, about in rows]


@pytest.mark.parametrize("layout", [layout for layout in WRITERS if layout != "parquet"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (lambda data: b"\xef\xbb\xbf" + data, None),
        (lambda data: data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), None),
        (lambda data: data.replace(b"\r\n", b"\n").replace(b"\n", b"\r"), None),
        (lambda data: b"\n\n" + data + b"\n\n  \n", None),
        (lambda data: data.decode().encode("utf-16"), "is text in UTF-16; save it as UTF-8"),
        (lambda data: data.decode().encode("utf-16-le"), "looks like text in UTF-16; save it as UTF-8"),
        (lambda data: data.decode().encode("utf-32"), "is text in UTF-32; save it as UTF-8"),
        (lambda data: data.replace(b"hut", b"h\xfct"), "not UTF-8 text: line .* byte 0xfc, as text in Latin-1"),
        (lambda data: data.replace(b"hut", b"h\0t"), "is no text: it holds zero bytes"),
        (lambda data: data.replace(b"hut", b"h\x1b[2Jt"), "(U\\+001B, which is no text|is not valid JSON)"),
        (lambda data: data.replace(b"hut", b"h" * (LONGEST + 1)), "has 2000[13] characters; is it a file"),
        (lambda data: gzip.compress(data), "is compressed with gzip; unpack it first"),
        (lambda data: b"PK\x03\x04" + data, "is a zip archive, perhaps a spreadsheet"),
        (lambda data: b"<!DOCTYPE html>" + data, "is a web page; download the raw file"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (lambda data: pickle.dumps(data), "zero bytes|not UTF-8"),
        (lambda data: os.urandom(3) + bytes(range(256)), "zero bytes|not UTF-8"),
        (lambda data: b"", "is empty; give it at least one prompt"),
        (lambda data: b" \n\n\t\n", "is empty; give it at least one prompt"),
    ],
)  # fmt: skip
def test_how_bytes_stand_for_text_changes_no_prompt_or_is_refused(
    tmp_path: Path, layout: str, before: Callable[[bytes], bytes], after: str | None
) -> None:
    path = write(tmp_path, layout, ROWS)
    path.write_bytes(before(path.read_bytes()))
    if after is None:
        assert prompts_of(path) == [prompt for prompt, _ in ROWS]
        return
    with pytest.raises(ConfigError, match=after) as caught:
        read_listing(path)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)


@pytest.mark.parametrize("layout", WRITERS)
def test_repeated_prompts_are_counted(tmp_path: Path, held_out: dict[str, Path], layout: str) -> None:
    train = write(tmp_path, layout, [*ROWS, *ROWS[:1], *ROWS[:1]])
    made, notices = told(lambda: prompt_files(train=train, **held_out))
    assert made.train == ("a cat, sitting", "a dog", "a hut")
    assert any("holds 5 prompts, 3 of them distinct; each counts once" in notice for notice in notices)


@pytest.mark.parametrize("layout", WRITERS)
def test_a_prompt_of_two_files_is_searched_on_last(tmp_path: Path, layout: str) -> None:
    """As in T2I-CompBench, whose lists of training and validation prompts share some."""
    pools = {"train": ROWS, "validation": [*ROWS[1:2], ("v", {}), ("e", {})], "test": [*ROWS[2:], ("e", {})]}
    files = {name: write(tmp_path, layout, rows, name) for name, rows in pools.items()}
    made, notices = told(lambda: prompt_files(**files))
    assert (made.train, made.validation, made.test) == (("a cat, sitting",), ("a dog", "v"), ("a hut", "e"))
    shared = [notice for notice in notices if "too, such as" in notice]
    assert len(shared) == 2
    assert f"1 of the 3 prompts of {files['validation']} are among the test prompts too, such as 'e'" in shared[0]
    assert f"2 of the 3 prompts of {files['train']} are among the test or validation prompts too" in shared[1]


@pytest.mark.parametrize(("name", "where"), [("train", "validation"), ("validation", "test"), ("train", "test")])
def test_a_pool_that_is_left_with_nothing_is_refused(tmp_path: Path, name: str, where: str) -> None:
    files = {each: write(tmp_path, "txt", [(f"only {each}", {})], each) for each in ("train", "validation", "test")}
    files[name] = files[where]
    with pytest.raises(ConfigError, match=f"is among the {where} prompts too, so no {name} prompts are left"):
        prompt_files(**files)


# ---------------------------------------------------------------------------------------------------------------
# One prompt a line.


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c"])
def test_only_an_end_of_line_ends_a_prompt(tmp_path: Path, held_out: dict[str, Path], mark: str) -> None:
    train = tmp_path / "train.txt"
    train.write_text(f"a cat{mark}sitting\na dog{mark}\n", encoding="utf-8")
    made, notices = told(lambda: prompt_files(train=train, **held_out))
    assert made.train == (f"a cat{mark}sitting", "a dog")
    assert ["1 prompt(s)" in notice and "end no line" in notice for notice in notices] == [True]


def test_comments_are_left_out_and_told_and_a_prompt_may_begin_like_one(
    tmp_path: Path, held_out: dict[str, Path]
) -> None:
    train = tmp_path / "train.txt"
    train.write_text("# searched on\n#1 dad mug\n\\#1 dad mug\n\\\\#\n  a dog  # mine\n")
    made, notices = told(lambda: prompt_files(train=train, **held_out))
    assert made.train == ("#1 dad mug", "\\#", "a dog  # mine")
    assert notices == [
        f"2 line(s) of {train} that begin with # were left out as comments, such as '# searched on'; "
        f"write \\# for a prompt that begins so"
    ]


@pytest.mark.parametrize(
    ("text", "prompts", "notice"),
    [
        ("Prompt\na cat\n", ["a cat"], "'Prompt', was taken for a heading"),
        ('{"prompt": "a cat"}\n{"prompt": "a dog"}', ["a cat", "a dog"], "holds JSON and was read as such, though"),
        ("Prompt\tCategory\na cat\tanimals\n", ["a cat"], "names columns, so it was read as a table"),
        ("id,prompt\n1,a cat\n", ["a cat"], "names columns, so it was read as a table"),
    ],
)
def test_a_text_file_that_holds_something_else_is_read_as_that(
    tmp_path: Path, text: str, prompts: list[str], notice: str
) -> None:
    (tmp_path / "x.txt").write_text(text)
    listing = read_listing(tmp_path / "x.txt")
    assert [row.prompt for row in listing.rows] == prompts
    assert [notice in each for each in listing.notices] == [True]


@pytest.mark.parametrize(
    "prompt", ["[V] dog", "{red|blue} cat", "(cat:1.3), text, logo", "[[a cat]]", "text: STOP", "a,b"]
)
def test_prompts_that_look_a_little_like_something_else_are_prompts(tmp_path: Path, prompt: str) -> None:
    (tmp_path / "x.txt").write_text(f"{prompt}\nanother\n")
    listing = read_listing(tmp_path / "x.txt")
    assert ([row.prompt for row in listing.rows], listing.notices) == ([prompt, "another"], ())


# ---------------------------------------------------------------------------------------------------------------
# Columns.


@pytest.mark.parametrize("layout", [layout for layout in WRITERS if layout not in ("txt", "json identified")])
def test_a_column_that_cannot_be_told_is_asked_for(tmp_path: Path, layout: str) -> None:
    """Two that could be, or none."""
    suffix = layout.partition(" ")[0]
    rows = [("a cat", {"caption": "ein Kater", "kind": "x"}), ("a dog", {"caption": "ein Hund", "kind": "y"})]
    path = write(tmp_path, layout, rows)
    with pytest.raises(
        ConfigError, match=r"'([pP]rompt|caption)' and '(prompt|caption)' could hold the prompts of .* with `column`"
    ):
        read_listing(path)
    assert prompts_of(path, "caption") == ["ein Kater", "ein Hund"]
    assert prompts_of(path, "PROMPT") == ["a cat", "a dog"]
    with pytest.raises(ConfigError, match=r"has no column 'captions'; did you mean 'caption'\?"):
        read_listing(path, "captions")
    if suffix != "parquet":
        path.write_bytes(path.read_bytes().replace(b"rompt", b"icture").replace(b"caption", b"says"))
        with pytest.raises(ConfigError, match=r"none of its columns .* is known to hold the prompts of"):
            read_listing(path)


def test_a_column_is_not_asked_of_files_without_columns(tmp_path: Path, held_out: dict[str, Path]) -> None:
    train = write(tmp_path, "txt", ROWS)
    with pytest.raises(ConfigError, match="none of the prompt files has columns, so `column: Prompt` cannot be used"):
        prompt_files(train=train, column="Prompt", **held_out)
    mixed, notices = told(lambda: prompt_files(train=write(tmp_path, "csv", ROWS), column="prompt", **held_out))
    assert (mixed.train[0], notices) == ("a cat, sitting", [])


# ---------------------------------------------------------------------------------------------------------------
# Metadata.


def test_metadata_counts_in_what_the_prompts_are(tmp_path: Path, held_out: dict[str, Path]) -> None:
    def made(kind: str, **options: Any) -> PromptSet:
        train = write(tmp_path, "jsonl", [("a cat", {"kind": kind})])
        found: PromptSet = told(lambda: prompt_files(train=train, **held_out, **options))[0]
        return found

    assert made("x").metadata == {"a cat": {"kind": "x"}}
    assert made("x").fingerprint == made("x").fingerprint != made("y").fingerprint
    assert made("x", metadata=[]).fingerprint == made("y", metadata=[]).fingerprint


def test_a_column_that_says_two_things_of_one_prompt_is_told_or_refused(
    tmp_path: Path, held_out: dict[str, Path]
) -> None:
    rows = [
        ("a cat", {"kind": "x", "path": "1.png"}),
        ("a cat", {"kind": "x", "path": "2.png"}),
        ("a dog", {"path": "3"}),
    ]
    train = write(tmp_path, "json", rows)
    made, notices = told(lambda: prompt_files(train=train, **held_out))
    assert made.metadata == {"a cat": {"kind": "x"}}
    assert any("the columns path have different values for one prompt, such as 'a cat'" in each for each in notices)
    with pytest.raises(ConfigError, match="the column 'path' has two different values for the prompt 'a cat'"):
        prompt_files(train=train, metadata=["path"], **held_out)
    with pytest.raises(ConfigError, match=r"no prompt file has a column 'kinds'; did you mean 'kind'\?"):
        prompt_files(train=train, metadata=["kinds"], **held_out)


def test_what_is_nested_in_parquet_comes_as_in_json(tmp_path: Path) -> None:
    rows = [
        ("two cats", {"include": [{"class": "cat", "count": 2}], "tag": "counting"}),
        ("a red cat", {"include": [{"class": "cat", "count": 1, "color": "red"}], "tag": "colors"}),
    ]
    found = [read_listing(write(tmp_path, layout, rows)).rows for layout in ("parquet", "jsonl")]
    assert [(row.prompt, row.metadata) for row in found[0]] == [(row.prompt, row.metadata) for row in found[1]] == rows


def test_pictures_beside_prompts_in_parquet_are_not_read(tmp_path: Path) -> None:
    listing = read_listing(write(tmp_path, "parquet", [("a cat", {"image": {"bytes": b"\x89PNG"}, "seed": 1})]))
    assert listing.rows[0].metadata == {"seed": 1}
    assert listing.notices == (f"the columns image of {listing.path} hold neither text nor numbers and were left out",)


def test_without_pyarrow_a_parquet_file_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "parquet", ROWS)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingError, match=r"a Parquet file, needs pyarrow; install it with: .*'trimpot\[parquet\]'"):
        read_listing(path)


# ---------------------------------------------------------------------------------------------------------------
# What is refused.


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.csv", "Prompt,Kind\na cat, sitting,animals\n", "line 2 of .* has 3 cells where its first line names 2"),
        ("x.csv", "Prompt,Kind\na cat\n", "line 2 of .* has 1 cells where its first line names 2"),
        ("x.csv", 'Prompt,Kind\n"a cat,animals\n', "is no table as its name says: .*; check its quotes"),
        ("x.csv", 'Prompt,Kind\n"a" cat,animals\n', "is no table as its name says: .*; check its quotes"),
        ("x.csv", "a cat\na dog\n", r"none of its columns \('a cat'\) is known to hold the prompts"),
        ("x.csv", "prompt,prompt\na,b\n", "names the column 'prompt' twice"),
        ("x.csv", "prompt,kind\n", "is empty"),
        ("x.tsv", "Prompt\tKind\na\tb\tc\n", "line 2 of .* has 3 cells"),
        ("x.json", "a cat\na dog\n", "is not valid JSON in line 1"),
        ("x.json", '["a cat",\n"a dog"', "is not valid JSON in line 2"),
        ("x.json", '["a cat", 3]', "entry 2 of .* is a JSON int; give strings"),
        ("x.json", '["a cat", {"prompt": "b"}]', "mixes strings with objects"),
        ("x.json", "7", "entry 1 of .* is a JSON int"),
        ("x.json", "null", "entry 1 of .* is a JSON NoneType"),
        ("x.json", "{}", "is a JSON object that holds no list of prompts"),
        ("x.json", '{"a": ["x"], "b": ["y"]}', r"none of its columns \('a', 'b'\) is known to hold the prompts"),
        ("x.json", '{"a": ["x"], "b": ["y", "z"]}', "is a JSON object that holds no list of prompts"),
        ("x.json", '{"prompt": ["x"], "kind": ["y", "z"]}', "is a JSON object that holds no list of prompts"),
        ("x.json", '[{"prompt": ["x"]}]', r"the prompt in entry 1 of .* is a list, \['x'\]; give text"),
        ("x.json", '[{"prompt": 12}]', "the prompt in entry 1 of .* is a int, 12; give text"),
        ("x.json", '[{"prompt": "a", "prompt": "b"}]', "has the key 'prompt' twice"),
        ("x.json", '["\\ud83d"]', "half a character"),
        ("x.json", '[{"prompt": "a", "note": "\\udc00"}]', "half a character"),
        ("x.json", '["a\\u0000b"]', r"holds the character U\+0000"),
        ("x.json", "[" * 100_000, "nested too deep"),
        ("x.json", '[{"prompt": "a", "n": 1' + "0" * 5000 + "}]", "cannot be read as JSON from line 1 on"),
        ("x.jsonl", '{"prompt": "a"}\n{"prompt": "b"\n', "is not valid JSON in line 3|in line 2"),
        ("x.jsonl", '["a"]\n["b"]\n', "line 1 of .* is a JSON list"),
        ("x.txt", '{"prompt": "a"}\n{"prompt": "b"\n', "is not valid JSON"),
        ("x.parquet", "a cat\n", "is no Parquet file, though its name ends in .parquet"),
        ("x.parquet", "PAR1 and no more", "begins like a Parquet file, but cannot be read"),
        ("x.txt", "PAR1 and no more", "begins like a Parquet file, but cannot be read"),
        ("x.yaml", "prompts: [a, b]\n", "is none of the files that hold prompts: txt, csv, tsv, json, jsonl, parquet"),
        ("x.txt", "# nothing yet\n\n", "is empty"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, name: str, content: str, sentence: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=sentence) as caught:
        read_listing(tmp_path / name)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(tmp_path))


def test_what_is_no_file_is_one_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    for path, sentence in {
        tmp_path: "it is a folder; name a file in it",
        tmp_path / "absent.txt": "No such file",
        tmp_path / "pipe.txt": "it is a device or a pipe",
        Path("/dev/zero"): "it is a device or a pipe",
        tmp_path / ("x" * 300): "File name too long",
        Path("a\0b"): "null byte",
    }.items():
        with pytest.raises(ConfigError, match=f"cannot read the prompt file .*{sentence}"):
            read_listing(path)


def test_options_are_checked_where_prompts_are_named(tmp_path: Path, held_out: dict[str, Path]) -> None:
    files = {"train": str(write(tmp_path, "jsonl", ROWS)), **{name: str(path) for name, path in held_out.items()}}
    made = Plugins().make("prompts", "files", {**files, "column": "prompt", "metadata": []})
    assert made.train == ("a cat, sitting", "a dog", "a hut") and not made.metadata
    with pytest.raises(ConfigError, match="option 'column'"):
        Plugins().make("prompts", "files", {**files, "column": 3})
    with pytest.raises(ConfigError, match="did you mean 'column'"):
        Plugins().make("prompts", "files", {**files, "columns": "prompt"})


# ---------------------------------------------------------------------------------------------------------------
# Accidents.


def test_a_file_after_an_accident_is_read_or_refused_in_one_sentence(tmp_path: Path) -> None:
    for seed in range(1500):
        accident(tmp_path, seed)
