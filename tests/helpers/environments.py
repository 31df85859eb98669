"""Environments that hold trimpot with chosen extras and nothing else, made of links to what is installed here."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import trimpot
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

ROOT = Path(trimpot.__file__).parent
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CORE: list[str] = _PROJECT["dependencies"]
EXTRAS: dict[str, list[str]] = _PROJECT["optional-dependencies"]


def closure(*extras: str) -> dict[str, metadata.Distribution]:
    """The installed distributions that trimpot with some extras needs, and those that they need, by name."""
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(f"trimpot[{','.join(extras)}]")]
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        if name == "trimpot":
            own = [*CORE, *(each for extra in asked.extras for each in EXTRAS[extra])]
            waiting += map(Requirement, own)
            continue
        found[name] = metadata.distribution(name)
        for extra in ("", *asked.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                needs = map(Requirement, found[name].requires or ())
                waiting += [
                    each
                    for each in needs
                    if (each.marker is None and not extra) or (each.marker and each.marker.evaluate({"extra": extra}))
                ]
    return found


def environment(folder: Path, *extras: str) -> Path:
    """A folder with the packages of `closure`, and trimpot."""
    folder.mkdir()
    (folder / "trimpot").symlink_to(ROOT)
    for found in closure(*extras).values():
        for top in {file.parts[0] for file in found.files or () if file.parts[0] != ".."}:
            there = Path(str(found.locate_file(top)))
            if top != "__pycache__" and not (folder / top).exists() and there.exists():
                (folder / top).symlink_to(there)
    return folder


def python(packages: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Python with the packages of a folder and its own library, and no others."""
    kept = ("PATH", "HOME", "HF_HOME", "OMP_NUM_THREADS", "HF_HUB_OFFLINE", "LD_LIBRARY_PATH")
    known = {name: os.environ[name] for name in kept if name in os.environ}
    given = {**known, "PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(command, cwd=cwd, env=given, capture_output=True, text=True, check=False)
