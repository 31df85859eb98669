"""`trimpot study`: begins, goes on, adds raters, shows results, and refuses in a sentence."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from studied import folders
from trimpot.storage import SqliteStore, Studies
from trimpot.web import Server
from typed import Said, typed


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two folders of pictures; a server that is asked to stop as soon as it serves."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    monkeypatch.setattr(Server, "run", lambda self: self.close())
    folders(tmp_path, 12)
    return ["calibrated", "neutral"]


def study(*words: str) -> Said:
    return typed("study", *words, "--port", "0")


def links(said: Said) -> list[str]:
    assert said.status == 0, said.err
    return [line.partition("token=")[2] for line in said.out.splitlines() if "token=" in line]


def test_the_same_words_and_the_name_go_on_with_the_same_links(here: list[str]) -> None:
    first = study(*here, "--raters", "3")
    assert len(set(links(first))) == 3 and first.out.startswith("calibrated-study-1: one link for each rater")
    assert "`trimpot study calibrated-study-1` goes on" in first.err
    assert links(study(*here)) == links(study("calibrated-study-1")) == links(first)
    more = links(study("calibrated-study-1", "--raters", "5"))
    assert more[:3] == links(first) and len(more) == 5
    assert links(study(*here, "--seed", "1")) and Path("trimpot-runs/trimpot.sqlite").exists()
    with SqliteStore(Path("trimpot-runs"), create=False) as store:
        assert Studies(store).names() == ["calibrated-study-1", "calibrated-study-2"]


def test_another_picture_is_another_study_and_the_first_keeps_its_own(here: list[str]) -> None:
    study(*here)
    Path("neutral/0.png").write_bytes(Path("neutral/1.png").read_bytes())
    assert study(*here).out.startswith("calibrated-study-2")
    with SqliteStore(Path("trimpot-runs"), create=False) as store:
        one, other = (Studies(store).get(f"calibrated-study-{n}").config["pictures"][1] for n in (1, 2))
        assert one[0] != one[1] and other[0] == other[1] == one[1]
    for folder in here:
        for path in Path(folder).iterdir():
            path.unlink()
    assert links(study("calibrated-study-1")), "its pictures are in the store"


def test_links_and_results_are_json_for_programs(here: list[str]) -> None:
    begun: dict[str, Any] = json.loads(study(*here, "--json").out)
    assert begun["study"] == "calibrated-study-1" and len(begun["links"]) == 5
    found = json.loads(typed("study", "calibrated-study-1", "--results", "--json").out)
    assert found["entrants"] == here and found["num_answers"] == 0 and Path(found["page"]).exists()
    said = typed("study", *here, "--results")
    assert said.status == 0 and "Nobody has answered yet." in said.out and said.out.endswith("answers.csv\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["calibrated-study-1", "--pairs", "5"], "what it shows is fixed; leave --pairs out"),
        (["calibrated-study-1", "--seed", "5"], "leave --seed out"),
        (["calibrated-study-1", "--name", "x"], "leave --name out"),
        (["calibrated-study-1", "--raters", "2"], "has 5 raters, whose links are known"),
        (["calibrated-study-1", "--raters", "2000"], "at most 1000 raters"),
        (["calibrated-study-2"], "did you mean 'calibrated-study-1'"),
        (["calibrated"], "is one folder of pictures; give another"),
        (["calibrated", "nowhere"], "other sources are calibrations"),
        (["calibrated", "neutral", "--pairs", "99"], "there are 12 pairs"),
        (["calibrated", "neutral", "--checks", "1"], "a single check cannot tell"),
        (["calibrated", "neutral", "--neutral-steps", "3"], "made already"),
        (["calibrated", "neutral", "--prompts", "nowhere.txt"], "there is no file nowhere.txt"),
        (["calibrated", "neutral", "--seed", "7", "--results"], "leave --results out to begin one"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_a_mistake_says_what_to_do_and_begins_nothing(here: list[str], words: list[str], said: str) -> None:
    study(*here)
    found = study(*words)
    assert found.status == 1 and not found.out and found.err.count("\n") == 1, found
    assert said in found.err
    with SqliteStore(Path("trimpot-runs"), create=False) as store:
        assert Studies(store).names() == ["calibrated-study-1"]


def test_a_port_in_use_is_said_and_the_study_goes_on_at_another(here: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        found = typed("study", *here, "--port", port)
        assert (
            found.status == 1
            and f"port {port}: another program listens there already; choose another --port" in found.err
        )
    assert study("calibrated-study-1").status == 0


def test_a_store_that_can_only_be_read_shows_results_and_begins_nothing(
    here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study(*here)
    typed("study", "calibrated-study-1", "--results")
    monkeypatch.setattr(SqliteStore, "_may_write", lambda self: False)
    for words in (["calibrated-study-1"], here):
        found = study(*words)
        assert found.status == 1 and "may only be read here" in found.err, found
    assert typed("study", "calibrated-study-1", "--results").status == 0
