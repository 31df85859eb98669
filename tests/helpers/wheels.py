"""The wheel of the repository, and an environment in which only it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
OFFLINE = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]


def build_wheel(folder: Path) -> Path:
    """Build the wheel from the files that git tracks; nothing is downloaded."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).exists():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", *OFFLINE, "-w", str(folder), str(folder / "source")]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def install(what: Path, environment: Path) -> None:
    """Install a wheel or a source folder beside what this interpreter already has, without the network."""
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install", *OFFLINE]
    subprocess.run([*pip, str(what)], check=True, capture_output=True)


def make_environment(folder: Path, wheel: Path) -> Path:
    """Make a virtual environment with the wheel, which finds every other library where this interpreter does.

    The libraries' folders are listed in a `.pth` file, after the environment's own folder: an editable install of
    trimpot in one of them is not seen.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    libraries = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    install(wheel, folder)
    (site / "libraries.pth").write_text("\n".join(libraries) + "\n")
    return folder


def clean() -> dict[str, str]:
    """Return the environment variables of a process that must find trimpot in its own environment only."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TRIMPOT_STORE")}
