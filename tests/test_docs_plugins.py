"""The plugin that docs/plugins.md shows works as typed, and passes its contract."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import typed
from PIL import Image
from trimpot.setup.plugins import plugins
from waiting import LONG

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Every block of the page in the file that its first line names."""
    blocks = re.findall(r"```(?:toml|python)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 3
    for name, text in blocks:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (tmp_path / "my_package" / "__init__.py").touch()
    return tmp_path


def test_a_method_that_is_shown_alone_can_be_written_into_a_class() -> None:
    """Blocks that name no file are methods of an objective."""
    methods = re.findall(r"```python\n(def .*?)```", PAGE, re.DOTALL)
    assert len(methods) == len(re.findall(r"```python\n(?!# )", PAGE)) >= 1
    for text in methods:
        found: dict[str, Any] = {}
        exec(text, found)
        mine = type("Mine", (), {"prepare": found["prepare"]})()
        mine.prepare({"a cat": {"include": [{"class": "cat"}]}, "a dog": {}})
        assert mine.wanted == {"a cat": [{"class": "cat"}]}


def test_one_file_is_shown_as_it_is_shipped_and_its_commands_work(tmp_path: Path) -> None:
    """Typed as shown, in a folder that holds what is shown and nothing else."""
    section = PAGE.split("\n## One file\n")[1].split("\n## ")[0]
    shown = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", section, re.DOTALL))
    assert set(shown) == {"camera.py", "camera.yaml"}
    for name, text in shown.items():
        shipped = (ROOT / "examples" / "one-file" / name).read_text(encoding="utf-8")
        assert shipped == text or shipped == shipped.splitlines(keepends=True)[0] + text
        (tmp_path / name).write_text(text)
    commands = re.findall(r"^    trimpot (.*)$", section, re.MULTILINE)
    assert [each.split()[0] for each in commands] == ["knobs", "calibrate"]
    ended = [typed(*each.split(), cwd=tmp_path) for each in commands]
    assert [each.returncode for each in ended] == [0, 0], ended
    assert re.findall(r"^\w+", ended[0].stdout, re.MULTILINE) == ["knob", "exposure", "warmth"]
    gain, low = re.findall(r"^\+(\d\.\d+) \[\+(\d\.\d+)", ended[1].stdout, re.MULTILINE)[0]
    assert float(gain) > float(low) > 0.15


def test_the_contract_passes_as_typed(package: Path) -> None:
    """With pytest, on the package as the page shows it."""
    paths = os.pathsep.join([str(package), *filter(None, sys.path)])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(
        command, cwd=package, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=LONG
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"([5-9]|\d\d) passed", done.stdout)


def test_the_plugin_registers_what_the_page_says(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed by the entry point that the page shows."""
    [(name, value)] = re.findall(r'^([\w-]+) = "([\w.]+)"$', (package / "pyproject.toml").read_text(), re.MULTILINE)
    information = package / "my_package-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[trimpot]\n{name} = {value}\n")
    monkeypatch.syspath_prepend(str(package))
    plugins.cache_clear()
    try:
        known = plugins()
        assert not known.broken
        assert known.options("adapters", "my-model") == ["checkpoint", "num_inference_steps"]
        made = known.make("objectives", "redness", {"power": 2})
        assert made.describe() == {"power": 2.0}
        pictures = [Image.new("RGB", (4, 4), colour) for colour in ("red", "black")]
        np.testing.assert_allclose(made.score(pictures, ["a", "b"]), [1.0, 0.0])
    finally:
        plugins.cache_clear()
        for module in [each for each in sys.modules if each.partition(".")[0] == "my_package"]:
            del sys.modules[module]
