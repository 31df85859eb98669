"""Plugins that are a single Python file, named by its path.

A file is executed under a module name of its own, made of the file's name and its content. So two files never share a
module, an edited file is another module, and the name is the same on every machine.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import sys
from pathlib import Path
from types import ModuleType

from ..engine.vetting import told
from ..ground.errors import PluginError, TrimpotError, near_misses
from ..ground.plain import short
from .paths import anchored

MOST_BYTES = 10_000_000


def files_in(value: object, folder: Path) -> list[str]:
    """Return the absolute paths that the key `plugins` of a configuration names, each file once.

    Args:
        value: The value of the key: a path or a list of paths; anything else is reported by the schema, and skipped.
        folder: The folder that relative paths are relative to.

    Raises:
        ConfigError: If a value is no path.
    """
    named = [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else []
    found: dict[str, str] = {}
    for path in [anchored(each, folder, "plugins") for each in named if isinstance(each, str) and each]:
        found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def module_of(path: str) -> ModuleType:
    """Execute a file, unless this process has executed the same content already, and return its module.

    Raises:
        PluginError: If the file is missing, is no Python, or fails.
    """
    file = Path(path)
    try:
        if file.is_dir():
            raise PluginError(
                f"the plugin {short(path)} is a folder; name a Python file, or install the folder as a package"
            )
        source = file.read_bytes()
    except FileNotFoundError:
        near = near_misses(file.name, _beside(file))
        cure = near if near.startswith("did you mean") else "restore it, or name it where it is now"
        raise PluginError(f"there is no plugin file {path:.300}; {cure}") from None
    except (OSError, ValueError) as error:
        raise PluginError(
            f"cannot read the plugin file {path:.300}: {getattr(error, 'strerror', None) or error}"
        ) from None
    if file.suffix != ".py" or len(source) > MOST_BYTES:
        raise PluginError(f"the plugin {short(path)} is no Python file; name one that ends in .py")
    return _executed(path, source)


@functools.lru_cache(maxsize=64)
def _executed(path: str, source: bytes) -> ModuleType:
    file = Path(path)
    content = hashlib.sha256(source.replace(b"\r\n", b"\n")).hexdigest()
    name = f"{re.sub(r'[^0-9a-zA-Z]', '_', file.stem)}_{content[:12]}"
    module = ModuleType(name)
    module.__file__, module.__package__ = path, ""  # so that a relative import is refused and not guessed
    before = sys.modules.get(name)  # the same content at another path
    sys.modules[name] = module
    try:
        exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:  # a stranger's file may raise anything, even SystemExit
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        if isinstance(error, KeyboardInterrupt):
            raise
        raise PluginError(f"the plugin file {path:.300}{_line(error, path)} {_said(error, file)}") from error
    return module


def _beside(file: Path) -> list[str]:
    """Return the names of the Python files in the folder of a file."""
    with contextlib.suppress(OSError):
        return [each.name for each in file.parent.iterdir() if each.suffix == ".py"]
    return []


def _line(error: BaseException, path: str) -> str:
    """Return where in a file an error arose, as part of a sentence."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return f", line {error.lineno}," if error.lineno else ""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f", line {lines[-1]}," if lines else ""


def _said(error: BaseException, file: Path) -> str:
    if isinstance(error, SyntaxError):
        return f"is not valid Python: {error.msg}"
    if isinstance(error, TrimpotError):
        return f"cannot be used: {error}"
    missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if missing and any((file.parent / each).exists() for each in (f"{missing}.py", missing)):
        return f"imports {missing!r}, which lies beside it; a plugin file stands alone, so install both as a package"
    return f"cannot be imported: {told(error)}"
