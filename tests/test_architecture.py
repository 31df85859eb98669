"""The rooms of the house: who may import whom, and what must stay light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trimpot

ROOT = Path(trimpot.__file__).parent
OUTSIDE = {"tests", "examples", "benchmarks", "docs", "training", "build", "dist"}


def _modules(room: str = "") -> list[Path]:
    found = (path for path in (ROOT / room).rglob("*.py") if not path.relative_to(ROOT).parts[0].startswith("."))
    return sorted(path for path in found if path.relative_to(ROOT).parts[0] not in OUTSIDE)


def _imports(path: Path) -> Iterator[str]:
    """Full dotted names of everything a module imports, wherever in it."""
    package = ["trimpot", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*home, node.module] if node.module else home)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


# Which rooms a room may import: from the ground upwards, and never back.
BELOW: dict[str, set[str]] = {
    "ground": set(),
    "engine": {"ground"},
    "adapters": {"engine", "ground"},
    "applying": {"adapters", "engine", "ground"},
    "exchange": {"applying", "adapters", "engine", "ground"},
    "objectives": {"engine", "ground"},
    "optimizers": {"engine", "ground"},
    "prompts": {"engine", "ground"},
    "storage": {"engine", "ground"},
    "trackers": {"engine", "ground"},
    "servers": set(),
    "web": {"ground"},
    "presets": set(),
    "setup": {"presets", "engine", "ground"},
    "defaults": {"adapters", "setup", "engine", "ground"},
    "surrogate": {"setup", "storage", "engine", "ground"},
    "workshops": {"setup", "engine", "ground"},
    "reports": {"setup", "storage", "engine", "ground"},
    "calibrations": {"reports", "applying", "adapters", "setup", "engine", "ground"},
    "publishing": {"reports", "applying", "engine", "ground"},
    "watching": {"web", "reports", "setup", "storage", "engine", "ground"},
    "runs": {"defaults", "reports", "workshops", "setup", "storage", "engine", "ground"},
    "studies": {"web", "runs", "applying", "reports", "setup", "storage", "engine", "ground"},
    "comparison": {"runs", "workshops", "reports", "surrogate", "setup", "storage", "engine", "ground"},
    "analyses": {
        "comparison",
        "runs",
        "defaults",
        "workshops",
        "reports",
        "applying",
        "setup",
        "storage",
        "engine",
        "ground",
    },
    "testing": {"adapters", "engine", "ground"},  # adapters for the contract of a transformer class
    "proofs": {"exchange", "testing", "adapters", "objectives", "setup", "engine", "ground"},
    "commands": {
        "analyses",
        "calibrations",
        "publishing",
        "exchange",
        "applying",
        "comparison",
        "runs",
        "watching",
        "studies",
        "reports",
        "web",
        "servers",
        "proofs",
        "optimizers",
        "defaults",
        "setup",
        "storage",
        "engine",
        "ground",
    },
}
PARTS_BY_NAME = {  # the built-in plugins
    "setup/plugins.py": {"adapters", "objectives", "optimizers", "prompts", "surrogate", "trackers"}
}

SUFFIXES_LIKE_ROOMS = {".prompts"}  # of files


def _rooms_named_in_strings(path: Path) -> Iterator[str]:
    """Rooms whose modules are named in strings, as what is imported late may be; documentation aside."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            if node.value in SUFFIXES_LIKE_ROOMS:
                continue
            name = re.fullmatch(r"(?:trimpot)?[.]*([a-z_]+)((?:[.][a-z_]+)*)", node.value)
            if name and name[1] in BELOW and "." in node.value:
                file = ROOT / Path(*node.value.removeprefix("trimpot").strip(".").split("."))
                if file.is_dir() or file.with_suffix(".py").exists():
                    yield name[1]


def test_every_room_has_its_place() -> None:
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - OUTSIDE
    assert set(BELOW) == rooms


def test_no_room_is_above_itself() -> None:
    """The table has an order: whatever a room may import stands above it in the table."""
    known: set[str] = set()
    for room, below in BELOW.items():
        assert below <= known, f"{room} may import {below - known}, which come later"
        known.add(room)


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_what_lies_below_it_only(room: str) -> None:
    for path in _modules(room):
        where = str(path.relative_to(ROOT))
        allowed = BELOW[room] | {room} | PARTS_BY_NAME.get(where, set())
        imported = {
            parts[1] for name in _imports(path) if (parts := name.split("."))[0] == "trimpot" and len(parts) > 1
        }
        named = set(_rooms_named_in_strings(path))
        assert (imported | named) & set(BELOW) <= allowed, f"{where} knows {(imported | named) - allowed}"


def test_of_the_contracts_only_that_of_transformers_knows_the_adapters() -> None:
    for path in _modules("testing"):
        knows = any(name.startswith("trimpot.adapters") for name in _imports(path))
        assert knows == (path.name == "transformer.py"), path


def test_the_engine_s_modules_bring_in_no_model_library_no_searcher_and_no_database() -> None:
    modules = [f"trimpot.engine.{path.stem}" for path in _modules("engine") if path.stem != "__init__"]
    loaded = _loaded_by("import " + ", ".join(modules))
    assert not loaded & {"torch", "diffusers", "transformers", "cma", "nevergrad", "sqlite_utils", "sqlite3", "plotly"}
    assert "numpy" in loaded


def test_importing_the_package_costs_next_to_nothing() -> None:
    assert not _loaded_by("import trimpot") & {"torch", "numpy", "pydantic", "scipy", "cma", "typer", "rich", "PIL"}


def test_the_command_line_starts_without_a_model_library() -> None:
    assert not _loaded_by("import trimpot.cli") & {"torch", "diffusers", "transformers", "cma", "scipy", "plotly"}


def test_finding_the_plugins_loads_no_model_library() -> None:
    loaded = _loaded_by("from trimpot.setup.plugins import plugins; plugins()")
    assert not loaded & {"torch", "diffusers", "transformers", "cma", "scipy", "plotly"}


def test_applying_nothing_of_the_test_tools_is_needed_at_work() -> None:
    for path in _modules():
        if path.relative_to(ROOT).parts[0] != "testing":
            assert not {name.partition(".")[0] for name in _imports(path)} & {"pytest", "hypothesis"}, path


UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def test_nothing_is_unpickled() -> None:
    """But for weights that are published in no other format, by the reader of PyTorch that calls nothing in them."""
    readers = []
    for path in _modules():
        assert not {name.partition(".")[0] for name in _imports(path)} & UNPICKLERS, path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            given = {each.arg: getattr(each.value, "value", None) for each in node.keywords}
            assert not given.get("allow_pickle") and given.get("weights_only", True) is True, path
            if ast.unparse(node.func) in ("torch.load", "load_state_dict_from_url"):
                assert given["weights_only"] is True, path
                readers.append(path.relative_to(ROOT).as_posix())
    assert readers == ["objectives/pretrained.py"]


def test_the_public_names_can_all_be_had() -> None:
    for name in trimpot.__all__:
        if name not in ("load_calibration", "AppliedCalibration"):  # these two bring in torch
            assert getattr(trimpot, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Adaptor'"):
        getattr(trimpot, "Adaptor")  # noqa: B009  # an attribute that type checkers know is absent


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_for_and_can_be_read_in_one_sitting(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"
    assert len(text.splitlines()) <= 450
