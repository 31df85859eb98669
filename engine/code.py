"""Finding the code of a part of a run: a digest of the code, and the libraries that the code imports.

The walk begins at the factory and follows everything that its author wrote: every module of the factory's package, the
files that these modules name, and the packages that they import, unless those are installed libraries. A library
counts by its version, which is kept apart. Code without a source file, as in a notebook, counts by its compiled code
and by the functions, classes and values to which that refers. So do the values that a factory holds, with or without
a source file: the arguments of a partial, the object of a bound method, the variables of a closure.
"""

from __future__ import annotations

import ast
import contextlib
import copyreg
import dis
import functools
import hashlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, MappingProxyType, MethodType, ModuleType
from typing import Any

import numpy as np

from ..ground.digests import MOST_FILES, content_digest, file_digest
from ..ground.errors import ConfigError
from .installed import MAIN, homes_of, installed, is_python_s
from .knobs import digest

TRIMPOT = __name__.partition(".")[0]
CODE = (".py", ".pyc", ".so", ".pyd", ".dll", ".dylib")
MARK = "_trimpot_who"  # the attribute of a part that holds its name for error messages
_DEEPEST = 50  # a function that calls a function, and so on
_LONGEST = 10_000  # elements of a list that a notebook's function refers to
_INSIDE = 2  # objects of libraries inside each other


@dataclass(frozen=True)
class Code:
    """The code of a part.

    Attributes:
        words: One word for everything that counts; equal code has equal words on every machine.
        libraries: Installed distributions that the code imports, with their versions.
    """

    words: frozenset[str]
    libraries: Mapping[str, str]

    @property
    def digest(self) -> str:
        """A digest of the words, 16 hexadecimal digits."""
        return digest(sorted(self.words))

    def __or__(self, other: Code) -> Code:
        return Code(self.words | other.words, {**self.libraries, **other.libraries})


def code_of(*things: Any, own: str | None = None) -> Code:
    """Find the code of functions and classes.

    Args:
        *things: Functions, classes, partials, callable objects.
        own: Their own distribution, which counts by its content even if it is installed.
    """
    walk = _Walk(own)
    for thing in things:
        walk.thing("", thing)
    return Code(frozenset(walk.words), walk.libraries)


def classes_of(made: object) -> list[type]:
    """Return the class of an object and its base classes, without Python's own."""
    return [kind for kind in type(made).__mro__ if not is_python_s(kind.__module__)]


