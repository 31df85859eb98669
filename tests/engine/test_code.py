"""The digest of a part's code: another for every edit that could change a number, the same wherever it lies."""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trimpot.engine import installed
from trimpot.engine.code import Code, classes_of, code_of

REWARD = """
from trimpot import Objective
from .helpers import helped

class Mine(Objective):
    def score(self, outputs, prompts):
        return [helped(each) for each in outputs]

def make(*, gain=1.0):
    return Mine()
"""
HELPERS = """
from pathlib import Path
HEAD = Path(__file__).parent / "head.txt"

def helped(output):
    import theirs
    return 100 + theirs.shift + float(output) + len(HEAD.read_text())
"""
PACKAGE = {
    "mine/__init__.py": "from .reward import Mine, make\n",
    "mine/reward.py": REWARD,
    "mine/helpers.py": HELPERS,
    "mine/head.txt": "a head",
    "mine/tables/one.npy": "1 2 3",
    "mine/lists.py": "NAMES = 'tables'\n",
    "theirs.py": "shift = 3\n",
}


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import modules from a folder; afterwards they are forgotten."""
    before = set(sys.modules)

    def load(folder: Path, name: str) -> Any:
        for known in set(sys.modules) - before:
            if known.partition(".")[0] in ("mine", "theirs", "shared", "kept"):
                del sys.modules[known]
        with monkeypatch.context() as context:
            context.syspath_prepend(str(folder))
            return importlib.import_module(name)

    def found(folder: Path, name: str = "mine", own: str | None = None) -> Code:
        module = load(folder, name)
        with monkeypatch.context() as context:
            context.syspath_prepend(str(folder))
            return code_of(module.make, module.Mine, own=own)

    yield found
    for known in set(sys.modules) - before:
        if known.partition(".")[0] in ("mine", "theirs", "shared", "kept"):
            del sys.modules[known]


def written(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


EDITS: dict[str, dict[str, str]] = {
    "the class": {"mine/reward.py": REWARD.replace("in outputs]", "in outputs[:1]]")},
    "the factory's default": {"mine/reward.py": REWARD.replace("gain=1.0", "gain=2.0")},
    "a function in another module of the package": {"mine/helpers.py": HELPERS.replace("100", "500")},
    "a module of the author's own, imported inside a function": {"theirs.py": "shift = 4\n"},
    "a file that the code names": {"mine/head.txt": "another head"},
    "a folder that the code names": {"mine/tables/one.npy": "1 2 4"},
    "another file in that folder": {"mine/tables/two.npy": ""},
    "a module that is new": {"mine/patches.py": "import mine.helpers\n"},
    "a compiled module": {"mine/fast.so": "\x7fELF"},
}


@pytest.mark.parametrize("what", EDITS)
def test_every_edit_of_what_an_author_wrote_gives_another_digest(what: str, tmp_path: Path, importable: Any) -> None:
    before = importable(written(tmp_path / "a", PACKAGE))
    after = importable(written(tmp_path / "b", {**PACKAGE, **EDITS[what]}))
    assert before.digest != after.digest


def test_where_when_and_beside_what_it_lies_does_not_matter(tmp_path: Path, importable: Any) -> None:
    first = importable(written(tmp_path / "a", PACKAGE))
    beside = {"notes.md": "a note", "other.py": "x = 1", "mine/__pycache__/x.pyc": "x", "mine/.cache/y.py": "y"}
    beside |= {"mine/venv/pyvenv.cfg": "", "mine/venv/lib/z.py": "z = 1", "mine/runs.sqlite": "of a run"}
    second = importable(written(tmp_path / "elsewhere" / "b", {**PACKAGE, **beside}))
    for path in (tmp_path / "elsewhere").rglob("*.py"):
        os.utime(path, (1, 1))
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert first.digest == second.digest
    assert importable(tmp_path / "elsewhere" / "b").digest == first.digest, "nor how its lines end"


@pytest.mark.parametrize("edited", [False, True])
def test_a_single_module_a_namespace_an_archive_and_bytecode_alone_count(
    edited: bool, tmp_path: Path, importable: Any
) -> None:
    text = REWARD.replace("from .helpers import helped", "def helped(output):\n    return 100 + output\n")
    other = text.replace("100", "500") if edited else text
    digests: dict[str, list[str]] = {}
    for number, each in enumerate((text, other)):
        home = tmp_path / str(number)
        digests.setdefault("module", []).append(importable(written(home / "m", {"mine.py": each})).digest)
        digests.setdefault("namespace", []).append(
            importable(written(home / "n", {"mine/part.py": each}), "mine.part").digest
        )
        (home / "z").mkdir()
        with zipfile.ZipFile(home / "z" / "mine.zip", "w") as archive:
            archive.writestr(zipfile.ZipInfo("mine.py", (2020, 1, 1, 0, 0, 0)), each)
        digests.setdefault("archive", []).append(importable(home / "z" / "mine.zip").digest)
        import py_compile

        source = written(home / "c", {"mine.py": each}) / "mine.py"
        py_compile.compile(str(source), cfile=str(source.with_suffix(".pyc")), dfile="mine.py", doraise=True)
        os.utime(source, (1, 1))
        bytecode = source.with_suffix(".pyc").read_bytes()
        source.unlink()
        source.with_suffix(".pyc").write_bytes(bytecode[:8] + bytes(8) + bytecode[16:])  # less the source's time
        digests.setdefault("bytecode", []).append(importable(home / "c").digest)
    for kind, (one, two) in digests.items():
        assert (one != two) == edited, kind


def distribution(site: Path, name: str, version: str, top: str, *, direct: bool = False) -> None:
    """What an installer leaves beside a package."""
    home = site / f"{name.replace('-', '_')}-{version}.dist-info"
    home.mkdir(parents=True, exist_ok=True)
    (home / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    import hashlib

    lines = [
        f"{path.relative_to(site).as_posix()},sha256={hashlib.sha256(path.read_bytes()).hexdigest()},1"
        for path in sorted(site.rglob("*.py"))
        if path.relative_to(site).parts[0].partition(".")[0] == top
    ]
    (home / "RECORD").write_text("\n".join([*lines, f"{home.name}/METADATA,,"]))
    if direct:
        (home / "direct_url.json").write_text('{"url": "file:///somewhere/shared-1.0.whl", "archive_info": {}}')


@pytest.mark.parametrize(
    ("case", "same_code", "same_libraries"),
    [
        ("another version of a library", True, False),
        ("a library that was edited where it was installed", True, True),
        ("a library of the same version, built and installed again", False, True),
        ("an edit of the plugin itself, of the same version", False, True),
    ],
)
def test_an_installed_library_counts_by_its_version_and_the_plugin_by_its_content(
    case: str, same_code: bool, same_libraries: bool, tmp_path: Path, importable: Any
) -> None:
    reward = REWARD.replace("from .helpers", "from shared")
    direct, found = "built" in case, []
    for number in range(2):
        changed, site = number == 1, tmp_path / f"{number}" / "site-packages"
        gain = "500" if changed and ("library" in case and "version of" not in case) else "100"
        written(site, {"mine.py": reward, "shared.py": f"def helped(output):\n    return {gain}\n"})
        if changed and "plugin" in case:
            written(site, {"mine.py": reward.replace("for each", "for some, each")})
        distribution(site, "shared", "2.0" if changed and "another version" in case else "1.0", "shared", direct=direct)
        distribution(site, "my-plugin", "0.1", "mine")
        installed.owners.cache_clear()
        found.append(importable(site, own="my-plugin"))
    installed.owners.cache_clear()
    assert (found[0].digest == found[1].digest) == same_code
    assert (found[0].libraries == found[1].libraries) == same_libraries
    assert found[0].libraries == {"shared": "1.0"}


# Code without a file

NOTEBOOK = """
import functools
import math
import numpy as np
from trimpot import Objective

