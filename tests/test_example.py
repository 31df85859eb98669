"""The example package: installed as a stranger's plugin is, and used from the command line."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trimpot.ground.errors import StoreError
from trimpot.storage import SqliteStore
from waiting import LONG

EXAMPLE = Path(__file__).parents[1] / "examples" / "trimpot-loudspeaker"
SHORT = ["generations=5", "test.num_prompts=12", "validation.num_prompts=8"]

Trimpot = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where the example is installed, without reaching for the network or touching the repository."""
    folder = tmp_path_factory.mktemp("example")
    source = shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    pip += ["--disable-pip-version-check", "--target", str(folder / "site")]
    subprocess.run([*pip, str(source)], check=True, capture_output=True, text=True)
    paths = [str(folder / "site"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "COLUMNS": "200"}


@pytest.fixture
def trimpot(environment: dict[str, str], tmp_path: Path) -> Trimpot:
    """The command line, run in an empty folder."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "trimpot", *words]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=LONG)

    return run


def test_the_example_keeps_the_contracts_it_inherits(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(EXAMPLE / "tests")]
    command += ["--rootdir", str(EXAMPLE), "-c", os.devnull]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stdout


def test_the_example_is_listed_and_its_knobs_are(trimpot: Trimpot) -> None:
    listed = json.loads(trimpot("plugins", "--json").stdout)
    assert listed["broken"] == []
    found = {(each["kind"], each["name"]) for each in listed["plugins"] if each["from"] == "trimpot-loudspeaker"}
    assert found == {("adapters", "loudspeaker"), ("objectives", "fidelity"), ("prompts", "chords")}
    assert "loudspeaker" in trimpot("plugins").stdout
    assert trimpot("knobs", "loudspeaker", "--count").stdout.strip() == "6"


def test_the_example_is_calibrated_from_the_command_line(trimpot: Trimpot, tmp_path: Path) -> None:
    done = trimpot("calibrate", str(EXAMPLE / "config.yaml"))
    assert done.returncode == 0, done.stderr
    shown = json.loads(trimpot("show", "loudspeaker-1", "--json").stdout)
    assert shown["status"] == "finished"
    assert shown["gain"]["low"] > 0.3
    assert shown["gain"]["num_images"] == 48
    calibration = json.loads((tmp_path / shown["calibration"]).read_text())
    gains = list(calibration["setting"].values())
    best = [9, 4, -2, -5, -3, 6]  # undoes the loudspeaker's response, in decibels
    assert all(abs(found - ideal) < 4 and found * ideal > 0 for found, ideal in zip(gains, best, strict=True))
    assert (tmp_path / shown["report"]).stat().st_size > 1000


MISTAKES = [
    (["adapter=loudspeeker"], "no adapter 'loudspeeker'; did you mean 'loudspeaker'?"),
    (["adapter.his=1"], "adapter 'loudspeaker' takes no option 'his'; did you mean 'hiss'?"),
    (["adapter.hiss=loud"], "adapter 'loudspeaker': option 'hiss'"),
    (["objectives=fidelty"], "no objective 'fidelty'; did you mean 'fidelity'?"),
    (["optimizer=cma"], "no optimizer 'cma'; did you mean 'cma-es'?"),
    (["optimizer.sigma=1"], "optimizer 'cma-es' takes no option 'sigma'; did you mean 'sigma0'?"),
    (["optimizer.sigma0=-1"], "optimizer 'cma-es': option 'sigma0'"),
    (["generation=1"], "unknown key 'generation'; did you mean 'generations'"),
    (["by_steps.steps=[4]"], "by_steps.steps"),
]
ALL_AT_ONCE = """
import contextlib, io, json, sys
from trimpot.cli import main

found = []
for words in json.loads(sys.argv[1]):
    sys.argv, output, errors = ["trimpot", *words], io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            main()
        except SystemExit as end:
            found.append([end.code, output.getvalue(), errors.getvalue()])
print(json.dumps(found))
"""


def test_what_cannot_be_run_is_said_in_one_sentence_before_anything_is_begun(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Of one process, since they end before they do anything."""
    commands = [["calibrate", str(EXAMPLE / "config.yaml"), *words] for words, _ in MISTAKES]
    command = [sys.executable, "-c", ALL_AT_ONCE, json.dumps(commands)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stderr
    for (status, output, errors), (_, said) in zip(json.loads(done.stdout), MISTAKES, strict=True):
        assert (status, output) == (1, "")
        [sentence] = errors.splitlines()
        assert sentence.startswith("trimpot: ")
        assert said in sentence
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def undisturbed(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, float]:
    """Digest of a short run that nobody stops, and the seconds it takes."""
    folder, begun = tmp_path_factory.mktemp("undisturbed"), time.perf_counter()
    command = [sys.executable, "-m", "trimpot", "calibrate", str(EXAMPLE / "config.yaml"), *SHORT, "--json"]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["digest"], time.perf_counter() - begun


def _kill_and_resume(environment: dict[str, str], folder: Path, moments: list[float]) -> dict[str, Any]:
    """Begin a run, kill it at each moment, go on after each; what the run shows at its end."""
    begin = [sys.executable, "-m", "trimpot", "calibrate", str(EXAMPLE / "config.yaml"), *SHORT, "--json"]
    go_on = [sys.executable, "-m", "trimpot", "resume", "loudspeaker-1", "--json"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    def next_command() -> list[str]:
        try:
            with SqliteStore(folder / "trimpot-runs", create=False) as store:
                return go_on if store.runs() else begin
        except StoreError:  # it was killed before there was one
            return begin

    command = begin
    for moment in moments:
        with subprocess.Popen(command, env=environment, cwd=folder, **quiet) as process:  # type: ignore[call-overload]
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
        command = next_command()
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


@pytest.mark.slow
def test_a_run_killed_twice_and_resumed_ends_at_the_same_digest(
    environment: dict[str, str], undisturbed: tuple[str, float], tmp_path: Path
) -> None:
    digest, seconds = undisturbed
    shown = _kill_and_resume(environment, tmp_path, [0.5 * seconds, 0.6 * seconds])
    assert (shown["digest"], shown["status"]) == (digest, "finished")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_run_killed_at_any_moment_and_resumed_ends_at_the_same_digest(
    environment: dict[str, str], undisturbed: tuple[str, float], tmp_path: Path, seed: int
) -> None:
    digest, seconds = undisturbed
    shown = _kill_and_resume(environment, tmp_path, [random.Random(seed).uniform(0.1, 0.95) * seconds])
    assert (shown["digest"], shown["status"]) == (digest, "finished")
