"""Whoever ends a run, it stops cleanly, says how to go on, is *interrupted* and not *failed*, and can go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sessions import num_candidates
from waiting import LONG, until

TRIMPOT = [sys.executable, "-m", "trimpot"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration of a search that would take minutes."""
    for name, words in {"train": "a b c d", "validation": "e f", "test": "g h"}.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(words.split()))
    config = {
        "adapter": {"name": "sphere", "num_knobs": 4},
        "objectives": "value",
        "prompts": {"name": "files", "train": "train.txt", "validation": "validation.txt", "test": "test.txt"},
        "protocol": "published",
        "generations": 100_000,
        "validation": {"num_prompts": 2, "every": 100_000},
        "test": {"num_prompts": 2},
    }
    (tmp_path / "sphere.yaml").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_a_signal_stops_a_run_cleanly(number: signal.Signals, folder: Path) -> None:
    heeded = "default_int_handler" if number == signal.SIGINT else "SIG_DFL"  # even if these tests run under `nohup`
    code = f"import signal; signal.signal({number:d}, signal.{heeded}); from trimpot.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "calibrate", "sphere.yaml"],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stderr is not None
        until(lambda: num_candidates(folder / "trimpot-runs") > 20)
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait(LONG) == 128 + number
    assert "trimpot: stopped; nothing is lost; go on with `trimpot resume sphere-1`" in said
    assert "Traceback" not in said
    done = subprocess.run([*TRIMPOT, "runs", "--json"], cwd=folder, capture_output=True, text=True, check=True)
    [run] = json.loads(done.stdout)
    assert (run["status"], run["error"]) == ("interrupted", None)


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such signals")
def test_a_signal_that_is_ignored_stays_ignored(folder: Path) -> None:
    """As `nohup` wants it: the terminal may be closed."""
    code = (
        "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from trimpot.commands.signals import stopping_cleanly\n"
        "with stopping_cleanly(): os.kill(os.getpid(), signal.SIGHUP)\n"
        "print('went on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "went on\n"