class _Walk:
    """A walk through everything that code refers to."""

    def __init__(self, own: str | None) -> None:
        self.words: set[str] = set()
        self.libraries: dict[str, str] = {}
        self._own = own
        self._seen: set[int] = set()
        self._kept: list[Any] = []  # keeps objects alive, so that no id is used again
        self._inside = 0  # the number of library objects around the current one
        self._packages: set[str] = set()
        self._files: set[str] = set()
        self._folders: dict[Path, set[str]] = {}  # what lies in the folders of code, in lower case

    def thing(self, label: str, thing: Any, depth: int = 0) -> None:
        """Add a function, class, module, object or value, under a label."""
        if id(thing) in self._seen or depth > _DEEPEST:
            return
        if not isinstance(thing, (bool, int, float, str)):
            self._seen.add(id(thing))
            self._kept.append(thing)
        if isinstance(thing, ModuleType):
            self._module(thing.__name__)
        elif inspect.isclass(thing):
            self._class(label, thing, depth)
        elif inspect.isfunction(thing):
            self._function(label, thing, depth)
        elif isinstance(thing, functools.partial):
            self.thing(label, thing.func, depth + 1)
            for key, each in [*enumerate(thing.args), *thing.keywords.items()]:
                self.thing(f"{label}.{key}", each, depth + 1)
        elif inspect.isbuiltin(thing):
            self.words.add(f"{label} = {thing.__qualname__} of {thing.__module__}")
        elif inner := _wrapped(thing):
            for each in inner:
                self.thing(label, each, depth + 1)
        elif not self._value(label, thing, depth):
            self._object(label or type(thing).__qualname__, thing, depth)

    def _value(self, label: str, value: Any, depth: int) -> bool:
        """Add a plain value; return whether it was one."""
        with contextlib.suppress(Exception):  # a stranger's object may fail in any way when it is looked at
            self.words.add(f"{label} = {_word(value)}")
            return True
        if isinstance(value, (list, tuple, set, frozenset)) and len(value) <= _LONGEST:
            for index, each in enumerate(value):
                self.thing(f"{label}[{'' if isinstance(value, (set, frozenset)) else index}]", each, depth + 1)
            return True
        if isinstance(value, (dict, MappingProxyType)) and len(value) <= _LONGEST:
            for key, each in value.items():
                self.thing(f"{label}[{key!r}]" if isinstance(key, (str, int)) else label, each, depth + 1)
            return True
        return False

    def _object(self, label: str, thing: Any, depth: int) -> None:
        """Add an object by its class and by the values that a copy of it would be made from.

        Deep inside objects of libraries, as in the blocks of a pipeline's models, the class alone counts.
        """
        self.thing(label, type(thing), depth + 1)
        outer = self._inside
        self._inside = outer + 1 if self._is_library_s(type(thing)) else 0
        if self._inside > _INSIDE:
            self._inside = outer
            return
        with contextlib.suppress(Exception):  # an object that cannot be copied, such as an open file
            by_class = copyreg.dispatch_table.get(type(thing))
            made = by_class(thing) if by_class else thing.__reduce_ex__(4)
            for each in made if isinstance(made, tuple) else [made]:
                self.thing(label, list(each) if isinstance(each, Iterator) else _own(type(thing), each), depth + 1)
        self._inside = outer

    def _is_library_s(self, kind: type) -> bool:
        top = kind.__module__.partition(".")[0]
        return not is_python_s(top) and top not in MAIN and bool(installed(top, tuple(homes_of(top))))

    def _class(self, label: str, kind: type, depth: int) -> None:
        if is_python_s(kind.__module__):
            return
        self.words.add(f"class {label} {kind.__qualname__} {[base.__qualname__ for base in kind.__bases__]}")
        for base in kind.__mro__[1:]:
            self.thing(label, base, depth + 1)
        if self._module(kind.__module__):
            return
        for name, each in vars(kind).items():
            if not name.startswith(("__", "_abc_")) or callable(getattr(each, "__func__", each)):
                self.thing(f"{kind.__qualname__}.{name}", each, depth + 1)

    def _function(self, label: str, function: Any, depth: int) -> None:
        here = f"{label or function.__qualname__}"
        self.words.add(f"function {label} {function.__qualname__}")
        given = [*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())]
        held = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
        for name, cell in held.items():
            with contextlib.suppress(ValueError):  # an empty cell
                self.thing(f"{here} holds {name}", cell.cell_contents, depth + 1)
        for index, each in enumerate(given):
            self.thing(f"{here} default {index}", each, depth + 1)
        if self._module(function.__module__):
            return
        self.words.add(f"function {here} {_words(function.__code__)}")
        space = function.__globals__
        for name in sorted(_names(function.__code__)):
            if name in space:
                self.thing(name, space[name], depth + 1)
        for name in sorted(_imports(function.__code__)):
            self._package(name.partition(".")[0])

    def _module(self, name: str | None) -> bool:
        """Add the package of a module that has a source file; return whether it has one."""
        module = sys.modules.get(name or "")
        if module is None or name in MAIN:
            return False
        if module.__name__.startswith(f"{TRIMPOT}."):
            room = ".".join(module.__name__.split(".")[:2])
            if room != f"{TRIMPOT}.engine":
                self.words.add(f"{room} {_room(room)}")
            return True
        if is_python_s(module.__name__):
            return True
        top = module.__name__.partition(".")[0]
        file = getattr(module, "__file__", None)
        if file and not Path(file).exists():
            return self._archived(top, Path(file))
        if not file and not getattr(module, "__path__", None):
            return False
        self._package(top)
        return True

    def _archived(self, top: str, file: Path) -> bool:
        """Add the archive that a module lies in; return whether there is one."""
        for parent in file.parents:
            if parent.is_file():
                self.words.add(f"{top} {file_digest(parent)}")
                return True
        return False

    def _package(self, top: str) -> None:
        """Add a package or module by its top-level name: a library by its version, other code by its content."""
        if top in self._packages or is_python_s(top) or top in (TRIMPOT, *MAIN):
            return
        self._packages.add(top)
        homes = homes_of(top)
        owners = installed(top, tuple(homes))
        if self._own in [owner.name for owner in owners]:
            owners = []
        for owner in owners:
            self.libraries[owner.name] = owner.version
            if owner.built:
                self.words.add(f"{top} {owner.built}")
        for home in () if owners else homes:
            self._written(top, home)

    def _written(self, top: str, home: Path) -> None:
        """Add an author's modules, the packages that they import and the files that they name."""
        files = [home] if home.is_file() else sorted(_modules(home))
        base = home.parent if home.is_file() else home
        root = base.resolve()
        self.words.add(f"{top} {_sources(tuple(files), base)}")
        for file in files:
            if file.suffix == ".py":
                imports, texts = _mentioned(file, *_stamp(file))
                for name in imports:
                    self._package(name)
                for folder in {file.parent, base}:
                    for path in self._perhaps(folder, texts):
                        self._named(top, path, base, root, whole=home.is_dir())

    def _perhaps(self, folder: Path, texts: Mapping[str, list[str]]) -> list[Path]:
        """Return the paths in a folder that texts may name, leaving out texts whose first part is not in the folder."""
        if folder not in self._folders:
            self._folders[folder] = {name.lower() for name in os.listdir(folder)}
        return [folder / text for first in texts.keys() & {"", *self._folders[folder]} for text in texts[first]]

    def _named(self, top: str, path: Path, base: Path, root: Path, *, whole: bool) -> None:
        """Add a file or folder beside the code that a text may name."""
        with contextlib.suppress(OSError, ValueError, ConfigError):
            if path.suffix in CODE or not path.exists() or root not in path.resolve().parents:
                return
            name = f"{top} {path.relative_to(base).as_posix()}"
            if name not in self._files and (path.is_file() or whole):
                self._files.add(name)
                self.words.add(f"{name} {content_digest(path)}")


