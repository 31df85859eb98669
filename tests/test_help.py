"""Every command explains itself with an example that can be typed; names are completed quickly; the version is said."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from trimpot.storage import Comparisons, SqliteStore
from typed import commands, parameters, typed

EXAMPLE = re.compile(r"Example:\s+(trimpot [^\n]+)")


def test_every_command_has_help_with_an_example_that_is_understood() -> None:
    for name, command in commands().items():
        status, out, _ = typed(name, "--help")
        assert status == 0 and "Usage" in out
        examples = EXAMPLE.findall(command.help)
        assert examples, f"`trimpot {name} --help` has no example"
        assert all(each.partition("  ")[0][:30] in " ".join(out.split()) for each in examples)
        for example in examples:
            program, subcommand, *words = shlex.split(example)
            assert (program, subcommand) == ("trimpot", name)
            command.make_context(name, list(words))  # raises if an option is unknown or an argument is missing
    for command, each in parameters():
        assert each.help, f"`trimpot {command} --help` does not explain {each.name}"


def test_the_version_is_said() -> None:
    assert typed("--version") == (0, f"trimpot {importlib.metadata.version('trimpot')}\n", "")


# Completion

COMPLETED = {
    "kind": "ablation",
    "targets": "shapes",
    "run": "sphere-1",
    "names": "sphere-1",
    "begin_at": "sphere-1",
    "objective": "entropy",
    "adapter": "sphere",
    "granularity": "block",
    "contender": "cma-es",
    "status": "finished",
    "sort": "gain",
    "source": "shapes",
    "config": "shapes",
    "overrides": "generations=",
    "calibration": "sphere-1",
    "calibrations": "sphere-1",
    "first": "sphere-1",
    "second": "sphere-1",
    "sources": "sphere-1",
    "road": "native",
    "library": "diffusers",
}  # parameter to something that completes it
NOT_COMPLETED = {  # parameter to the reason
    "memory": "a size, such as 24GB",
    "option": "the options of a part whose name stands elsewhere",
    "methods": "nevergrad's methods are known only after it is imported",
    "classes": "diffusers' classes are known only after it is imported",
    "name": "a new name in `compare`",
    "model": "any model",
    "since": "a time",
    "host": "an address",
    "token": "a secret",
    "repository": "a name that only the hub knows",
    "revision": "a name that only the hub knows",
    "licence": "any licence",
    "prompts": "any prompt",
    "steps": "numbers",
    "weights": "numbers",
}


HEAVY = {
    "torch",
    "diffusers",
    "transformers",
    "scipy",
    "plotly",
    "cma",
    "nevergrad",
    "yaml",
    "sqlite_utils",
    "starlette",
}


def completed(
    folder: Path, *words: str, shell: str = "bash", spared: set[str] = HEAVY - {"yaml"}
) -> tuple[list[str], str]:
    """What a shell is told when the last word is completed, and what it must not be told."""
    code = "import sys; sys.argv = ['trimpot']; from trimpot.cli import main\n"
    code += f"try:\n  main()\nfinally:\n  assert not {spared} & {{*sys.modules}}, {spared} & {{*sys.modules}}"
    line = shlex.join(["trimpot", *words]) if words[-1] else f"{shlex.join(['trimpot', *words[:-1]])} "
    asked = {"_TRIMPOT_COMPLETE": f"complete_{shell}", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    environment = {key: value for key, value in os.environ.items() if key != "TRIMPOT_STORE"} | asked
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    return done.stdout.split(), done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of three runs and a comparison."""
    folder = tmp_path_factory.mktemp("completed")
    with SqliteStore(folder / "trimpot-runs") as store:
        for prefix in ("sphere", "flux", "flux"):
            store.add_run(prefix, "identity", {}, {})
        Comparisons(store).add("night", "identity", {})
    return folder


def test_every_name_is_completed_or_it_is_said_why_not() -> None:
    for command, each in parameters():
        if each.type_descriptor.annotation in (str, list[str]):
            assert each.name in {**COMPLETED, **NOT_COMPLETED} or command == "gallery", (command, each.name)
            if each.name in COMPLETED and command != "gallery":  # a folder, which the shell itself completes
                assert _completions(command, each), f"{command}: {each.name} is not completed"


def _completions(command: str, each: Any) -> bool:
    return each._custom_shell_complete is not None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("ru",), ["runs"]),
        (("runs", "--st"), ["--status", "--store"]),
        (("show", "fl"), ["flux-2", "flux-1"]),
        (("delete", "sphere-1", ""), ["flux-2", "flux-1", "sphere-1", "night-1"]),
        (("show", "--store", "elsewhere", ""), []),
        (("compare", "n"), ["night-1"]),
        (("analyse", "abl"), ["ablation"]),
        (("analyse", "ablation", "sph"), ["sphere-1"]),
        (("knobs", "sphe"), ["sphere"]),
        (("runs", "--status", "fi"), ["finished"]),
        (("rescore", "sphere-1", "--objective", "entr"), ["entropy"]),
        (("compare", "shapes", "-c", "grouped-"), ["grouped-cma"]),
        (("compare", "shapes", "optimizer=cma"), ["optimizer=cma-es"]),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_names_are_completed_without_torch_and_without_leaving_anything_behind(
    folder: Path, words: tuple[str, ...], expected: list[str]
) -> None:
    before = sorted(path.name for path in (folder / "trimpot-runs").iterdir())
    found, errors = completed(folder, *words)
    assert not errors
    if expected != [*found]:
        assert set(expected) <= set(found) and all(each.startswith(words[-1]) for each in found), found
    assert sorted(path.name for path in (folder / "trimpot-runs").iterdir()) == before


def test_names_of_runs_are_completed_without_any_library_that_is_slow_to_import(folder: Path) -> None:
    found, errors = completed(folder, "show", "", spared=HEAVY)
    assert "sphere-1" in found and not errors


def test_a_store_that_is_damaged_completes_nothing_in_silence(tmp_path: Path) -> None:
    (tmp_path / "trimpot-runs").mkdir()
    (tmp_path / "trimpot-runs" / "trimpot.sqlite").write_text("no database" * 100)
    assert completed(tmp_path, "show", "") == ([], "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "pwsh"])
def test_every_shell_can_be_given_its_completion(shell: str, tmp_path: Path) -> None:
    code = "import sys; sys.argv = ['trimpot']; from trimpot.cli import main; main()"
    environment = {**os.environ, "_TRIMPOT_COMPLETE": f"source_{shell}", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert "_TRIMPOT_COMPLETE" in done.stdout and not done.stderr
