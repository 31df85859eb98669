"""Every command with an output that cannot be written: no traceback, and a run goes on to its end."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pytest
import yaml
from command_line import typed
from small_sphere import SPHERE
from trimpot.commands.app import app, print_json
from trimpot.commands.output import Enduring
from trimpot.storage import SqliteStore

COMMANDS = {
    "analyse": "analyse ablation sphere.yaml granularity=knob scales=0 seeds=1",
    "calibrate": "calibrate sphere.yaml",
    "resume": "resume sphere-1",
    "compare": "compare sphere.yaml -c cma-es -c random --seeds 1 --images 40",
    "runs": "runs",
    "show": "show sphere-1",
    "report": "report sphere-1",
    "backup": "backup copy",
    "delete": "delete sphere-1 --yes",
    "diff": "diff sphere-1 sphere-1",
    "export": "export sphere-1",
    "lift": "lift sphere-1",
    "measure": "measure sphere-1",
    "gallery": "gallery trimpot-runs",
    "import": "import nothing.json",  # refused: there is no such file
    "init": "init nowhere",  # refused: there is no such model
    "plan": "plan sphere.yaml --rate 1",
    "push": "push sphere-1 somebody/something --dry-run",
    "knobs": "knobs sphere",
    "optimizers": "optimizers OnePlusOne --knobs 3 --population 4",
    "plugins": "plugins",
    "rescore": "rescore sphere-1 --objective value",  # refused: a sphere keeps no images
    "serve": "serve nothing",  # refused: there is no such objective
    "sites": "sites NoSuchTransformer",
    "pull": "pull nothing",  # refused: this is no repository
    "sample": "sample sphere-1 words",  # refused, like the next: a sphere has no pipeline
    "soup": "soup sphere-1 sphere-1",
    "study": "study sphere-1",  # refused: a sphere makes no pictures
    "verify": "verify sphere-1 nothing",
    "watch": "watch --port 70000",  # refused: there is no such port
}
REFUSED = {"import", "init", "lift", "pull", "rescore", "sample", "serve", "sites", "soup", "study", "verify", "watch"}


@contextmanager
def _full() -> Iterator[TextIO]:
    """A disk without room."""
    with open("/dev/full", "w") as file:
        yield file


@contextmanager
def _closed_pipe() -> Iterator[TextIO]:
    """A reader that has gone, as `head -1` goes."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as file:
        yield file


OUTPUTS = {"full": _full, "closed pipe": _closed_pipe}


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration and a finished run."""
    folder = tmp_path_factory.mktemp("calibrated")
    (folder / "sphere.yaml").write_text(yaml.safe_dump(SPHERE))
    done = typed("calibrate", "sphere.yaml", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.fixture
def here(calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, of the test's own."""
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    shutil.copytree(calibrated, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_is_tried() -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert names == set(COMMANDS)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_cannot_be_written_is_no_traceback(here: Path, command: str, output: str) -> None:
    with OUTPUTS[output]() as file:
        code, _, errors = typed(*COMMANDS[command].split(), output=file)
    assert "Traceback" not in errors
    if command in REFUSED:
        assert code != 0
    elif output == "full":
        assert code == 1
        assert "trimpot: the output could not be written (No space left on device)" in errors
    else:
        assert (code, errors) == (0, "")
    with SqliteStore(here / "trimpot-runs", create=False) as store:
        assert {row.status for row in store.runs()} <= {"finished"}
        assert len(store.runs()) == {"calibrate": 2, "compare": 3, "delete": 0, "measure": 2}.get(command, 1)


@pytest.mark.parametrize(
    "redirection",
    [
        ">/dev/full 2>/dev/full",
        "2>&-",
        *(pytest.param(each, marks=pytest.mark.slow) for each in (">&- 2>&-", "2>/dev/full")),
    ],
)
def test_a_process_without_any_output_finishes_its_run(here: Path, redirection: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m trimpot calibrate sphere.yaml --json {redirection}"
    done = subprocess.run(command, shell=True, cwd=here, capture_output=True, text=True)
    assert done.returncode == (1 if redirection.startswith(">/dev/full") else 0)
    assert done.stderr == ""
    if redirection.startswith("2>"):
        assert json.loads(done.stdout)["status"] == "finished"
    with SqliteStore(here / "trimpot-runs", create=False) as store:
        assert [row.status for row in store.runs()] == ["finished", "finished"]


def test_the_first_line_of_a_long_list_is_enough_for_whoever_wants_no_more(here: Path) -> None:
    trimpot = f"{shlex.quote(sys.executable)} -m trimpot"
    done = subprocess.run(
        f"set -o pipefail; {trimpot} plugins --json | head -1", shell=True, executable="/bin/bash", capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"{\n", b"")


def test_a_stream_that_fails_once_is_left_alone() -> None:
    class Failing(io.StringIO):
        tried = 0

        def write(self, text: str) -> int:
            self.tried += 1
            raise OSError(28, "No space left on device")

    failing = Failing()
    stream = Enduring(failing)
    for _ in range(3):
        assert stream.write("text") == 4
        stream.writelines(["a", "b"])
        stream.flush()
    assert failing.tried == 1
    assert stream.failure is not None


def test_programs_are_told_numbers_that_are_not_finite_as_words(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"gain": float("nan"), "seconds": [float("inf"), 1.5]})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "gain": "NaN",
        "seconds": ["Infinity", 1.5],
    }
