"""`trimpot init` writes a file that loads to the very configuration that `trimpot calibrate` would run."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from trimpot.defaults.fit import RULE
from trimpot.defaults.proposal import Proposal, propose
from trimpot.defaults.writing import commented, write
from trimpot.ground.errors import ConfigError
from trimpot.setup.config import load_config
from trimpot.setup.yaml_text import read_yaml

MODELS = ("black-forest-labs/FLUX.1-dev", "Qwen/Qwen-Image", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers")


@cache
def proposal(model: str = MODELS[0], memory: str = "24GB") -> Proposal:
    return propose(model, memory=memory)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("memory", ["24GB", "80GB"])
def test_the_file_loads_to_the_same_configuration(model: str, memory: str, tmp_path: Path) -> None:
    made = proposal(model, memory)
    write(commented(made), tmp_path / "run.yaml")
    assert load_config(tmp_path / "run.yaml") == load_config(made.values)


def test_every_reason_and_the_rule_are_comments() -> None:
    text = " ".join(commented(proposal()).replace("\n", " ").replace("#", " ").split())
    assert " ".join(RULE.split()) in text
    for reason in proposal().reasons.values():
        assert " ".join(reason.split()) in text


WORDS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=60)
YAML = [
    "yes",
    "no",
    "on",
    "null",
    "~",
    "1e3",
    "010",
    "0x10",
    "1_000",
    "12:30",
    "2001-01-01",
    "true",
    "#no",
    "a: b",
    "- a",
]
MARKS = [
    "'",
    '"',
    "\\",
    "a\nb",
    "\t",
    " a ",
    "",
    "&a",
    "*a",
    "!tag",
    "%",
    "@",
    "`",
    "{",
    "[",
    "?",
    "|",
    ">",
    "---",
    "...",
]
UNSEEN = ["\u2028", "\x85", "\ufeff", "\x7f", "\U0001f600", "a #b", "<<", "=", ".inf", ".nan", "--- a"]
ODD = st.sampled_from([*YAML, *MARKS, *UNSEEN])
NUMBERS = st.one_of(st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
VALUES = st.recursive(
    st.one_of(st.none(), WORDS, ODD, NUMBERS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.one_of(WORDS, ODD), inner, max_size=3)),
    max_leaves=8,
)


@given(values=st.dictionaries(st.one_of(WORDS, ODD), VALUES, min_size=1, max_size=4), reason=st.one_of(WORDS, ODD))
def test_any_values_and_reasons_are_read_back_as_they_were(values: dict[str, Any], reason: str) -> None:
    """Whatever a folder is called, and whatever a model is called in a comment."""
    model = replace(proposal().model, given=reason or "x")
    made = replace(proposal(), values=values, reasons=dict.fromkeys(values, reason), model=model)
    text = commented(made)
    assert read_yaml(text, "it") == values
    assert yaml.safe_load(text) is not None


def test_a_file_is_never_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("mine")
    with pytest.raises(ConfigError, match=r"is there already; give --force to replace it, or another name by --to"):
        write("theirs", path)
    assert path.read_text() == "mine"
    write("theirs", path, force=True)
    assert path.read_text() == "theirs"


@pytest.mark.parametrize("name", ["run", "run.txt", "run.json", "absent/run.yaml", "folder.yaml"])
def test_a_place_that_is_none_is_said_in_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ConfigError) as error:
        write("text", tmp_path / name, force=True)
    assert "\n" not in str(error.value)
