"""What is said of a plugin file that cannot be used."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import trimpot
from command_line import typed
from plugin_file_here import FILE, RUN, done, executed, folder, refused, write
from trimpot.ground.errors import PluginError, TrimpotError
from trimpot.runs.results import summary
from trimpot.setup.plugin_files import module_of
from trimpot.storage import SqliteStore

__all__ = ["folder"]
pytestmark = pytest.mark.usefixtures("folder")


def changed(old: str, new: str) -> str:
    assert old in FILE
    return FILE.replace(old, new)


MISTAKES: dict[str, tuple[str | bytes, str]] = {
    "not Python": ("def line(:\n", r", line 1, is not valid Python: "),
    "half a file": (FILE[: FILE.rindex("return")] + "(", r", line \d+, is not valid Python"),
    "a character of code 0": (b"import trimpot\0\n", "is not valid Python|cannot be imported"),
    "not UTF-8": (b"x = '\xff\xfe'\n", "is not valid Python"),
    "nothing": ("", "it implements no hook; write one.*@trimpot.objective above a function"),
    "functions without a mark": (
        FILE.replace("@trimpot.objective", "").replace("@trimpot.adapter", "_ = "),
        "valid|hook",
    ),
    "a relative import": ("from . import beside_it\n", ", line 1, cannot be imported: ImportError: attempted relative"),
    "it raises": ("x = 1\nraise ValueError('mine')\n", ", line 2, cannot be imported: ValueError: mine"),
    "it raises elsewhere": ("import json\njson.loads('')\n", ", line 2, cannot be imported: JSONDecodeError"),
    "it leaves": ("import sys\nsys.exit('bye')\n", ", line 2, cannot be imported: SystemExit: bye"),
    "it leaves in silence": ("raise SystemExit\n", "cannot be imported: SystemExit"),
    "it says several lines": ("raise ValueError('one\\ntwo\\n\\nthree')\n", "cannot be imported: ValueError"),
    "it recurses": ("def f():\n    f()\nf()\n", "cannot be imported: RecursionError"),
    "it needs what is not installed": ("import absent_library\n", "No module named 'absent_library'"),
    "it imports what lies beside it": (
        "import beside_it\n",
        "imports 'beside_it', which lies beside it; a plugin file stands",
    ),
    "a built-in name": (
        changed("def line", "def sphere"),
        "two plugins register adapters 'sphere': trimpot and line.py; give it",
    ),
    "one name twice": (
        FILE + "\n@trimpot.objective('mine')\ndef two(outputs, prompts):\n    return outputs\n",
        "registers objectives 'mine' twice",
    ),
    "a name that is none": (
        changed("@trimpot.objective", "@trimpot.objective('a name')"),
        "'a name'; a name is a word",
    ),
    "a name that is a number": (changed("@trimpot.objective", "@trimpot.adapter([], name=3)"), "knob"),
    "a lambda under the mark": (
        FILE + "two = trimpot.objective(lambda outputs, prompts: outputs)\n",
        "a name is a word",
    ),
    "an unknown hook": (
        FILE + "\n@trimpot.hookimpl\ndef register_adaptors(register):\n    pass\n",
        "did you mean 'register_adapters'",
    ),
    "a hook without its mark": (
        FILE + "\ndef register_adapters(register):\n    pass\n",
        "write @trimpot.hookimpl above it",
    ),
    "a command": (
        FILE + "\n@trimpot.hookimpl\ndef register_commands(cli):\n    pass\n",
        "adds commands, which only an installed package",
    ),
    "knobs that are names": (
        changed('[trimpot.Knob("slope"), trimpot.Knob("offset")]', "['slope']"),
        "give a list of trimpot.Knob",
    ),
    "a function without the seed": (
        changed("(setting, prompt, seed, *, table: Path | None = None)", "(setting, prompt)"),
        "let it take setting",
    ),
    "a reward of one argument": (changed("(outputs, prompts, *, ", "(outputs, *, "), "let it take outputs and prompts"),
    "a factory that cannot be called": (
        FILE + "\n@trimpot.hookimpl\ndef register_adapters(register):\n    register('own', 3)\n",
        "own",
    ),
    "a hook that fails": (
        FILE + "\n@trimpot.hookimpl\ndef register_adapters(register):\n    1 / 0\n",
        "ZeroDivisionError",
    ),
    "a hook that leaves": (
        FILE + "\n@trimpot.hookimpl\ndef register_adapters(register):\n    raise SystemExit(3)\n",
        "SystemExit",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_in_a_file_is_one_sentence_that_names_the_file(what: str) -> None:
    content, said = MISTAKES[what]
    Path("line.py").write_bytes(content.encode() if isinstance(content, str) else content)
    Path("beside_it.py").write_text("x = 1\n")
    path = str(Path("line.py").absolute())
    ended = [typed("calibrate", "line.yaml"), typed("knobs", "line", "--plugin", "line.py"), typed("plan", "line.yaml")]
    with pytest.raises(PluginError) as python:
        trimpot.calibrate(RUN, progress=False)
    for told in [*map(refused, ended), f"trimpot: {python.value}\n"]:
        assert f"the plugin file {path}" in told and re.search(said, told), told
    assert not Path("trimpot-runs").exists()


PATHS: dict[str, tuple[Any, str]] = {
    "absent": ("absent.py", "there is no plugin file .*absent.py; restore it, or name it where it is now"),
    "mistyped": ("lime.py", r"there is no plugin file .*lime\.py; did you mean 'line\.py'\?"),
    "a folder": ("deep", "is a folder; name a Python file, or install the folder as a package"),
    "the folder above": ("..", "is a folder"),
    "a text": ("notes.txt", "is no Python file; name one that ends in .py"),
    "a configuration": ("line.yaml", "is no Python file"),
    "a module's name": ("my_package.plugin", "there is no plugin file"),
    "in a file": ("line.py/line.py", "plugin file .*line.py"),
    "too long": ("x" * 5000 + ".py", "cannot read the plugin file|there is no plugin file"),
    "a character of code 0": ("a\0.py", "it holds a character of code 0"),
    "nobody's home": ("~nobody-here/line.py", "names a home folder that is not known here"),
    "no text": ("", "no adapter 'line'"),  # as if the key were left out
    "a number": (3, "plugins"),
    "a number in a list": (["line.py", 3], "plugins"),
    "no text in a list": ([""], "plugins"),
    "a list in a list": ([["line.py"]], "plugins"),
    "a mapping": ({"line": "line.py"}, "plugins"),
    "true": (True, "plugins"),
}


@pytest.mark.parametrize("what", PATHS)
def test_a_path_that_leads_to_no_file_is_one_sentence(what: str) -> None:
    value, said = PATHS[what]
    Path("notes.txt").write_text(FILE)
    Path("deep").mkdir()
    told = [refused(typed("calibrate", write(plugins=value)))]
    with pytest.raises(TrimpotError) as python:
        trimpot.calibrate({**RUN, "plugins": value}, progress=False)
    told.append(str(python.value))
    if isinstance(value, str) and "\0" not in value:
        told += [refused(typed("knobs", "line", "--plugin", value))] if value else []
    for each in told:
        assert re.search(said, each), each
    assert not executed("notes.txt") and not Path("trimpot-runs").exists()


def test_a_file_that_cannot_be_read_is_one_sentence() -> None:
    Path("line.py").unlink()
    Path("line.py").symlink_to("line.py")
    assert "cannot read the plugin file" in refused(typed("calibrate", "line.yaml"))


def test_ctrl_c_in_a_file_stops_the_command() -> None:
    Path("line.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        module_of(str(Path("line.py").absolute()))


def test_a_calibration_says_what_file_it_was_made_with() -> None:
    shown = json.loads(done("calibrate", "line.yaml", "--json"))
    made = json.loads(Path(shown["calibration"]).read_text())["backbone"]["made_of"]
    assert made["distribution"] == "line.py" and len(made["code"]) == 16
    with SqliteStore(Path("trimpot-runs"), create=False) as store:
        row = store.run("line-1")
        assert row.config["plugins"] == [str(Path("line.py").absolute())]
        assert summary(store, row)["status"] == "finished"