GAIN = 100
TABLE = np.array([1.0, 2.0])
WORDS = {"b", "a"}
NESTED = {"one": [1, {"two": len}]}

def logged(function):
    @functools.wraps(function)
    def inner(*arguments):
        return function(*arguments)
    return inner

def deepest(x): return x + 1
def deeper(x): return deepest(x)
def deep(x): return deeper(x)

@logged
def helped(output, shift=3, *, scale=4):
    return GAIN + TABLE[0] + deep(output) * scale

class Base(Objective):
    power = 2
    def raised(self, x): return x ** self.power

class Mine(Base):
    @property
    def unit(self): return 7
    @staticmethod
    def start(): return 8
    @classmethod
    def named(cls): return 9
    @functools.cached_property
    def kept(self): return 10
    def score(self, outputs, prompts):
        try:
            values = [(lambda x: x * 11)(helped(each)) for each in outputs if each in {"x", "y", "z"}]
        except ValueError:
            values = [NESTED["one"][0] for each in outputs if "a" in WORDS]
        return values

def outer(gain):
    def make():
        return (Mine(), gain)
    return make

make = outer(12)
"""
NOTEBOOK_EDITS = [
    ("GAIN = 100", "GAIN = 500"),
    ("[1.0, 2.0]", "[1.5, 2.0]"),
    ('{"b", "a"}', '{"b", "c"}'),
    ('{"one": [1,', '{"one": [2,'),
    ('{"two": len}', '{"two": sum}'),
    ("x + 1", "x + 2"),
    ("shift=3", "shift=5"),
    ("scale=4", "scale=5"),
    ("* scale", "- scale"),
    ("return function(*arguments)", "return -function(*arguments)"),
    ("power = 2", "power = 3"),
    ("x ** self.power", "self.power ** x"),
    ("return 7", "return 8"),
    ("return 8", "return 9"),
    ("return 9", "return 10"),
    ("return 10", "return 11"),
    ("x * 11", "x * 12"),
    ('{"x", "y", "z"}', '{"x", "y", "w"}'),
    ("except ValueError", "except TypeError"),
    ("outer(12)", "outer(13)"),
    ("class Mine(Base)", "class Mine(Objective)"),
]


def noted(text: str, name: str = "__main__") -> Code:
    space: dict[str, Any] = {"__name__": name}
    exec(compile(text, "<notebook>", "exec", dont_inherit=True), space)
    return code_of(space["make"], *classes_of(space["Mine"].__new__(space["Mine"])))


@pytest.mark.parametrize(("old", "new"), NOTEBOOK_EDITS)
def test_an_edit_in_a_notebook_gives_another_digest(old: str, new: str) -> None:
    assert NOTEBOOK.count(old) == 1
    assert noted(NOTEBOOK).digest != noted(NOTEBOOK.replace(old, new)).digest


def test_a_notebook_s_code_is_the_same_wherever_it_stands_and_in_every_process() -> None:
    moved = "\n\n# a note\nUNUSED = 3\n" + NOTEBOOK.replace("def deeper", "\n\ndef deeper")
    assert noted(moved).digest == noted(NOTEBOOK).digest == noted(NOTEBOOK, "__mp_main__").digest
    program = (
        "import sys; from trimpot.engine.code import code_of, classes_of\n"
        "space = {'__name__': '__main__'}; exec(compile(sys.stdin.read(), '<cell>', 'exec'), space)\n"
        "print(code_of(space['make'], *classes_of(space['Mine'].__new__(space['Mine']))).digest)\n"
    )
    holding = NOTEBOOK + HOLDING + f"HELD = [{', '.join(one for one, _ in HELD)}]\n" + "make = lambda: HELD\n"
    for text, seed in itertools.product((NOTEBOOK, holding), ("1", "2")):
        command = [sys.executable, "-c", program]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, input=text, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == noted(text).digest


HOLDING = """
import collections, dataclasses, datetime, decimal, enum, fractions, logging, operator, pathlib, random, re, types
from PIL import Image
from trimpot import Knob, KnobSpace

