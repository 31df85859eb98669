"""Where packages lie, and which of them are installed libraries, whose versions last."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from .knobs import digest

MAIN = ("__main__", "__mp_main__")  # a script or notebook, and what the processes that it starts call it


def is_python_s(module: str) -> bool:
    """Whether a module is of Python itself."""
    top = module.partition(".")[0]
    return top not in MAIN and (top in sys.stdlib_module_names or top in sys.builtin_module_names)


def homes_of(top: str) -> list[Path]:
    """Where a top-level package or module lies: folders, or a file. Nothing is imported for this."""
    module: Any = sys.modules.get(top)
    file, paths = getattr(module, "__file__", None), getattr(module, "__path__", None)
    if module is None:
        with contextlib.suppress(Exception):  # finders of editable packages fail in many ways
            spec = importlib.util.find_spec(top)
            if spec is not None:
                file, paths = spec.origin, spec.submodule_search_locations
    found = [Path(each) for each in paths or ()] or ([Path(file)] if file else [])
    return [path for path in dict.fromkeys(found) if path.exists()]


class Owner(NamedTuple):
    """A distribution that brings a package.

    Attributes:
        name: Of the distribution.
        version: Of it.
        folder: Where it is installed.
        built: A digest of the package where it was built from somewhere, and is not of an index's lasting versions.
    """

    name: str
    version: str
    folder: Path
    built: str


def installed(top: str, homes: tuple[Path, ...]) -> list[Owner]:
    """The distributions that a package was installed by, unless it lies where its author works on it."""
    folders = {home.parent.resolve() for home in homes if _is_library_folder(home.parent)}
    return [owner for owner in owners(top) if owner.folder in folders] if folders else []


def _is_library_folder(folder: Path) -> bool:
    """Whether packages are installed into a folder."""
    return bool({"site-packages", "dist-packages"} & set(folder.parts)) or any(folder.glob("*.dist-info/RECORD"))


@functools.cache
def owners(top: str) -> list[Owner]:
    """The distributions that bring a top-level name, of which most are called like it; the long way takes a while."""
    found = []
    with contextlib.suppress(metadata.PackageNotFoundError):
        likely = metadata.distribution({"PIL": "pillow"}.get(top, top))
        if any(each.parts[0] == top for each in likely.files or ()):
            found = [likely]
    for name in () if found else dict.fromkeys(metadata.packages_distributions().get(top, ())):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(metadata.distribution(name))
    return [_owner(each, top) for each in found]


def _owner(found: metadata.Distribution, top: str) -> Owner:
    built = digest(sorted(_recorded(found, top))) if found.read_text("direct_url.json") else ""
    return Owner(found.name, found.version, Path(str(found.locate_file(""))).resolve(), built)


def _recorded(owner: metadata.Distribution, top: str) -> Iterator[str]:
    """The files of an installed package with the digests that its installer noted."""
    for line in (owner.read_text("RECORD") or "").splitlines():
        if line.startswith((f"{top}/", f"{top}.")) and ",sha256=" in line:
            yield line
