"""Prompts from files: one a line, and a plain sentence where they cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from trimpot.engine.errors import ConfigError
from trimpot.engine.prompt_files import prompt_files


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Three small files."""
    made = {}
    for name, text in {
        "train": "# searched on\na cat\n\n  a dog \na cat\n",
        "validation": "a hat\n",
        "test": "ein Huhn, süß\n",
    }.items():
        made[name] = tmp_path / f"{name}.txt"
        made[name].write_text(text, encoding="utf-8")
    return made


def test_blank_lines_comments_and_repeats_are_left_out(files: dict[str, Path]) -> None:
    found = prompt_files(**files)
    assert found.train == ("a cat", "a dog")
    assert found.test == ("ein Huhn, süß",)


def test_an_empty_file_is_named(files: dict[str, Path]) -> None:
    files["validation"].write_text("# nothing yet\n\n")
    with pytest.raises(ConfigError, match=r"validation\.txt is empty"):
        prompt_files(**files)


def test_an_absent_file_is_named(files: dict[str, Path]) -> None:
    files["test"].unlink()
    with pytest.raises(ConfigError, match=r"cannot read the prompt file .*test\.txt: No such file"):
        prompt_files(**files)


def test_a_file_of_bytes_is_named(files: dict[str, Path]) -> None:
    files["test"].write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"test\.txt: it is not UTF-8"):
        prompt_files(**files)


def test_a_prompt_in_two_files_is_refused(files: dict[str, Path]) -> None:
    files["validation"].write_text("a hat\na dog\n")
    with pytest.raises(ConfigError, match="both the train and the validation prompts, such as 'a dog'"):
        prompt_files(**files)
