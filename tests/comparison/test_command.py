"""`trimpot compare`, as it is typed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from sessions import num_candidates
from trimpot.cli import app
from trimpot.ground.errors import TrimpotError
from trimpot.storage import Comparisons, SqliteStore
from typer.testing import CliRunner
from waiting import LONG

SPHERE = {
    "adapter": {"name": "sphere", "num_knobs": 6},
    "objectives": "value",
    "prompts": "numbers",
    "validation": {"num_prompts": 4},
    "test": {"num_prompts": 8},
    "bucket_size": 2,
}
KILLED = """
import os, signal
from trimpot.cli import main
from trimpot.storage import SqliteStore

left, record = 40, SqliteStore.record

def counted(*given):
    global left
    record(*given)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

SqliteStore.record = counted
main()
"""  # the command line, which is killed once it has recorded so many times
OPTIONS = ["-c", "cma-es", "-c", "random", "--seeds", "2", "--images", "80"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration and a comparison file."""
    (tmp_path / "sphere.yaml").write_text(yaml.safe_dump(SPHERE))
    asked = {"config": "sphere.yaml", "contenders": ["cma-es", "random"], "seeds": 2, "images": 80}
    (tmp_path / "night.yaml").write_text(yaml.safe_dump(asked))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    return tmp_path


def typed(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["compare", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def shown(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(typed(*arguments, "--json"))
    return found


def test_options_name_a_comparison_that_goes_by_its_name_afterwards(here: Path) -> None:
    text = typed("sphere.yaml", *OPTIONS)
    assert "With 80 outputs of search" in " ".join(text.split())
    page = here / "trimpot-runs" / "compare-sphere-1" / "comparison.html"
    assert str(page.relative_to(here)) in text
    content = page.read_text()
    assert "trimpot compare sphere.yaml --contender cma-es --contender random --seeds 2 --images 80" in content
    page.unlink()
    told = shown("compare-sphere-1", "--look")
    assert page.exists()
    assert (told["comparison"], len(told["runs"])) == ("compare-sphere-1", 4)
    assert shown("sphere.yaml", *OPTIONS)["comparison"] == "compare-sphere-1"
    (here / "sphere.yaml").unlink()
    assert shown("compare-sphere-1")["contenders"] == told["contenders"]


def test_a_file_and_options_that_say_the_same_are_the_same_comparison(here: Path) -> None:
    assert shown("night.yaml")["comparison"] == "night-1"
    assert shown("sphere.yaml", *OPTIONS)["comparison"] == "night-1"
    assert shown("sphere.yaml", "bucket_size=3", *OPTIONS)["comparison"] == "compare-sphere-1"


def test_reports_are_written_if_asked_for(here: Path) -> None:
    reports = here / "trimpot-runs"
    typed("night.yaml")
    assert not list(reports.glob("*/report.html"))
    typed("night.yaml", "--reports")
    assert len(list(reports.glob("*/report.html"))) == 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sphere.yaml", "-c", "cma-es", "-c", "random"], "set the number of outputs of every search, such as"),
        (["sphere.yaml"], "sphere.yaml names no contenders; add --contender NAME at least twice"),
        (["spheer"], "no preset or file 'spheer'"),
        (["sphere.yaml", *OPTIONS, "-c", "cma"], "no protocol or optimizer 'cma'; did you mean 'cma-es'?"),
        (["sphere.yaml", "-c", "cma-es", "--images", "80"], "'contenders': should have 2 or more entries"),
        (["sphere.yaml", "-c", "random", "-c", "random", "--images", "80"], "a contender is named twice"),
        (["night.yaml", "bucket_size=3"], "overrides go with --contender; set 'bucket_size=3' in night.yaml"),
        (["night.yaml", "--images", "90"], "--images goes with --contender"),
        (["sphere.yaml", *OPTIONS, "-c", "nevergrad:OnePlusOn"], "contender 'nevergrad:OnePlusOn': nevergrad"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(here: Path, arguments: list[str], sentence: str) -> None:
    with pytest.raises(TrimpotError) as caught:
        typed(*arguments)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (here / "trimpot-runs").exists()


def test_looking_at_nothing_says_so(here: Path) -> None:
    typed("sphere.yaml", *OPTIONS)
    with pytest.raises(TrimpotError, match="nothing of this comparison is in trimpot-runs; leave out --look"):
        typed("sphere.yaml", "bucket_size=3", *OPTIONS, "--look")


def test_killed_it_goes_on_where_it_was(here: Path) -> None:
    """`kill -9` in the middle, and the very same command again."""
    command = ["sphere.yaml", *OPTIONS[:-1], "240"]
    done = subprocess.run([sys.executable, "-c", KILLED, "compare", *command, "--store", "killed"], timeout=LONG)
    assert done.returncode == -signal.SIGKILL
    assert num_candidates(here / "killed") >= 40
    assert len(_digests(here / "killed")) < 4
    typed(*command, "--store", "killed")
    typed(*command, "--store", "undisturbed")
    assert len(_digests(here / "killed")) == 4
    assert _digests(here / "killed") == _digests(here / "undisturbed")


def _digests(folder: Path) -> dict[tuple[str, int], str]:
    with SqliteStore(folder, create=False) as store:
        members = Comparisons(store).members("compare-sphere-1")
        return {
            member: store.totals(run)["digest"] for member, run in members.items() if store.run(run).outcome is not None
        }
