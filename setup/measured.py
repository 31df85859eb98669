"""The effects of knobs that an analysis has measured, read from its file into the configuration of a search.

The configuration of a run holds the numbers themselves, so that it goes on without the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..ground.errors import ConfigError
from ..ground.plain import short

LARGEST_FILE = 10_000_000  # bytes; a file of the largest space has a thousandth of it


def with_measured(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace `sensitivity.file` in the values of a configuration by what the file holds, as `sensitivity.measured`.

    Raises:
        ConfigError: If the file cannot be read, or is none that an ablation has written.
    """
    section = values.get("sensitivity")
    if not isinstance(section, Mapping) or section.get("file") is None:
        return {**values}
    if section.get("measured") is not None:
        raise ConfigError("sensitivity: file and measured say the same; leave one of them out")
    rest = {key: value for key, value in section.items() if key != "file"}
    return {**values, "sensitivity": {**rest, "measured": _read(section["file"])}}


def _read(file: object) -> dict[str, Any]:
    if not isinstance(file, str) or not file:
        raise ConfigError(f"sensitivity.file: should be the path of a file, not {short(file)}")
    path = Path(file)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"sensitivity.file: cannot read {file}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("trimpot") != "sensitivity" or not isinstance(found.get("knobs"), dict):
        raise ConfigError(
            f"sensitivity.file: {file} is no sensitivity that `trimpot analyse ablation` has written; name the "
            f"sensitivity.json in the folder of an ablation"
        )
    return dict(found["knobs"])