@functools.cache
def _room(name: str) -> str:
    """Return a digest of every module of one of trimpot's subpackages, which changes if a developer edits a module.

    Subpackages that hold no parts, such as the engine, count by trimpot's version.
    """
    home = Path(str(sys.modules[name].__file__)).parent
    return _sources(tuple(sorted(home.rglob("*.py"))), home)


def _own(kind: type, state: Any) -> Any:
    """Return an object's state without what it computes of itself when asked, and without what trimpot marked on it."""
    if type(state) is not dict:
        return state
    computed = {name for each in kind.__mro__ for name, value in vars(each).items() if _is_cached(value)}
    return {key: value for key, value in state.items() if key != MARK and key not in computed}


def _is_cached(value: object) -> bool:
    return isinstance(value, functools.cached_property)


def _wrapped(thing: Any) -> list[Any]:
    """Return the functions and objects inside one of Python's wrappers, such as a property or a bound method."""
    if isinstance(thing, property):
        return [each for each in (thing.fget, thing.fset, thing.fdel) if each]
    if isinstance(thing, (staticmethod, classmethod)):
        return [thing.__func__]
    if isinstance(thing, MethodType):
        return [thing.__func__, thing.__self__]
    if isinstance(thing, functools.cached_property):
        return [thing.func]
    return [thing.__wrapped__] if isinstance(thing, functools._lru_cache_wrapper) else []


