"""The menu at the end: only what exists is offered, and what fails there fails alone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typed
import typer
from rich.console import Console
from trimpot.cli import app
from trimpot.commands import menu as menus
from trimpot.commands.menu import ENTRIES, commands, menu, offered
from trimpot.ground.errors import ModelError

GAIN = {"mean": 0.2, "low": 0.1, "high": 0.3}


def summary(**gain: float) -> dict[str, Any]:
    outcome = {"comparisons": [{"gain": {**GAIN, **gain}}], "calibrated": {"a": 1.0}, "baseline": {}}
    return {"run": "flux-1", "report": "store/flux-1/report.html", "outcome": outcome}


class Person:
    """Answers in turn, and what came of them."""

    def __init__(self, *answers: str) -> None:
        self.answers: Iterator[str] = iter(answers)
        self.shown: list[Path] = []
        self.ran: list[list[str]] = []
        self.written = io.StringIO()

    def ask(self, question: str) -> str:
        try:
            return next(self.answers)
        except StopIteration:
            raise typer.Abort from None

    def meets(self, found: dict[str, Any], store: str = "trimpot-runs") -> str:
        console = Console(file=self.written, width=200)
        menu(console, found, Path(store), ask=self.ask, show=self.shown.append, run=self.ran.append)
        return self.written.getvalue()


def number_of(text: str, title: str) -> str:
    return next(line.split()[0] for line in text.splitlines() if title in line)


def test_only_commands_of_the_application_are_offered() -> None:
    there = {str(each.name or each.callback.__name__) for each in app.registered_commands if each.callback}
    assert commands() == there
    assert {entry.command for entry in offered(gained=True)} == {entry.command for entry in ENTRIES} & there
    assert "resume" in {entry.command for entry in offered(gained=False)}
    assert offered(gained=True, known=set()) == []


def test_the_report_is_shown_and_the_user_leaves() -> None:
    person = Person("1", "")
    person.meets(summary())
    assert person.shown == [Path("store/flux-1/report.html")] and person.ran == []


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.command)
def test_an_entry_is_its_command_with_the_run_and_the_store(
    entry: menus.Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(menus, "commands", lambda: {each.command for each in ENTRIES})
    number = number_of(Person("").meets(summary()), entry.title)
    person = Person(number, "an answer", "")
    person.meets(summary(), store="elsewhere")
    asked = ["--", "an answer"] if entry.ask else []
    assert person.ran == [[entry.command, "flux-1", *entry.arguments, "--store", "elsewhere", *asked]]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.command)
@pytest.mark.parametrize("answer", ["a red circle", "-o", "owner/name", "--help"])
def test_an_entry_is_understood_by_its_command(entry: menus.Entry, answer: str) -> None:
    person = Person(number_of(Person("").meets(summary()), entry.title), answer, "")
    person.meets(summary(), store="elsewhere")
    [(name, *words)] = person.ran
    typed.commands()[name].make_context(name, list(words))  # raises if an option is unknown or an argument is missing


@pytest.mark.parametrize("answer", ["0", "99", "what", "-1", "1.5", "²"])
def test_another_answer_is_asked_again(answer: str) -> None:
    person = Person(answer, "1", "")
    assert "is none of 1 to" in person.meets(summary())
    assert len(person.shown) == 1


def test_what_fails_in_the_menu_fails_alone() -> None:
    person = Person("2", "1", "")

    def fail(_: list[str]) -> None:
        raise ModelError("there is no [such] thing")

    console = Console(file=person.written, width=200)
    menu(console, summary(), Path("s"), ask=person.ask, show=person.shown.append, run=fail)
    assert "there is no [such] thing" in person.written.getvalue()


def test_without_a_gain_nothing_is_published() -> None:
    assert "publish" not in Person("").meets(summary(low=-0.1)) and "leave" in Person("").meets(summary(low=-0.1))
