"""The errors that trimpot raises.

    TrimpotError                 one sentence that says what is wrong and what to do
    ├── ConfigError              a configuration that cannot be run as written
    ├── PluginError              an unknown, clashing, broken or uninstalled plugin
    ├── MissingError             a package that an extra of trimpot installs, and that is not installed
    ├── ModelError               a backbone that cannot be loaded, hooked or calibrated
    ├── ScoreError               an objective that raised or returned something unusable
    ├── CalibrationError         a calibration file that cannot be read or does not fit
    └── StoreError               a database that cannot be opened, read or written
        └── ReplayError          a resumed search that no longer asks what was recorded

Every error that a user can cause is one of these; the command line prints it without a traceback and exits 1. A
`Notice` is a warning: the command line prints its sentence and continues.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator

MOST_KNOWN = 30  # names listed if none of them resembles the unknown name
#: Characters that a terminal obeys instead of showing: escape sequences, control characters, changes of direction.
_ACTED_ON = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"
    "|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\\\|\x9c)"
    "|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def printable(text: str) -> str:
    """Remove control characters from a text that is to be shown in a terminal; tabs and line feeds stay."""
    return _ACTED_ON.sub("", text)


class TrimpotError(Exception):
    """The base class of trimpot's errors; its message is printable even if it quotes text with control characters."""

    def __str__(self) -> str:
        return printable(super().__str__())


class Notice(UserWarning):
    """A warning to the user that does not stop the work."""


class ConfigError(TrimpotError):
    """A configuration that cannot be run as written."""


class PluginError(TrimpotError):
    """An unknown, clashing, broken or uninstalled plugin."""


class MissingError(TrimpotError):
    """A package that an extra of trimpot installs, and that is not installed."""


class ModelError(TrimpotError):
    """A backbone that cannot be loaded, hooked or calibrated."""


class ScoreError(TrimpotError):
    """An objective that raised or returned something unusable."""


class CalibrationError(TrimpotError):
    """A calibration file that cannot be read or does not fit the model."""


class StoreError(TrimpotError):
    """A database that cannot be opened, read or written."""


class ReplayError(StoreError):
    """A resumed search that no longer asks for what was recorded."""


def near_misses(name: str, known: Iterable[str]) -> str:
    """Suggest known names that resemble an unknown one, or list the known names.

    Returns:
        A clause that ends a sentence, such as `did you mean 'cma-es'?` or `known: 'a', 'b'`.
    """
    names = sorted(known)
    plain = {other: _plain(other) for other in names}
    matches = difflib.get_close_matches(_plain(name), plain.values(), n=3, cutoff=0.6)
    if close := sorted((other for other in names if plain[other] in matches), key=lambda n: matches.index(plain[n])):
        return "did you mean " + " or ".join(repr(match) for match in close) + "?"
    more = f" and {len(names) - MOST_KNOWN} more" if len(names) > MOST_KNOWN else ""
    return f"known: {', '.join(map(repr, names[:MOST_KNOWN]))}{more}" if names else "none is known"


def _plain(name: str) -> str:
    """Return a name in lower case and with `-` for `_`, because these differences are easily mistyped."""
    return name.casefold().replace("_", "-")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and the errors that led to it, the latest first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text without its full stop, or the name of its class if there is no text."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__
