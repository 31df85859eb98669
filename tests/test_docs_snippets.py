"""Every command and snippet on the pages is run in an empty folder, with trimpot from an installed wheel."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from snippet_table import FAILS, FILES, FIRST, GIVEN, LEFT_OUT, ONCE, OWNED, SMALL, SMALLER, STANDS_FOR, STORE, TEXTS
from snippets import ROOT, Snippet, snippets
from tiny_models.flux import tiny_flux
from trimpot.cli import app
from wheels import build_wheel, clean, make_environment

DRIVER = Path(__file__).parent / "helpers" / "snippet_driver.py"
CHECKED_ELSEWHERE = ("yaml", "toml")  # by tests/test_docs_examples.py; used by their page's commands
EXAMPLES = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "examples").rglob("*.py"))


def smaller(command: str) -> str:
    """The command as it is run here."""
    for pattern, replacement in SMALLER:
        command = re.sub(pattern, replacement, command)
    return " ".join(command.split())


def kind_of(command: str) -> str:
    """How a command is run: `left out`, or a kind of step."""
    if any(re.match(pattern, command) for pattern, _ in LEFT_OUT):
        return "left out"
    for beginning, kind in (("trimpot serve", "serve"), ("python -c", "python -c")):
        if command.startswith(beginning):
            return kind
    return "command" if command.startswith("trimpot ") else "unknown"


def owned(each: Snippet) -> bool:
    """Whether another test runs or checks the snippet."""
    kind = "command" if each.commands else each.language
    return any(each.page == page and kind in kinds for page, kinds, _ in OWNED)


def is_excerpt(each: Snippet) -> bool:
    """Whether the snippet is a part of an example, which has tests of its own."""
    return each.language == "python" and each.text in EXAMPLES


def steps(page: str) -> list[dict[str, Any]]:
    """What is run of a page, in its order."""
    made: list[dict[str, Any]] = []
    for each in (each for each in snippets() if each.page == page and not owned(each)):
        for command in each.commands:
            named = each.language == "inline" and re.fullmatch(r"trimpot \w+", command)
            if not named and (kind := kind_of(command)) != "left out":
                made.append({"kind": kind, "text": smaller(command), "line": each.line, "written": command})
        if each.language == "python" and not each.file and not is_excerpt(each):
            code = each.text
            for pattern, stands in STANDS_FOR:
                code = re.sub(pattern, stands, code)
            given = [given for page, begin, given in GIVEN if each.page == page and each.text.startswith(begin)]
            made.append({"kind": "python", "text": "\n".join([*given, code]), "line": each.line, "written": each.text})
    if made and page in FIRST:
        made.insert(0, {"kind": "python", "text": FIRST[page], "line": 0})
    return made


def test_every_snippet_has_a_kind() -> None:
    """A block is a command, a text that the table names, or in a language that is run or checked."""
    for each in snippets():
        if each.commands:
            for command in each.commands:
                assert owned(each) or kind_of(command) != "unknown", f"{each}: {command}"
        elif owned(each):
            pass
        elif each.language.startswith("{"):
            assert each.page.startswith("docs/"), each  # the site's build runs it
        elif each.language in ("", "text"):
            assert described(each), f"{each}: no command, and tests/helpers/snippet_table.py does not say what it is"
        else:
            assert each.language in ("python", "inline", *CHECKED_ELSEWHERE), f"{each}: {each.language}"


def described(each: Snippet) -> list[str]:
    """What the table says of a text."""
    return [why for page, begin, why in TEXTS if each.page == page and each.text.startswith(begin)]


def test_every_line_of_the_table_is_needed() -> None:
    """A left-out command or a text that has gone from the pages goes from the table."""
    commands = [command for each in snippets() for command in each.commands]
    for pattern in [*(pattern for pattern, _ in LEFT_OUT), *FAILS]:
        assert any(re.match(pattern, command) for command in commands), pattern
    for page, begin, _ in (*TEXTS, *GIVEN):
        assert any(each.page == page and each.text.startswith(begin) for each in snippets()), (page, begin)
    for page, kinds, test in OWNED:
        assert any(each.page == page and owned(each) for each in snippets()), (page, kinds)
        assert Path(page).name in (ROOT / test).read_text(encoding="utf-8") or page.startswith("examples/")


def test_a_named_command_exists() -> None:
    """`trimpot resume` in running text is a command, and a script that is run by hand takes the options shown."""
    known = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    for each in snippets():
        for command in each.commands:
            if command.startswith("trimpot ") and not command.startswith("trimpot --"):
                assert smaller(command).split()[1] in known, f"{each}: {command}"
            if command.startswith("python ") and command.split()[1].endswith(".py"):
                script = ROOT / command.split()[1]
                assert script.exists(), f"{each}: {command}"
                text = script.read_text(encoding="utf-8")
                for option in re.findall(r" (--[\w-]+)", command):
                    assert f'"{option}"' in text, f"{each}: {script.name} takes no {option}"


def run_all(folder: Path) -> list[dict[str, Any]]:
    """Return what every step of every page did, in an environment with nothing of the repository but its wheel."""
    environment = make_environment(folder / "environment", build_wheel(folder / "wheel"))
    model = tiny_flux(folder / "tiny-flux")
    pages = []
    for page in dict.fromkeys(each.page for each in snippets()):
        todo = steps(page)
        files = {each.file: each.text for each in snippets() if each.page == page and each.file}
        copies = {"examples": str(ROOT / "examples")} if any("examples/" in step["text"] for step in todo) else {}
        if todo:
            pages.append({"page": page, "files": {**FILES, **files}, "copies": copies, "steps": todo})
    work = {"small": SMALL.split(), "once": ONCE, "store": STORE, "model": str(model), "pages": pages}
    (folder / "work.json").write_text(json.dumps(work))
    command = [
        str(environment / "bin" / "python"),
        str(DRIVER),
        str(folder / "work.json"),
        str(folder / "results.json"),
    ]
    done = subprocess.run(command, env=clean(), capture_output=True, text=True, cwd=folder, timeout=580)
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())
    return found


def test_every_snippet_runs_and_prints_what_is_shown(tmp_path: Path) -> None:
    """Every command ends with status 0, but those that are shown because they fail; Python raises nothing.

    A text that follows a command, and a number in its comment, are what the command prints.
    """
    results, wrong = run_all(tmp_path), []
    for done in results:
        expected = int(any(re.match(pattern, done["text"]) for pattern in FAILS))
        if done["status"] != expected:
            wrong.append(f"{done['page']}:{done['line']}: {done['text']}\n{done['status']}: {done['errors'][-1500:]}")
    assert not wrong, "\n\n".join(wrong)
    counted = Counter("written" in done and done["written"] == done["text"] for done in results)
    assert min(counted.values()) > 10
    outputs = {done.get("written"): " ".join(done["output"].split()) for done in results}
    for each in snippets():
        if "printed" in described(each):
            assert any(" ".join(each.text.split()) in output for output in outputs.values()), each
        for command, number in each.printed.items():
            assert outputs[command] == number, f"{each}: {command} prints {outputs[command]}"
