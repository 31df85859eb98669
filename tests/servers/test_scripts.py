"""The scripts of `servers/`: each says what it needs, needs exact versions, and serves."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from served import SERVERS, ServerProcess, python
from trimpot.objectives.remote import Remote
from waiting import LONG

if sys.version_info >= (3, 11):
    import tomllib

LIBRARY = ("__init__.py", "bounded_http.py", "reward_server.py")
SCRIPTS = sorted(path for path in SERVERS.glob("*.py") if path.name not in LIBRARY)
UV = shutil.which("uv")


def metadata(path: Path) -> dict[str, Any]:
    """A script's PEP 723 block, found by the expression which that document gives."""
    block = r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$"
    [match] = [each for each in re.finditer(block, path.read_text(encoding="utf-8")) if each["type"] == "script"]
    lines = (line[2:] if line.startswith("# ") else line[1:] for line in match["content"].splitlines(keepends=True))
    return tomllib.loads("".join(lines))


def test_the_scripts_are_there() -> None:
    assert {path.stem for path in SCRIPTS} >= {"geneval_mmdet", "jpeg_size", "qalign_original", "vila"}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib")
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_says_exactly_what_it_needs(path: Path) -> None:
    found = metadata(path)
    SpecifierSet(found["requires-python"])
    requirements = [Requirement(each) for each in found["dependencies"]]
    assert "pillow" in {each.name for each in requirements}
    for each in requirements:
        assert each.url or re.fullmatch(r"==[0-9][0-9a-z.+]*", str(each.specifier)), f"{each} is not pinned"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_imports_what_it_needs_and_no_trimpot(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a script is no part of a package"
            imported.add(str(node.module).partition(".")[0])
    assert "reward_server" in imported and "trimpot" not in imported


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_explains_itself_before_anything_heavy_is_imported(path: Path) -> None:
    done = subprocess.run([sys.executable, path, "--help"], capture_output=True, text=True, timeout=LONG)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(option in done.stdout for option in ("--host", "--port", "--token", "--batch-size"))
    assert f"uv run servers/{path.name}" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [(), ("--host", "0.0.0.0")])
def test_a_script_refuses_in_one_sentence(command: tuple[str, ...]) -> None:
    if not command:
        with python("jpeg_size.py") as server:
            done = _run("jpeg_size.py", "--port", str(server.port))
    else:
        done = _run("jpeg_size.py", *command)
    assert done.returncode == 1 and done.stderr.startswith("jpeg_size.py: ") and done.stderr.count("\n") == 1


def _run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SERVERS / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONG)


def test_only_a_commit_pins_code_that_comes_with_a_model() -> None:
    for revision in ("main", "v1.0", "a" * 39, "A" * 40):
        done = _run("qalign_original.py", "--revision", revision)
        assert done.returncode == 2 and "it must be a commit of 40 hexadecimal digits, not a branch" in done.stderr
    assert "the following arguments are required: --revision" in _run("qalign_original.py").stderr


@pytest.mark.slow
@pytest.mark.skipif(UV is None, reason="uv is not installed")
def test_uv_makes_the_environment_and_serves() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 64, 48, 3), dtype=np.uint8)
    with ServerProcess(str(UV), "run", "--quiet", str(SERVERS / "jpeg_size.py")) as server:
        remote = Remote(server.url, patience=LONG)
        assert remote.describe()["served"]["pillow"] == "11.3.0"
        found = remote.score(list(noise), ["any"] * 3)
        server.process.terminate()
        server.process.communicate(timeout=LONG)
    assert found.shape == (3,) and np.all(found < -1)


@pytest.mark.slow
@pytest.mark.skipif(UV is None or sys.version_info < (3, 11), reason="uv is not installed, or tomllib")
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_script_needs_can_be_had_together(path: Path, tmp_path: Path) -> None:
    if "find-links" in metadata(path).get("tool", {}).get("uv", {}):
        pytest.skip("some of its wheels lie on a server of their own")
    shutil.copy(path, tmp_path)
    done = subprocess.run([str(UV), "lock", "--script", str(tmp_path / path.name)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