class Level(enum.Enum):
    LOW = 1
    HIGH = 2

@dataclasses.dataclass
class Settings:
    gain: float
    def scaled(self, x): return x * self.gain

class Slotted:
    __slots__ = ("gain",)
    def __init__(self, gain): self.gain = gain
"""
HELD = [
    ("re.compile('a cat')", "re.compile('a dog')"),
    ("decimal.Decimal('0.5')", "decimal.Decimal('0.6')"),
    ("fractions.Fraction(1, 2)", "fractions.Fraction(1, 3)"),
    ("datetime.date(2026, 1, 1)", "datetime.date(2026, 1, 2)"),
    ("pathlib.Path('a')", "pathlib.Path('b')"),
    ("range(3)", "range(4)"),
    ("collections.deque([1])", "collections.deque([2])"),
    ("types.SimpleNamespace(gain=1)", "types.SimpleNamespace(gain=2)"),
    ("types.MappingProxyType({'gain': 1})", "types.MappingProxyType({'gain': 2})"),
    ("operator.itemgetter(0)", "operator.itemgetter(1)"),
    ("logging.getLogger('one')", "logging.getLogger('two')"),
    ("random.Random(1)", "random.Random(2)"),
    ("Level.LOW", "Level.HIGH"),
    ("Settings(1.0)", "Settings(2.0)"),
    ("Settings(Settings([Slotted(1)]))", "Settings(Settings([Slotted(2)]))"),
    ("Settings(1.0).scaled", "Settings(2.0).scaled"),
    ("{Settings, 'a', 'b', 'c', 'd'}", "{Settings, 'a', 'b', 'c', 'e'}"),
    ("Settings(open)", "Settings(print)"),
    ("KnobSpace([Knob('a')])", "KnobSpace([Knob('b')])"),
    ("Image.new('RGB', (2, 2), 'red')", "Image.new('RGB', (2, 2), 'blue')"),
    ("np.array([None, 1])", "np.array([None, 2])"),
    ("np.vectorize(lambda x: x + 1)", "np.vectorize(lambda x: x + 2)"),
    ("np.random.default_rng(1)", "np.random.default_rng(2)"),
]
TENSORS = [
    ("torch.ones(2)", "torch.zeros(2)"),
    ("torch.ones(2)", "torch.ones(2, dtype=torch.float64)"),
    ("torch.ones(2, requires_grad=True)", "torch.zeros(2, requires_grad=True)"),
    ("torch.ones(2, dtype=torch.bfloat16)", "torch.zeros(2, dtype=torch.bfloat16)"),
    ("torch.nn.PReLU(init=0.1)", "torch.nn.PReLU(init=0.2)"),
]


@pytest.mark.parametrize(("one", "two"), [*HELD, *TENSORS])
def test_what_a_notebook_s_code_holds_counts_by_what_a_copy_would_be_made_from(one: str, two: str) -> None:
    found = []
    for held in (one, two):
        imported = "import torch\n" if "torch" in held else ""
        found.append(noted(f"{NOTEBOOK}{HOLDING}{imported}HELD = {held}\nmake = lambda: HELD\n").digest)
    assert found[0] != found[1]


def _made(gain: float, *, scale: object = 1.0) -> float:
    return gain


class Maker:
    """A factory that is an object."""

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def __call__(self) -> float:
        return self.gain

    def make(self) -> float:
        return self.gain


def defaulting(maker: Maker) -> Any:
    def make(maker: Maker = maker) -> Maker:
        return maker

    return make


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (functools.partial(_made, 1.0), functools.partial(_made, 2.0)),
        (functools.partial(_made, 1.0, scale=1.0), functools.partial(_made, 1.0, scale=2.0)),
        (functools.partial(_made, 1.0, scale=Maker), functools.partial(_made, 1.0, scale=_made)),
        (Maker(1.0), Maker(2.0)),
        (Maker(1.0).make, Maker(2.0).make),
        (functools.partial(_made, 1.0, scale=Maker(1.0)), functools.partial(_made, 1.0, scale=Maker(2.0))),
        (defaulting(Maker(1.0)), defaulting(Maker(2.0))),
        (Maker(np.arange(3)), Maker(np.arange(3) + 1)),  # type: ignore[arg-type]
        (lambda: 1.0, functools.partial(_made, 1.0)),
    ],
)
def test_factories_of_every_kind_count_with_what_they_hold(one: Any, two: Any) -> None:
    assert code_of(one).digest != code_of(two).digest
    assert code_of(one).digest == code_of(one).digest


def test_objects_that_cannot_be_looked_at_count_by_their_class() -> None:
    class Shy:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("do not look")

        def __repr__(self) -> str:
            raise RuntimeError("do not look")

        def __call__(self) -> None: ...

    assert code_of(Shy()).digest == code_of(Shy()).digest
    assert code_of(functools.partial(_made, Shy())).digest == code_of(functools.partial(_made, Shy())).digest
    ring: list[Any] = []
    ring.append(ring)
    assert code_of(functools.partial(_made, ring)).digest
