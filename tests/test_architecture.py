"""The rooms of the house: who may import whom, and what must stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trimpot

ROOT = Path(trimpot.__file__).parent
APART = ("adapters", "objectives", "optimizers", "storage")
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


@pytest.mark.parametrize("room", APART)
def test_a_room_imports_the_engine_and_itself_only(room: str) -> None:
    assert _modules(room)
    for path in _modules(room):
        for name in _imports(path):
            parts = name.split(".")
            if parts[0] == "trimpot":
                assert parts[1] in ("engine", room), f"{path.relative_to(ROOT)} imports {name}"


def test_the_engine_imports_no_other_room() -> None:
    for path in _modules("engine"):
        for name in _imports(path):
            parts = name.split(".")
            assert parts[0] != "trimpot" or parts[1] == "engine", f"{path.relative_to(ROOT)} imports {name}"


# Parts of `testing` that hold the promises of one room's own members: of the site table, of the built-in rewards.
PROOFS = {"transformer.py": "adapters", "transformers": "adapters", "rewards": "objectives"}


def test_the_contracts_import_the_engine_only() -> None:
    for path in _modules("testing"):
        allowed = {"engine", "testing", PROOFS.get(path.relative_to(ROOT / "testing").parts[0])}
        for name in _imports(path):
            parts = name.split(".")
            assert parts[0] != "trimpot" or parts[1] in allowed, f"{path.relative_to(ROOT)}: {name}"


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
    loaded = _loaded_by("from trimpot.engine.plugins import plugins; plugins()")
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
