"""Find a calibration file: by its path, its folder, the name of a run, or the id of a repository on the hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..ground.errors import CalibrationError, near_misses
from ..ground.folders import DEFAULT_STORE
from ..ground.hub import hub_file
from ..ground.plain import short

FILE_NAME = "calibration.json"
_KEY = re.compile(r"[A-Za-z_][\w.]*=")  # of a configuration
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def located_calibration(
    source: str | os.PathLike[str], *, revision: str | None = None, store: str | os.PathLike[str] | None = None
) -> Path:
    """Return the path of a calibration file.

    Args:
        source: A calibration file, a folder that holds a `calibration.json`, the name of a run, or a hub id
            `owner/name`, in this order.
        revision: A branch, tag or commit on the hub.
        store: The folder of runs; None for `TRIMPOT_STORE`, or `trimpot-runs` in the working folder.

    Raises:
        CalibrationError: If there is no such calibration, or `source` names a run and another file as well.
    """
    if not isinstance(source, (str, os.PathLike)) or isinstance(os.fspath(source), bytes):
        raise CalibrationError(f"cannot read a calibration of {short(source)}; give the path of its file")
    if isinstance(source, str) and not source.strip():
        raise CalibrationError("the name of the calibration is empty; give its file, a run, or a hub id")
    name, folder = os.fspath(source), Path(store or os.environ.get("TRIMPOT_STORE") or DEFAULT_STORE)
    path, run = Path(name).expanduser() if name.startswith("~") else Path(name), folder / name
    here, is_run = _exists(path), bool(re.fullmatch(r"[\w.-]+", name)) and _exists(run / FILE_NAME)
    if here and is_run and not os.path.samefile(path, run):
        raise CalibrationError(
            f"{name!r} is a run of {folder} and lies here as well; write ./{name} for what lies here"
        )
    if revision is not None and (here or is_run):
        raise CalibrationError(f"{name} is not on the hub, so it has no revision {revision!r}; leave the revision out")
    if here:
        inside = path / FILE_NAME
        if not path.is_dir():
            return path
        if not inside.is_file():
            raise CalibrationError(f"the folder {name} holds no {FILE_NAME}; give a folder that does, or the file")
        return inside
    if is_run:
        return run / FILE_NAME
    if _exists(run) and re.fullmatch(r"[\w.-]+", name):
        raise CalibrationError(f"run {name} of {folder} has no result yet; go on with `trimpot resume {name}` first")
    if _HUB_ID.fullmatch(name) and not name.endswith(".json"):
        return hub_file(name, FILE_NAME, revision, error=CalibrationError)
    if _KEY.match(name):
        raise CalibrationError(f"the calibration is missing before {short(name)}; give its file, a run, or a hub id")
    raise CalibrationError(
        f"no calibration {short(name)}: it is no file or folder here, no run of {folder}, and no hub id such as "
        f"owner/name{_likeness(name, folder)}"
    )


def _likeness(name: str, folder: Path) -> str:
    """Return the end of a sentence that names runs with a similar name, if there are any."""
    runs = [path.parent.name for path in folder.glob(f"*/{FILE_NAME}")] if _exists(folder) else []
    found = near_misses(name, runs)
    return f"; {found}" if found.startswith("did you mean") else ""


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # the name is too long, or no name
        return False
