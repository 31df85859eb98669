"""A plugin that is one file, in a folder with a configuration that names it, and the commands that are tried there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from closed_form import Notes
from command_line import Ended, typed
from trimpot import reports
from trimpot.runs import session
from trimpot.setup.config import load_config

FILE = """
from __future__ import annotations

from pathlib import Path
from typing import Literal

import trimpot

with open(__file__ + ".ran", "a") as ran:  # tells that this was executed
    ran.write("x")


@trimpot.adapter([trimpot.Knob("slope"), trimpot.Knob("offset")])
def line(setting, prompt, seed, *, table: Path | None = None):
    \"\"\"A line.\"\"\"
    return -abs(setting["slope"] - 1.2) - abs(setting["offset"] - 0.9) + seed % 100 / 1000


@trimpot.objective
def mine(outputs, prompts, *, power: float = 1.0, way: Literal["up", "down"] = "up"):
    \"\"\"The output itself.\"\"\"
    return [power * output for output in outputs]
"""
SMALL: dict[str, Any] = {
    "prompts": "numbers",
    "optimizer": "random",
    "generations": 2,
    "bucket_size": 2,
    "validation": {"num_prompts": 4},
    "test": {"num_prompts": 4},
    "by_steps": {"steps": []},
    "keep": "none",
}
RUN: dict[str, Any] = {"plugins": "line.py", "adapter": "line", "objectives": "mine", **SMALL}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration and the file that it names."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(reports, "write_report", lambda store, run, files: files.report.write_text(run))
    Path("line.py").write_text(FILE)
    write()
    return folder


def write(path: str = "line.yaml", **changes: Any) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(yaml.safe_dump({**RUN, **changes}))
    return path


def done(*words: str) -> str:
    """What a command prints that succeeds."""
    ended = typed(*words)
    assert ended.returncode == 0 and "Traceback" not in ended.stderr, ended.stderr
    return ended.stdout


def refused(ended: Ended) -> str:
    """The one sentence with which a command ends."""
    assert ended.returncode == 1 and not ended.stdout, ended
    assert ended.stderr.startswith("trimpot: ") and ended.stderr.count("\n") == 1 and len(ended.stderr) < 1200, ended
    return ended.stderr


def digest(*words: str) -> str:
    return str(json.loads(done("calibrate", *words, "--json"))["digest"])


def executed(path: Path | str) -> int:
    ran = Path(f"{path}.ran")
    return len(ran.read_text()) if ran.exists() else 0


def stopped() -> None:
    with pytest.raises(KeyboardInterrupt):
        session.start(load_config("line.yaml"), Path("trimpot-runs"), (Notes(6),))
