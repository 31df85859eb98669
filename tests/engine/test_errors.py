"""Sentences that quote strangers are shown, and act on no terminal."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimpot.commands.app import print_json
from trimpot.ground import errors
from trimpot.ground.errors import TrimpotError, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a prompt, süß 猫 🐈", "a prompt, süß 猫 🐈"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]0;a title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("\x1bPq#0\x1b\\after", "after"),
        ("\x1b]0;without an end", "]0;without an end"),
        ("back\x08\x08space\r\x00\x7f\x85", "backspace"),
        ("\u202eright to left\u2066", "right to left"),
    ],
)
def test_what_a_terminal_would_act_on_is_left_out(text: str, shown: str) -> None:
    assert printable(text) == shown


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TrimpotError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_s_sentence_is_printable(kind: type[TrimpotError]) -> None:
    error = kind("the server says \x1b[2Jnothing")
    assert str(error) == f"{error}" == "the server says nothing"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@given(st.text())
def test_nothing_printable_holds_an_escape(text: str) -> None:
    shown = printable(text)
    assert all(character.isprintable() or character in "\n\t" for character in shown if ord(character) < 0xA0)


@given(st.text())
def test_json_for_programs_holds_every_character_and_no_control(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("typer.echo", printed.append)
        print_json({"said": text})
    assert json.loads(printed[0]) == {"said": text}
    assert all(character.isprintable() or character == "\n" for character in printed[0] if ord(character) < 0xA0)
