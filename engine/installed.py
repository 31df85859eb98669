"""Finding the files of packages, and telling installed libraries, known by version, from code being worked on."""

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

MAIN = ("__main__", "__mp_main__")  # a script or notebook, here and in the processes that it starts


def is_python_s(module: str) -> bool:
    """Return whether a module belongs to Python itself."""
    top = module.partition(".")[0]
    return top not in MAIN and (top in sys.stdlib_module_names or top in sys.builtin_module_names)


def homes_of(top: str) -> list[Path]:
    """Return the folders of a top-level package, or the file of a module, without importing it."""
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
    """A distribution that contains a package.

    Attributes:
        name: The distribution's name.
        version: The distribution's version.
        folder: The folder that the distribution is installed in.
        built: A digest of the package if it was not installed from an index, so that its version may not identify it;
            otherwise empty.
    """

    name: str
    version: str
    folder: Path
    built: str


def installed(top: str, homes: tuple[Path, ...]) -> list[Owner]:
    """Return the distributions that installed a package; empty if it is used from its author's working folder."""
    folders = {home.parent.resolve() for home in homes if _is_library_folder(home.parent)}
    return [owner for owner in owners(top) if owner.folder in folders] if folders else []


def _is_library_folder(folder: Path) -> bool:
    """Return whether a folder is one that packages are installed into."""
    return bool({"site-packages", "dist-packages"} & set(folder.parts)) or any(folder.glob("*.dist-info/RECORD"))


@functools.cache
def owners(top: str) -> list[Owner]:
    """Return the distributions that contain a top-level name. Try that name first: a full search is slow."""
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
    """Yield the files of an installed package with the digests that its installer recorded."""
    for line in (owner.read_text("RECORD") or "").splitlines():
        if line.startswith((f"{top}/", f"{top}.")) and ",sha256=" in line:
            yield line
