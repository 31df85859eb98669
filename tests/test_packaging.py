"""What is installed from a wheel is whole: every room, the presets, the shipped checkpoint, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The file names of a wheel built from the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).exists():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "-w", str(folder), str(folder / "source")], check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_package(wheel: set[str]) -> None:
    """Every module of every room, under the one name `trimpot`."""
    outside = ("tests", "training", "docs", "examples", "benchmarks")
    rooms = [path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name not in outside]
    assert {"engine", "adapters", "commands", "comparison", "objectives", "servers", "testing"} <= set(rooms)
    expected = {f"trimpot/{path.relative_to(ROOT)}" for room in rooms for path in (ROOT / room).rglob("*.py")}
    expected |= {f"trimpot/{path.name}" for path in ROOT.glob("*.py")}
    assert expected <= wheel
    assert {"trimpot/py.typed", "trimpot/presets/shapes.yaml", "trimpot/objectives/aesthetic.json"} <= wheel
    protocols = (ROOT / "presets" / "protocols").glob("*.yaml")
    assert {f"trimpot/presets/protocols/{path.name}" for path in protocols} <= wheel
    assert all(name.startswith(("trimpot/", "trimpot-")) for name in wheel)
    assert not [name for name in wheel if name.startswith(("trimpot/tests", "trimpot/training", "trimpot/docs"))]


def test_the_wheel_holds_the_checkpoint(wheel: set[str]) -> None:
    """Every file of the shipped model and its LoRA, so that they work where only the wheel was installed."""
    for name in ("shapes", "aligned"):
        folder = ROOT / "adapters" / name
        expected = {f"trimpot/{path.relative_to(ROOT)}" for path in folder.rglob("*") if path.is_file()}
        assert any(name.endswith(".safetensors") for name in expected)
        assert expected <= wheel