def _words(code: CodeType) -> str:
    """Return a digest of compiled code, without its position in a file."""
    constants = [_words(each) if isinstance(each, CodeType) else _word(each) for each in code.co_consts]
    table = getattr(code, "co_exceptiontable", b"")
    shape = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags]
    names = [list(code.co_names), list(code.co_freevars), list(code.co_varnames[: sum(shape[:3])])]
    return digest([code.co_name, code.co_code.hex(), table.hex(), shape, names, constants])


def _word(value: Any) -> str:
    """Write a plain value as a word, the same in every process.

    Raises:
        TypeError: If the value is not plain.
    """
    if isinstance(value, np.generic):
        value = value.item()  # the repr of a numpy scalar depends on numpy's version
    if value is None or value is ... or isinstance(value, (bool, int, float, complex, str, bytes)):
        return f"{type(value).__name__} {value!r}"
    if hasattr(value, "detach"):  # a tensor, of any type and on any device
        return f"tensor {value.dtype} {_word(np.asarray(value.detach().cpu().double()))}"
    if hasattr(type(value), "__array__") or hasattr(type(value), "__array_interface__"):  # a table, an image
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        return f"array {value.shape} {_word(value.tolist())}"
    if isinstance(value, np.ndarray):
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"array {value.dtype} {value.shape} {content}"
    if isinstance(value, (frozenset, set)):
        return f"set {sorted(_word(each) for each in value)}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} {[_word(each) for each in value]}"
    if isinstance(value, (dict, MappingProxyType)):
        return f"dict {sorted((_word(key), _word(each)) for key, each in value.items())}"
    raise TypeError(f"no plain value: {type(value).__name__}")


def _inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _inner(each)


def _names(code: CodeType) -> set[str]:
    """Return the global names that compiled code reads."""
    reads = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
    return {str(op.argval) for each in _inner(code) for op in dis.get_instructions(each) if op.opname in reads}


def _imports(code: CodeType) -> set[str]:
    found = (op for each in _inner(code) for op in dis.get_instructions(each) if op.opname == "IMPORT_NAME")
    return {str(op.argval) for op in found if op.argval}


def _modules(home: Path) -> Iterator[Path]:
    """Yield the files of code in a package's folder, without hidden files and virtual environments."""
    for entry in sorted(home.iterdir()):
        if entry.name.startswith(".") or entry.name in ("__pycache__", "site-packages", "node_modules"):
            continue
        if entry.is_dir():
            if not entry.is_symlink() and not (entry / "pyvenv.cfg").exists():
                yield from _modules(entry)
        elif entry.suffix in CODE:
            yield entry


def _stamp(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _sources(files: tuple[Path, ...], base: Path) -> str:
    """Return a digest of files of code, independent of their line endings."""
    if len(files) > MOST_FILES:
        raise ConfigError(f"{base} holds more than {MOST_FILES} modules; put the plugin in a package of its own")
    found = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        content = content.replace(b"\r\n", b"\n") if file.suffix == ".py" else content
        found.update(f"{file.relative_to(base).as_posix()}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
        found.update(content)
    return found.hexdigest()[:16]


@functools.lru_cache(maxsize=4096)
def _mentioned(file: Path, *_stamp: int) -> tuple[list[str], dict[str, list[str]]]:
    """Return the top-level names that a module imports anywhere, and the texts in the module that may name files.

    The texts lie under their first part in lower case, or under an empty one if they begin at the root or above.
    """
    imports, texts = set(), set()
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):  # a file that nobody imports, such as a template
        return [], {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                imports.add(node.args[0].value.partition(".")[0])
    named: dict[str, list[str]] = {}
    for text in texts:
        if 0 < len(text) <= 200 and text.isprintable() and text.strip("./\\ "):
            first = next((part for part in text.replace("\\", "/").split("/") if part != "."), "")
            named.setdefault("" if first == ".." else first.lower(), []).append(text)
    return sorted(filter(None, imports)), named
